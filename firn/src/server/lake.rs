//! The topics' Iceberg tables: a task that keeps those up to date whose partition 0 this node leads, and the catalog.

use std::sync::Arc;
use std::time::{Duration, Instant};

use analytics::catalog::Node;
use analytics::lake::{Driver, Led, Limits};
use broker::{Extras, View};
use model::TopicPartition;
use model::archive::TopicArchive;
use tokio_util::sync::CancellationToken;

/// Shortest and longest time between two checks for tables that are due.
const MIN_TICK: Duration = Duration::from_millis(20);
const MAX_TICK: Duration = Duration::from_secs(5);

/// Adds the task, and the catalog's routes.
pub(super) fn add(extras: &mut Extras) {
    let view = extras.view.clone();
    let (topics, topic, cold) = (view.clone(), view.clone(), view.clone());
    let node = Node {
        topics: Arc::new(move || topics.topics()),
        topic: Arc::new(move |name| topic.topic(name)),
        cold: Arc::new(move || cold.cold()),
    };
    let whole = std::mem::take(&mut extras.routes.whole);
    extras.routes.whole = whole.merge(analytics::catalog::router(node));
    extras.tasks.push(Box::new(move |stop| Box::pin(keep(view, stop))));
}

/// Keeps the tables up to date until `stop`. A commit may be cut off anywhere: the next start goes on from what is there.
async fn keep(view: View, stop: CancellationToken) {
    let (Some(cold), Some(settings)) = (view.cold(), view.settings()) else { return };
    let limits = Limits {
        interval: settings.iceberg_commit_interval,
        max_age: settings.iceberg_snapshot_max_age,
        grace: settings.sweep_grace,
        sweep_interval: settings.sweep_interval,
    };
    let mut driver = Driver::new(cold, limits, broker::crash_point);
    let tick = (limits.interval / 8).clamp(MIN_TICK, MAX_TICK);
    let run = async {
        loop {
            tokio::time::sleep(tick).await;
            let (Some(topics), Some(now)) = (view.topics(), view.settled_ms()) else { continue };
            let led = topics.into_iter().filter_map(|topic| led(&view, topic)).collect();
            driver.pass(led, now, Instant::now()).await;
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = run => {}
    }
}

/// The topic, if it has a table and this node leads its partition 0.
fn led(view: &View, topic: TopicArchive) -> Option<Led> {
    if !analytics::lake::has_table(&topic) {
        return None;
    }
    let first = TopicPartition { topic_id: topic.id, partition: 0 };
    let term = view.term(first)?;
    let view = view.clone();
    Some(Led { topic, may_commit: Box::new(move || view.term(first) == Some(term)) })
}
