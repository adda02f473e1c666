//! The list of a cluster's first voters, as the command line, the environment and the file state it.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use model::NodeId;

use super::{ConfigError, HostPort};

/// One node and where its internal listener is.
pub type Member = (NodeId, HostPort);

/// Nodes by id, such as `1@host-a:9093,2@host-b:9093`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemberList(BTreeMap<NodeId, HostPort>);

impl MemberList {
    /// True when there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Where a node is.
    #[must_use]
    pub fn get(&self, id: NodeId) -> Option<&HostPort> {
        self.0.get(&id)
    }

    /// The nodes, by id.
    pub fn iter(&self) -> impl Iterator<Item = (NodeId, &HostPort)> {
        self.0.iter().map(|(id, address)| (*id, address))
    }
}

impl FromIterator<Member> for MemberList {
    fn from_iter<I: IntoIterator<Item = Member>>(members: I) -> Self {
        MemberList(members.into_iter().collect())
    }
}

impl FromStr for MemberList {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let invalid = || ConfigError::Members(text.to_owned());
        let mut members = BTreeMap::new();
        for entry in text.split(',') {
            let (id, address) = entry.trim().split_once('@').ok_or_else(invalid)?;
            let id: NodeId = id.parse().ok().filter(|id| *id >= 0).ok_or_else(invalid)?;
            let address: HostPort = address.parse()?;
            if address.port == 0 || members.insert(id, address).is_some() {
                return Err(invalid());
            }
        }
        Ok(MemberList(members))
    }
}

impl fmt::Display for MemberList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (id, address)) in self.0.iter().enumerate() {
            write!(f, "{}{id}@{address}", if i == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_reads_as_it_is_written() {
        let list: MemberList = "2@b:9093, 1@[::1]:9".parse().unwrap();
        assert_eq!(list.to_string(), "1@[::1]:9,2@b:9093");
        assert_eq!(list.get(2).unwrap().port, 9093);
        for wrong in ["", "1", "1@", "x@a:1", "-1@a:1", "1@a:1,1@b:1", "1@a:0", "1@a:1,"] {
            assert!(wrong.parse::<MemberList>().is_err(), "{wrong:?}");
        }
    }
}
