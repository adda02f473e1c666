//! The machine of a node in a simulation: everything is done on the one thread of the simulation, in the order that chance
//! gives. Chance comes from the thread's generator, time from the runtime's paused clock.
//!
//! The local log is on a disk in memory, the archive in a store that the nodes share. The metadata's file is a real one, so
//! that redb is the real one too; what was written since its last sync is remembered here, and a power cut takes parts of it back.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use cold_tier::ColdTier;
use hot_tier::{FlushListener, HotTier, MemoryDisk};
use model::{LeaderEpoch, NodeId, Offset, TimestampMs, TopicPartition};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use parking_lot::Mutex;
use rand::Rng;
use rand::rngs::StdRng;
use redb::StorageBackend;
use redb::backends::FileBackend;
use tokio::time::{Instant, sleep};

use crate::broker::Broker;
use crate::config::Config;
use crate::metadata::ClusterImage;
use crate::server::Server;

/// Bytes of a node's journal: few, so that it goes round and fills up.
const JOURNAL_BYTES: u64 = 256 << 10;

/// What a node stands on. Copies share it.
#[derive(Debug, Clone)]
pub struct Machine {
    disk: Arc<Mutex<MemoryDisk>>,
    store: Arc<dyn ObjectStore>,
}

impl Default for Machine {
    fn default() -> Self {
        Machine::new(Arc::new(InMemory::new()))
    }
}

impl Machine {
    /// A machine with an empty disk, beside others that use the same store.
    #[must_use]
    pub fn new(store: Arc<dyn ObjectStore>) -> Self {
        Machine { disk: Arc::default(), store }
    }

    /// The node's process has been killed: its disk keeps what was written.
    pub fn kill(&self) {
        let mut disk = self.disk.lock();
        *disk = disk.killed();
    }

    /// The local log is gone, and nothing tells of it: as by a disk whose syncs were lies.
    pub fn lose_disk(&self) {
        *self.disk.lock() = MemoryDisk::default();
    }

    /// Power was cut: the disk and the metadata's file keep what was synced, and any part of what was not.
    ///
    /// # Errors
    /// Those of the metadata's file.
    pub fn cut_power(&self, data_dir: &Path, chance: &mut StdRng) -> io::Result<()> {
        let mut disk = self.disk.lock();
        *disk = disk.power_cut(chance);
        UNSYNCED.with_borrow_mut(|all| {
            // A draft has another name by now.
            let mut inside = all.iter_mut().filter(|(path, _)| path.starts_with(data_dir) && path.exists());
            inside.try_for_each(|(path, writes)| weather(path, std::mem::take(writes), chance))
        })
    }
}

/// How long a disk takes for an operation that waits for it.
pub(crate) async fn disk_latency() {
    sleep(Duration::from_micros(rand::random_range(100..3_000))).await;
}

/// Opens the local log, and drives it.
pub(crate) async fn open_hot(
    config: &Config,
    hot: hot_tier::Config,
    now: TimestampMs,
    on_flush: FlushListener,
) -> Result<HotTier, hot_tier::OpenError> {
    disk_latency().await;
    let hot = hot_tier::Config { journal_bytes: JOURNAL_BYTES, flush_bypass_bytes: JOURNAL_BYTES / 16, ..hot };
    let disk = config.machine.disk.lock().clone();
    let tier = HotTier::open_stepped(hot, disk, now, on_flush)?;
    tokio::spawn(drive(tier.clone()));
    Ok(tier)
}

/// Flushes and keeps house for the tier until it is closed or fails.
async fn drive(tier: HotTier) {
    let mut checkpoint = Instant::now();
    loop {
        disk_latency().await;
        if tier.step_flush().is_err() {
            return;
        }
        if tier.step_housekeeping(checkpoint.elapsed()) {
            checkpoint = Instant::now();
        }
    }
}

/// The archive in the shared store.
pub(crate) async fn connect_cold(config: &Config, cold: cold_tier::Config) -> Result<ColdTier, cold_tier::OpenError> {
    let cold = cold_tier::Config { decode_threads: 0, archive_threads: 0, ..cold };
    ColdTier::with_store(cold, Arc::clone(&config.machine.store))
}

thread_local! {
    /// By file: the writes that no sync covers.
    static UNSYNCED: RefCell<BTreeMap<PathBuf, Vec<Write>>> = const { RefCell::new(BTreeMap::new()) };
}

/// A change of a file, and what was there before.
#[derive(Debug)]
enum Write {
    Bytes { offset: u64, old: Vec<u8>, new: Vec<u8> },
    Len { old: u64, new: u64, tail: Vec<u8> },
}

impl Write {
    fn undo(&self, file: &std::fs::File) -> io::Result<()> {
        match self {
            Write::Bytes { offset, old, .. } => file.write_all_at(old, *offset),
            Write::Len { old, new, tail } => {
                file.set_len(*old)?;
                file.write_all_at(tail, *new.min(old))
            }
        }
    }

    fn redo(&self, file: &std::fs::File) -> io::Result<()> {
        match self {
            Write::Bytes { offset, new, .. } => {
                // A file that lost its growth has lost what was written there.
                let len = file.metadata()?.len();
                let kept = usize::try_from(len.saturating_sub(*offset)).unwrap_or(usize::MAX).min(new.len());
                file.write_all_at(&new[..kept], *offset)
            }
            Write::Len { new, .. } => file.set_len(*new),
        }
    }
}

/// Leaves any part of the writes in the file.
fn weather(path: &Path, writes: Vec<Write>, chance: &mut StdRng) -> io::Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    writes.iter().rev().try_for_each(|write| write.undo(&file))?;
    let keep = f64::from(chance.random_range(0..=10_u8)) / 10.0;
    writes.iter().filter(|_| chance.random_bool(keep)).try_for_each(|write| write.redo(&file))
}

/// A file whose writes are remembered until they are synced.
#[derive(Debug)]
pub(crate) struct Remembering {
    file: FileBackend,
    path: PathBuf,
}

/// What the metadata's file is kept in.
pub(crate) fn raft_file(file: FileBackend, path: &Path) -> Remembering {
    UNSYNCED.with_borrow_mut(|all| all.insert(path.to_owned(), Vec::new()));
    Remembering { file, path: path.to_owned() }
}

impl Remembering {
    fn remember(&self, write: Write) {
        UNSYNCED.with_borrow_mut(|all| all.entry(self.path.clone()).or_default().push(write));
    }
}

impl StorageBackend for Remembering {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, new: u64) -> io::Result<()> {
        let old = self.file.len()?;
        let mut tail = vec![0; usize::try_from(old.saturating_sub(new)).map_err(io::Error::other)?];
        self.file.read(new.min(old), &mut tail)?;
        self.file.set_len(new)?;
        self.remember(Write::Len { old, new, tail });
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        UNSYNCED.with_borrow_mut(|all| all.insert(self.path.clone(), Vec::new()));
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut old = vec![0; data.len()];
        self.file.read(offset, &mut old)?;
        self.file.write(offset, data)?;
        self.remember(Write::Bytes { offset, old, new: data.to_vec() });
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }
}

/// Looks into a node from outside, between two steps of a simulation.
#[derive(Debug, Clone)]
pub struct Observer {
    broker: Weak<Broker>,
}

/// Where a partition stands on one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionLook {
    /// Which.
    pub id: TopicPartition,
    /// Its topic.
    pub topic: String,
    /// The epoch in which this node leads it.
    pub term: Option<LeaderEpoch>,
    /// First offset that readers may see.
    pub log_start: Offset,
    /// First offset on the local disk.
    pub local_start: Offset,
    /// First offset that is not archived.
    pub archived_end: Offset,
    /// First offset that consumers may not read yet.
    pub high_watermark: Offset,
    /// First offset that is free.
    pub log_end: Offset,
}

impl Server {
    /// For looks from outside.
    #[must_use]
    pub fn observer(&self) -> Observer {
        Observer { broker: Arc::downgrade(self.broker()) }
    }
}

impl Observer {
    /// The partitions that the node keeps; none once it is gone.
    #[must_use]
    pub fn partitions(&self) -> Vec<PartitionLook> {
        let Some(broker) = self.broker.upgrade() else { return Vec::new() };
        let look = |partition: &Arc<crate::partition::Partition>| PartitionLook {
            id: partition.id,
            topic: partition.topic.to_string(),
            term: partition.term(),
            log_start: partition.log_start(),
            local_start: partition.local_start(),
            archived_end: partition.archived_end(),
            high_watermark: partition.high_watermark(),
            log_end: partition.log.log_end(),
        };
        broker.partitions.all().iter().map(look).collect()
    }

    /// The cluster's metadata as this node knows them.
    #[must_use]
    pub fn image(&self) -> Option<Arc<ClusterImage>> {
        self.broker.upgrade().map(|broker| broker.metadata.image())
    }

    /// This node, while it is there.
    #[must_use]
    pub fn node_id(&self) -> Option<NodeId> {
        self.broker.upgrade().map(|broker| broker.config.node_id)
    }
}
