//! What a replica needs to begin in the middle of a log: the archive has the records before it, another replica has what
//! follows from them.
//!
//! A follower whose records were lost, or fell behind the leader's local log, does not copy history: it asks the leader for
//! its [`PartitionLog::bootstrap`](crate::PartitionLog::bootstrap), takes it with
//! [`PartitionLog::reset_to_bootstrap`](crate::PartitionLog::reset_to_bootstrap), and goes on fetching at its local start.

use bytes::Bytes;
use model::segment::EpochStart;
use model::{Offset, TopicPartition};

use crate::error::StorageError;
use crate::producer_state::ProducerStates;

/// The state of a partition right before the first record of a local log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bootstrap {
    /// First offset that readers may ask for, in either tier; at most `local_start`.
    pub log_start: Offset,
    /// First offset of the local log.
    pub local_start: Offset,
    /// Leader epochs that begin below `local_start`, oldest first.
    pub epochs: Vec<EpochStart>,
    /// Producer state right before `local_start`, in the hot tier's own format.
    pub producers: Bytes,
}

impl Bootstrap {
    /// A log that begins at `local_start` and knows nothing of what was before, where readers may ask from `log_start` on.
    #[must_use]
    pub fn without_past(log_start: Offset, local_start: Offset) -> Self {
        let producers = ProducerStates::default().encode().into();
        Bootstrap { log_start, local_start, epochs: Vec::new(), producers }
    }
}

/// Why a log did not begin anew. It is as it was, unless the tier has failed.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// The state is none that a replica gave out.
    #[error("{partition} cannot begin at {local_start}: {what}")]
    Malformed {
        /// Where.
        partition: TopicPartition,
        /// The first offset that was asked for.
        local_start: Offset,
        /// What is wrong.
        what: &'static str,
    },
    /// The disk.
    #[error(transparent)]
    Storage(#[from] StorageError),
}
