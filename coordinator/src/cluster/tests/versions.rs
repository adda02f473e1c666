//! Which metadata version is valid, and who is let in with it (KIP-584).

use super::*;

fn knowing(id: NodeId, min: u16, max: u16) -> Command {
    let metadata_versions = MetadataVersions { min, max };
    Command::RegisterBroker(RegisterBroker { metadata_versions, ..registration(id, 1) })
}

fn change(scene: &mut Scene, version: u16, change: VersionChange) -> Result<(), String> {
    let reply =
        |scene: &mut Scene, validate_only| scene.run(Command::SetMetadataVersion { version, change, validate_only });
    let before = scene.state.clone();
    let tried = reply(scene, true);
    assert_eq!(scene.state, before, "a trial changes nothing");
    let done = reply(scene, false);
    assert_eq!(tried, done, "a trial answers as the change does");
    match done {
        Reply::Done => Ok(()),
        Reply::Refused(ClusterError::MetadataVersionRefused { reason }) => Err(reason),
        other => panic!("{other:?}"),
    }
}

fn raise(scene: &mut Scene, version: u16) -> Result<(), String> {
    change(scene, version, VersionChange::Upgrade)
}

/// A cluster at version 1.
fn first() -> Scene {
    let mut scene = Scene { state: Cluster::new(), replayed: Cluster::new() };
    let cluster_id = "Q2x1c3RlcklkRm9yVGVzdA".to_owned();
    assert_eq!(scene.run(Command::CreateCluster { cluster_id, metadata_version: 1 }), Reply::Done);
    scene
}

#[test]
fn a_version_is_raised_when_all_brokers_know_it_also_those_that_are_down() {
    let mut scene = first();
    scene.run(knowing(1, 1, 2));
    scene.run(knowing(2, 1, 1));
    scene.run(knowing(3, 1, 3));
    assert_eq!(scene.state.common_metadata_versions(), Some(MetadataVersions { min: 1, max: 1 }));
    scene.fence(2);
    assert_eq!(raise(&mut scene, 2).unwrap_err(), "metadata version 2 is not possible: broker 2 knows 1 to 1");
    assert_eq!(scene.state.metadata_version(), 1);
    // Broker 2 comes back with a newer build.
    scene.run(Command::RegisterBroker(RegisterBroker {
        metadata_versions: MetadataVersions { min: 1, max: 2 },
        ..registration(2, 2)
    }));
    assert_eq!(raise(&mut scene, 2), Ok(()));
    assert_eq!(scene.state.metadata_version(), 2);
    let again = Command::SetMetadataVersion { version: 2, change: VersionChange::Upgrade, validate_only: false };
    assert_eq!(scene.submit(&again.into()).records, []);
    assert!(raise(&mut scene, 3).unwrap_err().contains("broker 1 knows 1 to 2"));
    assert!(raise(&mut scene, 0).unwrap_err().contains("broker 1 knows 1 to 2"));
}

#[test]
fn a_broker_that_does_not_know_the_version_is_not_let_in() {
    let mut scene = first();
    scene.run(knowing(1, 1, 2));
    raise(&mut scene, 2).unwrap();
    for (min, max) in [(1, 1), (3, 4)] {
        let Reply::Refused(ClusterError::InvalidRequest { reason }) = scene.run(knowing(2, min, max)) else {
            panic!("let in");
        };
        assert!(reason.contains("the cluster is at metadata version 2"), "{reason}");
        assert!(reason.contains(&format!("the build of this node knows {min} to {max}")), "{reason}");
        assert_eq!(scene.state.broker(2), None);
    }
    assert!(matches!(scene.run(knowing(2, 2, 3)), Reply::BrokerRegistered { .. }));
    assert_eq!(scene.state.common_metadata_versions(), Some(MetadataVersions { min: 2, max: 2 }));
    // One that is known already, and comes back with an older build, keeps what it said before.
    let older = RegisterBroker { metadata_versions: MetadataVersions::default(), ..registration(1, 2) };
    assert!(matches!(scene.run(Command::RegisterBroker(older)), Reply::Refused(_)));
    assert_eq!(scene.state.broker(1).unwrap().metadata_versions, MetadataVersions { min: 1, max: 2 });
}

#[test]
fn a_build_that_says_nothing_knows_the_first_version() {
    let mut text = serde_json::to_value(registration(1, 1)).unwrap();
    text.as_object_mut().unwrap().remove("metadata_versions").unwrap();
    let old: RegisterBroker = serde_json::from_value(text.clone()).unwrap();
    assert_eq!(old.metadata_versions, MetadataVersions { min: 1, max: 1 });
    assert_eq!(serde_json::to_value(old).unwrap(), text);
}

#[test]
fn a_version_goes_down_only_by_a_downgrade_and_up_only_by_an_upgrade() {
    let mut scene = first();
    scene.run(knowing(1, 1, 2));
    let too_new = change(&mut scene, 2, VersionChange::SafeDowngrade).unwrap_err();
    assert!(too_new.contains("this is no downgrade"), "{too_new}");
    raise(&mut scene, 2).unwrap();
    assert!(raise(&mut scene, 1).unwrap_err().contains("this is a downgrade"));
    assert_eq!(change(&mut scene, 1, VersionChange::SafeDowngrade), Ok(()));
    assert_eq!(scene.state.metadata_version(), 1);
}

#[test]
fn what_older_rules_do_not_know_is_forgotten_by_an_unsafe_downgrade_only() {
    let mut scene = Scene::with_brokers(1);
    scene.create(NewTopic { wanted_replicas: Some(3), ..placed("waits", 2, 1) }).unwrap();
    let refused = change(&mut scene, 1, VersionChange::SafeDowngrade).unwrap_err();
    assert!(refused.contains("2 partitions wait for more replicas"), "{refused}");
    assert_eq!(scene.state.metadata_version(), METADATA_VERSION);
    let epoch = scene.partition("waits", 1).partition_epoch;
    assert_eq!(change(&mut scene, 1, VersionChange::UnsafeDowngrade), Ok(()));
    let partition = scene.partition("waits", 1);
    assert_eq!((partition.wanted_replicas, partition.partition_epoch), (None, epoch + 1));
    assert_eq!(scene.state.metadata_version(), 1);
    let stored = serde_json::to_string(&scene.state).unwrap();
    assert!(!stored.contains("wanted_replicas"), "{stored}");
}

#[test]
fn the_identity_of_the_store_is_kept_from_version_4_on_and_replaced_only_knowingly() {
    let mut scene = Scene::with_brokers(1);
    let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let set = |scene: &mut Scene, store_id, replaces| match scene.run(Command::SetStoreId { store_id, replaces }) {
        Reply::Done => Ok(()),
        Reply::Refused(ClusterError::InvalidRequest { reason }) => Err(reason),
        reply => panic!("{reply:?}"),
    };
    change(&mut scene, 3, VersionChange::SafeDowngrade).unwrap();
    assert!(set(&mut scene, one, None).unwrap_err().contains("from metadata version 4 on"));
    raise(&mut scene, 4).unwrap();
    assert_eq!(scene.state.store_id(), None);
    assert_eq!(set(&mut scene, one, None), Ok(()));
    assert_eq!(set(&mut scene, one, None), Ok(()), "a second node tells the same");
    assert!(
        set(&mut scene, other, None).unwrap_err().contains("has the identity 00000000-0000-0000-0000-000000000001")
    );
    assert_eq!(scene.state.store_id(), Some(one));
    assert_eq!(set(&mut scene, other, Some(one)), Ok(()));
    assert_eq!(scene.state.store_id(), Some(other));
    let (id, created_ms) = (scene.state.cluster_id().to_owned(), scene.state.created_ms());
    change(&mut scene, 3, VersionChange::SafeDowngrade).unwrap();
    assert_eq!((scene.state.store_id(), scene.state.cluster_id()), (None, id.as_str()));
    assert_eq!(scene.state.created_ms(), created_ms);
    assert!(!serde_json::to_string(&scene.state).unwrap().contains("store_id"), "older builds never meet it");
}
