//! Errors that clients do not get over are answered only while it is certain that this node leads.
//!
//! A leader that was cut off has not heard of its successor. By its own log a producer has left out sequence numbers, which
//! ends librdkafka's producers for good, and a consumer has read more than there is, which begins elsewhere then.

use std::sync::Arc;
use std::time::Duration;

use crate::broker::Broker;
use crate::metadata::ClusterImage;

/// Longest that a client waits for it.
const CERTAIN_WITHIN: Duration = Duration::from_secs(2);

/// What the cluster has decided, as of now or later; nothing when the leader of the metadata log, or most of its voters, are
/// not to be reached.
pub(super) async fn certain_image(broker: &Broker) -> Option<Arc<ClusterImage>> {
    broker.metadata.is_up_to_date(CERTAIN_WITHIN).await.then(|| broker.metadata.image())
}
