//! The way out when most voters are lost for good: one node's copy of the metadata becomes the cluster's.
//!
//! Offline, on the data folder of the node whose log goes furthest. An entry behind its log makes this node the only voter,
//! under a term that no other node has seen. Entries that this copy lacks are lost; a voter of the old quorum must not come
//! back with its old metadata, since two of them would make a majority of their own.
//!
//! The lost entries may have given out leader epochs, broker epochs and producer ids. A mark beside the file has the next start
//! pass over so many of them that none is given out twice.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use coordinator::cluster::Command;
use model::NodeId;
use openraft::{CommittedLeaderId, EntryPayload, Membership};

use super::disk::{Change, Contents, RaftFile};
use super::entry::{Entry, LogId, Vote};
use super::{Metadata, MetadataError, SubmitError, node_id, raft_id};

/// The metadata's folder in a data folder.
const FOLDER: &str = "metadata";

/// A node's copy of the metadata, and what becomes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// Index of the last entry in the copy: the node where it is highest has lost the least.
    pub last_entry: u64,
    /// Term of that entry; it counts before the index.
    pub last_term: u64,
    /// Who voted so far, as far as the copy knows.
    pub voters: Vec<NodeId>,
    /// True when the copy was changed.
    pub is_done: bool,
}

/// Says how far the copy of node `node` in `data_dir` goes. Changes nothing.
///
/// # Errors
/// [`MetadataError`]: there is none, it is in use, or it is damaged.
pub fn examine(data_dir: &Path, node: NodeId) -> Result<Recovery, MetadataError> {
    let (_, contents) = opened(data_dir, node)?;
    Ok(described(&contents)?.0)
}

/// Makes the node the only voter. The next start leads alone.
///
/// # Errors
/// [`MetadataError`]: there is no copy, it is in use or damaged, or the disk fails.
pub fn recover(data_dir: &Path, node: NodeId) -> Result<Recovery, MetadataError> {
    let (file, contents) = opened(data_dir, node)?;
    let (found, last) = described(&contents)?;
    let own = raft_id(node);
    let voted = contents.vote.map_or(0, |vote| vote.leader_id().term);
    let term = voted.max(last.leader_id.term) + 1;
    let address = membership(&contents).and_then(|membership| membership.get_node(&own).cloned()).unwrap_or_default();
    let alone = Membership::new(vec![BTreeSet::from([own])], BTreeMap::from([(own, address)]));
    let log_id = LogId::new(CommittedLeaderId::new(term, own), last.index + 1);
    let entry = Entry { log_id, payload: EntryPayload::Membership(alone) };
    // First, so that a crash in between leaves too much rather than too little.
    let io = |doing| move |source| MetadataError::Io { doing, path: data_dir.to_owned(), source };
    make_mark(&data_dir.join(FOLDER)).map_err(io("mark the recovery in"))?;
    let changes =
        [Change::Append(vec![entry]), Change::Vote(Vote::new_committed(term, own)), Change::Committed(Some(log_id))];
    file.commit(changes.iter()).map_err(|error| MetadataError::Io {
        doing: "write",
        path: file.path().to_owned(),
        source: io::Error::other(error),
    })?;
    Ok(Recovery { is_done: true, ..found })
}

/// The file in the metadata's folder that says: recovered, and numbers of what was lost are not passed over yet.
pub(super) fn mark(folder: &Path) -> PathBuf {
    folder.join("recovered")
}

fn make_mark(folder: &Path) -> io::Result<()> {
    File::create(mark(folder))?.sync_all()?;
    File::open(folder)?.sync_all()
}

impl Metadata {
    /// After a recovery: what was lost may have given out epochs and ids, which must not be given out again. A crash in
    /// between passes over more of them.
    pub(super) async fn pass_over_lost_numbers(&self) -> Result<(), MetadataError> {
        let mark = &self.inner.recovery_mark;
        let io = |source| MetadataError::Io { doing: "remove", path: mark.clone(), source };
        if !mark.try_exists().map_err(io)? {
            return Ok(());
        }
        match self.submit(Command::PassOverLostNumbers).await {
            Ok(_) => std::fs::remove_file(mark).map_err(io),
            Err(SubmitError::Refused(error)) => Err(MetadataError::Refused(error)),
            Err(error) => Err(MetadataError::Stopped(error.to_string())),
        }
    }
}

fn opened(data_dir: &Path, node: NodeId) -> Result<(RaftFile, Contents), MetadataError> {
    let folder = data_dir.join(FOLDER);
    if !folder.join("raft.redb").exists() {
        return Err(MetadataError::Invalid(format!("{} holds no metadata", folder.display())));
    }
    RaftFile::open(&folder, node)
}

fn described(contents: &Contents) -> Result<(Recovery, LogId), MetadataError> {
    let snapshot = contents.snapshot.as_ref().and_then(|snapshot| snapshot.meta.last_log_id);
    let last = contents.entries.last_key_value().map(|(_, entry)| entry.log_id).max(snapshot);
    let last = last.ok_or_else(|| MetadataError::Invalid("this node never belonged to a cluster".to_owned()))?;
    let voters = membership(contents).map_or_else(Vec::new, |known| known.voter_ids().map(node_id).collect());
    let found = Recovery { last_entry: last.index, last_term: last.leader_id.term, voters, is_done: false };
    Ok((found, last))
}

/// The newest membership that the copy knows.
fn membership(contents: &Contents) -> Option<Membership<u64, openraft::BasicNode>> {
    let in_log = contents.entries.values().rev().find_map(|entry| match &entry.payload {
        EntryPayload::Membership(membership) => Some(membership.clone()),
        _ => None,
    });
    let in_snapshot = || contents.snapshot.as_ref().map(|snapshot| snapshot.meta.last_membership.membership().clone());
    in_log.or_else(in_snapshot)
}
