//! SQL over topics: each topic is a table with the columns of the archive, over archived and not yet archived records.
//!
//! ```text
//!   Engine::query ─▶ admission ─▶ parse, plan ─▶ pin each topic once ─▶ TopicTable::scan ─▶ batches ─▶ Answer
//!                                                                        │
//!            [log start, seam) ─ the pinned manifest's objects ──────────┤
//!            [seam, end)       ─ committed batches by Source::hot ───────┘
//! ```
//!
//! The rows are those of a read-committed consumer: the archive holds committed records only, and the hot half ends at the
//! last stable offset of the pin. The seam is the pinned manifest's end, so that the halves meet without a gap or an
//! overlap whatever is archived or evicted while the query runs.
//!
//! Reading order: [`source`] is what the engine is given; [`engine`] its face, [`query`] one query under way, on its own
//! [`threads`], with its reads beside them ([`reading`]); [`text`] is what was asked, with its [`view`]s, [`statement`] bounds and parses it, [`expand`] puts views into it, [`rewrite`] changes it, [`session`]
//! and [`tables`] resolve names, [`recursive`] mends the plans of recursive queries; [`table`] plans a scan with [`prune`], [`cold`], [`objects`], [`counted`],
//! [`edges`] and [`hot`], in batches of a [`scale`], with [`plain`] columns; [`yielding`] keeps joins
//! from holding their threads, [`sparing`] plans for little memory;
//! [`functions`] are what values need, [`bounded`] those that multiply; [`error`] in the words of [`wording`], [`output`], [`ndjson`] and [`pretty`] are what comes out, under [`titles`]; [`offline`] is a bucket as
//! a source.
#![allow(rustdoc::private_intra_doc_links, reason = "the map of the modules names private ones")]

pub mod source;

pub mod engine;
mod query;
mod reading;
pub mod text;
mod threads;

mod expand;
mod recursive;
mod rewrite;
mod session;
mod sparing;
mod statement;
mod tables;
mod view;

mod cold;
mod counted;
mod edges;
mod hot;
mod json;
mod objects;
mod plain;
mod prune;
mod scale;
mod scan;
mod table;
mod yielding;

mod bounded;
mod functions;

pub mod error;
mod wording;

mod ndjson;
pub mod output;
mod pretty;
mod sizes;
mod titles;

pub mod offline;

pub use engine::{Answer, Engine, Limits, Written};
pub use error::{Position, SqlError};
pub use source::{PinnedPartition, PinnedTopic, Source, SourceError};
pub use text::{Parameters, Text};
pub use view::View;
