//! The log on local disk: everything that a broker has not yet settled into the archive, and what it keeps beside it.
//!
//! ```text
//! append ──▶ segment file (page cache, readable at once) ──▶ journal (page cache) ──▶ log end moves
//!                                                                │ flusher: one fdatasync for all partitions
//!                                                                ▼
//!                                            flushed end moves ──▶ the broker learns it ──▶ acknowledgements
//! ```
//!
//! Reading order: `tier` is the face and owns all partitions, `partition` is one log, `segment` one of its files.
//! `journal`, `flush_queue` and `core` make appends durable together; `checkpoint` bounds what `recovery` has to
//! do. `producer_state` and `leader_epochs` are what a log remembers beside its records, `bootstrap`
//! hands both to another replica. `disk` is the seam to the
//! operating system, `layout` says where files lie; `docs/formats/hot-tier.md` describes every byte.
//!
//! Everything here blocks on file I/O and nothing here is asynchronous. Appends and reads touch the page cache only;
//! operations that wait for a flush say so.

mod tier;

mod partition;
mod segment;

mod core;
mod flush_queue;
mod journal;

mod checkpoint;
mod recovery;

mod bootstrap;
mod leader_epochs;
mod producer_state;
pub mod replication;

mod config;
mod disk;
mod disk_state;
mod error;
mod fields;
mod layout;
mod open_files;
mod sync;

#[cfg(any(test, fuzzing))]
pub mod fuzzing;
#[cfg(test)]
mod tests;

pub use crate::core::FlushListener;
pub use bootstrap::{Bootstrap, BootstrapError};
pub use config::Config;
#[cfg(any(test, feature = "simulation"))]
pub use disk::memory::MemoryDisk;
pub use error::{AppendError, OpenError, ReadError, StorageError, TierFailure};
pub use partition::{
    AgeOf, AppendTime, Appended, DamagedRange, EvictReport, LogRead, PartitionLog, ReadLimits, RetentionLimits,
    SealError, SegmentInfo, TimestampedOffset,
};
pub use producer_state::ActiveProducer;
pub use recovery::RecoveryReport;
pub use tier::HotTier;
