//! Eviction by what this node has itself seen in the object store.
//!
//! That the ledger says "archived" is not enough: this node's store may be another one than that of the leader which
//! archived. Before a segment leaves the local disk, this node asks its store for the identity, the manifest, and the objects
//! that cover the segment, each with its size: one call per object and replica. The answers are kept in memory only, so a
//! restart asks again for what is still on the local disk.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use model::{Offset, TimestampMs};
use tokio::time::Instant;
use tracing::warn;

use super::archive::SettleError;
use super::health::Activity;
use super::{Partition, State};
use crate::machine::blocking;
use crate::store_identity::StoreIdentity;

impl Partition {
    /// First offset whose object this node has not seen in the store.
    pub(super) fn seen_end(&self) -> Offset {
        self.seen_end.load(Ordering::Acquire)
    }

    /// Looks in the store for what local retention wants to evict, then evicts it.
    pub(crate) async fn evict_seen(self: &Arc<Self>, store: &StoreIdentity, now: TimestampMs) {
        let Some((_, wanted)) = self.eviction_end(now).filter(|(_, wanted)| self.has_segment_below(*wanted)) else {
            return;
        };
        if self.state() != State::Open || self.archive.lock().pauses_eviction(Instant::now()) {
            return;
        }
        let outcome = self.try_evict_seen(store, wanted, now).await;
        if let Err(error) = &outcome {
            warn!(topic = %self.topic, partition = self.id.partition, %error, "archived segments stay on the local disk: they cannot be found in the object store");
        }
        self.note_upkeep(Activity::Evict, &outcome);
    }

    async fn try_evict_seen(
        self: &Arc<Self>,
        store: &StoreIdentity,
        wanted: Offset,
        now: TimestampMs,
    ) -> Result<(), SettleError> {
        let from = self.log.local_start().max(self.seen_end());
        if from < wanted
            && let Some(pointer) = self.ledger()
        {
            store.check_now().await?;
            let seen = self.cold.seen_until(&pointer, from, wanted).await?;
            self.seen_end.fetch_max(seen, Ordering::AcqRel);
        }
        let partition = Arc::clone(self);
        blocking::run(move || partition.evict(now)).await
    }

    fn has_segment_below(&self, end: Offset) -> bool {
        self.log.segments().first().is_some_and(|segment| segment.closed && segment.next_offset <= end)
    }
}
