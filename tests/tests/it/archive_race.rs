//! Two archivers of one partition, the ledger between them, and what becomes of the loser's objects.
//!
//! The cold tier and the coordinator are real; the ledger is the cluster's state machine behind a lock, as behind Raft.

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use cold_tier::{
    ArchiveOptions, ArchivedSegment, ColdFetch, ColdTier, Config, ManifestChange, RetentionLimits, SweepBy,
};
use coordinator::cluster::{
    ArchiveCommit, ArchiveReply, BrokerRef, Cluster, Command, Layout, Listener, METADATA_VERSION, MetadataVersions,
    NewTopic, RegisterBroker, Reply, Submission,
};
use model::archive::ManifestPointer;
use model::batch::{BatchBuilder, BatchFacts, Batches, Compression, NewRecord, RecordsBuffer};
use model::segment::{EpochStart, SealedSegment};
use model::{LeaderEpoch, NodeId, Offset, TopicId, TopicName, TopicPartition};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use uuid::Uuid;

const NOW: i64 = 1_700_000_000_000;
/// After every grace period.
const LATER: i64 = i64::MAX / 2;
const VALUE_BYTES: usize = 100;

/// The ledger as a broker sees it: commands in, replies out.
struct Ledger(Mutex<Cluster>);

impl Ledger {
    fn new(brokers: NodeId) -> Ledger {
        let ledger = Ledger(Mutex::new(Cluster::new()));
        let cluster_id = "Q2x1c3RlcklkRm9yVGVzdA".to_owned();
        ledger.run(Command::CreateCluster { cluster_id, metadata_version: METADATA_VERSION });
        for broker_id in 1..=brokers {
            let listener = Listener { name: "PLAINTEXT".to_owned(), host: format!("host-{broker_id}"), port: 9092 };
            let reply = ledger.run(Command::RegisterBroker(RegisterBroker {
                broker_id,
                incarnation: Uuid::from_u128(1),
                listeners: vec![listener],
                metadata_versions: MetadataVersions::OF_THIS_BUILD,
                ..RegisterBroker::default()
            }));
            assert!(matches!(reply, Reply::BrokerRegistered { .. }), "{reply:?}");
        }
        let layout = Layout::Placed { partitions: 1, replication_factor: i16::try_from(brokers).unwrap() };
        let topic = NewTopic {
            id: partition().topic_id,
            name: topic().to_string(),
            layout,
            configs: Vec::new(),
            wanted_replicas: None,
        };
        let reply = ledger.run(Command::CreateTopics { topics: vec![topic], validate_only: false });
        assert!(matches!(&reply, Reply::TopicsCreated(created) if created[0].is_ok()), "{reply:?}");
        ledger
    }

    fn run(&self, command: Command) -> Reply {
        let mut cluster = self.0.lock().unwrap();
        let decision = cluster.decide(&Submission::from(command), NOW);
        for record in decision.records {
            cluster.apply(record);
        }
        decision.reply
    }

    fn held(&self) -> Option<ManifestPointer> {
        self.0.lock().unwrap().archive(partition()).map(|pointer| (**pointer).clone())
    }

    /// The leader and its epoch.
    fn leader(&self) -> (NodeId, LeaderEpoch) {
        let cluster = self.0.lock().unwrap();
        let partition = cluster.partition(partition()).unwrap();
        (partition.leader, partition.leader_epoch)
    }

    fn commit(&self, replaces: Option<&ManifestPointer>, pointer: &ManifestPointer) -> ArchiveReply {
        let commit = ArchiveCommit {
            partition: partition(),
            leader_epoch: pointer.leader_epoch,
            replaces: replaces.map_or(0, |pointer| pointer.version),
            pointer: pointer.clone(),
            adopts: false,
        };
        match self.run(Command::ArchiveCommit(commit)) {
            Reply::Archive(reply) => reply,
            other => panic!("{other:?}"),
        }
    }
}

fn topic() -> TopicName {
    TopicName::new("raced").unwrap()
}

fn partition() -> TopicPartition {
    TopicPartition { topic_id: TopicId(Uuid::from_u128(0xfeed)), partition: 0 }
}

/// The records `[base, next)` as a closed segment of leader epoch `leader_epoch`.
fn segment(base: Offset, next: Offset, leader_epoch: LeaderEpoch) -> SealedSegment {
    let mut builder = BatchBuilder::new(BatchFacts { leader_epoch, ..BatchFacts::default() });
    for offset in base..next {
        let mut value = offset.to_string().into_bytes();
        value.resize(VALUE_BYTES, b' ');
        builder.append(&NewRecord { offset, timestamp: NOW + offset, key: None, value: Some(&value), headers: &[] });
    }
    let bytes = builder.finish().unwrap();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&bytes).unwrap();
    SealedSegment {
        topic: topic(),
        partition: partition(),
        base_offset: base,
        next_offset: next,
        size_bytes: bytes.len() as u64,
        max_timestamp: NOW + next - 1,
        leader_epoch,
        epochs: vec![EpochStart { leader_epoch, start_offset: base }],
        aborted: Vec::new(),
        producers: Bytes::new(),
        file: Arc::new(file),
    }
}

fn archiver(store: &Arc<InMemory>) -> ColdTier {
    let config = Config { cluster_id: "raced".to_owned(), sweep_grace: Duration::ZERO, ..Config::default() };
    ColdTier::with_store(config, store.clone()).unwrap()
}

async fn archive(
    tier: &ColdTier,
    segment: &SealedSegment,
    from: Option<Offset>,
    epoch: LeaderEpoch,
) -> ArchivedSegment {
    let (codec, attempt) = (Compression::Zstd, Uuid::new_v4());
    let options = ArchiveOptions { codec, attempt, leader_epoch: epoch, now: NOW, from };
    tier.archive(std::slice::from_ref(segment), options).await.unwrap()
}

fn append(segments: Vec<ArchivedSegment>, leader_epoch: LeaderEpoch) -> ManifestChange {
    ManifestChange { append: segments, log_start: None, leader_epoch, attempt: Uuid::new_v4() }
}

async fn write(tier: &ColdTier, previous: Option<&ManifestPointer>, change: ManifestChange) -> ManifestPointer {
    tier.write_manifest(&partition(), &topic(), previous, change).await.unwrap()
}

async fn sweep(tier: &ColdTier, ledger: &Ledger) -> (u64, u64) {
    let by = SweepBy { leader_epoch: ledger.leader().1, now: LATER };
    let report = tier.sweep_partition(&topic(), partition(), ledger.held().as_ref(), by).await.unwrap();
    (report.deleted, report.waiting)
}

/// Every offset as a consumer gets it, from the log start on.
async fn offsets(tier: &ColdTier, pointer: &ManifestPointer) -> Vec<Offset> {
    let mut found = Vec::new();
    let mut from = pointer.log_start;
    let mut buffer = RecordsBuffer::new(1 << 20);
    while from < pointer.archived_end {
        let request = ColdFetch { from, max_bytes: 1 << 20, upper: Offset::MAX, timeout: Duration::from_secs(10) };
        let read = tier.read(partition(), pointer, request).await.unwrap();
        for slice in &read.records {
            for batch in Batches::new(slice) {
                let batch = batch.unwrap();
                let records = batch.records(&mut buffer).unwrap();
                found.extend(records.map(|record| record.unwrap().offset).filter(|offset| *offset >= from));
            }
        }
        from = read.next_offset;
    }
    found
}

async fn objects(store: &InMemory) -> BTreeSet<String> {
    let listed: Vec<_> = futures::TryStreamExt::try_collect(store.list(None)).await.unwrap();
    listed.into_iter().map(|object: object_store::ObjectMeta| object.location.to_string()).collect()
}

/// What the ledger's manifest names, itself included.
async fn named(tier: &ColdTier, pointer: &ManifestPointer) -> BTreeSet<String> {
    let entries = tier.entries(pointer).await.unwrap();
    entries.into_iter().map(|entry| entry.object).chain([pointer.object.clone()]).collect()
}

/// One try of an archiver that knows what the ledger held when it began.
async fn attempt(tier: &ColdTier, ledger: &Ledger, segments: &[SealedSegment]) -> bool {
    let before = ledger.held();
    let archived_end = before.as_ref().map_or(0, |pointer| pointer.archived_end);
    let Some(next) = segments.iter().find(|segment| segment.base_offset == archived_end) else { return false };
    let (_, epoch) = ledger.leader();
    let object = archive(tier, next, None, epoch).await;
    // The other archiver gets here as well before either commits.
    tokio::task::yield_now().await;
    let pointer = write(tier, before.as_ref(), append(vec![object], epoch)).await;
    ledger.commit(before.as_ref(), &pointer) == ArchiveReply::Committed
}

#[tokio::test]
async fn of_two_archivers_of_every_range_one_wins_and_every_offset_is_there_once() {
    let store = Arc::new(InMemory::new());
    let (one, two) = (archiver(&store), archiver(&store));
    let ledger = Ledger::new(1);
    let segments: Vec<_> = (0..8).map(|n| segment(n * 20, (n + 1) * 20, 0)).collect();
    let mut lost = 0;
    while ledger.held().is_none_or(|pointer| pointer.archived_end < 160) {
        let (first, second) = tokio::join!(attempt(&one, &ledger, &segments), attempt(&two, &ledger, &segments));
        assert!(first || second, "somebody wins each round");
        lost += u32::from(!(first && second));
    }
    assert!(lost > 0, "the archivers never met");
    let held = ledger.held().unwrap();
    for reader in [&one, &two, &archiver(&store)] {
        assert_eq!(offsets(reader, &held).await, (0..160).collect::<Vec<_>>());
    }
    let named = named(&one, &held).await;
    assert!(objects(&store).await.len() > named.len());
    let (swept, waiting) = sweep(&two, &ledger).await;
    assert_eq!((swept > 0, waiting), (true, 0));
    assert_eq!(objects(&store).await, named, "the losers' objects and the old manifests are gone, nothing else");
    assert_eq!(offsets(&archiver(&store), &held).await, (0..160).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_archiver_whose_leadership_is_over_cannot_commit() {
    let store = Arc::new(InMemory::new());
    let (old, new) = (archiver(&store), archiver(&store));
    let ledger = Ledger::new(2);
    let (leader, old_epoch) = ledger.leader();
    let stale = archive(&old, &segment(0, 50, old_epoch), None, old_epoch).await;
    let stale = write(&old, None, append(vec![stale], old_epoch)).await;

    let broker_epoch = ledger.0.lock().unwrap().broker(leader).unwrap().epoch;
    ledger.run(Command::FenceBroker(BrokerRef { broker_id: leader, broker_epoch }));
    let (successor, epoch) = ledger.leader();
    assert!(successor != leader && epoch > old_epoch);
    assert_eq!(ledger.commit(None, &stale), ArchiveReply::Fenced { current: epoch });
    assert_eq!(ledger.held(), None);

    // The records are those that the old leader has written.
    let fresh = archive(&new, &segment(0, 30, old_epoch), None, epoch).await;
    let fresh = write(&new, None, append(vec![fresh], epoch)).await;
    assert_eq!(ledger.commit(None, &fresh), ArchiveReply::Committed);
    assert_eq!(ledger.commit(None, &stale), ArchiveReply::Fenced { current: epoch });
    assert_eq!(sweep(&old, &ledger).await, (2, 0), "the old leader's object and manifest");
    assert_eq!(offsets(&new, &fresh).await, (0..30).collect::<Vec<_>>());
}

/// KAFKA-16511 and KAFKA-16890: the segments 0–50 of one leader and 14–150 of the next.
#[tokio::test]
async fn overlapping_segments_of_two_leaders_neither_leak_nor_move_the_log_start_back() {
    let store = Arc::new(InMemory::new());
    let tier = archiver(&store);
    let ledger = Ledger::new(1);
    let first = archive(&tier, &segment(0, 50, 0), None, 0).await;
    let first = write(&tier, None, append(vec![first], 0)).await;
    assert_eq!(ledger.commit(None, &first), ArchiveReply::Committed);
    let second = archive(&tier, &segment(14, 150, 0), Some(50), 0).await;
    let second = write(&tier, Some(&first), append(vec![second], 0)).await;
    assert_eq!(ledger.commit(Some(&first), &second), ArchiveReply::Committed);
    assert_eq!(offsets(&tier, &second).await, (0..150).collect::<Vec<_>>());

    // The newest record of the first segment is from NOW + 49.
    for (now, log_start, left) in [(NOW + 1050, 50, 1), (NOW + 1150, 150, 0)] {
        let held = ledger.held().unwrap();
        let limits = RetentionLimits { retention_ms: Some(1000), retention_bytes: None };
        let start = tier.retention_start(&held, limits, 0, now).await.unwrap();
        assert_eq!(start, log_start);
        let change = ManifestChange { log_start: Some(start), ..append(Vec::new(), 0) };
        let next = write(&tier, Some(&held), change).await;
        assert_eq!(ledger.commit(Some(&held), &next), ArchiveReply::Committed);
        sweep(&tier, &ledger).await;
        assert_eq!((next.log_start, next.archived_end), (log_start, 150));
        assert_eq!(objects(&store).await.len(), left + 1, "the manifest and what it names");
    }
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_deletes_nothing_and_may_be_repeated() {
    for is_applied in [true, false] {
        let store = Arc::new(InMemory::new());
        let tier = archiver(&store);
        let ledger = Ledger::new(1);
        let object = archive(&tier, &segment(0, 50, 0), None, 0).await;
        let pointer = write(&tier, None, append(vec![object], 0)).await;
        if is_applied {
            // The answer to this never arrives.
            assert_eq!(ledger.commit(None, &pointer), ArchiveReply::Committed);
        }
        assert_eq!(sweep(&tier, &ledger).await, (0, 0), "applied: {is_applied}");
        assert_eq!(objects(&store).await.len(), 2);
        assert_eq!(ledger.commit(None, &pointer), ArchiveReply::Committed, "applied: {is_applied}");
        assert_eq!(ledger.held().as_ref(), Some(&pointer));
        assert_eq!(sweep(&tier, &ledger).await, (0, 0));
        assert_eq!(offsets(&tier, &pointer).await, (0..50).collect::<Vec<_>>());
    }
}

/// Redpanda #9597 and #9618: an identical segment added again was listed as replaced by itself, and collected.
#[tokio::test]
async fn the_same_upload_committed_twice_keeps_its_data() {
    let store = Arc::new(InMemory::new());
    let tier = archiver(&store);
    let ledger = Ledger::new(1);
    let options =
        ArchiveOptions { codec: Compression::Zstd, attempt: Uuid::from_u128(7), leader_epoch: 0, now: NOW, from: None };
    let sealed = [segment(0, 50, 0)];
    let once = tier.archive(&sealed, options.clone()).await.unwrap();
    let again = tier.archive(&sealed, options).await.unwrap();
    assert_eq!(once, again, "one attempt is one object");
    let first = write(&tier, None, append(vec![once.clone()], 0)).await;
    assert_eq!(ledger.commit(None, &first), ArchiveReply::Committed);
    // Another manifest with the same object, over the same nothing, comes too late; over the first it is refused.
    let second = write(&tier, None, append(vec![again.clone()], 0)).await;
    assert!(matches!(ledger.commit(None, &second), ArchiveReply::VersionConflict { .. }));
    let third = tier.write_manifest(&partition(), &topic(), Some(&first), append(vec![again], 0)).await;
    assert!(third.is_err(), "{third:?}");
    assert_eq!(sweep(&tier, &ledger).await, (1, 0), "the manifest that came too late");
    assert!(objects(&store).await.contains(&once.object));
    assert_eq!(offsets(&archiver(&store), &first).await, (0..50).collect::<Vec<_>>());
}

/// KAFKA-17062: dangling uploads counted towards `retention.bytes`, and committed data went for them.
#[tokio::test]
async fn failed_uploads_do_not_count_for_retention() {
    let store = Arc::new(InMemory::new());
    let tier = archiver(&store);
    let ledger = Ledger::new(1);
    let (first, second) = (segment(0, 50, 0), segment(50, 100, 0));
    let mut held = None;
    for sealed in [&first, &second] {
        let object = archive(&tier, sealed, None, 0).await;
        let next = write(&tier, held.as_ref(), append(vec![object], 0)).await;
        assert_eq!(ledger.commit(held.as_ref(), &next), ArchiveReply::Committed);
        held = Some(next);
    }
    let held = held.unwrap();
    // Both segments are needed for so many bytes, one byte less and the first may go.
    let edge = second.size_bytes + 1;
    for _ in 0..5 {
        archive(&tier, &segment(100, 150, 0), None, 0).await;
        let limits = |bytes| RetentionLimits { retention_ms: None, retention_bytes: Some(bytes) };
        assert_eq!(tier.retention_start(&held, limits(edge), 0, NOW).await.unwrap(), 0);
        assert_eq!(tier.retention_start(&held, limits(edge - 1), 0, NOW).await.unwrap(), 50);
    }
    assert_eq!(objects(&store).await.len(), 2 + 5 + 2);
}
