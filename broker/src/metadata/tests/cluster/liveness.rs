//! Nodes that are lost are noticed, and those that are back are let in again.

use super::*;

/// With that, no broker is fenced because it is silent.
pub(super) const NEVER: Duration = Duration::from_secs(3_600);

pub(super) async fn until_all_alive(nodes: &[Node]) {
    for node in nodes {
        let alive = || (1..=3).filter(|id| node.metadata.image().is_alive(*id)).count() == 3;
        until("all brokers may lead", alive).await;
    }
}

/// A topic of which each of the three brokers leads two partitions.
pub(super) async fn create_led_by_all(metadata: &Metadata) {
    let layout = Layout::Placed { partitions: 6, replication_factor: 3 };
    let topic =
        NewTopic { id: new_topic_id(), name: "orders".to_owned(), layout, configs: Vec::new(), wanted_replicas: None };
    metadata.submit(Command::CreateTopics { topics: vec![topic], validate_only: false }).await.unwrap();
}

pub(super) fn led_by(image: &ClusterImage, broker: NodeId) -> usize {
    image.partitions().filter(|(_, partition)| partition.leader == broker).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_register_fenced_and_may_lead_once_they_serve() {
    let scene = Scene::new().await;
    let nodes = futures::future::join_all((1..=3).map(|id| scene.start(id))).await;
    futures::future::join_all(nodes.iter().map(|node| node.metadata.enter())).await;
    until("all are registered", || nodes[0].metadata.image().brokers().count() == 3).await;
    assert!(nodes[0].metadata.image().brokers().all(|broker| broker.is_fenced));
    for node in &nodes {
        node.metadata.set_serving();
    }
    until_all_alive(&nodes).await;
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_whose_process_ended_is_fenced_before_its_session_ends() {
    let scene = Scene { session_timeout: NEVER, ..Scene::new().await };
    let mut nodes = scene.cluster().await;
    until_all_alive(&nodes).await;
    let leader = leader_of(&nodes).await;
    let gone = nodes.remove((leader + 1) % 3);
    let id = gone.id();
    gone.stop().await;
    until("it is fenced", || nodes.iter().all(|node| !node.metadata.image().is_alive(id))).await;
    nodes.push(scene.enter(id).await);
    until_all_alive(&nodes).await;
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_while_a_leader_is_lost_waits_for_the_next_one_but_not_for_ever() {
    let scene = Scene::new().await;
    let mut nodes = scene.cluster().await;
    until_all_alive(&nodes).await;
    create_led_by_all(&nodes[0].metadata).await;
    let leader = leader_of(&nodes).await;
    let gone = nodes.remove((leader + 1) % 3);
    let id = gone.id();
    let asked = &nodes[0].metadata;
    until("it leads", || led_by(&asked.image(), id) > 0).await;
    gone.stop().await;
    let is_noticed = || !asked.inner.sessions.broken_within(SESSION_TIMEOUT).is_empty();
    until("its connection is broken", is_noticed).await;
    asked.confirm().await.unwrap();
    assert_eq!(led_by(&asked.image(), id), 0);
    let is_named = || asked.named_brokers(&asked.image()).any(|broker| broker.id == id);
    assert!(is_named(), "who just lost it may still have to move its partitions");
    until("it is named no longer", || !is_named()).await;

    // Nobody is left to fence the second one.
    let last = nodes.remove(0);
    nodes.remove(0).stop().await;
    tokio::time::timeout(Duration::from_secs(30), last.metadata.confirm()).await.unwrap().unwrap();
    last.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_does_not_wait_for_a_broker_that_has_handed_over() {
    let scene = Scene { session_timeout: NEVER, ..Scene::new().await };
    let mut nodes = scene.cluster().await;
    until_all_alive(&nodes).await;
    create_led_by_all(&nodes[0].metadata).await;
    let stopping = nodes.remove(2);
    stopping.metadata.hand_over(Duration::from_secs(5)).await;
    let (id, asked) = (stopping.id(), &nodes[0].metadata);
    asked.look().await;
    assert!(led_by(&asked.image(), id) == 0 && asked.image().is_alive(id));
    asked.inner.sessions.set_broken(id);
    assert!(!asked.is_undecided());
    for node in nodes.into_iter().chain([stopping]) {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_before_a_loss_was_seen_makes_it_seen() {
    let scene = Scene { session_timeout: NEVER, ..Scene::new().await };
    let mut nodes = scene.cluster().await;
    until_all_alive(&nodes).await;
    let gone = nodes.remove(2);
    let (id, asked) = (gone.id(), &nodes[0].metadata);
    gone.stop().await;
    asked.inner.sessions.hear(id);
    asked.look().await;
    assert!(asked.inner.sessions.of(id).unwrap().broken.is_some());
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_knows_then_what_another_node_knew_before() {
    let scene = Scene::new().await;
    let nodes = scene.cluster().await;
    until_all_alive(&nodes).await;
    let leader = leader_of(&nodes).await;
    for number in 0..20 {
        let name = format!("orders-{number}");
        create(&nodes[leader].metadata, &name).await;
        for node in &nodes {
            node.metadata.look().await;
            assert!(node.metadata.image().topic(&name).is_some(), "{name} at node {}", node.id());
        }
    }
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_of_the_log_whose_process_ended_is_replaced_and_fenced() {
    let scene = Scene { session_timeout: NEVER, ..Scene::new().await };
    let mut nodes = scene.cluster().await;
    for _ in 0..3 {
        until_all_alive(&nodes).await;
        let gone = nodes.remove(leader_of(&nodes).await);
        let id = gone.id();
        gone.stop().await;
        until("it is fenced", || nodes.iter().all(|node| !node.metadata.image().is_alive(id))).await;
        nodes.push(scene.enter(id).await);
    }
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_was_fenced_while_it_was_alive_comes_back_by_itself() {
    let scene = Scene::new().await;
    let nodes = scene.cluster().await;
    until_all_alive(&nodes).await;
    let victim = nodes[2].metadata.broker();
    nodes[0].metadata.submit(Command::FenceBroker(victim)).await.unwrap();
    until_all_alive(&nodes).await;
    assert_eq!(nodes[2].metadata.broker(), victim);
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_of_the_log_that_stops_in_good_order_is_replaced_before_it_is_gone() {
    let scene = Scene::new().await;
    let nodes = scene.cluster().await;
    until_all_alive(&nodes).await;
    let leader = leader_of(&nodes).await;
    nodes[leader].metadata.hand_over(Duration::from_secs(5)).await;
    nodes[leader].metadata.resign().await;
    assert!(!nodes[leader].leads());
    assert_ne!(leader_of(&nodes).await, leader);
    create(&nodes[leader].metadata, "orders").await;
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_stops_hands_its_partitions_over_first() {
    let scene = Scene::new().await;
    let nodes = scene.cluster().await;
    until_all_alive(&nodes).await;
    create_led_by_all(&nodes[0].metadata).await;
    assert!(led_by(&nodes[0].metadata.image(), 2) > 0);
    nodes[1].metadata.hand_over(Duration::from_secs(5)).await;
    assert_eq!(led_by(&nodes[1].metadata.image(), 2), 0);
    assert!(nodes[1].metadata.image().partitions().all(|(_, partition)| partition.has_leader()));
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_can_follow_the_metadata_log_no_longer_is_fenced() {
    let scene = Scene::new().await;
    let nodes = scene.cluster().await;
    until_all_alive(&nodes).await;
    let leader = leader_of(&nodes).await;
    let (sick, well) = (&nodes[(leader + 1) % 3], &nodes[leader]);
    sick.metadata.inner.writer.stop();
    create(&well.metadata, "orders").await;
    until("its log has stopped", || sick.metadata.health().is_err()).await;
    until("it is fenced", || !well.metadata.image().is_alive(sick.id())).await;
    create(&well.metadata, "more").await;
    for node in nodes {
        node.stop().await;
    }
}
