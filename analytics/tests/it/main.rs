//! SQL over topics, end to end without a broker: an archive in a folder, a log in memory, and what a consumer would see.
#![allow(missing_docs, clippy::unwrap_used, clippy::too_many_lines, reason = "tests")]

mod bounds;
mod faults;
mod filters;
mod formats;
mod joins;
mod offline;
mod property;
mod queries;
mod sizes;
mod spills;
mod views;
mod world;
