//! Two processes with one node id.

use coordinator::cluster::{BrokerRef, ClusterError, RegisterBroker};

use super::*;

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

async fn until_unfenced(nodes: &[Node], id: NodeId) {
    for node in nodes {
        until("it may lead", || node.metadata.image().is_alive(id)).await;
    }
}

fn registration(id: NodeId) -> RegisterBroker {
    let listeners = config(&TempDir::new().unwrap()).listeners;
    let metadata_versions = MetadataVersions::OF_THIS_BUILD;
    RegisterBroker {
        broker_id: id,
        incarnation: Uuid::new_v4(),
        listeners,
        metadata_versions,
        ..RegisterBroker::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_on_a_copied_data_folder_neither_registers_nor_disturbs_the_original() {
    let scene = Scene { session_timeout: Duration::from_secs(60), ..Scene::new().await };
    let mut nodes = scene.cluster().await;
    nodes.remove(1).stop().await;
    let copied = scene.folder.path().join("copy");
    copy_folder(&scene.data_dir(2), &copied);
    nodes.push(scene.enter(2).await);
    until_unfenced(&nodes, 2).await;
    let leader = leader_of(&nodes).await;
    let term = nodes[leader].metadata.quorum().epoch;
    let original = nodes[2].metadata.broker();

    let internal = free_address().await.to_string();
    let place = Place { internal, ..scene.config(2).place };
    let copy = start(MetadataConfig { data_dir: copied, place, ..scene.config(2) }).await;
    let entered = tokio::time::timeout(Duration::from_secs(60), copy.metadata.enter()).await.unwrap();
    assert!(matches!(entered, Err(MetadataError::NodeIdInUse { node_id: 2, .. })), "{entered:?}");
    assert_eq!(nodes[2].metadata.image().broker(2).map(|broker| broker.epoch), Some(original.broker_epoch));
    assert!(!nodes[2].metadata.is_replaced());
    assert_eq!(nodes[leader].metadata.quorum().epoch, term);
    copy.stop().await;
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_process_keeps_its_registration_and_one_that_lost_it_stops() {
    let scene = Scene { session_timeout: Duration::from_secs(60), ..Scene::new().await };
    let nodes = scene.cluster().await;
    let leader = leader_of(&nodes).await;
    let (asked, other) = (&nodes[leader].metadata, &nodes[(leader + 1) % 3].metadata);
    until_unfenced(&nodes, other.node_id()).await;
    for id in [asked.node_id(), other.node_id()] {
        let outcome = asked.submit(Command::RegisterBroker(registration(id))).await;
        let is_refused = matches!(outcome, Err(SubmitError::Refused(ClusterError::BrokerIsAlive { broker_id, .. })) if broker_id == id);
        assert!(is_refused, "{outcome:?}");
    }
    assert!(!other.is_replaced() && !asked.is_replaced());

    // As if the connection to it had broken: then a restart must not wait.
    let request = registration(other.node_id());
    loop {
        asked.inner.sessions.set_broken(other.node_id());
        match asked.submit(Command::RegisterBroker(request.clone())).await {
            Ok(_) => break,
            Err(error) => assert!(matches!(error, SubmitError::Refused(ClusterError::BrokerIsAlive { .. })), "{error}"),
        }
    }
    tokio::time::timeout(Duration::from_secs(30), other.replaced())
        .await
        .expect("it leads on in the epochs of another");
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_process_with_an_impaired_disk_keeps_its_registration() {
    let scene = Scene { session_timeout: Duration::from_secs(60), ..Scene::new().await };
    let mut nodes = scene.cluster().await;
    for id in 1..=3 {
        until_unfenced(&nodes, id).await;
    }
    let leader = leader_of(&nodes).await;
    for fault in [DiskFault::Full, DiskFault::Failed] {
        let (asked, sick) = (&nodes[leader].metadata, &nodes[(leader + 1) % 3].metadata);
        let id = sick.node_id();
        sick.set_impairment(Some(Impairment { fault, reason: "injected".to_owned() }));
        let is_active = |image: &ClusterImage| image.broker(id).is_some_and(|broker| broker.is_active());
        until("others take over", || !is_active(&asked.image()) && !is_active(&sick.image())).await;
        let second = RegisterBroker { is_fenced: true, ..registration(id) };
        for _ in 0..3 {
            let outcome = asked.submit(Command::RegisterBroker(second.clone())).await;
            let is_refused = matches!(outcome, Err(SubmitError::Refused(ClusterError::BrokerIsAlive { .. })));
            assert!(is_refused, "{fault}: {outcome:?}");
        }
        assert!(!sick.is_replaced());
        sick.set_impairment(None);
        if fault == DiskFault::Full {
            until("it takes part again", || is_active(&asked.image()) && is_active(&sick.image())).await;
        }
    }
    // Once it has ended, its successor waits for nothing.
    let ended = nodes.remove((leader + 1) % 3);
    let id = ended.id();
    ended.stop().await;
    nodes.push(scene.enter(id).await);
    until_unfenced(&nodes, id).await;
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_the_leader_of_the_log_does_not_hear_is_not_let_lead() {
    let scene = Scene::new().await;
    let mut nodes = scene.cluster().await;
    until_unfenced(&nodes, 3).await;
    let gone = nodes.remove(2);
    let broker = gone.metadata.broker();
    gone.stop().await;
    until("it is fenced", || nodes.iter().all(|node| !node.metadata.image().is_alive(3))).await;
    let outcome = nodes[0].metadata.submit(Command::UnfenceBroker(BrokerRef { ..broker })).await;
    assert!(matches!(outcome, Err(SubmitError::Refused(_))), "{outcome:?}");
    assert!(!nodes[0].metadata.image().is_alive(3));
    nodes.push(scene.enter(3).await);
    until_unfenced(&nodes, 3).await;
    for node in nodes {
        node.stop().await;
    }
}
