//! The hot tier's settings. Each states its unit and its default, once.

use std::path::PathBuf;
use std::time::Duration;

use crate::error::OpenError;

/// How the local log behaves; what differs by topic is in [`model::settings::TopicSettings`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Folder of everything: `lock`, `checkpoint`, `journal/` and `topics/`. Default: `firn-data`.
    pub data_dir: PathBuf,
    /// Bytes of the journal, which bound recovery. Appends wait when it is full. Default: 256 MiB; at least 64 KiB.
    pub journal_bytes: u64,
    /// An append of at least so many bytes skips the journal and has its segment flushed in the same round instead of
    /// being written twice. Default: 256 KiB; at most a sixteenth of `journal_bytes`.
    pub flush_bypass_bytes: u64,
    /// Longest time between two checkpoints while anything changes. Default: 30 s.
    pub checkpoint_interval: Duration,
    /// An idempotent producer that was silent for so long while the tier was open is forgotten, in ms: Kafka's
    /// `producer.id.expiration.ms`. Default: one day.
    pub producer_id_expiration_ms: u64,
    /// Files that are kept open at a time, all partitions together. Default: 4096; at least 8.
    pub max_open_files: usize,
    /// Longest time that an append waits for room in the journal before it fails. Default: 20 s.
    pub journal_wait: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            data_dir: PathBuf::from("firn-data"),
            journal_bytes: 256 << 20,
            flush_bypass_bytes: 256 << 10,
            checkpoint_interval: Duration::from_secs(30),
            producer_id_expiration_ms: 24 * 60 * 60 * 1000,
            max_open_files: 4096,
            journal_wait: Duration::from_secs(20),
        }
    }
}

impl Config {
    /// Smallest journal, in bytes.
    pub const MIN_JOURNAL_BYTES: u64 = 64 << 10;

    /// Checks the values against each other.
    ///
    /// # Errors
    /// [`OpenError::Setting`] names the first value that cannot work.
    pub fn check(&self) -> Result<(), OpenError> {
        let wrong = |name, value, expected| Err(OpenError::Setting { name, value, expected });
        if self.journal_bytes < Self::MIN_JOURNAL_BYTES {
            return wrong("journal_bytes", self.journal_bytes, "at least 65536 bytes are needed");
        }
        if self.flush_bypass_bytes > self.journal_bytes / 16 {
            return wrong("flush_bypass_bytes", self.flush_bypass_bytes, "at most a sixteenth of journal_bytes");
        }
        if self.max_open_files < 8 {
            let value = self.max_open_files as u64;
            return wrong("max_open_files", value, "at least 8 are needed");
        }
        Ok(())
    }
}
