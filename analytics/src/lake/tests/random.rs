//! Random histories: whatever was archived, deleted, lost and crashed, after a commit the table shows the ledger.

use proptest::prelude::*;

use super::archive::{Archive, LATER, NOW};
use crate::lake::{LakeError, Outcome};

#[derive(Debug, Clone)]
enum Step {
    Append(usize, i64),
    /// DeleteRecords or retention, to this share of what is there; with a manifest that says so, or before it.
    MoveStart(usize, u8, bool),
    Commit {
        now: i64,
        by: usize,
    },
    /// A commit that ends before the metadata are written.
    HalfCommit,
    Restart(usize),
    LoseHint,
    Lose(u8),
    Sweep(usize),
    ExpireAll,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..2_usize, 1..6_i64).prop_map(|(partition, records)| Step::Append(partition, records)),
        2 => (0..2_usize, any::<u8>(), any::<bool>()).prop_map(|(p, share, told)| Step::MoveStart(p, share, told)),
        5 => (-100_000..100_000_i64, 0..2_usize).prop_map(|(ahead, by)| Step::Commit { now: NOW + ahead, by }),
        1 => Just(Step::HalfCommit),
        1 => (0..2_usize).prop_map(Step::Restart),
        1 => Just(Step::LoseHint),
        1 => any::<u8>().prop_map(Step::Lose),
        1 => (0..2_usize).prop_map(Step::Sweep),
        1 => Just(Step::ExpireAll),
    ]
}

async fn play(steps: Vec<Step>) {
    let mut archive = Archive::new(2);
    let mut ends = [0; 2];
    let mut nodes = [archive.table(), archive.table()];
    for step in steps {
        match step {
            Step::Append(partition, records) => {
                archive.append(partition, records).await;
                ends[partition] += records;
            }
            Step::MoveStart(partition, share, told) => {
                let start = archive.log_starts[partition];
                let start = start + (ends[partition] - start) * i64::from(share) / 255;
                archive.log_starts[partition] = start;
                if told && ends[partition] > 0 {
                    archive.move_log_start(partition, start).await;
                }
            }
            Step::Commit { now, by } => {
                let topic = archive.topic();
                archive.commit_as(&mut nodes[by], &topic, now, &|| true).await.unwrap();
                archive.expect_shown().await;
            }
            Step::HalfCommit => {
                let asked = std::sync::atomic::AtomicU32::new(0);
                let once = || asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0;
                match archive.commit_as(&mut nodes[0], &archive.topic(), NOW, &once).await {
                    Ok(Outcome::Unchanged) | Err(LakeError::NotLeader) => {}
                    other => panic!("{other:?}"),
                }
            }
            Step::Restart(node) => nodes[node] = archive.table(),
            Step::LoseHint if archive.newest().await > 0 => archive.set_hint(None).await,
            Step::Lose(which) => {
                let mut files = archive.files().await;
                files.retain(|name| name.contains("-state.json") || name.contains("snap-"));
                if !files.is_empty() {
                    archive.remove(&files[usize::from(which) % files.len()]).await;
                    nodes = [archive.table(), archive.table()];
                }
            }
            Step::Sweep(node) => drop(nodes[node].sweep(NOW + LATER, 0).await.unwrap()),
            Step::ExpireAll => archive.expire_before = if archive.expire_before == 0 { i64::MAX } else { 0 },
            Step::LoseHint => {}
        }
    }
    for node in &mut nodes {
        archive.commit(node).await.unwrap();
        archive.expect_shown().await;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_table_always_shows_the_ledger(steps in prop::collection::vec(step(), 1..40)) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(play(steps));
    }
}
