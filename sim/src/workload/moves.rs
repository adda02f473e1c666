//! Reassignments: a partition with two replicas wanders over the three nodes, and some of its moves are cancelled.

use std::time::Duration;

use super::{Log, NODES, SETTINGS, any_node, pause};
use crate::client::{Client, NewTopic};
use crate::pinned;

/// The topic that is moved.
pub(crate) const MOVING: NewTopic<'_> = NewTopic { name: "moving", partitions: 1, replicas: 2, settings: &SETTINGS };

/// Moves the partition until `stop`.
pub(crate) async fn wander(log: Log, stop: Duration) {
    let mut client = Client::default();
    while pinned::elapsed() < stop {
        tokio::time::sleep(Duration::from_millis(rand::random_range(200..2_000))).await;
        let first = any_node();
        let second = (first + rand::random_range(0..2)) % NODES + 1;
        let target = if rand::random_ratio(1, 5) { None } else { Some(vec![first, second]) };
        if let Err(error) = client.reassign(any_node(), log.topic, log.id.partition, target).await {
            tracing::debug!(error, "not moved");
            pause().await;
        }
    }
}
