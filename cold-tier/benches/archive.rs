//! Speed of the archive on records like JSON of about 1 KiB: `cargo bench -p cold-tier`.
//!
//! Prints MB/s (10⁶ record bytes per second) of one core, as CPU time of the whole process and the median of the rounds:
//! segment to verified object, into a local folder and into a store that costs nothing; chunk to batches; and the whole
//! cold read path. Also the bytes that are archived against the same batches as a producer would compress them with lz4.
//! `FIRN_BENCH_CODEC` picks one codec, `FIRN_BENCH_GROUP` the MiB of a row group; `FIRN_BENCH_JSON` names a file for the
//! same figures as JSON.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark")]

use std::fmt;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cold_tier::inspect::{Inspected, inspect};
use cold_tier::{ArchiveOptions, ColdFetch, ColdTier, Config, ManifestChange};
use futures::stream::BoxStream;
use model::batch::{BatchBuilder, BatchFacts, Compression, NewRecord};
use model::segment::{EpochStart, SealedSegment};
use model::{Offset, TopicId, TopicName, TopicPartition};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use uuid::Uuid;

/// What the server runs with.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SEGMENT_BYTES: usize = 128 << 20;
const ROUNDS: usize = 7;
const BATCH_RECORDS: u8 = 16;
const WORDS: [&str; 24] = [
    "order",
    "customer",
    "invoice",
    "shipment",
    "warehouse",
    "delayed",
    "confirmed",
    "berlin",
    "osaka",
    "priority",
    "standard",
    "express",
    "returned",
    "damaged",
    "partial",
    "payment",
    "pending",
    "captured",
    "refund",
    "courier",
    "pallet",
    "carton",
    "signed",
    "window",
];

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(run());
}

async fn run() {
    let store = Arc::new(InMemory::new());
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let group = std::env::var("FIRN_BENCH_GROUP").ok().and_then(|g| g.parse().ok()).unwrap_or(16_usize);
    let url = format!("file://{}", folder.path().display());
    let config =
        Config { url, decode_threads: 1, cache_bytes: 1 << 30, row_group_bytes: group << 20, ..Config::default() };
    let tier = ColdTier::with_store(config.clone(), store.clone()).unwrap();
    let free = ColdTier::with_store(config.clone(), Arc::new(Discard(InMemory::new()))).unwrap();
    let local = ColdTier::open(config).await.unwrap();
    let (segment, lz4_bytes) = segment();
    let raw = segment.size_bytes;
    println!("segment: {:.1} MB, {:.1} MB as lz4 batches", mb(raw), mb(lz4_bytes));
    let mut figures = serde_json::Map::new();
    figures.insert("segment_bytes".into(), raw.into());
    figures.insert("lz4_batches_bytes".into(), lz4_bytes.into());
    primitives(&segment);
    let only = std::env::var("FIRN_BENCH_CODEC").ok();
    for codec in [Compression::Zstd, Compression::Lz4, Compression::None] {
        if only.as_ref().is_some_and(|only| only != codec.name()) {
            continue;
        }
        let to_folder = archiving(&local, &segment, codec).await;
        let to_nowhere = archiving(&free, &segment, codec).await;
        let archived = tier.archive(std::slice::from_ref(&segment), options(codec)).await.unwrap();
        println!(
            "{codec:<5} archive, verified:  {:>6.0} MB/s to a folder, {:.0} MB/s without the store   \
             stored {:.3} of raw, {:.3} of lz4 batches, footer {} bytes",
            rate(raw, median(&to_folder)),
            rate(raw, median(&to_nowhere)),
            archived.bytes as f64 / raw as f64,
            archived.bytes as f64 / lz4_bytes as f64,
            archived.footer_bytes,
        );
        let object_bytes = archived.bytes;
        let decoding = decode(&store.get(&Path::from(archived.object.as_str())).await.unwrap().bytes().await.unwrap());
        println!("      chunk → batches:    {:>6.0} MB/s", rate(raw, median(&decoding)));
        let reading = replay(&store, archived).await;
        println!("      whole cold path:    {:>6.0} MB/s", rate(raw, median(&reading)));
        let rates = |times: &[Duration]| times.iter().map(|time| rate(raw, *time)).collect::<Vec<f64>>();
        let row = serde_json::json!({
            "object_bytes": object_bytes,
            "archive_to_folder_mb_s": rates(&to_folder),
            "archive_without_store_mb_s": rates(&to_nowhere),
            "chunk_to_batches_mb_s": rates(&decoding),
            "cold_path_mb_s": rates(&reading),
        });
        figures.insert(codec.name().into(), row);
    }
    if let Ok(path) = std::env::var("FIRN_BENCH_JSON") {
        std::fs::write(path, serde_json::to_vec_pretty(&figures).unwrap()).unwrap();
    }
}

fn options(codec: Compression) -> ArchiveOptions {
    ArchiveOptions { codec, attempt: Uuid::new_v4(), leader_epoch: 0, now: 0, from: None }
}

/// CPU times of segment → verified and stored object.
async fn archiving(tier: &ColdTier, segment: &SealedSegment, codec: Compression) -> Vec<Duration> {
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let start = cpu_time();
        tier.archive(std::slice::from_ref(segment), options(codec)).await.unwrap();
        times.push(cpu_time() - start);
    }
    times
}

/// A store that forgets what is put.
#[derive(Debug)]
struct Discard(InMemory);

impl fmt::Display for Discard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Discard")
    }
}

#[async_trait]
impl ObjectStore for Discard {
    async fn put_opts(&self, _: &Path, _: PutPayload, _: PutOptions) -> Result<PutResult> {
        Ok(PutResult { e_tag: None, version: None })
    }

    async fn put_multipart_opts(&self, path: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.0.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        self.0.get_opts(path, options).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.0.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.0.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.0.copy_opts(from, to, options).await
    }
}

/// What the codec alone takes of the time.
fn primitives(segment: &SealedSegment) {
    use std::os::unix::fs::FileExt;
    let mut raw = vec![0; SEGMENT_BYTES];
    segment.file.read_exact_at(&mut raw, 0).unwrap();
    let mut compressor = zstd::bulk::Compressor::new(1).unwrap();
    let start = cpu_time();
    let blocks: Vec<Vec<u8>> = raw.chunks(1 << 20).map(|block| compressor.compress(block).unwrap()).collect();
    let compressing = cpu_time() - start;
    let mut decompressor = zstd::bulk::Decompressor::new().unwrap();
    let mut out = vec![0; 1 << 20];
    let start = cpu_time();
    for block in &blocks {
        decompressor.decompress_to_buffer(block, &mut out[..]).unwrap();
    }
    let decompressing = cpu_time() - start;
    let size = SEGMENT_BYTES as u64;
    println!("zstd-1 alone: {:.0} MB/s in, {:.0} MB/s out", rate(size, compressing), rate(size, decompressing));
}

/// CPU times of chunk → batches, on this thread.
fn decode(object: &Bytes) -> Vec<Duration> {
    let Inspected::Object(file) = inspect(object.clone()).unwrap() else { return Vec::new() };
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let start = cpu_time();
        let bytes: usize = (0..file.chunks().len()).map(|chunk| file.batches(chunk).unwrap().len()).sum();
        assert!(bytes > SEGMENT_BYTES / 2);
        times.push(cpu_time() - start);
    }
    times
}

/// CPU times of the whole cold path, sequentially, with read-ahead.
async fn replay(store: &Arc<InMemory>, archived: cold_tier::ArchivedSegment) -> Vec<Duration> {
    let store: Arc<dyn ObjectStore> = store.clone();
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let config = Config { cache_bytes: 256 << 20, ..Config::default() };
        let tier = ColdTier::with_store(config, store.clone()).unwrap();
        let change = ManifestChange {
            append: vec![archived.clone()],
            log_start: None,
            leader_epoch: 0,
            attempt: Uuid::new_v4(),
        };
        let pointer = tier.write_manifest(&partition(), &topic(), None, change).await.unwrap();
        let start = cpu_time();
        let (mut from, mut bytes): (Offset, usize) = (0, 0);
        while from < pointer.archived_end {
            let request = ColdFetch { from, max_bytes: 1 << 20, upper: Offset::MAX, timeout: Duration::from_secs(10) };
            let read = tier.read(partition(), &pointer, request).await.unwrap();
            bytes += read.size_bytes();
            from = read.next_offset;
        }
        assert!(bytes > SEGMENT_BYTES / 2);
        times.push(cpu_time() - start);
    }
    times
}

fn topic() -> TopicName {
    TopicName::new("bench").unwrap()
}

fn partition() -> TopicPartition {
    TopicPartition { topic_id: TopicId(Uuid::from_u128(1)), partition: 0 }
}

/// A segment of uncompressed 16 KiB batches from eight idempotent producers, and its size with lz4.
fn segment() -> (SealedSegment, u64) {
    let mut rng = StdRng::seed_from_u64(7);
    let mut file = tempfile::tempfile().unwrap();
    let (mut size, mut lz4, mut offset) = (0_u64, 0_u64, 0_i64);
    let mut sequences = [0_i32; 8];
    while size < SEGMENT_BYTES as u64 {
        let producer = rng.random_range(0..8_usize);
        let facts = BatchFacts {
            leader_epoch: 0,
            producer_id: producer as i64 + 1000,
            producer_epoch: 0,
            base_sequence: sequences[producer],
            ..BatchFacts::default()
        };
        let mut plain = BatchBuilder::new(facts);
        let mut packed = BatchBuilder::new(BatchFacts { compression: Compression::Lz4, ..facts });
        for i in 0..BATCH_RECORDS {
            let value = json(&mut rng, offset);
            let key = format!("k{:07}", rng.random_range(0..1_000_000));
            let record = NewRecord {
                offset,
                timestamp: 1_700_000_000_000 + offset / 3 + i64::from(i),
                key: Some(key.as_bytes()),
                value: Some(&value),
                headers: &[],
            };
            plain.append(&record);
            packed.append(&record);
            offset += 1;
        }
        sequences[producer] += i32::from(BATCH_RECORDS);
        let batch = plain.finish().unwrap();
        file.write_all(&batch).unwrap();
        size += batch.len() as u64;
        lz4 += packed.finish().unwrap().len() as u64;
    }
    let segment = SealedSegment {
        topic: topic(),
        partition: partition(),
        base_offset: 0,
        next_offset: offset,
        size_bytes: size,
        max_timestamp: 1_700_000_000_000 + offset,
        leader_epoch: 0,
        epochs: vec![EpochStart { leader_epoch: 0, start_offset: 0 }],
        aborted: Vec::new(),
        producers: Bytes::new(),
        file: Arc::new(file),
    };
    (segment, lz4)
}

/// An order event of about 1 KiB, zstd-able to about a quarter: many fields, ids, numbers, enumerations and some text.
fn json(rng: &mut StdRng, offset: i64) -> Vec<u8> {
    let word = |rng: &mut StdRng| WORDS[rng.random_range(0..WORDS.len())];
    let mut text = format!(
        r#"{{"event_id":"{:032x}","event_type":"order.{}","sequence":{offset},"created_at":"2024-05-{:02}T{:02}:{:02}:{:02}.{:03}Z","#,
        rng.random::<u128>(),
        word(rng),
        rng.random_range(1..29),
        rng.random_range(0..24),
        rng.random_range(0..60),
        rng.random_range(0..60),
        rng.random_range(0..1000),
    );
    text.push_str(&format!(
        r#""customer":{{"customer_id":{},"first_name":"{}","last_name":"{}","email":"{}.{}@example.com","loyalty_level":"{}"}},"#,
        rng.random_range(0..5_000_000),
        word(rng),
        word(rng),
        word(rng),
        word(rng),
        ["none", "silver", "gold"][rng.random_range(0..3)],
    ));
    text.push_str(r#""items":["#);
    for i in 0..3 {
        text.push_str(if i == 0 { "" } else { "," });
        text.push_str(&format!(
            r#"{{"article_number":"A-{:08}","description":"{} {}","quantity":{},"unit_price":{}.{:02},"currency":"EUR","warehouse":"{}"}}"#,
            rng.random_range(0..100_000_000),
            word(rng),
            word(rng),
            rng.random_range(1..10),
            rng.random_range(0..1000),
            rng.random_range(0..100),
            word(rng),
        ));
    }
    text.push_str(&format!(
        r#"],"payment":{{"method":"card","authorization":"{:016x}","amount":{}.{:02},"status":"captured"}},"trace_id":"{:032x}","session":"{:032x}","signature":"{:032x}{:032x}{:032x}","note":"{} {} {} {}"}}"#,
        rng.random::<u64>(),
        rng.random_range(0..10_000),
        rng.random_range(0..100),
        rng.random::<u128>(),
        rng.random::<u128>(),
        rng.random::<u128>(),
        rng.random::<u128>(),
        rng.random::<u128>(),
        word(rng),
        word(rng),
        word(rng),
        word(rng),
    ));
    text.into_bytes()
}

/// CPU time of this process so far, in steps of 10 ms: the clock of the wall would count what else the machine does.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

fn median(times: &[Duration]) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort();
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

fn mb(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

fn rate(bytes: u64, time: Duration) -> f64 {
    mb(bytes) / time.as_secs_f64()
}
