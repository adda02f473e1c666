//! What groups take in memory, in bytes: a generous estimate, from which the driver bounds all groups together.
//!
//! Invariant: the same state weighs the same, however it came about. A generation that is written down weighs no more than
//! its members do, so that only requests make a group heavier, never the time or a change of coordinator.

use std::sync::Arc;

use super::command::Protocol;
use super::membership::{Member, Membership};
use super::record::{CommittedOffset, GroupImage};
use super::subscription::count_topics;

/// A group without members and offsets.
pub(super) const GROUP_BYTES: usize = 1024;
/// A member beside its texts, its protocols and its assignment.
const MEMBER_BYTES: usize = 768;
/// A protocol that a member offers, beside its name and its metadata.
const PROTOCOL_BYTES: usize = 96;
/// A topic that a consumer subscribes to, beside its name: those are part of the metadata.
const TOPIC_BYTES: usize = 64;
/// A member id that was handed out, beside its text.
const PENDING_BYTES: usize = 192;
/// A committed offset, beside its texts.
const OFFSET_BYTES: usize = 256;

/// What one group takes, by what holds it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Weight {
    /// Members as they are now.
    pub(super) members: usize,
    /// Members as they were written down last. Mostly the same bytes as those of `members`.
    pub(super) image: usize,
    /// Member ids that were handed out and not used yet.
    pub(super) pending: usize,
    /// Committed offsets.
    pub(super) offsets: usize,
}

impl Weight {
    /// The whole group, its name included.
    pub(super) fn total(&self, group: &str) -> usize {
        GROUP_BYTES + group.len() + self.members.max(self.image) + self.pending + self.offsets
    }
}

/// Members of a group.
pub(super) fn members(membership: &Membership) -> usize {
    membership.members.iter().map(|(id, member)| self::member(id, member)).sum()
}

/// Member ids that were handed out.
pub(super) fn pending(membership: &Membership) -> usize {
    membership.pending_joins.keys().map(|id| pending_id(id)).sum()
}

/// One member id that was handed out.
pub(super) fn pending_id(id: &str) -> usize {
    PENDING_BYTES + id.len()
}

fn member(id: &str, member: &Member) -> usize {
    let texts = id.len() + member.client_id.len() + member.client_host.len() + length(member.instance_id.as_ref());
    let protocol = |name: &str, metadata: &[u8]| PROTOCOL_BYTES + name.len() + metadata.len();
    let offered = member.protocols.iter().map(|offer| protocol(&offer.name, &offer.metadata)).sum::<usize>();
    MEMBER_BYTES + 2 * texts + offered + member.topics * TOPIC_BYTES + member.assignment.len()
}

/// Topics that may be taken out of a member's metadata: those of one protocol.
pub(super) fn most_topics(protocols: &[Protocol]) -> usize {
    protocols.iter().map(|offer| count_topics(&offer.metadata)).max().unwrap_or(0)
}

/// A group as it is written down.
pub(super) fn image(image: &GroupImage) -> usize {
    let members = image.members.iter().map(|(id, member)| {
        let texts = id.len() + member.client_id.len() + member.client_host.len() + length(member.instance_id.as_ref());
        MEMBER_BYTES + 2 * texts + member.subscription.len() + member.assignment.len()
    });
    members.sum()
}

/// A committed offset.
pub(super) fn offset(topic: &str, committed: &CommittedOffset) -> usize {
    OFFSET_BYTES + topic.len() + committed.metadata.len()
}

fn length(text: Option<&Arc<str>>) -> usize {
    text.map_or(0, |text| text.len())
}
