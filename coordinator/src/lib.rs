//! Pure deterministic state machines: the cluster's metadata, and consumer groups; and the plans by which
//! replicas move between brokers.
//!
//! No I/O, no clock, no chance: `decide(&self, command, now)` turns a command into records and a reply, `apply(&mut self,
//! record)` makes a record true, `next_deadline()` says when time alone will change something. Nothing else mutates. The
//! broker drives the machines: it owns the log of records, the clock and the sockets.

pub mod cluster;
pub mod group;
pub mod moves;

mod shared_map;
