//! The archive: sealed segments as Parquet objects, manifests over them, and cold reads from them.
//!
//! ```text
//!   SealedSegment ─▶ archive ─▶ object ─▶ write_manifest ─▶ pointer ─▶ (the caller commits it in the ledger)
//!   (pointer, offset) ─▶ read ─▶ record batches          pointer ─▶ retention_start, sweep_partition, entries
//! ```
//!
//! Reading order: [`config`] and [`error`]; [`store`] is the object store with deadlines and verdicts; [`names`],
//! [`schema`] and [`footer`] are the format of `docs/formats/archive.md`; [`writer`], [`archive`] and [`verify`] make
//! objects; [`manifest`] lists them; [`columns`], [`replay`] and [`read`] give them back as batches; [`identity`] tells this store from
//! others; [`retention`] and [`sweep`] let them go; [`inspect`] and [`survey`] look at them offline; [`table`] shows them to who reads Parquet. [`ColdTier`] is the
//! whole as one value.
//!
//! Storage is seen only through the `object_store` crate. The process must install a `rustls` crypto provider before
//! it opens an `https` store.
#![allow(rustdoc::private_intra_doc_links, reason = "the map of the modules names private ones")]

mod config;
mod error;

pub mod store;

mod checksum;
mod flight;
mod workers;

mod footer;
mod names;
mod schema;

mod archive;
mod verify;
mod writer;

pub mod manifest;

mod columns;
mod read;
mod replay;

mod identity;
mod retention;
mod sweep;

pub mod inspect;
pub mod survey;

mod table;
mod tier;

pub use archive::ArchiveOptions;
pub use config::Config;
pub use error::{ArchiveError, OpenError, ReadError, StoreError, StoreErrorKind};
pub use identity::LedgerEntry;
pub use manifest::tree::ManifestChange;
pub use manifest::{ArchivedSegment, Manifest};
pub use names::{TABLE_FOLDERS, TableFile, table_file};
pub use read::lookup::TimestampOffset;
pub use read::{ColdFetch, ColdRead};
pub use retention::RetentionLimits;
pub use schema::{TIMESTAMP_RANGE_MS, timestamp_micros};
pub use store::StoreTrouble;
pub use store::open::redacted;
pub use survey::NewestManifest;
pub use sweep::{SweepBy, SweepReport};
pub use table::{ObjectIndex, table_schema};
pub use tier::{CacheStats, ColdTier};
pub use writer::rows::{RowError, Rows, UnfitTimestamp};
