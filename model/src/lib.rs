//! The nouns of Firn: identifiers, topic settings, the Kafka v2 record batch, and the values that pass between the tiers.
//!
//! This package knows nothing of disks, sockets or object stores, and imports nothing of ours. Reading order:
//! [`ids`] and [`topic_name`] name things, [`batch`] is the one currency of the log (view, validate, build, compress),
//! [`settings`] says how a topic behaves, [`segment`] and [`archive`] are what one room hands to another.

pub mod ids;
pub mod topic_name;

pub mod archive;
pub mod batch;
pub mod segment;
pub mod settings;

pub use ids::{
    LeaderEpoch, NO_LEADER_EPOCH, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_SEQUENCE, NO_TIMESTAMP, NodeId, Offset,
    PartitionIndex, ProducerEpoch, ProducerId, TimestampMs, TopicId, TopicPartition,
};
pub use topic_name::{InvalidTopicName, TopicName};
