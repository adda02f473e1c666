//! The broker: the one shell around the pure rooms. Sockets, tasks, clock and chance live here.
//!
//! ```text
//! client ─▶ net ─▶ handlers ─▶ partition ─▶ hot tier, cold tier
//!                     │  └───▶ groups ────▶ partition of __consumer_offsets
//!                     └──────▶ metadata ──▶ Raft log
//! other nodes ─▶ internal ─▶ metadata
//! archiver ─▶ partition/archive ─▶ cold tier, metadata (the ledger)
//! ```

pub mod config;
pub mod server;

mod broker;
mod groups;
mod handlers;
mod internal;
mod memory;
pub mod metadata;
mod net;
mod partition;
mod partitions;
mod producer_ids;
mod replication;

pub mod admin;
mod archiver;
mod crash_point;
mod descriptors;
mod disk_id;
mod disk_watch;
mod isr;
mod machine;
mod places;
mod store_identity;
mod supervision;
mod sync;
mod telemetry;
mod throttle;
pub mod timing;
pub mod view;
pub mod wire;

#[cfg(feature = "simulation")]
pub use machine::simulated;

pub use config::{Config, ConfigError, HostPort, Overrides};
pub use crash_point::crash_point;
pub use server::{Extras, Server, StartError};
pub use store_identity::StoreRefused;
pub use supervision::exit_when_a_task_is_lost;
pub use view::View;
