//! Before clients are told who leads: whether that is still so.
//!
//! A client whose connection to a broker breaks asks another one within a tenth of a millisecond who leads now. The one that is
//! asked may not have seen the loss yet: a process that is killed closes its connections one after the other. A client that
//! is told the leaders of before looks again only a second later (librdkafka). So the others are asked whether they are there,
//! which costs the time of one call, whatever was lost in the meantime; only a loss is waited for.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use coordinator::cluster::Broker;
use futures::future::join_all;
use model::NodeId;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::impaired::DiskFault;
use super::rpc::{self, Seen};
use super::sessions::{BEAT, Session};
use super::{ClusterImage, Metadata};
use crate::internal::client::CallError;

/// How long another broker may take to say that it is there, and this one to know what that one knows.
const LOOK_WITHIN: Duration = Duration::from_millis(100);
/// Who was not heard for so long is not asked: it is cut off or stands still, and would not answer.
const HEARD_WITHIN: Duration = BEAT.saturating_mul(2);
/// How long after its connection broke a node is worth waiting for, until the cluster has decided whether it is lost.
const VERDICT_WITHIN: Duration = Duration::from_secs(2);
/// Longest pause between two looks for that decision.
const VERDICT_PAUSE: Duration = Duration::from_millis(20);
/// How long clients are told of a broker after its loss: longer than they take to ask anew.
const NAMED_AFTER_LOSS: Duration = Duration::from_secs(3);

/// Whether the others are there, asked once for all that want to know it at the same time.
#[derive(Debug)]
pub(super) struct Looks {
    turn: Semaphore,
    began: Mutex<Option<Instant>>,
    /// The newest version of the image that another broker has reported.
    newest: AtomicU64,
}

/// Others know more than this node, whose disk keeps it from learning it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the disk of this broker is {disk}, and keeps it from learning who leads: ask another broker")]
pub(crate) struct OutOfDate {
    disk: DiskFault,
}

impl Looks {
    pub(super) fn new() -> Self {
        Looks { turn: Semaphore::new(1), began: Mutex::new(None), newest: AtomicU64::new(0) }
    }

    /// Looks, unless a look that began after this call has been made for somebody else by then.
    async fn share<F: Future<Output = ()>>(&self, look: impl FnOnce() -> F) {
        let asked = Instant::now();
        // It is never closed.
        let _turn = self.turn.acquire().await;
        let is_done = {
            let mut began = self.began.lock();
            let is_done = began.is_some_and(|began| began > asked);
            if !is_done {
                *began = Some(Instant::now());
            }
            is_done
        };
        if !is_done {
            look().await;
        }
    }
}

impl Metadata {
    /// Waits until this node knows what the living others know now, and until the cluster has decided who leads what the
    /// brokers led whose connections have just broken. One that has handed over before is not waited for: what the client asked
    /// next on its connection would wait with it. The same at a start, as long as no broker may lead: some clients never ask
    /// again for brokers that were not in the first answer. Takes as long as a call to another node when there is nothing to
    /// wait for, and two seconds at most.
    ///
    /// # Errors
    /// [`OutOfDate`]: a client that gets the leaders of before from here may ask this broker, and no other, again and again.
    pub(crate) async fn confirm(&self) -> Result<(), OutOfDate> {
        self.inner.looks.share(|| self.look()).await;
        let (asked, mut images) = (Instant::now(), self.watch());
        while asked.elapsed() < VERDICT_WITHIN && self.is_undecided() {
            let _ = timeout(VERDICT_PAUSE, images.changed()).await;
        }
        let is_behind = self.image().version() < self.inner.looks.newest.load(Ordering::Acquire);
        match self.disk_fault().filter(|_| is_behind) {
            Some(disk) => Err(OutOfDate { disk }),
            None => Ok(()),
        }
    }

    /// The brokers that clients are to know: those that may lead, and for a while those that were lost. librdkafka gives up a
    /// broker that is no longer named before it moves the partitions of the same answer, and then they have no broker for up
    /// to a second (seen with 2.16).
    pub(crate) fn named_brokers<'i>(&self, image: &'i ClusterImage) -> impl Iterator<Item = &'i Broker> + use<'i> {
        let lost = self.inner.images.lost_within(NAMED_AFTER_LOSS);
        image.brokers().filter(move |broker| !broker.is_fenced || lost.contains(&broker.id))
    }

    /// Asks the brokers that should be there; those that are not are noted, and what they know is waited for.
    pub(super) async fn look(&self) {
        let image = self.image();
        let is_there = |session: &Session| session.broken.is_none() && session.heard.elapsed() < HEARD_WITHIN;
        let others = image.brokers().filter(|broker| !broker.is_fenced && broker.id != self.node_id());
        let others = others.filter(|broker| self.inner.sessions.of(broker.id).as_ref().is_some_and(is_there));
        let known =
            join_all(others.map(|broker| self.version_of(broker.id))).await.into_iter().max().unwrap_or_default();
        self.inner.looks.newest.fetch_max(known, Ordering::AcqRel);
        let mut images = self.watch();
        // It did not come in time: clients are told what there is.
        let _ = timeout(LOOK_WITHIN, images.wait_for(|image| image.version() >= known)).await;
    }

    /// How far the image of another node is; 0 when it does not say.
    async fn version_of(&self, node: NodeId) -> u64 {
        match self.inner.peers.call::<Seen>(node, rpc::SEEN, &(), LOOK_WITHIN).await {
            Ok(seen) => seen.version,
            Err(CallError::NobodyThere | CallError::Broken(_)) => {
                self.inner.sessions.set_broken(node);
                0
            }
            Err(_) => 0,
        }
    }

    /// Somebody leads by the metadata who may be gone.
    pub(super) fn is_undecided(&self) -> bool {
        let broken = self.inner.sessions.broken_within(VERDICT_WITHIN);
        let image = self.image();
        let leads = |node: &NodeId| image.partitions().any(|(_, partition)| partition.leader == *node);
        broken.iter().any(leads) || image.brokers().all(|broker| broker.is_fenced)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::FutureExt;
    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn a_look_serves_all_who_asked_before_it_began_and_nobody_who_asked_later() {
        let (looks, made, seen) = (Looks::new(), AtomicUsize::new(0), Arc::new(Notify::new()));
        let look = || async {
            made.fetch_add(1, Ordering::Relaxed);
            seen.notified().await;
        };
        let mut first = Box::pin(looks.share(look));
        assert!(first.as_mut().now_or_never().is_none());
        let mut later: Vec<_> = (0..3).map(|_| Box::pin(looks.share(look))).collect();
        assert!(later.iter_mut().all(|one| one.as_mut().now_or_never().is_none()));
        seen.notify_one();
        first.await;
        seen.notify_one();
        join_all(later).await;
        assert_eq!(made.load(Ordering::Relaxed), 2);
    }
}
