//! A tier on a disk in memory, and batches to put into it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use model::batch::{BatchBuilder, BatchFacts, Batches, NewRecord, ValidatedBatch};
use model::settings::{FlushMode, TopicSettings};
use model::{TopicId, TopicName, TopicPartition};
use parking_lot::Mutex;

use crate::core::Drive;
use crate::disk::Disk;
use crate::disk::faulty::{Faults, FaultyDisk};
use crate::disk::memory::MemoryDisk;
use crate::recovery::Setting;
use crate::{Config, HotTier, OpenError, PartitionLog, ReadLimits};

pub(super) const NOW: i64 = 1_700_000_000_000;

/// A tier that runs inline on a disk in memory.
pub(super) struct Fixture {
    pub(super) disk: MemoryDisk,
    pub(super) faults: Arc<Faults>,
    pub(super) tier: HotTier,
    pub(super) told: Arc<Mutex<Vec<(TopicPartition, i64)>>>,
}

pub(super) fn config() -> Config {
    Config {
        data_dir: PathBuf::from("/data"),
        journal_bytes: 128 << 10,
        flush_bypass_bytes: 4 << 10,
        ..Config::default()
    }
}

impl Fixture {
    pub(super) fn new() -> Self {
        Self::on(MemoryDisk::default()).unwrap()
    }

    /// Opens what is on the disk, however it got there.
    pub(super) fn on(disk: MemoryDisk) -> Result<Self, OpenError> {
        let (faulty, faults) = FaultyDisk::new(Arc::new(disk.clone()));
        Self::with(disk, Arc::new(faulty), faults)
    }

    pub(super) fn with(disk: MemoryDisk, used: Arc<dyn Disk>, faults: Arc<Faults>) -> Result<Self, OpenError> {
        let told = Arc::new(Mutex::new(Vec::new()));
        let listener = Arc::clone(&told);
        let tier = HotTier::open_on(Setting {
            config: config(),
            disk: used,
            on_flush: Arc::new(move |id, end| listener.lock().push((id, end))),
            drive: Drive::Inline,
            now_ms: NOW,
        })?;
        Ok(Fixture { disk, faults, tier, told })
    }

    /// As after SIGKILL: the page cache survives.
    pub(super) fn killed(self) -> Self {
        let disk = self.disk.clone();
        drop(self);
        Self::on(disk).unwrap()
    }

    pub(super) fn flush(&self) {
        self.tier.core().flush_round().unwrap();
    }

    pub(super) fn log(&self, number: u128) -> Arc<PartitionLog> {
        self.log_with(number, settings())
    }

    pub(super) fn log_with(&self, number: u128, settings: TopicSettings) -> Arc<PartitionLog> {
        self.tier.create(&topic(), id(number), Arc::new(settings)).unwrap()
    }
}

pub(super) fn topic() -> TopicName {
    TopicName::new("orders").unwrap()
}

pub(super) fn id(number: u128) -> TopicPartition {
    TopicPartition { topic_id: TopicId(uuid::Uuid::from_u128(number)), partition: 0 }
}

pub(super) fn settings() -> TopicSettings {
    TopicSettings { segment_bytes: 1024, index_interval_bytes: 100, ..TopicSettings::default() }
}

pub(super) fn replicated() -> TopicSettings {
    TopicSettings { flush: FlushMode::Replicated, ..settings() }
}

/// What makes a batch.
#[derive(Clone)]
pub(super) struct Make {
    pub(super) records: i64,
    pub(super) value_len: usize,
    pub(super) timestamp: i64,
    pub(super) producer: Option<(i64, i16, i32)>,
    /// Makes values differ.
    pub(super) salt: u8,
}

impl Default for Make {
    fn default() -> Self {
        Make { records: 1, value_len: 20, timestamp: NOW, producer: None, salt: 0 }
    }
}

impl Make {
    /// The batch, with its first record at `base` and further ones a millisecond apart.
    pub(super) fn at(&self, base: i64, leader_epoch: i32) -> Bytes {
        let (producer_id, producer_epoch, base_sequence) = self.producer.unwrap_or((-1, -1, -1));
        let facts = BatchFacts { leader_epoch, producer_id, producer_epoch, base_sequence, ..BatchFacts::default() };
        let mut builder = BatchBuilder::new(facts);
        let value: Vec<u8> = (0..=250_u8).cycle().take(self.value_len).map(|byte| byte ^ self.salt).collect();
        for i in 0..self.records {
            let timestamp = self.timestamp + i;
            builder.append(&NewRecord { offset: base + i, timestamp, key: None, value: Some(&value), headers: &[] });
        }
        builder.finish().unwrap()
    }

    pub(super) fn batch(&self) -> ValidatedBatch {
        ValidatedBatch::from_own(self.at(0, -1)).unwrap()
    }
}

pub(super) fn batch() -> ValidatedBatch {
    Make::default().batch()
}

/// Appends `count` batches of one record.
pub(super) fn append(log: &Arc<PartitionLog>, count: usize) {
    for _ in 0..count {
        log.append_leader(vec![batch()], 0, NOW).unwrap();
    }
}

/// All bytes of the local log.
pub(super) fn contents(log: &PartitionLog) -> Vec<u8> {
    let mut all = Vec::new();
    let mut from = log.local_start();
    while from < log.log_end() {
        let limits = ReadLimits { max_bytes: 1 << 20, upper: i64::MAX, at_least_one: true };
        let read = log.read(from, limits).unwrap();
        assert!(read.next_offset > from, "no progress at {from}");
        all.extend_from_slice(&read.records);
        from = read.next_offset;
    }
    all
}

/// Base offset and leader epoch of each batch.
pub(super) fn shape(bytes: &[u8]) -> Vec<(i64, i32)> {
    Batches::new(bytes)
        .map(|batch| {
            let batch = batch.unwrap();
            batch.verify_crc().unwrap();
            (batch.header.base_offset, batch.header.leader_epoch)
        })
        .collect()
}

pub(super) fn file(log: &PartitionLog, name: &str) -> PathBuf {
    log.dir().join(name)
}

pub(super) fn data(name: &str) -> PathBuf {
    Path::new("/data").join(name)
}
