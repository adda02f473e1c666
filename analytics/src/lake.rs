//! Keeping the Iceberg tables in the object store: which commits are due, who makes them, and what of them may go.
//!
//! ```text
//!   ledger ─▶ plan ─▶ iceberg::advance ─▶ files, then v<N+1>.metadata.json (created, never replaced), then the hint
//!               ▲                              │
//!             state ◀──────────────────────────┘ named by the snapshot
//! ```
//!
//! - **One wins.** Whoever creates `v<N+1>.metadata.json` has made commit N + 1. Who loses looks at what has won and plans anew.
//! - **Only forward.** The state says which version of each partition's ledger entry the table shows. A committer whose
//!   view of the ledger is older for any partition refuses, so a leader that is out of date changes nothing.
//! - **In proportion.** Partitions whose ledger entry is unchanged are not looked at; of the others, only what came or went.
//!   Manifests hold at most [`MAX_MANIFEST_FILES`](crate::iceberg::advance::MAX_MANIFEST_FILES) files, and small ones are
//!   joined before there are many.
//! - **Nothing waits for it.** It reads what the ledger says and writes beside the archive. What it cannot read (state,
//!   metadata, manifests: lost, damaged, or copied from another place) it makes anew from the ledger.
//! - **Nothing half.** A crash leaves files that no metadata name. `sweep` takes them, and what expired snapshots named.
//!
//! Layout: `docs/formats/iceberg.md`.

pub mod driver;
mod error;
pub(crate) mod files;
mod join;
mod plan;
mod state;
mod sweep;
mod topic_table;

pub use driver::{Driver, Led, Limits, has_table};
pub use error::LakeError;
pub use files::Newest;
pub use topic_table::{Outcome, Pass, TopicTable};

#[cfg(test)]
pub(crate) mod tests;
