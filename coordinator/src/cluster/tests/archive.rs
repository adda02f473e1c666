//! The archive ledger.

use super::*;

fn commit(scene: &mut Scene, leader_epoch: i32, replaces: u64, pointer: ManifestPointer) -> Reply {
    let id = TopicPartition { topic_id: topic_id("a"), partition: 0 };
    let pointer = ManifestPointer { leader_epoch, ..pointer };
    scene.run(Command::ArchiveCommit(ArchiveCommit { partition: id, leader_epoch, replaces, pointer, adopts: false }))
}

fn scene() -> Scene {
    let mut scene = Scene::with_brokers(1);
    scene.create(placed("a", 1, 1)).unwrap();
    scene
}

#[test]
fn commits_follow_each_other_by_version() {
    let mut scene = scene();
    assert_eq!(commit(&mut scene, 0, 0, pointer(1, 0, 100)), Reply::Archive(ArchiveReply::Committed));
    assert_eq!(commit(&mut scene, 0, 1, pointer(2, 50, 200)), Reply::Archive(ArchiveReply::Committed));
    assert_eq!(scene.state.archive(scene.id("a", 0)).unwrap().as_ref(), &pointer(2, 50, 200));
}

#[test]
fn a_commit_of_an_outdated_version_learns_the_current_one() {
    let mut scene = scene();
    let conflict = |current| Reply::Archive(ArchiveReply::VersionConflict { current });
    assert_eq!(commit(&mut scene, 0, 1, pointer(2, 0, 100)), conflict(None));
    commit(&mut scene, 0, 0, pointer(1, 0, 100));
    let other = ManifestPointer { object: "manifests/other".to_owned(), ..pointer(1, 0, 100) };
    assert_eq!(commit(&mut scene, 0, 0, other), conflict(Some(pointer(1, 0, 100))));
}

#[test]
fn an_uncertain_commit_may_be_repeated() {
    let mut scene = scene();
    commit(&mut scene, 0, 0, pointer(1, 0, 100));
    assert_eq!(commit(&mut scene, 0, 0, pointer(1, 0, 100)), Reply::Archive(ArchiveReply::Committed));
}

#[test]
fn a_stale_leader_cannot_commit_a_manifest() {
    let mut scene = scene();
    scene.register(1, 2);
    let fenced = Reply::Archive(ArchiveReply::Fenced { current: 1 });
    assert_eq!(commit(&mut scene, 0, 0, pointer(1, 0, 100)), fenced);
    assert_eq!(commit(&mut scene, 2, 0, pointer(1, 0, 100)), fenced);
    assert_eq!(commit(&mut scene, 1, 0, pointer(1, 0, 100)), Reply::Archive(ArchiveReply::Committed));
}

#[test]
fn impossible_pointers_are_refused() {
    let mut scene = scene();
    commit(&mut scene, 0, 0, pointer(1, 50, 100));
    let backwards = [pointer(2, 49, 100), pointer(2, 50, 99), pointer(2, 101, 100), pointer(3, 50, 100)];
    let nameless = ManifestPointer { object: String::new(), ..pointer(2, 50, 100) };
    for pointer in backwards.into_iter().chain([nameless]) {
        let reply = commit(&mut scene, 0, 1, pointer);
        assert!(matches!(reply, Reply::Refused(ClusterError::InvalidPointer { .. })), "{reply:?}");
    }
    assert_eq!(commit(&mut scene, 0, 1, pointer(2, 50, 100)), Reply::Archive(ArchiveReply::Committed));
}

#[test]
fn unknown_partitions_have_no_ledger() {
    let mut scene = scene();
    for (topic, partition) in [("b", 0), ("a", 1), ("a", -1)] {
        let id = TopicPartition { topic_id: topic_id(topic), partition };
        let commit =
            ArchiveCommit { partition: id, leader_epoch: 0, replaces: 0, pointer: pointer(1, 0, 1), adopts: false };
        let Reply::Refused(error) = scene.run(Command::ArchiveCommit(commit)) else { panic!("{id} was taken") };
        assert_eq!(matches!(error, ClusterError::UnknownTopicId { .. }), topic == "b", "{error:?}");
    }
}

#[test]
fn the_ledger_of_a_deleted_topic_stays_until_it_is_purged() {
    let mut scene = scene();
    commit(&mut scene, 0, 0, pointer(1, 0, 100));
    let id = scene.id("a", 0);
    let purged = Command::ArchivePurged { topic_id: id.topic_id };
    assert!(matches!(scene.run(purged.clone()), Reply::Refused(ClusterError::InvalidRequest { .. })));
    scene.delete("a").unwrap();
    let late = commit(&mut scene, 0, 1, pointer(2, 0, 200));
    assert!(matches!(late, Reply::Refused(ClusterError::UnknownTopicId { .. })));
    assert_eq!(scene.state.archive(id).unwrap().version, 1);
    assert_eq!(scene.run(purged.clone()), Reply::Done);
    assert_eq!((scene.state.archive(id), scene.state.deleted_topics().count()), (None, 0));
    assert_eq!(scene.submit(&purged.into()).records, []);
}

#[test]
fn a_commit_leaves_the_layout_shared_and_a_new_topic_does_not() {
    let mut scene = scene();
    let before = scene.state.clone();
    commit(&mut scene, 0, 0, pointer(1, 0, 100));
    assert!(scene.state.shares_layout_with(&before));
    scene.create(placed("b", 1, 1)).unwrap();
    assert!(!scene.state.shares_layout_with(&before));
}

#[test]
fn a_commit_that_adopts_may_pass_over_versions_and_no_other_may() {
    let mut scene = scene();
    commit(&mut scene, 0, 0, pointer(1, 0, 100));
    let adopting = |scene: &mut Scene, pointer: ManifestPointer| {
        let partition = TopicPartition { topic_id: topic_id("a"), partition: 0 };
        let commit = ArchiveCommit { partition, leader_epoch: 0, replaces: 1, pointer, adopts: true };
        scene.run(Command::ArchiveCommit(commit))
    };
    let refused = |reply| matches!(reply, Reply::Refused(ClusterError::InvalidPointer { .. }));
    assert!(refused(commit(&mut scene, 0, 1, pointer(7, 0, 200))));
    assert!(refused(adopting(&mut scene, pointer(1, 0, 200))), "it must be newer");
    assert!(refused(adopting(&mut scene, pointer(7, 0, 99))), "it must not end before");
    assert_eq!(adopting(&mut scene, pointer(7, 0, 200)), Reply::Archive(ArchiveReply::Committed));
    assert_eq!(scene.state.archive(scene.id("a", 0)).unwrap().version, 7);
}
