//! A topic's archive as an Apache Iceberg table, format version 2.
//!
//! Everything here is a function from values to values: what the archive holds and what the table held before go in, the
//! bytes of the files to write come out. Who writes them, when, and who wins a race is the caller's business.
//!
//! ```text
//!   Table ──▶ first metadata ─┐
//!   Standing ─────────────────┴▶ advance(Change, Stamp) ─▶ Commit { delete files, manifests, manifest list, metadata }
//! ```
//!
//! The files must be stored in that order, the metadata last and only if its name is free: whoever creates
//! `v<N>.metadata.json` has made commit N, and every other committer of N has lost.
//!
//! Data files keep the archive's field ids, which are the table's ([`schema`]). A log start that lies inside an object
//! becomes a position delete ([`cut`]). Terms: <https://iceberg.apache.org/spec/>.

pub mod advance;
pub mod cut;
pub mod data;
mod error;
pub mod schema;
mod scratch;
pub mod table;

pub use advance::{Change, Commit, File, Rewrite, Stamp, Standing, advance, expire, has_expired};
pub use cut::Cut;
pub use data::DataObject;
pub use error::TableError;
pub use table::Table;
