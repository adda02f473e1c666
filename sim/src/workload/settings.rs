//! Settings of a topic that change: all nodes come to report the same value, and one that was asked for.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{EVENTS, NODES, any_node, pause};
use crate::client::Client;
use crate::history::History;
use crate::pinned;

const SETTING: &str = "segment.bytes";
const VALUES: [&str; 4] = ["2048", "4096", "8192", "16384"];

/// Values that the setting may have.
pub(crate) struct Possible(BTreeSet<&'static str>);

/// Changes the setting until `stop`, each time until that is confirmed.
pub(crate) async fn change(stop: Duration) -> Possible {
    let mut client = Client::default();
    let mut possible = BTreeSet::from(["4096"]);
    let mut is_certain = true;
    while pinned::elapsed() < stop {
        sleep(Duration::from_millis(rand::random_range(100..1_500))).await;
        let value = VALUES[rand::random_range(0..VALUES.len())];
        possible.insert(value);
        while let Err(error) = client.set(any_node(), EVENTS.name, SETTING, value).await {
            // A request without an answer may be carried out at any time, after the next one, too.
            is_certain = false;
            tracing::debug!(value, error, "not set yet");
            pause().await;
        }
        if is_certain {
            possible = BTreeSet::from([value]);
        }
    }
    Possible(possible)
}

/// Judges the reports of the nodes, within `patience`.
pub(crate) async fn judge(history: &History, Possible(possible): Possible, patience: Duration) {
    let mut client = Client::default();
    let deadline = Instant::now() + patience;
    let mut reported = BTreeSet::new();
    for node in 1..=NODES {
        loop {
            match client.setting(node, EVENTS.name, SETTING).await {
                Ok(value) => {
                    reported.insert(value);
                    break;
                }
                Err(error) if Instant::now() > deadline => {
                    history.violation(format!("node {node} does not report its settings: {error}"));
                    break;
                }
                Err(_) => pause().await,
            }
        }
    }
    if reported.len() != 1 || !reported.iter().all(|value| possible.contains(value.as_str())) {
        history.violation(format!("{SETTING}: the nodes report {reported:?}, possible is one of {possible:?}"));
    }
}
