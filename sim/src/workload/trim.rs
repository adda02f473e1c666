//! Deletions of records: what is deleted stays deleted, and nothing else goes.

use std::time::Duration;

use super::{Log, SETTINGS, any_node, pause};
use crate::client::{Client, NewTopic};
use crate::history::History;
use crate::pinned;

/// The topic whose beginning goes.
pub(crate) const TRIMMED: NewTopic<'_> = NewTopic { name: "trimmed", partitions: 1, replicas: 3, settings: &SETTINGS };

/// Deletes records until `stop`, each time until that is confirmed.
pub(crate) async fn trim(history: History, log: Log, stop: Duration) {
    let (mut client, mut node) = (Client::default(), any_node());
    while pinned::elapsed() < stop {
        tokio::time::sleep(Duration::from_millis(rand::random_range(100..1_500))).await;
        let offset = rand::random_range(0..=history.end(&log.name));
        history.ask_deletion(&log.name, offset);
        loop {
            match client.delete_records(node, log.topic, log.id.partition, offset).await {
                Ok(start) => {
                    history.confirm_deletion(&log.name, start);
                    break;
                }
                Err(error) => {
                    tracing::debug!(offset, node, error, "not deleted yet");
                    pause().await;
                    node = client.leader(any_node(), log.id).await.unwrap_or(node);
                }
            }
        }
    }
}
