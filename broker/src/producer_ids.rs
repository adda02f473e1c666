//! Ids for idempotent producers: the cluster hands out blocks, a broker hands out the ids of its block.

use std::ops::Range;

use coordinator::cluster::{Command, Reply};
use model::ProducerId;
use tokio::sync::Mutex;

use crate::handlers::errors::{Refusal, unexpected_reply};
use crate::metadata::Metadata;

/// Why there is no id to give out.
#[derive(Debug, thiserror::Error)]
#[error("no block of producer ids: {0}")]
pub(crate) struct NoProducerId(String);

/// What is left of this broker's block. Ids that a crash loses are never used again.
#[derive(Debug, Default)]
pub(crate) struct ProducerIds {
    // An async lock: it is held while a new block is fetched, so that only one is.
    block: Mutex<Range<ProducerId>>,
}

impl ProducerIds {
    /// An id that nobody had before.
    pub(crate) async fn next(&self, metadata: &Metadata) -> Result<ProducerId, NoProducerId> {
        let mut block = self.block.lock().await;
        if block.is_empty() {
            let refused = |refusal: Refusal| NoProducerId(refusal.message.unwrap_or_default());
            *block = match metadata.submit(Command::AllocateProducerIds(metadata.broker())).await {
                Ok(Reply::ProducerIds { first, count }) => first..first + count,
                Ok(reply) => return Err(refused(unexpected_reply(&reply))),
                Err(error) => return Err(refused(error.into())),
            };
        }
        block.next().ok_or_else(|| NoProducerId("the cluster gave an empty block".to_owned()))
    }
}
