//! Tables over real archives in memory: what they show is what the ledger says, whatever happened in between.

pub(crate) mod archive;
mod random;

use std::time::Duration;

use cold_tier::TableFile;

use self::archive::{Archive, NOW};
use super::*;

/// Everything expires that may.
const ALL: i64 = i64::MAX;

#[tokio::test]
async fn a_table_shows_what_the_ledger_says_and_writes_only_what_is_new() {
    let mut archive = Archive::new(2);
    let mut table = archive.table();
    assert_eq!(
        archive.commit(&mut table).await.unwrap(),
        Outcome::Committed { version: 1, files: 3 },
        "an empty table"
    );
    archive.expect_shown().await;
    archive.append(0, 10).await;
    archive.append(1, 20).await;
    archive.append(0, 10).await;
    assert!(table.is_behind(&archive.topic()));
    assert_eq!(archive.commit(&mut table).await.unwrap(), Outcome::Committed { version: 2, files: 4 });
    archive.expect_shown().await;
    assert!(!table.is_behind(&archive.topic()));
    assert_eq!(archive.commit(&mut table).await.unwrap(), Outcome::Unchanged);
    archive.append(0, 5).await;
    // Another node continues.
    let mut other = archive.table();
    assert_eq!(archive.commit(&mut other).await.unwrap(), Outcome::Committed { version: 3, files: 4 });
    archive.expect_shown().await;
    // Meanwhile the first one lost a race without noticing: there is nothing left to do.
    assert_eq!(archive.commit(&mut table).await.unwrap(), Outcome::Unchanged);
}

#[tokio::test]
async fn a_log_start_drops_objects_and_hides_rows_of_the_first() {
    let mut archive = Archive::new(1);
    let mut table = archive.table();
    for _ in 0..4 {
        archive.append(0, 10).await;
    }
    archive.commit(&mut table).await.unwrap();
    // DeleteRecords: known to the cluster before any manifest says so.
    for (log_start, objects, hidden) in [(3, 4, 3), (17, 3, 7), (20, 2, 0)] {
        archive.log_starts[0] = log_start;
        archive.commit(&mut table).await.unwrap();
        let shown = archive.expect_shown().await;
        assert_eq!((shown.len(), shown.values().next().copied()), (objects, Some(hidden)), "log start {log_start}");
    }
    archive.move_log_start(0, 31).await;
    archive.commit(&mut table).await.unwrap();
    assert_eq!(archive.expect_shown().await.len(), 1);
    archive.move_log_start(0, 40).await;
    archive.commit(&mut archive.table()).await.unwrap();
    assert!(archive.expect_shown().await.is_empty());
    archive.append(0, 10).await;
    archive.commit(&mut table).await.unwrap();
    assert_eq!(archive.expect_shown().await.len(), 1);
}

#[tokio::test]
async fn of_two_committers_one_wins_and_the_other_goes_on_from_there() {
    let mut archive = Archive::new(1);
    let (mut one, mut two) = (archive.table(), archive.table());
    archive.append(0, 10).await;
    archive.commit(&mut one).await.unwrap();
    archive.commit(&mut two).await.unwrap();
    for round in 0..5 {
        archive.append(0, 10).await;
        let (first, second) = tokio::join!(archive.commit(&mut one), archive.commit(&mut two));
        let (first, second) = (first.unwrap(), second.unwrap());
        let won = |outcome: &Outcome| *outcome == Outcome::Committed { version: round + 2, files: 4 };
        assert!(won(&first) != won(&second), "{first:?} {second:?}");
        assert!([first, second].contains(&Outcome::Unchanged));
        archive.expect_shown().await;
    }
}

#[tokio::test]
async fn a_node_that_knows_less_of_the_ledger_than_the_table_changes_nothing() {
    let mut archive = Archive::new(2);
    archive.append(0, 10).await;
    archive.append(1, 10).await;
    let stale = archive.topic();
    archive.append(0, 10).await;
    archive.commit(&mut archive.table()).await.unwrap();
    let refused = archive.commit_as(&mut archive.table(), &stale, NOW, &|| true).await.unwrap_err();
    assert!(
        matches!(&refused, LakeError::Older { partition, shown: 2, known: 1 } if partition.partition == 0),
        "{refused}"
    );
    archive.log_starts[1] = 4;
    archive.commit(&mut archive.table()).await.unwrap();
    let mut stale = archive.topic();
    stale.partitions[1].log_start = 0;
    assert!(archive.commit_as(&mut archive.table(), &stale, NOW, &|| true).await.is_err());
    archive.expect_shown().await;
}

#[tokio::test]
async fn a_leader_that_lost_its_term_leaves_files_that_nothing_names() {
    let mut archive = Archive::new(1);
    archive.append(0, 10).await;
    archive.commit(&mut archive.table()).await.unwrap();
    archive.append(0, 10).await;
    let asked = std::sync::atomic::AtomicU32::new(0);
    let once = || asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0;
    let refused = archive.commit_as(&mut archive.table(), &archive.topic(), NOW, &once).await.unwrap_err();
    assert!(matches!(refused, LakeError::NotLeader), "{refused}");
    assert_eq!(archive.newest().await, 1);
    let mut table = archive.table();
    assert_eq!(archive.commit(&mut table).await.unwrap(), Outcome::Committed { version: 2, files: 4 });
    // Hint, two metadata, and for each of three tries a manifest, a list and a state.
    assert_eq!(archive.files().await.len(), 12);
    for (now, left) in [(NOW, 12), (NOW + 999, 12), (NOW + archive::LATER, 8)] {
        table.sweep(now, 1000).await.unwrap();
        assert_eq!(archive.files().await.len(), left, "at {now}");
    }
    archive.expect_shown().await;
}

#[tokio::test]
async fn the_newest_metadata_are_found_without_a_hint_and_with_one_that_lags() {
    let mut archive = Archive::new(1);
    for _ in 0..4 {
        archive.append(0, 10).await;
        archive.commit(&mut archive.table()).await.unwrap();
    }
    for hint in [None, Some("2"), Some("4"), Some("9"), Some("0"), Some("no number"), Some("99999999999999999999")] {
        archive.set_hint(hint).await;
        assert_eq!(archive.newest().await, 4, "hint {hint:?}");
        assert_eq!(archive.commit(&mut archive.table()).await.unwrap(), Outcome::Unchanged);
        assert_eq!(archive.hint().await, "4", "a hint that lags is set right");
    }
}

#[tokio::test]
async fn what_is_lost_or_damaged_is_made_anew_from_the_ledger() {
    let parts = ["-state.json", "snap-", ".metadata.json"];
    for (part, is_damaged) in parts.into_iter().flat_map(|part| [(part, false), (part, true)]) {
        let mut archive = Archive::new(2);
        archive.append(0, 10).await;
        archive.append(1, 10).await;
        archive.log_starts[1] = 4;
        archive.commit(&mut archive.table()).await.unwrap();
        let before = archive.newest().await;
        for name in archive.files().await.into_iter().filter(|name| name.contains(part)) {
            if is_damaged { archive.damage(&name).await } else { archive.remove(&name).await }
        }
        let lost_all = part == ".metadata.json" && !is_damaged;
        archive.append(0, 10).await;
        let made = archive.commit(&mut archive.table()).await.unwrap();
        let version = if lost_all { 1 } else { before + 1 };
        assert!(matches!(made, Outcome::Committed { version: made, .. } if made == version), "{part} {made:?}");
        archive.expect_shown().await;
    }
}

#[tokio::test]
async fn a_lost_manifest_is_noticed_when_it_is_needed() {
    let mut archive = Archive::new(1);
    let mut table = archive.table();
    archive.append(0, 10).await;
    archive.append(0, 10).await;
    archive.commit(&mut table).await.unwrap();
    for name in archive.files().await.into_iter().filter(|name| name.ends_with("-added.avro")) {
        archive.remove(&name).await;
    }
    archive.move_log_start(0, 12).await;
    archive.commit(&mut table).await.unwrap();
    assert_eq!(archive.expect_shown().await.into_values().collect::<Vec<_>>(), [2]);
}

#[tokio::test]
async fn another_history_of_a_partition_replaces_what_the_table_showed() {
    let mut archive = Archive::new(1);
    archive.append(0, 10).await;
    let fork = archive.clone();
    archive.append(0, 10).await;
    archive.commit(&mut archive.table()).await.unwrap();
    // The cluster was brought back from a copy: the second object was archived again, under another name.
    let mut archive = fork;
    archive.append(0, 7).await;
    archive.append(0, 7).await;
    archive.commit(&mut archive.table()).await.unwrap();
    assert_eq!(archive.expect_shown().await.len(), 3);
    // Or records that were deleted are back.
    archive.log_starts[0] = 12;
    archive.commit(&mut archive.table()).await.unwrap();
    archive.log_starts[0] = 3;
    assert!(matches!(archive.commit(&mut archive.table()).await, Err(LakeError::Older { .. })));
    archive.append(0, 7).await;
    archive.commit(&mut archive.table()).await.unwrap();
    assert_eq!(archive.expect_shown().await.len(), 4);
}

#[tokio::test]
async fn many_commits_leave_few_manifests_and_dropping_finds_its_objects() {
    let mut archive = Archive::new(2);
    let mut table = archive.table();
    let mut most = 0;
    for round in 0..80 {
        archive.append(0, 2).await;
        archive.append(1, 2).await;
        if round % 8 == 7 {
            archive.move_log_start(0, round - 6).await;
        }
        archive.commit(&mut table).await.unwrap();
        most = most.max(archive.standing().await.data_manifests().count());
    }
    assert!((20..=34).contains(&most), "{most} manifests");
    assert_eq!(archive.expect_shown().await.len(), 80 - 36 + 80);
    archive.move_log_start(1, 160).await;
    archive.commit(&mut archive.table()).await.unwrap();
    assert_eq!(archive.expect_shown().await.len(), 80 - 36);
}

#[tokio::test]
async fn old_snapshots_expire_also_when_nothing_else_happens_and_their_files_are_swept() {
    let mut archive = Archive::new(1);
    let mut table = archive.table();
    for _ in 0..3 {
        archive.append(0, 10).await;
        archive.log_starts[0] += 4;
        archive.commit(&mut table).await.unwrap();
    }
    archive.expire_before = ALL;
    assert_eq!(archive.commit(&mut table).await.unwrap(), Outcome::Expired);
    assert_eq!(archive.commit(&mut table).await.unwrap(), Outcome::Unchanged, "the newest snapshot stays");
    assert_eq!(archive.standing().await.metadata.snapshots().count(), 1);
    archive.expect_shown().await;
    let before = archive.files().await.len();
    table.sweep(NOW, 0).await.unwrap();
    assert_eq!(archive.files().await.len(), before, "files are as old as the store says, too");
    table.sweep(NOW + archive::LATER, 0).await.unwrap();
    // Hint, metadata, list, three manifests of data, one of deletes, state, cut.
    assert_eq!(archive.files().await.len(), 9, "{:?}", archive.files().await);
    archive.expect_shown().await;
}

#[tokio::test]
async fn what_engines_leave_in_the_tables_folder_goes_after_the_grace_period_and_nothing_beside_it() {
    let mut archive = Archive::new(1);
    let mut table = archive.table();
    archive.append(0, 10).await;
    archive.commit(&mut table).await.unwrap();
    let before = archive.files().await;
    for left in ["data/partition=0/00000-0-9f.parquet", "metadata/9f-m0.avro", "metadata/00002-9f.metadata.json"] {
        archive.put(left, "written before the commit was refused").await;
    }
    archive.put("../table-state/notes.txt", "theirs").await;
    let (found, grace) = (NOW + archive::LATER, 1000);
    for (now, swept) in [(found, 0), (found + grace - 1, 0), (found + grace, 3)] {
        assert_eq!(table.sweep(now, grace).await.unwrap(), swept);
    }
    assert_eq!(archive.files().await, before);
    assert!(archive.has("table-state/notes.txt").await, "it lies outside of the table");
    archive.expect_shown().await;
}

#[tokio::test]
async fn engines_that_remove_orphan_files_take_nothing_that_the_next_commit_needs() {
    let mut archive = Archive::new(2);
    for round in 0..7 {
        archive.append(round % 2, 10).await;
        archive.log_starts[0] = 3;
        archive.commit(&mut archive.table()).await.unwrap();
    }
    archive.remove_orphan_files().await;
    archive.append(0, 10).await;
    assert!(matches!(archive.commit(&mut archive.table()).await.unwrap(), Outcome::Committed { version: 8, .. }));
    assert_eq!(archive.standing().await.metadata.snapshots().count(), 8);
    archive.expect_shown().await;
}

#[tokio::test]
async fn a_node_that_others_have_overtaken_sweeps_nothing() {
    let mut archive = Archive::new(1);
    let mut stale = archive.table();
    archive.append(0, 10).await;
    archive.commit(&mut stale).await.unwrap();
    archive.append(0, 10).await;
    archive.commit(&mut archive.table()).await.unwrap();
    assert_eq!(stale.sweep(NOW + archive::LATER, 0).await.unwrap(), 0);
    archive.expect_shown().await;
}

#[tokio::test]
async fn the_free_name_of_swept_metadata_is_no_commit() {
    let mut archive = Archive::new(1);
    let (mut stale, mut table) = (archive.table(), archive.table());
    archive.append(0, 10).await;
    archive.commit(&mut stale).await.unwrap();
    for _ in 0..3 {
        archive.append(0, 10).await;
        archive.commit(&mut table).await.unwrap();
    }
    archive.expire_before = ALL;
    archive.commit(&mut table).await.unwrap();
    table.sweep(NOW + archive::LATER, 0).await.unwrap();
    let versions = archive.files().await.into_iter().filter(|name| name.ends_with(".metadata.json")).count();
    assert_eq!(versions, 1, "v2, which follows what the stale node knows, is a free name");
    archive.append(0, 10).await;
    assert!(matches!(archive.commit(&mut stale).await.unwrap(), Outcome::Committed { version: 6, .. }));
    archive.expect_shown().await;
}

#[tokio::test]
async fn a_clock_that_goes_back_breaks_no_order() {
    let mut archive = Archive::new(1);
    let mut table = archive.table();
    for now in [NOW, NOW - 1_000_000, NOW + 5, 0] {
        archive.append(0, 10).await;
        let topic = archive.topic();
        archive.commit_as(&mut table, &topic, now, &|| true).await.unwrap();
        table = archive.table();
    }
    let standing = archive.standing().await;
    let times: Vec<_> = standing.metadata.history().iter().map(|entry| entry.timestamp_ms).collect();
    assert!(times.is_sorted_by(|a, b| a < b), "{times:?}");
    archive.expect_shown().await;
}

#[tokio::test]
async fn the_driver_commits_once_an_interval_and_tells_what_is_wrong() {
    let mut archive = Archive::new(1);
    let limits = Limits {
        interval: Duration::from_secs(60),
        max_age: Duration::from_secs(3600),
        grace: Duration::from_secs(3600),
        sweep_interval: Duration::from_secs(600),
    };
    assert_eq!(limits.snapshot_age(), Duration::from_secs(3540));
    let mut driver = Driver::new(archive.cold.clone(), limits, |_| ());
    let start = std::time::Instant::now();
    let mut versions = Vec::new();
    for seconds in (0..=240).step_by(20) {
        archive.append(0, 1).await;
        let led = Led { topic: archive.topic(), may_commit: Box::new(move || seconds < 200) };
        driver.pass(vec![led], NOW + seconds * 1000, start + Duration::from_secs(seconds.unsigned_abs())).await;
        versions.push(archive.newest().await);
    }
    assert_eq!(versions, [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 3]);
    driver.pass(Vec::new(), NOW, start).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_takes_long_does_not_hold_up_the_others() {
    let (mut archive, slow) = (Archive::new(1), Archive::new(1).topic());
    let slow = model::archive::TopicArchive {
        id: model::TopicId(uuid::Uuid::from_u128(9)),
        name: model::TopicName::new("slow").unwrap(),
        ..slow
    };
    let second = Duration::from_secs(1);
    let limits =
        Limits { interval: second, max_age: 3600 * second, grace: 3600 * second, sweep_interval: 600 * second };
    let mut driver = Driver::new(archive.cold.clone(), limits, |_| ());
    let start = std::time::Instant::now();
    let (end, held) = std::sync::mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    let mut slow = Some(Led { topic: slow, may_commit: Box::new(move || held.lock().unwrap().recv().is_ok()) });
    for seconds in 0..4 {
        archive.append(0, 1).await;
        let led = Led { topic: archive.topic(), may_commit: Box::new(|| true) };
        let led = slow.take().into_iter().chain([led]).collect();
        driver.pass(led, NOW + i64::from(seconds) * 1000, start + seconds * second).await;
    }
    drop(end);
    assert_eq!(archive.newest().await, 3);
}

#[tokio::test]
async fn topics_without_an_archive_or_against_their_will_have_no_table() {
    let archive = Archive::new(1);
    let topic = archive.topic();
    assert!(has_table(&topic));
    let with = |change: fn(&mut model::settings::TopicSettings)| {
        let mut settings = (*topic.settings).clone();
        change(&mut settings);
        model::archive::TopicArchive { settings: std::sync::Arc::new(settings), ..topic.clone() }
    };
    assert!(!has_table(&with(|settings| settings.iceberg_enable = false)));
    assert!(!has_table(&with(|settings| settings.remote_storage_enable = false)));
    let name = model::TopicName::new("__consumer_offsets").unwrap();
    assert!(!has_table(&model::archive::TopicArchive { name, ..topic }));
}

#[tokio::test]
async fn every_file_that_is_written_is_known_by_its_name() {
    let mut archive = Archive::new(1);
    archive.append(0, 10).await;
    archive.log_starts[0] = 3;
    archive.commit(&mut archive.table()).await.unwrap();
    archive.append(0, 10).await;
    archive.move_log_start(0, 12).await;
    archive.commit(&mut archive.table()).await.unwrap();
    let files = archive.files().await;
    let kinds: Vec<_> = files.iter().map(|name| cold_tier::table_file(&archive.folder(), name).unwrap()).collect();
    assert!(!kinds.contains(&TableFile::Foreign), "{files:?}");
    assert!(kinds.contains(&TableFile::Hint));
}

#[tokio::test]
async fn metadata_that_continue_no_version_stop_no_sweep_and_are_not_the_newest() {
    let mut archive = Archive::new(1);
    let mut table = archive.table();
    for _ in 0..3 {
        archive.append(0, 10).await;
        archive.commit(&mut table).await.unwrap();
    }
    let before = archive.files().await;
    for stray in ["metadata/v999.metadata.json", "metadata/v50.metadata.json"] {
        archive.put(stray, "a foreign file").await;
    }
    archive.copy("metadata/v2.metadata.json", "metadata/v70.metadata.json").await;
    archive.copy("metadata/v3.metadata.json", "metadata/v90.metadata.json").await;
    archive.set_hint(None).await;
    assert_eq!(archive.newest().await, 3);
    archive.expire_before = ALL;
    assert_eq!(archive.commit(&mut archive.table()).await.unwrap(), Outcome::Expired);
    assert_eq!(archive.newest().await, 4);
    let mut table = archive.table();
    assert_eq!(archive.commit(&mut table).await.unwrap(), Outcome::Unchanged);
    table.sweep(NOW + archive::LATER, 0).await.unwrap();
    let after = archive.files().await;
    assert!(after.len() < before.len() && !after.iter().any(|name| name.contains("v999")), "{after:?}");
    archive.expect_shown().await;
}
