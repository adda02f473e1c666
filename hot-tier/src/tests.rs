//! The tier as its users see it, on disks that fail.

mod append;
mod bit_flips;
mod bootstrap;
mod damage;
mod damage_and_changes;
mod decoders;
mod descriptors;
mod fixture;
mod interleavings;
mod lifecycle;
mod local_faults;
mod lost_files;
mod power_cut;
mod read;
mod removal;
mod shared_syncs;
mod unreadable;
