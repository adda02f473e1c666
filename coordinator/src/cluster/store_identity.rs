//! The identity of the object store that holds the archive: a random id that lies in the store and is kept here, so that a
//! broker notices when it is given another store, or an empty one.

use uuid::Uuid;

use super::draft::Draft;
use super::versions::WITH_STORE_ID;
use super::{Cluster, ClusterError, Record, Reply};

impl Cluster {
    /// True when the cluster keeps the identity of its object store.
    #[must_use]
    pub fn keeps_store_id(&self) -> bool {
        self.metadata_version() >= WITH_STORE_ID
    }
}

/// Keeps an identity in the place of the one that the caller has seen. Saying it twice is no error.
pub(super) fn set(draft: &mut Draft, store_id: Uuid, replaces: Option<Uuid>) -> Result<Reply, ClusterError> {
    let current = draft.state.store_id();
    if !draft.state.keeps_store_id() {
        let reason = format!("the identity of the object store is kept from metadata version {WITH_STORE_ID} on");
        return Err(ClusterError::InvalidRequest { reason });
    }
    if current == Some(store_id) {
        return Ok(Reply::Done);
    }
    if current != replaces {
        let name = |id: Option<Uuid>| id.map_or_else(|| "none".to_owned(), |id| id.to_string());
        let (current, replaces) = (name(current), name(replaces));
        let reason = format!("the cluster's object store has the identity {current}, not {replaces}");
        return Err(ClusterError::InvalidRequest { reason });
    }
    put(draft, Some(store_id));
    Ok(Reply::Done)
}

/// Older rules do not know it: the next upgrade adopts it from the store again.
pub(super) fn forget(draft: &mut Draft) {
    if draft.state.store_id().is_some() {
        put(draft, None);
    }
}

fn put(draft: &mut Draft, store_id: Option<Uuid>) {
    let (cluster_id, created_ms) = (draft.state.cluster_id().to_owned(), draft.state.created_ms());
    draft.push(Record::ClusterCreated { cluster_id, created_ms, store_id });
}
