//! Raft's log: in memory for reading, in the Raft file for keeping.
//!
//! Snapshots bound its length (`MetadataConfig::snapshot_every`), so all of it fits in memory. Invariants: entries are
//! consecutive and start right after the purged one; memory is never behind the file. The size of each entry is known:
//! replication and purging go by bytes, since one entry may hold as much as ten thousand others.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use openraft::storage::{LogFlushed, LogState, RaftLogReader, RaftLogStorage};
use openraft::{AnyError, OptionalSend};
use parking_lot::Mutex;

use super::disk::{Change, Contents};
use super::entry::{Entry, LogId, StorageError, StorageIoError, TypeConfig, Vote, encoded_len};
use super::writer::Writer;

/// Bytes of entries in one replication request. The first entry goes even when it is larger by itself.
const MAX_REQUEST_BYTES: usize = 256 << 10;

/// Copies share the log.
#[derive(Debug, Clone)]
pub(super) struct LogStore {
    mirror: Arc<Mutex<Mirror>>,
    writer: Writer,
}

/// What the file holds, or will in a moment.
#[derive(Debug)]
struct Mirror {
    vote: Option<Vote>,
    committed: Option<LogId>,
    purged: Option<LogId>,
    entries: BTreeMap<u64, SizedEntry>,
}

/// An entry, and the bytes that it takes on its way to another node.
#[derive(Debug)]
struct SizedEntry {
    entry: Entry,
    bytes: usize,
}

impl SizedEntry {
    fn indexed(entry: Entry) -> (u64, SizedEntry) {
        let bytes = encoded_len(&entry);
        (entry.log_id.index, SizedEntry { entry, bytes })
    }
}

impl LogStore {
    pub(super) fn new(contents: Contents, writer: Writer) -> Self {
        let Contents { vote, committed, purged, entries, snapshot: _ } = contents;
        let entries = entries.into_values().map(SizedEntry::indexed).collect();
        LogStore { mirror: Arc::new(Mutex::new(Mirror { vote, committed, purged, entries })), writer }
    }

    /// The last entry that can be dropped so that at most `bytes` of the entries up to index `covered` are kept; none if
    /// there is nothing to drop.
    pub(super) fn droppable(&self, covered: u64, bytes: usize) -> Option<u64> {
        let mirror = self.mirror.lock();
        let mut kept = 0_usize;
        let does_not_fit = |(_, entry): &(&u64, &SizedEntry)| {
            kept = kept.saturating_add(entry.bytes);
            kept > bytes
        };
        mirror.entries.range(..=covered).rev().find(does_not_fit).map(|(index, _)| *index)
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, StorageError> {
        let is_empty = match (range.start_bound(), range.end_bound()) {
            (Bound::Included(start), Bound::Excluded(end)) => start >= end,
            (Bound::Included(start), Bound::Included(end)) => start > end,
            _ => false,
        };
        // A tree map panics on a range that ends before it starts.
        if is_empty {
            return Ok(Vec::new());
        }
        Ok(self.mirror.lock().entries.range(range).map(|(_, kept)| kept.entry.clone()).collect())
    }

    /// As many entries as [`MAX_REQUEST_BYTES`] hold, and one at least.
    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, StorageError> {
        if start >= end {
            return Ok(Vec::new());
        }
        let (mut taken, mut bytes) = (Vec::new(), 0_usize);
        for kept in self.mirror.lock().entries.range(start..end).map(|(_, kept)| kept) {
            bytes = bytes.saturating_add(kept.bytes);
            if bytes > MAX_REQUEST_BYTES && !taken.is_empty() {
                break;
            }
            taken.push(kept.entry.clone());
        }
        Ok(taken)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = LogStore;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, StorageError> {
        let mirror = self.mirror.lock();
        let last = mirror.entries.last_key_value().map(|(_, kept)| kept.entry.log_id);
        Ok(LogState { last_purged_log_id: mirror.purged, last_log_id: last.or(mirror.purged) })
    }

    async fn get_log_reader(&mut self) -> LogStore {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        let written = self.writer.write(Change::Vote(*vote)).await;
        written.map_err(|error| StorageIoError::write_vote(AnyError::new(&error)))?;
        self.mirror.lock().vote = Some(*vote);
        Ok(())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        Ok(self.mirror.lock().vote)
    }

    /// A hint: how far the log may be applied at the next start before anything else is known.
    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError> {
        self.mirror.lock().committed = committed;
        self.writer.write_lazily(Change::Committed(committed));
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
        Ok(self.mirror.lock().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<TypeConfig>) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let sized: Vec<(u64, SizedEntry)> = entries.iter().cloned().map(SizedEntry::indexed).collect();
        self.mirror.lock().entries.extend(sized);
        self.writer.append(Change::Append(entries), callback);
        Ok(())
    }

    async fn truncate(&mut self, log_id: LogId) -> Result<(), StorageError> {
        self.mirror.lock().entries.split_off(&log_id.index);
        let written = self.writer.write(Change::TruncateFrom(log_id.index)).await;
        Ok(written.map_err(|error| StorageIoError::write_logs(AnyError::new(&error)))?)
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), StorageError> {
        {
            let mut mirror = self.mirror.lock();
            mirror.entries = mirror.entries.split_off(&(log_id.index + 1));
            mirror.purged = Some(log_id);
        }
        let written = self.writer.write(Change::PurgeTo(log_id)).await;
        Ok(written.map_err(|error| StorageIoError::write_logs(AnyError::new(&error)))?)
    }
}
