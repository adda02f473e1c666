//! Cost of commits to the Iceberg table of a topic with 10,000 objects, in a local folder: `cargo bench -p analytics`.
//!
//! Prints how long it takes to make the whole table from the ledger, then the median and the longest of commits of ten new
//! objects each, of commits that also drop the ten oldest, and of the first one of a node that knows nothing yet; with the
//! files and bytes that they write. The archive's objects themselves are not there: no commit reads them.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use analytics::lake::{Outcome, Pass, TopicTable};
use cold_tier::manifest::Attachment;
use cold_tier::{ArchivedSegment, ColdTier, Config, ManifestChange};
use model::archive::{ManifestPointer, PartitionArchive, TopicArchive};
use model::segment::EpochStart;
use model::{Offset, TopicId, TopicName, TopicPartition};
use uuid::Uuid;

const OBJECTS: i64 = 10_000;
const NEW: i64 = 10;
const RECORDS: i64 = 100_000;
const ROUNDS: usize = 50;
const NOW: i64 = 1_700_000_000_000;

struct Topic {
    cold: ColdTier,
    pointer: Option<ManifestPointer>,
    objects: i64,
}

impl Topic {
    fn id() -> TopicPartition {
        TopicPartition { topic_id: TopicId(Uuid::from_u128(0xfeed)), partition: 0 }
    }

    fn name() -> TopicName {
        TopicName::new("orders").unwrap()
    }

    /// One more commit of the archive: `objects` new ones, and all below `log_start` gone.
    async fn archive(&mut self, objects: i64, log_start: Option<Offset>) {
        let folder = format!("{}/0/data", self.cold.topic_folder(&Self::name(), Self::id().topic_id));
        let segment = |n: i64| {
            let (base, next, attempt) = (n * RECORDS, (n + 1) * RECORDS, Uuid::new_v4());
            ArchivedSegment {
                object: format!("{folder}/{base:020}-{next:020}-{:010}-{attempt}.parquet", 1),
                base_offset: base,
                next_offset: next,
                leader_epoch: 1,
                bytes: 40 << 20,
                record_bytes: 128 << 20,
                records: RECORDS.unsigned_abs(),
                min_timestamp: NOW + base,
                max_timestamp: NOW + next,
                archived_at: NOW,
                epochs: vec![EpochStart { leader_epoch: 1, start_offset: 0 }],
                footer_bytes: 1000,
                footer_crc32c: 0,
                chunks: 100,
                producers: Attachment { offset: 0, length: 0, crc32c: 0 },
                etag: None,
            }
        };
        let append = (self.objects..self.objects + objects).map(segment).collect();
        self.objects += objects;
        let change = ManifestChange { append, log_start, leader_epoch: 1, attempt: Uuid::new_v4() };
        let written = self.cold.write_manifest(&Self::id(), &Self::name(), self.pointer.as_ref(), change).await;
        self.pointer = Some(written.unwrap());
    }

    fn ledger(&self) -> TopicArchive {
        let pointer = self.pointer.clone().map(Arc::new);
        let partition = PartitionArchive { leader: Some(1), log_start: 0, pointer };
        let (name, id) = (Self::name(), Self::id().topic_id);
        TopicArchive { name, id, settings: Arc::default(), partitions: vec![partition] }
    }

    async fn commit(&self, table: &mut TopicTable) -> (Duration, usize) {
        let ledger = self.ledger();
        let pass = Pass { now: NOW, expire_before: 0, may_commit: &|| true, step: |_| () };
        let start = Instant::now();
        let outcome = table.bring_up(&ledger, &pass).await.unwrap();
        let Outcome::Committed { files, .. } = outcome else { panic!("{outcome:?}") };
        (start.elapsed(), files)
    }
}

fn bytes_below(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    let size = |entry: std::fs::DirEntry| {
        if entry.file_type().unwrap().is_dir() { bytes_below(&entry.path()) } else { entry.metadata().unwrap().len() }
    };
    entries.map(size).sum()
}

fn report(what: &str, mut taken: Vec<(Duration, usize)>, bytes: u64) {
    taken.sort();
    let (median, longest) = (taken[taken.len() / 2].0, taken[taken.len() - 1].0);
    let files: Vec<_> = taken.iter().map(|(_, files)| *files).collect();
    let (fewest, most) = (files.iter().min().unwrap(), files.iter().max().unwrap());
    let each = bytes / taken.len() as u64 / 1000;
    println!("{what:44} median {median:>8.1?}  longest {longest:>8.1?}  files {fewest}–{most}  {each} kB each");
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("file://{}", folder.path().display());
    let cold = ColdTier::open(Config { url, cluster_id: "bench".into(), ..Config::default() }).await.unwrap();
    let table_folder = cold.topic_folder(&Topic::name(), Topic::id().topic_id);
    let table_folder = folder.path().join(table_folder).join("iceberg");
    let mut topic = Topic { cold, pointer: None, objects: 0 };
    topic.archive(OBJECTS, None).await;
    let mut table = TopicTable::new(&topic.cold, &topic.ledger());
    let made = topic.commit(&mut table).await;
    report("the whole table from the ledger", vec![made], bytes_below(&table_folder));

    for (what, drops) in [("10 new objects", false), ("10 new objects, the 10 oldest dropped", true)] {
        let before = bytes_below(&table_folder);
        let mut taken = Vec::new();
        for _ in 0..ROUNDS {
            let log_start = drops.then(|| (topic.objects - OBJECTS) * RECORDS);
            topic.archive(NEW, log_start).await;
            taken.push(topic.commit(&mut table).await);
        }
        report(what, taken, bytes_below(&table_folder) - before);
    }
    let before = bytes_below(&table_folder);
    topic.archive(NEW, Some((topic.objects - OBJECTS) * RECORDS)).await;
    let mut table = TopicTable::new(&topic.cold, &topic.ledger());
    let first = topic.commit(&mut table).await;
    report("the same, the first commit of another node", vec![first], bytes_below(&table_folder) - before);
}
