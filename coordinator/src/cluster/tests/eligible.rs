//! Who may lead after members were lost, restarted, or came back with an empty disk (KIP-966).

use super::*;

/// A new process, not ready yet, with what was on the disk of that number.
fn restart(scene: &mut Scene, id: NodeId, process: u128, disk: u128) {
    let log_id = Some(Uuid::from_u128(disk));
    let request = RegisterBroker { is_fenced: true, log_id, ..registration(id, process) };
    assert!(matches!(scene.run(Command::RegisterBroker(request)), Reply::BrokerRegistered { .. }));
}

/// Brokers with disks, and one partition of all of them.
fn scene(brokers: i32, configs: &[(&str, &str)]) -> Scene {
    let mut scene = Scene::with_brokers(0);
    for id in 1..=brokers {
        restart(&mut scene, id, 1, 1);
        scene.unfence(id);
    }
    let replicas: Vec<NodeId> = (1..=brokers).collect();
    let configs = configs.iter().map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned()))).collect();
    scene.create(NewTopic { configs, ..assigned("a", &[&replicas]) }).unwrap();
    scene
}

fn set(scene: &mut Scene, resource: ConfigResource, name: &str, value: &str) {
    let op = ConfigOp { name: name.to_owned(), kind: ConfigOpKind::Set, value: Some(value.to_owned()) };
    let change = ConfigChange { resource, edit: ConfigEdit::Incremental(vec![op]) };
    let reply = scene.run(Command::AlterConfigs { changes: vec![change], validate_only: false });
    assert_eq!(reply, Reply::ConfigsAltered(vec![Ok(())]));
}

/// ISR, ELR, leader.
fn members(scene: &Scene) -> (Vec<NodeId>, Vec<NodeId>, NodeId) {
    let partition = scene.partition("a", 0);
    (partition.isr.clone(), partition.elr.clone(), partition.leader)
}

fn join(scene: &mut Scene, isr: &[NodeId]) {
    let Partition { leader, leader_epoch, partition_epoch, .. } = *scene.partition("a", 0);
    let (broker, isr) = (scene.broker(leader), scene.members(isr));
    scene.alter(broker, IsrChange { partition: scene.id("a", 0), leader_epoch, partition_epoch, isr }).unwrap();
}

const MIN_TWO: &[(&str, &str)] = &[("min.insync.replicas", "2")];

#[test]
fn who_leaves_an_isr_that_is_too_small_to_commit_stays_eligible() {
    let mut scene = scene(3, MIN_TWO);
    scene.fence(3);
    assert_eq!(members(&scene), (vec![1, 2], vec![], 1));
    scene.fence(2);
    assert_eq!(members(&scene), (vec![1], vec![2], 1));
    scene.fence(1);
    assert_eq!(members(&scene), (vec![1], vec![2], NO_LEADER));
    scene.unfence(3);
    assert_eq!(members(&scene), (vec![1], vec![2], NO_LEADER), "broker 3 lacks what was acknowledged since");
    scene.unfence(2);
    assert_eq!(members(&scene), (vec![2], vec![1], 2));
    scene.unfence(1);
    join(&mut scene, &[2, 1]);
    assert_eq!(members(&scene), (vec![2, 1], vec![], 2));
}

#[test]
fn a_leader_that_shrinks_its_isr_below_the_minimum_leaves_the_others_eligible() {
    let mut scene = scene(3, MIN_TWO);
    join(&mut scene, &[1]);
    assert_eq!(members(&scene), (vec![1], vec![2, 3], 1));
    scene.fence(1);
    assert_eq!(members(&scene), (vec![2], vec![1, 3], 2), "an eligible replica takes over at once");
}

#[test]
fn with_a_minimum_of_one_nobody_but_the_isr_is_eligible() {
    let mut scene = scene(2, &[]);
    scene.fence(2);
    assert_eq!(members(&scene), (vec![1], vec![], 1));
    scene.fence(1);
    scene.unfence(2);
    assert_eq!(members(&scene), (vec![1], vec![], NO_LEADER));
}

#[test]
fn a_quick_restart_costs_no_place_in_the_isr() {
    let mut scene = scene(3, &[]);
    restart(&mut scene, 1, 2, 1);
    assert_eq!((members(&scene), scene.partition("a", 0).leader_epoch), ((vec![1, 2, 3], vec![], 2), 1));
    restart(&mut scene, 3, 2, 1);
    assert_eq!((members(&scene), scene.partition("a", 0).leader_epoch), ((vec![1, 2, 3], vec![], 2), 1));
    join(&mut scene, &[2]);
    assert_eq!(members(&scene), (vec![2], vec![], 2), "the leader need not wait for them");
    let (leader, isr) = (scene.broker(2), scene.members(&[2, 3]));
    let Partition { leader_epoch, partition_epoch, .. } = *scene.partition("a", 0);
    let change = IsrChange { partition: scene.id("a", 0), leader_epoch, partition_epoch, isr };
    assert!(matches!(scene.alter(leader, change), Err(ClusterError::IneligibleReplica { broker_id: 3, .. })));
}

#[test]
fn a_broker_lost_while_it_starts_leaves_the_isr() {
    let mut scene = scene(3, &[]);
    restart(&mut scene, 3, 2, 1);
    scene.fence(3);
    assert_eq!(members(&scene), (vec![1, 2], vec![], 1));
}

#[test]
fn after_all_were_killed_at_once_any_of_them_goes_on() {
    for configs in [&[][..], MIN_TWO] {
        for order in [[1, 2, 3], [1, 3, 2], [2, 1, 3], [2, 3, 1], [3, 1, 2], [3, 2, 1]] {
            for fenced_after in 0..=2 {
                let mut scene = scene(3, configs);
                let [first, second, gone] = order;
                // The third does not come back: the new controller notices at some time.
                let notice = |scene: &mut Scene, step| {
                    if step == fenced_after {
                        scene.fence(gone);
                    }
                };
                notice(&mut scene, 0);
                restart(&mut scene, first, 2, 1);
                notice(&mut scene, 1);
                restart(&mut scene, second, 2, 1);
                notice(&mut scene, 2);
                scene.unfence(first);
                let leader = scene.partition("a", 0).leader;
                assert_eq!(leader, first, "{configs:?} {order:?} {fenced_after}: {:?}", members(&scene));
            }
        }
    }
}

#[test]
fn a_lost_disk_costs_every_place_even_the_last() {
    let mut scene = scene(2, &[]);
    scene.fence(2);
    restart(&mut scene, 1, 2, 7);
    scene.unfence(1);
    scene.unfence(2);
    assert_eq!(members(&scene), (vec![], vec![], NO_LEADER), "nobody has what was acknowledged");
}

#[test]
fn a_lost_disk_of_the_last_member_leaves_the_eligible_ones() {
    let mut scene = scene(3, MIN_TWO);
    scene.fence(3);
    scene.fence(2);
    restart(&mut scene, 1, 2, 7);
    assert_eq!(members(&scene), (vec![], vec![2], NO_LEADER));
    scene.unfence(1);
    assert_eq!(members(&scene), (vec![], vec![2], NO_LEADER));
    scene.unfence(2);
    assert_eq!(members(&scene), (vec![2], vec![], 2));
}

#[test]
fn an_eligible_replica_that_lost_its_disk_is_no_longer_eligible() {
    let mut scene = scene(3, MIN_TWO);
    scene.fence(3);
    scene.fence(2);
    restart(&mut scene, 2, 2, 7);
    assert_eq!(members(&scene), (vec![1], vec![], 1));
}

#[test]
fn the_only_replica_goes_on_with_an_empty_disk() {
    let mut scene = scene(1, &[]);
    restart(&mut scene, 1, 2, 7);
    scene.unfence(1);
    assert_eq!(members(&scene), (vec![1], vec![], 1));
}

#[test]
fn what_was_not_flushed_before_it_was_acknowledged_does_not_count_after_a_restart() {
    let mut scene = scene(3, &[("firn.flush", "replicated"), ("min.insync.replicas", "2")]);
    restart(&mut scene, 3, 2, 1);
    assert_eq!(members(&scene), (vec![1, 2], vec![], 1));
    scene.fence(2);
    assert_eq!(members(&scene), (vec![1], vec![2], 1));
    restart(&mut scene, 1, 2, 1);
    assert_eq!(members(&scene), (vec![], vec![2], NO_LEADER), "broker 2 still runs and has it in its memory");
    restart(&mut scene, 2, 2, 1);
    scene.unfence(2);
    assert_eq!(members(&scene), (vec![2], vec![], 2), "nobody can have more");
}

#[test]
fn the_mode_of_flushing_is_that_of_the_process_before() {
    let mut scene = scene(2, &[]);
    set(&mut scene, ConfigResource::Broker(2), "firn.flush", "replicated");
    restart(&mut scene, 1, 2, 1);
    assert_eq!(members(&scene).0, [1, 2]);
    restart(&mut scene, 2, 2, 1);
    assert_eq!(members(&scene).0, [1]);
}

#[test]
fn a_smaller_minimum_ends_eligibility_at_once() {
    let mut scene = scene(3, MIN_TWO);
    join(&mut scene, &[1]);
    set(&mut scene, ConfigResource::Topic("a".to_owned()), "min.insync.replicas", "1");
    assert_eq!(members(&scene), (vec![1], vec![], 1));
    set(&mut scene, ConfigResource::Topic("a".to_owned()), "min.insync.replicas", "3");
    assert_eq!(members(&scene), (vec![1], vec![], 1));
}

#[test]
fn the_minimum_comes_from_every_layer_and_is_the_smallest_of_the_replicas() {
    let mut scene = scene(3, &[]);
    let id = scene.id("a", 0);
    assert_eq!(scene.state.min_insync_replicas(id), 1);
    for broker in 1..=3 {
        let topic_defaults = SettingsMap::from([("min.insync.replicas".to_owned(), (broker + 1).to_string())]);
        let request = RegisterBroker { topic_defaults, ..registration(broker, 1) };
        scene.run(Command::RegisterBroker(request));
    }
    assert_eq!(scene.state.min_insync_replicas(id), 2);
    set(&mut scene, ConfigResource::Broker(1), "min.insync.replicas", "4");
    assert_eq!(scene.state.min_insync_replicas(id), 3, "never more than there are replicas");
    set(&mut scene, ConfigResource::Cluster, "min.insync.replicas", "2");
    assert_eq!(scene.state.min_insync_replicas(id), 2);
    set(&mut scene, ConfigResource::Topic("a".to_owned()), "min.insync.replicas", "1");
    assert_eq!(scene.state.min_insync_replicas(id), 1);
}

#[test]
fn a_registration_with_a_smaller_minimum_ends_eligibility() {
    let mut scene = scene(2, &[]);
    let stating = |broker, value: &str| {
        let topic_defaults = SettingsMap::from([("min.insync.replicas".to_owned(), value.to_owned())]);
        Command::RegisterBroker(RegisterBroker { topic_defaults, ..registration(broker, 1) })
    };
    scene.run(stating(1, "2"));
    scene.run(stating(2, "2"));
    scene.fence(2);
    assert_eq!(members(&scene), (vec![1], vec![2], 1));
    scene.run(stating(2, "1"));
    assert_eq!(members(&scene), (vec![1], vec![], 1));
}
