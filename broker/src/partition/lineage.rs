//! Whether the local log of a new leader continues what is archived.
//!
//! ```text
//!   archive      ├──── epoch 4 ────┼──── epoch 5 ────┤
//!   local log    ├──── epoch 4 ──────────────────────────┤
//!                                  ▲ divergence      ▲ archived end
//! ```
//!
//! A leader that was elected from the in-sync replicas has every record that is archived. After an unclean election that is
//! not so: its log may hold, below the archived end, records of an older epoch that were never committed, and all behind them
//! was not either. The archive is committed history, so the log gives way and continues at its end (KIP-405 compares leader
//! epochs for the same reason). Where the epochs that this node knows leave it open, the manifest tells; until it
//! was read, nothing is appended, committed or given to followers, and what is archived is read from the archive.

use std::sync::Arc;
use std::time::Duration;

use hot_tier::{Bootstrap, StorageError};
use model::archive::ManifestPointer;
use model::segment::EpochStart;
use model::{LeaderEpoch, NO_LEADER_EPOCH, Offset};
use tracing::{error, warn};

use super::term::Role;
use super::{Leadership, Partition};

/// How long the object store may take to tell; then it is asked again.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

impl Partition {
    /// True when a leader of `leadership`, which follows `before`, may have other records than the archive below its end.
    pub(super) fn may_diverge_from_archive(&self, before: &Leadership, leadership: &Leadership) -> bool {
        let Some(pointer) = self.ledger() else { return false };
        // Only an unclean election leaves one replica in sync that was not before.
        let was_in_sync = before.leader_epoch != NO_LEADER_EPOCH && before.isr.contains(&self.node_id());
        if leadership.replicas.len() < 2 || leadership.isr != [self.node_id()] || was_in_sync {
            return false;
        }
        if self.log.local_start() >= pointer.archived_end || self.log.log_end() < pointer.archived_end {
            return false;
        }
        // One leader wrote all records of an epoch.
        let last = self.log.epoch_at(pointer.archived_end - 1);
        last != NO_LEADER_EPOCH && last != pointer.leader_epoch && !has_led_since(&self.log.epochs(), &pointer)
    }

    /// True while this node leads and does not know yet whether its log continues the archive.
    pub(crate) fn is_lineage_open(&self) -> bool {
        // While the role changes it is not known either.
        let is_open = |role: &Role| matches!(role, Role::Leader(leading) if leading.lock().is_lineage_open());
        self.role.try_read().is_none_or(|role| is_open(&role))
    }

    /// Reads the manifest, and gives up the local log when it does not continue the archive. Calls must not overlap.
    pub(crate) async fn verify_lineage(self: &Arc<Self>) {
        let (topic, index) = (&self.topic, self.id.partition);
        let (Some(term), Some(pointer)) = (self.term(), self.ledger()) else { return };
        let answer = match tokio::time::timeout(ANSWER_WITHIN, self.cold.entries(&pointer)).await {
            Ok(Ok(entries)) => Ok(entries.last().and_then(|last| last.epochs.last().copied())),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("the object store did not answer within {ANSWER_WITHIN:?}")),
        };
        let archived = match answer {
            Ok(archived) => archived,
            Err(error) => {
                warn!(%topic, partition = index, %error, "cannot compare the log with the archive yet: no record is accepted before");
                return;
            }
        };
        let partition = Arc::clone(self);
        let settled = move || partition.settle_lineage(term, pointer.archived_end, archived);
        if let Err(error) = crate::machine::blocking::run(settled).await {
            error!(%topic, partition = index, %error, "cannot continue the log behind the archive");
        }
    }

    /// The archive ends at `archived_end`, with a record of the epoch `archived`.
    pub(super) fn settle_lineage(
        &self,
        term: LeaderEpoch,
        archived_end: Offset,
        archived: Option<EpochStart>,
    ) -> Result<(), StorageError> {
        let mut role = self.role.write();
        let leadership = self.leadership();
        if !matches!(&*role, Role::Leader(leading) if leading.lock().is_lineage_open())
            || leadership.leader_epoch != term
        {
            return Ok(());
        }
        let own = self.log.epoch_at(archived_end - 1);
        let diverges = archived.is_some_and(|archived| archived.leader_epoch != own);
        if diverges {
            self.give_way(archived_end, own)?;
        }
        *role = self.lead(&leadership);
        self.publish_term(term, self.certainly_committed(&leadership));
        drop(role);
        self.advance();
        self.isr_bell.notify_one();
        Ok(())
    }

    fn give_way(&self, archived_end: Offset, own_epoch: LeaderEpoch) -> Result<(), StorageError> {
        let (topic, partition, log_end) = (&self.topic, self.id.partition, self.log.log_end());
        let start = Bootstrap::without_past(self.log_start().min(archived_end), archived_end);
        match self.log.reset_to_bootstrap(&start) {
            Ok(()) => {}
            Err(hot_tier::BootstrapError::Storage(error)) => return Err(error),
            Err(error) => error!(%topic, partition, %error, "cannot continue the log behind the archive"),
        }
        warn!(
            %topic, partition, own_epoch, log_end, archived_end,
            "the local log is not what was archived: an unclean election made a leader of it; its records were never committed \
             and are given up, the log continues behind the archive"
        );
        Ok(())
    }
}

/// True when the log knows an epoch, not older than the last archiving, that began behind the archive. The leader of it had what
/// was archived, and so had this log: a leader notes its epoch once its log certainly continues the archive, and a follower
/// takes records of an epoch only behind those that it has in common with that leader. So a restart of the leader alone needs
/// no store.
fn has_led_since(epochs: &[EpochStart], pointer: &ManifestPointer) -> bool {
    let is_since =
        |epoch: &EpochStart| epoch.leader_epoch >= pointer.leader_epoch && epoch.start_offset >= pointer.archived_end;
    epochs.iter().any(is_since)
}
