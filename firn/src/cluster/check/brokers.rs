//! Brokers that are lost.

use super::Finding;
use super::causes::Cause;
use crate::client::overview::{BrokerState, Overview};
use crate::output::count;

/// `is_explained`: brokers of which another finding says why they are fenced.
pub(super) fn examine(overview: &Overview, is_explained: impl Fn(i32) -> bool) -> Vec<Finding> {
    let fenced = overview.brokers.iter().filter(|broker| broker.is_fenced && !is_explained(broker.id));
    fenced.map(|broker| lost(overview, broker)).collect()
}

fn lost(overview: &Overview, broker: &BrokerState) -> Finding {
    let id = broker.id;
    let copies = overview.partitions().filter(|(_, partition)| partition.replicas.contains(&id)).count();
    let rack = broker.rack.as_ref().map(|rack| format!(", rack {rack}")).unwrap_or_default();
    let address = broker.endpoint();
    let what = format!("broker {id} ({address}{rack}) is down, or starting: {} miss their copy there", {
        count(copies, "partition")
    });
    let advice = if copies == 0 {
        format!("Start it. It holds nothing: if it will not come back, `firn cluster unregister {id}` forgets it.")
    } else {
        format!(
            "Start it; the end of its log says why it stopped. If it will not come back, start an empty node in its place \
             with the same --node-id {id}, or move its partitions away: `firn cluster decommission {id}`."
        )
    };
    Finding::problem(what, advice).cause(Cause::Broker(id))
}
