//! Giving out the state at the local start, and beginning anew with such a state.

use model::Offset;

use super::PartitionLog;
use super::truncate::Beginning;
use crate::bootstrap::{Bootstrap, BootstrapError};
use crate::error::StorageError;
use crate::journal::entry::bootstrap_len;
use crate::leader_epochs::LeaderEpochs;
use crate::producer_state::ProducerStates;

/// Tries to read a state while segments are being evicted.
const TRIES: usize = 5;

impl PartitionLog {
    /// The state at the local start, for a replica that begins there.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn bootstrap(&self) -> Result<Bootstrap, StorageError> {
        let mut tries = TRIES;
        loop {
            let local_start = self.local_start();
            match self.bootstrap_at(local_start) {
                // Evicted or cut meanwhile: it begins elsewhere now.
                Err(e) if e.is_not_found() && tries > 0 => tries -= 1,
                state => return state,
            }
        }
    }

    /// The state at `offset`, from the local start up to the log end.
    fn bootstrap_at(&self, offset: Offset) -> Result<Bootstrap, StorageError> {
        let producers = self.producers_at(offset)?;
        let epochs = self.epochs.read().below(offset);
        let log_start = self.log_start().min(offset);
        Ok(Bootstrap { log_start, local_start: offset, epochs, producers: producers.encode().into() })
    }

    /// Drops everything and begins anew, empty, at the local start of another replica, with what it remembers of the
    /// records before. Durable when this returns. Blocks for one flush.
    ///
    /// Of more producers than an entry of the journal can hold, those that were silent for longest are forgotten.
    ///
    /// # Errors
    /// [`BootstrapError`]; nothing has happened then, unless the tier fails.
    pub fn reset_to_bootstrap(&self, state: &Bootstrap) -> Result<(), BootstrapError> {
        let Bootstrap { log_start, local_start, .. } = *state;
        let malformed = |what| BootstrapError::Malformed { partition: self.id, local_start, what };
        if log_start < 0 || log_start > local_start {
            return Err(malformed("its log start lies elsewhere"));
        }
        let mut producers =
            ProducerStates::decode(&state.producers).ok_or_else(|| malformed("the producer state is not intact"))?;
        let mut epochs = LeaderEpochs::from_stored(state.epochs.iter().copied());
        epochs.truncate_to(local_start);
        let mut state = Bootstrap { epochs: epochs.all().to_vec(), ..state.clone() };
        let room = self.core.journal.body_len_max().saturating_sub(bootstrap_len(&state) - state.producers.len());
        let forgotten = producers.shrink_to(room);
        if forgotten > 0 {
            state.producers = producers.encode().into();
            tracing::warn!(partition = %self.id, forgotten, "too many producers for one journal entry: the oldest are forgotten");
        }
        let mut writer = self.lock_writer()?;
        self.begin_anew(&mut writer, Beginning::Inherited { state, epochs, producers })?;
        Ok(())
    }
}
