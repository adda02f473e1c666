//! The archive from outside: round trips, faults, races and crash points, over memory and folder stores.
#![allow(missing_docs, clippy::unwrap_used, clippy::cast_possible_truncation, reason = "tests")]

mod faults;
mod lifecycle;
mod power_cut;
mod reads;
mod roundtrip;
mod store;
mod support;
