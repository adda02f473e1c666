//! A topic that is deleted and made again under the same name, again and again.
//!
//! Nothing of an earlier incarnation may reach a later one: no record, no committed offset.

use std::time::Duration;

use model::TopicId;
use protocol::Str;

use super::{Log, Writer, any_node, make_topic, pause, read};
use crate::client::{Client, Membership, NewTopic};
use crate::history::History;
use crate::pinned;

/// What is made again and again.
const CHURNED: NewTopic<'_> = NewTopic { name: "churned", partitions: 1, replicas: 3, settings: &super::SETTINGS };
/// Batches that each incarnation takes.
const BATCHES: usize = 8;
/// A group that commits an offset for each incarnation.
const GROUP: &str = "churners";

/// Makes, fills and deletes the topic until `stop`; the log of its last incarnation, which stays.
pub(crate) async fn churn(history: History, stop: Duration) -> Log {
    let (mut client, mut previous, mut round) = (Client::default(), None, 0);
    loop {
        let mut log = Log::new(CHURNED.name, make_another(previous).await, 0);
        log.name = format!("churned.{round}");
        previous = Some(log.id.topic_id);
        let reader = tokio::task::spawn_local(read(history.clone(), log.clone(), stop));
        commit_first(&mut client, &history, &log).await;
        let mut writer = Writer::open(log.clone(), 0).await;
        for _ in 0..BATCHES {
            if !writer.append(&history).await {
                break;
            }
        }
        reader.abort();
        if pinned::elapsed() >= stop {
            return log;
        }
        while let Err(error) = client.delete_topic(any_node(), log.id.topic_id).await {
            tracing::debug!(error, "the topic is not deleted yet");
            pause().await;
        }
        round += 1;
    }
}

/// Makes the topic. A node may not know yet that the previous one is gone.
async fn make_another(previous: Option<TopicId>) -> TopicId {
    loop {
        let id = make_topic(&CHURNED).await;
        if Some(id) != previous {
            return id;
        }
        pause().await;
    }
}

/// A new topic has no committed offset; it gets one.
async fn commit_first(client: &mut Client, history: &History, log: &Log) {
    let (group, who) = (Str::from_static(GROUP), Membership::none(GROUP));
    let mut is_fresh = false;
    loop {
        let Ok(node) = client.coordinator(any_node(), &group).await else {
            pause().await;
            continue;
        };
        if !is_fresh {
            match client.committed(node, &group, log.id).await {
                Ok(-1) => is_fresh = true,
                Ok(offset) => {
                    history.violation(format!("{}: a new topic has the committed offset {offset}", log.name));
                    return;
                }
                Err(error) => {
                    tracing::debug!(error, "the committed offset is not known yet");
                    pause().await;
                    continue;
                }
            }
        }
        match client.commit(node, &who, log.id, 7).await {
            Ok(()) => return,
            Err(error) => tracing::debug!(error, "the offset is not committed yet"),
        }
        pause().await;
    }
}
