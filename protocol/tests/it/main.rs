//! Tests of the whole protocol: against Kafka's own definitions and bytes, and against bytes that are not Kafka's.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../../build/schema.rs"]
#[allow(dead_code, reason = "the generator uses more of it")]
mod schema;

mod allocation;
mod compatibility;
mod definitions;
mod frames;
mod golden;
mod hostile;
mod round_trip;
mod wire;
