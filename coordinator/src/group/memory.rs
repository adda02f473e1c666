//! What the groups of a shard take in memory: every change of a group goes through here and is weighed.

use model::TimestampMs;

use super::machine::{Change, Decision, Group, Groups};
use super::record::{GroupId, GroupRecord, MemberId};
use super::weight::{self, Weight};

impl Groups {
    /// Notes an id that was handed out, and forgets the oldest ones while all together are too much.
    pub(super) fn hand_out(&mut self, group: GroupId, member: MemberId, now: TimestampMs) {
        let groups = &self.groups;
        let is_unused = |(group, id): &(GroupId, MemberId)| {
            groups.get(group).is_some_and(|group| group.membership.pending_joins.contains_key(id))
        };
        self.unused_ids.push((group, member), is_unused);
        while let Some((group, id)) = self.unused_ids.pop_beyond(self.settings.max_pending_bytes) {
            if self.groups.get(&group).is_some_and(|group| group.membership.pending_joins.contains_key(&id)) {
                self.change(&group, |group| {
                    group.membership.forget_pending(&id, now);
                    group.weight.pending = weight::pending(&group.membership);
                });
                self.index_deadline(&group);
                self.drop_if_void(&group);
            }
        }
    }

    /// What all groups take in memory, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The same, weighed afresh.
    #[cfg(test)]
    pub(super) fn weigh_all(&self) -> usize {
        let weigh = |group: &Group| Weight {
            members: weight::members(&group.membership),
            image: group.image.as_ref().map_or(0, weight::image),
            pending: weight::pending(&group.membership),
            offsets: {
                let each = group.offsets.iter().flat_map(|(topic, of)| of.values().map(move |one| (topic, one)));
                each.map(|(topic, one)| weight::offset(topic, one)).sum()
            },
        };
        self.groups.iter().map(|(id, group)| weigh(group).total(id)).sum()
    }

    /// By how many bytes a decision would make its group heavier, 0 if it makes it lighter.
    #[must_use]
    pub fn growth_bytes(&self, decision: &Decision) -> usize {
        let Some(id) = decision.group() else { return 0 };
        let group = self.groups.get(id);
        let before = group.map_or(0, |group| group.weight.total(id));
        let mut after = group.map(|group| group.weight).unwrap_or_default();
        for record in &decision.records {
            match record {
                GroupRecord::Metadata { image, .. } => after.image = image.as_ref().map_or(0, weight::image),
                GroupRecord::Offset { topic, partition, committed, .. } => {
                    let replaced = group.and_then(|group| group.offsets.get(topic)?.get(partition));
                    after.offsets += committed.as_ref().map_or(0, |committed| weight::offset(topic, committed));
                    after.offsets = after.offsets.saturating_sub(replaced.map_or(0, |it| weight::offset(topic, it)));
                }
            }
        }
        for change in &decision.changes {
            if let Change::Membership(_, membership) = change {
                after.members = weight::members(membership);
                after.pending = weight::pending(membership);
            }
        }
        after.total(id).saturating_sub(before)
    }

    pub(super) fn entry(&mut self, id: &GroupId) -> &mut Group {
        let bytes = &mut self.bytes;
        self.groups.entry(id.clone()).or_insert_with(|| {
            *bytes += Weight::default().total(id);
            Group::without_members()
        })
    }

    /// Changes a group, which is made if it is not there, and weighs it again.
    pub(super) fn change(&mut self, id: &GroupId, act: impl FnOnce(&mut Group)) {
        let group = self.entry(id);
        let before = group.weight.total(id);
        act(group);
        let after = group.weight.total(id);
        self.bytes = self.bytes + after - before;
    }

    /// A group whose last offset was removed stays, as in Kafka, until the next sweep.
    pub(super) fn drop_all_void(&mut self) {
        let void = self.groups.iter().filter(|(_, group)| group.is_void()).map(|(id, _)| id.clone());
        void.collect::<Vec<_>>().iter().for_each(|id| self.drop_if_void(id));
    }

    pub(super) fn drop_if_void(&mut self, id: &GroupId) {
        if self.groups.get(id).is_some_and(Group::is_void) {
            let Some(dropped) = self.groups.remove(id) else { return };
            self.bytes -= dropped.weight.total(id);
            if let Some(at) = dropped.indexed {
                self.deadlines.remove(&(at, id.clone()));
            }
        }
    }
}

impl Decision {
    /// The group that it is about; `None` if it changes none.
    fn group(&self) -> Option<&GroupId> {
        let changed = self.changes.iter().find_map(|change| match change {
            Change::Membership(group, _) => Some(group),
            _ => None,
        });
        self.records.first().map(GroupRecord::group).or(changed)
    }
}
