//! Replicas of one partition on disks of their own, driven by hand: what a follower would do over the network is done here.

use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cold_tier::ColdTier;
use hot_tier::{AppendTime, HotTier};
use model::batch::{BatchBuilder, BatchFacts, NewRecord, ValidatedBatch};
use model::settings::{FlushMode, TopicSettings};
use model::{NodeId, Offset, TopicId, TopicPartition};
use protocol::ErrorCode;
use tokio::sync::Notify;
use uuid::Uuid;

use super::*;

mod closest;
mod interleavings;
mod lineage;
mod lost_files;
mod replication;
mod seam;
mod terms;

/// A replica on its own disk.
struct Replica {
    partition: Arc<Partition>,
    hot: HotTier,
    min_insync_replicas: u32,
    dir: Arc<tempfile::TempDir>,
}

fn id() -> TopicPartition {
    TopicPartition { topic_id: TopicId(Uuid::from_u128(7)), partition: 0 }
}

fn settings() -> Arc<TopicSettings> {
    Arc::new(TopicSettings { flush: FlushMode::Durable, ..TopicSettings::default() })
}

async fn replica(node_id: NodeId, min_insync_replicas: u32) -> Replica {
    replica_in(Arc::new(tempfile::tempdir().unwrap()), (node_id, min_insync_replicas), settings()).await
}

async fn replica_in(dir: Arc<tempfile::TempDir>, of: (NodeId, u32), settings: Arc<TopicSettings>) -> Replica {
    let cold = cold_tier::Config { url: "memory://".to_owned(), cluster_id: "c".to_owned(), ..Default::default() };
    replica_over(ColdTier::open(cold).await.unwrap(), dir, of, settings)
}

fn replica_over(
    cold: ColdTier,
    dir: Arc<tempfile::TempDir>,
    (node_id, min_insync_replicas): (NodeId, u32),
    settings: Arc<TopicSettings>,
) -> Replica {
    let config = hot_tier::Config { data_dir: dir.path().to_owned(), ..hot_tier::Config::default() };
    let flushed: Arc<OnceLock<Arc<Partition>>> = Arc::default();
    let listener = Arc::clone(&flushed);
    let on_flush = move |_: TopicPartition, _: Offset| {
        if let Some(partition) = listener.get() {
            partition.advance();
        }
    };
    let hot = HotTier::open(config, 0, Arc::new(on_flush)).unwrap();
    let log = hot.create(&TopicName::new("t").unwrap(), id(), settings).unwrap();
    let partition = Arc::new(Partition::new(log, node_id, cold, Duration::from_secs(1), Arc::new(Notify::new())));
    flushed.set(Arc::clone(&partition)).unwrap();
    Replica { partition, hot, min_insync_replicas, dir }
}

/// Leader and follower of epoch 5, both in sync: nodes 1 and 2.
async fn pair() -> (Replica, Replica) {
    let (leader, follower) = (replica(1, 1).await, replica(2, 1).await);
    leader.follow(1, 5, &[1, 2]);
    follower.follow(1, 5, &[1, 2]);
    (leader, follower)
}

/// The same, with so many committed records.
async fn pair_with(records: usize) -> (Replica, Replica) {
    let (leader, follower) = pair().await;
    leader.append(records);
    leader.flushed();
    follower.copy_from(&leader).unwrap();
    (leader, follower)
}

impl Replica {
    /// The replica after a restart of its node: what is archived is known, and nothing else but the log.
    async fn restarted(self) -> Replica {
        let (dir, node_id, min_insync_replicas) =
            (Arc::clone(&self.dir), self.partition.node_id, self.min_insync_replicas);
        let ledger = self.partition.ledger();
        drop(self);
        let restarted = replica_in(dir, (node_id, min_insync_replicas), settings()).await;
        restarted.partition.follow_ledger(ledger.as_ref());
        restarted
    }

    fn follow(&self, leader: NodeId, leader_epoch: i32, isr: &[NodeId]) {
        self.follow_from(0, leader, leader_epoch, isr);
    }

    /// As [`Replica::follow`], where readers were shown that the log begins at `log_start`.
    fn follow_from(&self, log_start: Offset, leader: NodeId, leader_epoch: i32, isr: &[NodeId]) {
        let partition_epoch = self.partition.leadership().partition_epoch + 1;
        let (replicas, isr) = (vec![1, 2, 3], isr.to_vec());
        let min_insync_replicas = self.min_insync_replicas;
        let leadership =
            Leadership { leader, leader_epoch, partition_epoch, replicas, isr, min_insync_replicas, log_start };
        let _ = self.partition.follow(leadership);
    }

    fn append(&self, records: usize) -> Accepted {
        self.partition.append(vec![batch(records)], AppendTime::from(0)).unwrap()
    }

    /// The copy of what the leader has that a fetcher would make, and the fetch that comes after it.
    fn copy_from(&self, leader: &Replica) -> Result<(), NotAdmitted> {
        let log = &self.partition.log;
        self.fetch_from(leader)?;
        let request = ReadRequest { from: log.log_end(), max_bytes: 1 << 20, min_one: true, deadline: far() };
        let same = self.partition.following(leader.partition.leadership().leader_epoch).unwrap();
        for records in futures::executor::block_on(leader.partition.read_for_follower(&request)).unwrap().records {
            self.partition.take_records(&same, &records).unwrap();
        }
        self.partition.follow_log_start(&same, leader.partition.log.log_start()).unwrap();
        drop(same);
        self.flushed();
        self.fetch_from(leader)
    }

    fn fetch_from(&self, leader: &Replica) -> Result<(), NotAdmitted> {
        let node_id = self.partition.node_id;
        let log = &self.partition.log;
        let fetch = FollowerFetch { node_id, broker_epoch: 1, offset: log.flushed_end(), log_start: log.log_start() };
        leader.partition.admit(fetch, leader.partition.leadership().leader_epoch, log.latest_epoch())
    }

    fn flushed(&self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.partition.log.flushed_end() < self.partition.log.log_end() {
            assert!(Instant::now() < deadline, "the log was not flushed in time");
            std::thread::yield_now();
        }
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.hot.close().unwrap();
    }
}

fn batch(records: usize) -> ValidatedBatch {
    batch_of(BatchFacts::default(), records)
}

fn batch_of(facts: BatchFacts, records: usize) -> ValidatedBatch {
    let mut builder = BatchBuilder::new(facts);
    for i in 0..records {
        let (offset, value) = (i64::try_from(i).unwrap(), Some(Bytes::from_static(b"value")));
        builder.append(&NewRecord { offset, timestamp: 0, key: None, value: value.as_deref(), headers: &[] });
    }
    ValidatedBatch::from_own(builder.finish().unwrap()).unwrap()
}

/// The ledger's entry of an archive that a leader of epoch 5 has made.
fn archived(version: u64, archived_end: Offset) -> ManifestPointer {
    ManifestPointer {
        object: "manifest".to_owned(),
        version,
        leader_epoch: 5,
        log_start: 0,
        archived_end,
        bytes: 1,
        record_bytes: 1,
        objects: 1,
        max_timestamp: -1,
    }
}

fn far() -> tokio::time::Instant {
    tokio::time::Instant::now() + Duration::from_secs(20)
}

fn soon() -> tokio::time::Instant {
    tokio::time::Instant::now() + Duration::from_millis(50)
}
