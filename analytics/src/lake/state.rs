//! What a table shows of the ledger: stored beside each commit, named by its snapshot's summary.
//!
//! One line with the length and the checksum of what follows, then JSON, as manifests are stored.

use std::collections::BTreeMap;

use model::Offset;
use serde::{Deserialize, Serialize};

/// The key of the snapshot's summary under which the state's URL stands.
pub(super) const STATE: &str = "firn.state";
const MAGIC: &str = "firn-table-state";

/// What a table shows of each partition. Partitions without an archive are not in it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    pub(super) partitions: BTreeMap<i32, Shown>,
}

/// What a table shows of one partition: the objects `[first_base, end)`, less the rows that `cut` names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Shown {
    /// Version of the ledger entry.
    pub(super) version: u64,
    /// First offset that readers see.
    pub(super) log_start: Offset,
    /// Where the first object in the table begins; `end` when there is none.
    pub(super) first_base: Offset,
    /// Where the last object of the ledger ends.
    pub(super) end: Offset,
    /// That object's name, when the ledger has any.
    pub(super) last: Option<String>,
    /// The log start inside the first object.
    pub(super) cut: Option<ShownCut>,
}

/// Rows of an object that the table hides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ShownCut {
    /// The object's name.
    pub(super) object: String,
    /// How many of its first rows.
    pub(super) rows: u64,
}

impl State {
    /// The state as it is stored.
    pub(super) fn encode(&self) -> Result<Vec<u8>, String> {
        cold_tier::manifest::frame(MAGIC, self)
    }

    /// Reads a stored state.
    pub(super) fn decode(bytes: &[u8]) -> Result<State, String> {
        cold_tier::manifest::unframe(MAGIC, bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_read_as_it_was_written_and_damage_is_found() {
        let cut = Some(ShownCut { object: "c/o.parquet".into(), rows: 3 });
        let shown = Shown { version: 7, log_start: 13, first_base: 10, end: 40, last: Some("c/p.parquet".into()), cut };
        let state = State { partitions: [(0, shown)].into() };
        let bytes = state.encode().unwrap();
        assert_eq!(State::decode(&bytes), Ok(state));
        for place in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[place] ^= 1;
            assert!(State::decode(&damaged).is_err(), "byte {place}");
        }
        assert!(State::decode(&bytes[..bytes.len() - 1]).is_err());
    }
}
