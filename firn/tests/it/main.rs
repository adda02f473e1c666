//! The command `firn` as a user meets it: the real program, a real server on free ports, segments so small that most
//! records settle into Parquet within a second.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod archive;
mod configuration;
mod groups;
mod process;
mod records;
mod server;
mod topics;
