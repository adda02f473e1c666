//! A fetcher against a leader on real sockets: what a follower's log holds in the end.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cold_tier::ColdTier;
use coordinator::cluster::{Cluster, Record};
use hot_tier::{HotTier, PartitionLog, ReadLimits};
use model::batch::{BatchBuilder, BatchFacts, NewRecord, ValidatedBatch};
use model::settings::{SettingsMap, ThrottledReplicas, TopicSettings};
use model::{NodeId, TopicId, TopicName, TopicPartition};
use protocol::messages::fetch_response::PartitionData;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use uuid::Uuid;

use self::leader::{Leader, Listening};
use super::apply::{Answer, Applied, apply_all};
use super::fetcher::Fetcher;
use super::session::Wanted;
use super::{Assignment, Limits, Shared};
use crate::internal::client::Client;
use crate::partition::{Leadership, Partition};
use crate::throttle::{FOLLOWER_RATE, Throttles};

mod leader;

const LEADER: NodeId = 1;
const FOLLOWER: NodeId = 2;
const NOW: i64 = 1_700_000_000_000;
/// A test that has not come to its end by then has failed.
const PATIENCE: Duration = Duration::from_secs(30);

fn id(partition: i32) -> TopicPartition {
    TopicPartition { topic_id: TopicId(Uuid::from_u128(7)), partition }
}

/// Two nodes in one process.
struct Pair {
    leader: Arc<Leader>,
    listening: Listening,
    leaders: HotTier,
    followers: HotTier,
    cold: ColdTier,
    throttles: Arc<Throttles>,
    assigned: watch::Sender<Arc<Assignment>>,
    fetching: JoinHandle<()>,
    _folders: [TempDir; 2],
}

fn tier() -> (HotTier, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let config = hot_tier::Config {
        data_dir: folder.path().to_owned(),
        journal_bytes: 1 << 20,
        flush_bypass_bytes: 32 << 10,
        ..hot_tier::Config::default()
    };
    (HotTier::open(config, NOW, Arc::new(|_, _| {})).unwrap(), folder)
}

fn create(tier: &HotTier, partition: i32) -> Arc<PartitionLog> {
    let settings = TopicSettings { segment_bytes: 2048, ..TopicSettings::default() };
    tier.create(&TopicName::new("orders").unwrap(), id(partition), Arc::new(settings)).unwrap()
}

/// Appends `count` batches of one record, each by a producer of its own.
fn append(log: &Arc<PartitionLog>, count: usize, leader_epoch: i32) {
    for _ in 0..count {
        log.append_leader(vec![batch(log.log_end())], leader_epoch, NOW).unwrap();
    }
}

fn batch(producer_id: i64) -> ValidatedBatch {
    let facts = BatchFacts { producer_id, producer_epoch: 0, base_sequence: 0, ..BatchFacts::default() };
    let mut builder = BatchBuilder::new(facts);
    builder.append(&NewRecord { offset: 0, timestamp: NOW, key: None, value: Some(&[7; 100]), headers: &[] });
    ValidatedBatch::from_own(builder.finish().unwrap()).unwrap()
}

fn contents(log: &PartitionLog) -> Bytes {
    let mut all = Vec::new();
    let mut from = log.local_start();
    while from < log.log_end() {
        let read = log.read(from, ReadLimits { max_bytes: 1 << 20, upper: i64::MAX, at_least_one: true }).unwrap();
        all.extend_from_slice(&read.records);
        from = read.next_offset;
    }
    all.into()
}

fn leadership(leader_epoch: i32) -> Leadership {
    Leadership {
        leader: LEADER,
        leader_epoch,
        replicas: vec![LEADER, FOLLOWER],
        isr: vec![LEADER, FOLLOWER],
        ..Leadership::unknown()
    }
}

impl Pair {
    async fn new(max_wait: Duration) -> Self {
        let ((leaders, folder), (followers, other_folder)) = (tier(), tier());
        let leader = Arc::new(Leader::default());
        let listening = leader.listen().await;
        let limits = Limits {
            max_bytes: 4096,
            response_max_bytes: 1 << 20,
            min_bytes: 1,
            max_wait,
            patience: PATIENCE,
            frame_max_bytes: 4 << 20,
        };
        let throttles = Arc::new(Throttles::new());
        let shared = Shared {
            node_id: FOLLOWER,
            cluster_id: String::new(),
            hot: followers.clone(),
            internal: Client::new(),
            limits,
            throttles: Arc::clone(&throttles),
        };
        let (assigned, assignments) = watch::channel(Arc::default());
        let fetching = tokio::spawn(Fetcher::new(Arc::new(shared), LEADER, assignments).run());
        let cold = ColdTier::open(cold_tier::Config::default()).await.unwrap();
        let _folders = [folder, other_folder];
        Pair { leader, listening, leaders, followers, cold, throttles, assigned, fetching, _folders }
    }

    /// Both replicas of a partition; nothing is assigned yet.
    fn replicas(&self, partition: i32) -> (Arc<PartitionLog>, Arc<Partition>) {
        let follower = create(&self.followers, partition);
        let follower = Partition::new(follower, FOLLOWER, self.cold.clone(), PATIENCE, Arc::default());
        (create(&self.leaders, partition), Arc::new(follower))
    }

    fn assign(&self, followed: &[(&Arc<Partition>, i32)]) {
        for (partition, leader_epoch) in followed {
            partition.follow(leadership(*leader_epoch));
        }
        let assignment = Assignment {
            address: Some(self.listening.address.clone()),
            internal: Some(self.listening.internal.clone()),
            broker_epoch: 77,
            followed: followed.iter().map(|(partition, epoch)| (Arc::clone(partition), *epoch)).collect(),
        };
        self.assigned.send_replace(Arc::new(assignment));
    }
}

/// Flips a bit of the record at offset 4.
fn damage_the_fifth(records: &mut [u8]) {
    let mut at = 0;
    while let Some(head) = records.get(at..at + 12) {
        let len = 12 + usize::try_from(u32::from_be_bytes(head[8..].try_into().unwrap())).unwrap();
        if head[..8] == 4_i64.to_be_bytes() {
            records[at + len - 5] ^= 1;
        }
        at += len;
    }
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !holds() {
        assert!(tokio::time::Instant::now() < deadline, "still not so: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn until_equal(leader: &PartitionLog, follower: &Partition) {
    let log = &follower.log;
    until("the follower has what the leader has", || log.log_end() == leader.log_end()).await;
    until("and knows what is committed", || follower.high_watermark() == leader.flushed_end()).await;
    until("and has flushed it", || log.flushed_end() == log.log_end()).await;
    assert_eq!(contents(leader), contents(log));
    assert_eq!(leader.epochs(), log.epochs());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_gets_what_the_leader_has_and_tells_what_it_flushed() {
    let pair = Pair::new(Duration::from_millis(500)).await;
    let (leader, follower) = pair.replicas(0);
    append(&leader, 50, 1);
    append(&leader, 50, 3);
    pair.leader.lead(&leader, 3);
    pair.assign(&[(&follower, 3)]);
    until_equal(&leader, &follower).await;
    append(&leader, 1, 3);
    until_equal(&leader, &follower).await;
    until("the leader knows", || pair.leader.told.lock()[&id(0)] == 101).await;
    leader.advance_log_start(42).unwrap();
    append(&leader, 1, 3);
    until("the log start follows", || follower.log.log_start() == 42).await;
    assert_eq!(pair.leader.connections.load(Ordering::Relaxed), 1, "one connection does");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_gives_up_what_the_new_leader_never_had() {
    let pair = Pair::new(Duration::from_millis(500)).await;
    let (leader, follower) = pair.replicas(0);
    append(&leader, 10, 1);
    append(&follower.log, 10, 1);
    // Both went on alone: the old leader without acknowledgement, the new one in a newer epoch.
    append(&follower.log, 5, 1);
    append(&follower.log, 3, 2);
    follower.log.begin_epoch(4).unwrap();
    append(&leader, 7, 5);
    pair.leader.lead(&leader, 5);
    pair.assign(&[(&follower, 5)]);
    until_equal(&leader, &follower).await;
    assert_eq!(follower.log.log_end(), 17);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_is_longer_than_a_leader_of_the_same_epoch_is_cut() {
    let pair = Pair::new(Duration::from_millis(500)).await;
    let (leader, follower) = pair.replicas(0);
    append(&leader, 4, 1);
    append(&follower.log, 9, 1);
    leader.begin_epoch(2).unwrap();
    pair.leader.lead(&leader, 2);
    pair.assign(&[(&follower, 2)]);
    until("it is cut", || follower.log.log_end() == 4).await;
    append(&leader, 1, 2);
    until_equal(&leader, &follower).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_replica_begins_at_the_leaders_local_start_with_its_memory() {
    let pair = Pair::new(Duration::from_millis(500)).await;
    let (leader, follower) = pair.replicas(0);
    append(&leader, 30, 1);
    append(&leader, 30, 2);
    leader.roll().unwrap();
    pair.leaders.checkpoint().unwrap();
    leader.evict_below(45).unwrap();
    let start = leader.local_start();
    assert!(start > 30, "{start}");
    pair.leader.lead(&leader, 2);
    pair.assign(&[(&follower, 2)]);
    until_equal(&leader, &follower).await;
    let log = &follower.log;
    assert_eq!((log.log_start(), log.local_start()), (0, start));
    for producer in [3, 58] {
        assert!(log.append_leader(vec![batch(producer)], 9, NOW).unwrap().duplicate, "producer {producer} is known");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_of_another_history_are_replaced() {
    let pair = Pair::new(Duration::from_millis(500)).await;
    let (leader, follower) = pair.replicas(0);
    append(&follower.log, 20, 7);
    append(&leader, 40, 8);
    pair.leader.lead(&leader, 9);
    pair.assign(&[(&follower, 9)]);
    until_equal(&leader, &follower).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_batch_does_not_spread_and_holds_up_no_other_partition() {
    let pair = Pair::new(Duration::from_millis(20)).await;
    let ((leader, follower), (other_leader, other)) = (pair.replicas(0), pair.replicas(1));
    append(&leader, 10, 1);
    append(&other_leader, 10, 1);
    pair.leader.lead(&leader, 1);
    pair.leader.lead(&other_leader, 1);
    pair.leader.tamper(id(0), Some(damage_the_fifth));
    pair.assign(&[(&follower, 1), (&other, 1)]);
    until_equal(&other_leader, &other).await;
    until("what is intact before the damage is taken", || follower.log.log_end() == 4).await;
    append(&other_leader, 10, 1);
    until_equal(&other_leader, &other).await;
    assert_eq!(follower.log.log_end(), 4);
    assert!(contents(&leader).starts_with(&contents(&follower.log)));
    pair.leader.tamper(id(0), None);
    until_equal(&leader, &follower).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_partition_does_not_wait_for_the_long_poll_of_the_others() {
    // Longer than this test has patience.
    let pair = Pair::new(PATIENCE * 4).await;
    let ((leader, follower), (other_leader, other)) = (pair.replicas(0), pair.replicas(1));
    append(&leader, 1, 1);
    append(&other_leader, 1, 1);
    pair.leader.lead(&leader, 1);
    pair.leader.lead(&other_leader, 1);
    pair.assign(&[(&follower, 1)]);
    until("the first is there, and waits", || pair.leader.told.lock().get(&id(0)) == Some(&1)).await;
    pair.assign(&[(&follower, 1), (&other, 1)]);
    until_equal(&other_leader, &other).await;
    // Nor does one whose epoch the leader did not know yet.
    pair.assign(&[(&follower, 2), (&other, 1)]);
    until("it is refused", || pair.leader.refusals.load(Ordering::Relaxed) > 0).await;
    append(&leader, 1, 2);
    pair.leader.lead(&leader, 2);
    until_equal(&leader, &follower).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_comes_back_elsewhere_is_followed_again() {
    let mut pair = Pair::new(Duration::from_millis(500)).await;
    let (leader, follower) = pair.replicas(0);
    append(&leader, 10, 1);
    pair.leader.lead(&leader, 1);
    pair.assign(&[(&follower, 1)]);
    until_equal(&leader, &follower).await;
    pair.listening = pair.leader.listen().await;
    append(&leader, 10, 1);
    pair.assign(&[(&follower, 1)]);
    until_equal(&leader, &follower).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_throttled_replica_waits_while_it_is_not_in_sync() {
    let pair = Pair::new(Duration::from_millis(20)).await;
    let ((leader, follower), (other_leader, other)) = (pair.replicas(0), pair.replicas(1));
    pair.throttles.follow(&cluster_with(FOLLOWER_RATE, "1000"), FOLLOWER);
    let settings = TopicSettings { follower_throttled: ThrottledReplicas::All, ..TopicSettings::default() };
    for log in [&follower.log, &other.log] {
        log.update_settings(Arc::new(settings.clone())).unwrap();
    }
    append(&leader, 100, 1);
    append(&other_leader, 100, 1);
    pair.leader.lead(&leader, 1);
    pair.leader.lead(&other_leader, 1);
    pair.assign(&[(&follower, 1), (&other, 1)]);
    // As if it had just been added: in the ISR is only the leader.
    follower.follow(Leadership { isr: vec![LEADER], partition_epoch: 1, ..leadership(1) });
    until_equal(&other_leader, &other).await;
    until("it has used up its allowance", || pair.throttles.follower.closed_for(Instant::now()).is_some()).await;
    let held = follower.log.log_end();
    assert!(held < 100, "17 kB took no time at 1 kB/s");
    pair.throttles.follow(&cluster_with(FOLLOWER_RATE, "1000000000"), FOLLOWER);
    until_equal(&leader, &follower).await;
}

/// A cluster whose brokers have this dynamic setting.
fn cluster_with(name: &str, value: &str) -> Cluster {
    let configs = SettingsMap::from([(name.to_owned(), value.to_owned())]);
    let mut cluster = Cluster::new();
    cluster.apply(Record::BrokerConfigsSet { broker_id: None, configs });
    cluster
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_assignment_a_fetcher_ends() {
    let pair = Pair::new(Duration::from_millis(500)).await;
    let Pair { assigned, fetching, .. } = pair;
    drop(assigned);
    tokio::time::timeout(PATIENCE, fetching).await.expect("it ends").unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fetcher_ends_with_its_assignment_though_its_partitions_are_in_the_same_epoch() {
    let pair = Pair::new(Duration::from_millis(500)).await;
    let (leader, follower) = pair.replicas(0);
    append(&leader, 10, 1);
    pair.leader.lead(&leader, 1);
    pair.assign(&[(&follower, 1)]);
    until_equal(&leader, &follower).await;
    // As for a topic that was deleted.
    let Pair { assigned, fetching, .. } = pair;
    drop(assigned);
    tokio::time::timeout(PATIENCE, fetching).await.expect("it ends").unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_from_an_epoch_that_is_over_changes_nothing() {
    let pair = Pair::new(Duration::from_millis(500)).await;
    let (leader, follower) = pair.replicas(0);
    append(&leader, 3, 1);
    follower.follow(leadership(2));
    let wanted = Wanted {
        leader_epoch: 1,
        fetch_offset: 0,
        last_fetched_epoch: -1,
        log_start: 0,
        high_watermark: 0,
        max_bytes: 1 << 20,
    };
    let data = PartitionData { records: Some(contents(&leader).into()), ..PartitionData::default() };
    let answer = |wanted| Answer { partition: Arc::clone(&follower), wanted, data: data.clone() };
    assert_eq!(apply_all(&pair.followers, vec![answer(wanted)]), [Applied::Over]);
    assert_eq!(follower.log.log_end(), 0);
    let mut cut = data.clone();
    (cut.diverging_epoch.epoch, cut.diverging_epoch.end_offset) = (1, 0);
    follower.follow(leadership(3));
    let now = Wanted { leader_epoch: 3, ..wanted };
    assert!(matches!(apply_all(&pair.followers, vec![answer(now)])[..], [Applied::Followed { bytes: 1.., .. }]));
    let late = Answer { partition: Arc::clone(&follower), wanted, data: cut };
    assert_eq!(apply_all(&pair.followers, vec![late]), [Applied::Over]);
    assert_eq!(follower.log.log_end(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_the_follower_cannot_take_holds_up_no_other_partition() {
    let pair = Pair::new(Duration::from_millis(50)).await;
    let replicas: Vec<_> = (0..8).map(|partition| pair.replicas(partition)).collect();
    for (number, (leader, _)) in replicas.iter().enumerate() {
        append(leader, 10, 1);
        if number == 2 {
            let mut builder = BatchBuilder::new(BatchFacts::default());
            let value = vec![7; 5 << 20];
            builder.append(&NewRecord { offset: 0, timestamp: NOW, key: None, value: Some(&value), headers: &[] });
            let batch = ValidatedBatch::from_own(builder.finish().unwrap()).unwrap();
            leader.append_leader(vec![batch], 1, NOW).unwrap();
        }
        pair.leader.lead(leader, 1);
    }
    let followed: Vec<_> = replicas.iter().map(|(_, follower)| (follower, 1)).collect();
    pair.assign(&followed);
    for round in 0..3 {
        for (number, (leader, follower)) in replicas.iter().enumerate() {
            if number != 2 {
                append(leader, 1, 1);
                until_equal(leader, follower).await;
            }
        }
        assert_eq!(replicas[2].1.log.log_end(), 10, "round {round}: up to the batch that is too large");
    }
}
