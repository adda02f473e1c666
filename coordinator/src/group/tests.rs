//! Tables of steps against the machine of groups. Each test drives one shard through its public face only.

mod harness;
mod joining;
mod memory;
mod offsets;
mod properties;
mod rebalancing;
mod replay;
mod static_members;
