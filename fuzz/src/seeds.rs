//! Writes first inputs for every target, made by the real encoders, into `seeds/TARGET/`.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use cold_tier::{ArchiveOptions, ColdTier, Config, ManifestChange};
use futures::StreamExt;
use hot_tier::HotTier;
use model::batch::{BatchBuilder, BatchFacts, Compression, NewRecord, ValidatedBatch};
use model::segment::{EpochStart, SealedSegment};
use model::settings::TopicSettings;
use model::{TopicId, TopicName, TopicPartition};
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};
use protocol::messages::{self, GroupMetadataValue, OffsetCommitValue};
use protocol::{ApiKey, MessageKind, Reader, Writer, coordinator_record};
use uuid::Uuid;

const CODECS: [Compression; 5] =
    [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
const NOW: i64 = 1_700_000_000_000;

type Error = Box<dyn std::error::Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    requests()?;
    for codec in CODECS {
        write("batch", &format!("{codec:?}"), &batch(codec, 20)?)?;
    }
    write("coordinator_record", "offset", &coordinator_record::encode_versioned(&OffsetCommitValue::default(), 3)?)?;
    write("coordinator_record", "group", &coordinator_record::encode_versioned(&GroupMetadataValue::default(), 3)?)?;
    for codec in CODECS {
        archive(codec).await?;
    }
    hot_tier_files()
}

fn write(target: &str, name: &str, bytes: &[u8]) -> Result<(), Error> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target);
    fs::create_dir_all(&folder)?;
    Ok(fs::write(folder.join(name), bytes)?)
}

/// Every request that we know in every version: from zeros, which are an empty request more often than not.
fn requests() -> Result<(), Error> {
    for info in messages::ALL.iter().filter(|info| info.kind == MessageKind::Request) {
        let Some(key) = info.api.and_then(ApiKey::from_id) else { continue };
        for version in info.min..=info.max {
            let Ok(body) = (info.decode)(&mut Reader::new(Bytes::from(vec![0; 256])), version) else { continue };
            let header = messages::RequestHeader {
                request_api_key: key.id(),
                request_api_version: version,
                client_id: Some("fuzz".into()),
                ..messages::RequestHeader::default()
            };
            let mut writer = Writer::new();
            header.encode(&mut writer, key.request_header_version(version))?;
            body.encode_any(&mut writer, version)?;
            write("request", &format!("{}-{version}", info.name), &writer.finish().into_bytes())?;
        }
    }
    Ok(())
}

fn batch(compression: Compression, count: i64) -> Result<Bytes, Error> {
    let facts = BatchFacts { compression, leader_epoch: 0, ..BatchFacts::default() };
    let mut builder = BatchBuilder::new(facts);
    for offset in 0..count {
        let value = format!("value {offset}");
        let headers = [("name", Some(value.as_bytes())), ("null", None)];
        let key = (offset % 3 > 0).then_some(&b"key"[..]);
        builder.append(&NewRecord {
            offset,
            timestamp: NOW + offset,
            key,
            value: Some(value.as_bytes()),
            headers: &headers,
        });
    }
    Ok(builder.finish()?)
}

/// The files of a small log.
fn hot_tier_files() -> Result<(), Error> {
    /// Bytes of a journal file before its first entry.
    const FIRST_ENTRY: usize = 4096;
    let folder = tempfile::tempdir()?;
    let config = hot_tier::Config { data_dir: folder.path().to_owned(), ..hot_tier::Config::default() };
    let tier = HotTier::open(config, NOW, Arc::new(|_, _| {}))?;
    let id = TopicPartition { topic_id: TopicId(Uuid::from_u128(1)), partition: 0 };
    let log = tier.create(&TopicName::new("seeds")?, id, Arc::new(TopicSettings::default()))?;
    for epoch in 0..3 {
        let facts = BatchFacts { producer_id: 7, producer_epoch: 1, base_sequence: epoch, ..BatchFacts::default() };
        let mut builder = BatchBuilder::new(facts);
        builder.append(&NewRecord { offset: 0, timestamp: NOW, key: None, value: Some(b"value"), headers: &[] });
        log.append_leader(vec![ValidatedBatch::from_own(builder.finish()?)?], epoch, NOW)?;
        log.roll()?;
    }
    tier.checkpoint()?;
    let journal = fs::read(folder.path().join("journal/slot-0000"))?;
    write("journal_entry", "first", &journal[FIRST_ENTRY..FIRST_ENTRY + 2048])?;
    write("checkpoint", "small", &fs::read(folder.path().join("checkpoint"))?)?;
    write("history", "small", &fs::read(log.dir().join("history"))?)?;
    write("producer_snapshot", "small", &fs::read(log.dir().join("00000000000000000001.snapshot"))?)?;
    tier.close()?;
    Ok(())
}

/// An archived object and its manifest.
async fn archive(codec: Compression) -> Result<(), Error> {
    let store = Arc::new(InMemory::new());
    let tier = ColdTier::with_store(Config { cluster_id: "seeds".into(), ..Config::default() }, store.clone())?;
    let bytes = batch(Compression::None, 40)?;
    let mut file = tempfile::tempfile()?;
    file.write_all(&bytes)?;
    let segment = SealedSegment {
        topic: TopicName::new("seeds")?,
        partition: TopicPartition { topic_id: TopicId(Uuid::from_u128(1)), partition: 0 },
        base_offset: 0,
        next_offset: 40,
        size_bytes: bytes.len() as u64,
        max_timestamp: NOW + 39,
        leader_epoch: 0,
        epochs: vec![EpochStart { leader_epoch: 0, start_offset: 0 }],
        aborted: Vec::new(),
        producers: Bytes::from_static(b"producers"),
        file: Arc::new(file),
    };
    let options = ArchiveOptions { codec, attempt: Uuid::new_v4(), leader_epoch: 0, now: NOW, from: None };
    let archived = tier.archive(std::slice::from_ref(&segment), options).await?;
    let change = ManifestChange { append: vec![archived], log_start: None, leader_epoch: 0, attempt: Uuid::new_v4() };
    tier.write_manifest(&segment.partition, &segment.topic, None, change).await?;
    let mut objects = store.list(None);
    while let Some(object) = objects.next().await {
        let name = object?.location;
        let target = if name.as_ref().ends_with(".parquet") { "object" } else { "manifest" };
        write(target, &format!("{codec:?}"), &store.get(&name).await?.bytes().await?)?;
    }
    Ok(())
}
