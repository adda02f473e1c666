//! Rules of the repository that a machine can check, and tests that need several packages at once.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod citations;
mod packages;
mod tidy;

mod archive_race;
mod busy_node;
mod every_version;
mod metadata_scale;
mod node;
