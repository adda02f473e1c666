//! Taking over a manifest that lies in the bucket and is newer than the ledger.
//!
//! Metadata that were recovered from an older copy lack the newest commits; their objects and manifests lie in the bucket
//! all the same. The newest manifest is adopted where it is certainly this partition's own history:
//!
//! - its version is above the ledger's, and it covers what the ledger covers, by the same objects where the ledger's
//!   manifest can still be read;
//! - it ends within the local log, and no later than the local log begins, so that no offset is missing between the two;
//! - where both hold an offset, both have the same record there, from the same leader epoch;
//! - its writer's leader epoch is not above this leader's.
//!
//! Adopting writes a manifest that continues it and commits that one, fenced as every commit is. Anything else is refused,
//! and nothing is deleted: disks that were restored from a copy share the bucket with a cluster that knows more.

use std::sync::atomic::Ordering;

use cold_tier::{ArchivedSegment, ManifestChange, ReadError, StoreErrorKind};
use model::archive::ManifestPointer;
use model::segment::EpochStart;
use model::{LeaderEpoch, Offset};
use tracing::{info, warn};
use uuid::Uuid;

use super::Partition;
use super::archive::SettleError;
use crate::metadata::Metadata;

impl Partition {
    /// Looks in the bucket for a manifest that is newer than the ledger, and adopts it. False when there is none.
    ///
    /// # Errors
    /// [`SettleError::Ahead`] when there is one that does not continue this partition's history.
    pub(crate) async fn adopt_newer(&self, metadata: &Metadata, term: LeaderEpoch) -> Result<bool, SettleError> {
        let Some(newest) = self.cold.newest_manifest(&self.topic, self.id).await? else { return Ok(false) };
        let (found, held) = (newest.pointer, self.ledger());
        if held.as_ref().is_some_and(|held| found.version <= held.version) {
            return Ok(false);
        }
        if let Err(reason) = self.continues(held.as_deref(), &found, term).await? {
            return Err(SettleError::Ahead { object: found.object, reason });
        }
        let log_start = Some(self.log_start().min(found.archived_end));
        let change = ManifestChange { append: Vec::new(), log_start, leader_epoch: term, attempt: Uuid::new_v4() };
        let from = held.as_ref().map_or(0, |held| held.archived_end);
        let adopted = self.commit_after(metadata, Some(&found), change).await?;
        let (topic, partition, object) = (&self.topic, self.id.partition, &found.object);
        warn!(%topic, partition, object, from, archived_end = adopted.archived_end, "the ledger was older than the archive: adopted the newest manifest of the bucket");
        Ok(true)
    }

    /// In metadata that were recovered, once in every epoch: what the archive has already is not archived again.
    pub(super) async fn adopt_after_recovery(&self, metadata: &Metadata, term: LeaderEpoch) -> Result<(), SettleError> {
        if !metadata.image().was_recovered() || self.surveyed_in.load(Ordering::Acquire) == term {
            return Ok(());
        }
        match self.adopt_newer(metadata, term).await {
            Err(error @ SettleError::Ahead { .. }) => {
                let (topic, partition) = (&self.topic, self.id.partition);
                info!(%topic, partition, %error, "archiving continues from the ledger");
            }
            done => drop(done?),
        }
        self.surveyed_in.store(term, Ordering::Release);
        Ok(())
    }

    /// Why `found` does not continue this partition's history, if it does not.
    async fn continues(
        &self,
        held: Option<&ManifestPointer>,
        found: &ManifestPointer,
        term: LeaderEpoch,
    ) -> Result<Result<(), String>, ReadError> {
        let (local_start, log_end) = (self.log.local_start(), self.log.log_end());
        let (end, epoch) = (found.archived_end, found.leader_epoch);
        if epoch > term {
            return Ok(Err(format!("its leader epoch {epoch} is above this leader's, {term}")));
        }
        if end > log_end {
            return Ok(Err(format!("it ends at {end}, behind the local log, which ends at {log_end}")));
        }
        if end < local_start {
            return Ok(Err(format!("it ends at {end}, before the local log, which begins at {local_start}")));
        }
        let entries = self.cold.entries(found).await?;
        if let Some(held) = held {
            if end < held.archived_end || found.log_start < held.log_start {
                return Ok(Err("it covers less than the ledger".to_owned()));
            }
            match self.cold.entries(held).await {
                Ok(known) if !covers(&entries, &known, found.log_start) => {
                    return Ok(Err("it has other objects than the ledger's manifest".to_owned()));
                }
                // The manifest that the ledger knows was replaced long ago.
                Err(ReadError::Store(error)) if error.kind == StoreErrorKind::NotFound => {}
                known => drop(known?),
            }
        }
        let epochs = self.log.epochs();
        let mut compared = entries.iter().filter(|entry| entry.next_offset > local_start);
        let differs = compared.find_map(|entry| differing_offset(entry, &epochs, local_start));
        if let Some(offset) = differs {
            return Ok(Err(format!("it has offset {offset} from another leader epoch")));
        }
        let compared = self.first_difference(found, local_start.max(found.log_start), end).await?;
        Ok(match compared {
            Ok(None) => Ok(()),
            Ok(Some(offset)) => Err(format!("it has another record than the local log at offset {offset}")),
            Err(reason) => Err(format!("it cannot be compared with the local log: {reason}")),
        })
    }
}

/// True when `entries` have every object of `known` that ends above `log_start`.
fn covers(entries: &[ArchivedSegment], known: &[ArchivedSegment], log_start: Offset) -> bool {
    let mut wanted = known.iter().filter(|known| known.next_offset > log_start).map(|known| &known.object).peekable();
    for entry in entries {
        wanted.next_if(|object| **object == entry.object);
    }
    wanted.peek().is_none()
}

/// An offset at or above `from` that the object has from another leader epoch than the local log.
fn differing_offset(entry: &ArchivedSegment, local: &[EpochStart], from: Offset) -> Option<Offset> {
    let first = entry.base_offset.max(from);
    let starts = entry.epochs.iter().chain(local).map(|epoch| epoch.start_offset);
    let compared = starts.chain([first, entry.next_offset - 1]);
    let mut compared = compared.filter(|offset| (first..entry.next_offset).contains(offset));
    compared.find(|offset| epoch_at(&entry.epochs, *offset) != epoch_at(local, *offset))
}

fn epoch_at(epochs: &[EpochStart], offset: Offset) -> Option<LeaderEpoch> {
    let at = epochs.partition_point(|epoch| epoch.start_offset <= offset).checked_sub(1)?;
    Some(epochs[at].leader_epoch)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epochs(starts: &[(i32, i64)]) -> Vec<EpochStart> {
        starts.iter().map(|&(leader_epoch, start_offset)| EpochStart { leader_epoch, start_offset }).collect()
    }

    fn entry(base: Offset, next: Offset, starts: &[(i32, i64)]) -> ArchivedSegment {
        let epochs = serde_json::to_value(epochs(starts)).unwrap();
        serde_json::from_value(serde_json::json!({
            "object": format!("{base}-{next}"), "base_offset": base, "next_offset": next, "leader_epoch": 9, "bytes": 1,
            "record_bytes": 1, "records": 1, "min_timestamp": 0, "max_timestamp": 0, "archived_at": 0, "epochs": epochs,
            "footer_bytes": 1, "footer_crc32c": 0, "chunks": 1,
            "producers": { "offset": 0, "length": 0, "crc32c": 0 },
        }))
        .unwrap()
    }

    #[test]
    fn an_object_agrees_with_the_log_where_both_have_the_same_epochs() {
        let local = epochs(&[(1, 0), (3, 50), (4, 80)]);
        let differs =
            |base, next, starts: &[(i32, i64)], from| differing_offset(&entry(base, next, starts), &local, from);
        assert_eq!(differs(40, 70, &[(1, 0), (3, 50)], 0), None);
        assert_eq!(differs(50, 70, &[(3, 50)], 60), None);
        assert_eq!(differs(50, 90, &[(3, 50), (4, 80)], 0), None);
        assert_eq!(differs(50, 90, &[(3, 50)], 0), Some(80), "the log was written by a newer leader");
        assert_eq!(differs(50, 90, &[(3, 50), (5, 85)], 0), Some(85), "the archive was written by another leader");
        assert_eq!(differs(40, 70, &[(2, 40), (3, 50)], 0), Some(40));
        assert_eq!(differs(40, 70, &[(2, 40), (3, 50)], 50), None, "below the local log nothing can be compared");
    }

    #[test]
    fn a_newer_manifest_has_all_objects_of_the_older_one_that_are_not_deleted() {
        let all = [entry(0, 10, &[]), entry(10, 20, &[]), entry(20, 30, &[])];
        assert!(covers(&all, &all[..2], 0));
        assert!(covers(&all[1..], &all[..2], 10), "what lies below the log start is not needed");
        assert!(!covers(&all[1..], &all[..2], 5));
        assert!(!covers(&[entry(0, 20, &[]), entry(20, 30, &[])], &all[..2], 0));
    }
}
