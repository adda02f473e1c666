//! A consumer group: members that join, commit and are expelled while its coordinator moves.
//!
//! Each commit is higher than all before. A generation that has committed fences all before it: a commit of an earlier
//! one that is accepted later would take the group back. A member whose commits are accepted must have begun where the group
//! was.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use model::{TopicId, TopicPartition};
use protocol::Str;
use tokio::time::sleep;

use super::{EVENTS, any_node, pause};
use crate::client::{Client, Membership};
use crate::history::History;
use crate::{pinned, trace};

const GROUP: &str = "members";
/// Longest pause between two commits of a member, in ms.
const COMMIT_EVERY_MS: u64 = 300;

/// A commit that was acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Commit {
    generation: i32,
    offset: i64,
}

impl Commit {
    /// Before the first.
    const NONE: Commit = Commit { generation: -1, offset: -1 };
}

/// What the members saw.
#[derive(Debug, Default)]
struct Seen {
    /// The highest commit of each partition.
    newest: BTreeMap<i32, Commit>,
    /// The highest offset that was tried.
    tried: i64,
    /// The leader of each generation.
    leaders: BTreeMap<i32, Str>,
}

/// The group. Copies share it.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    topic: TopicId,
    history: History,
    seen: Rc<RefCell<Seen>>,
}

impl Group {
    pub(crate) fn new(topic: TopicId, history: History) -> Self {
        Group { topic, history, seen: Rc::default() }
    }

    fn newest(&self, partition: i32) -> Commit {
        self.seen.borrow().newest.get(&partition).copied().unwrap_or(Commit::NONE)
    }

    fn next(&self) -> i64 {
        let mut seen = self.seen.borrow_mut();
        seen.tried += 1;
        seen.tried
    }

    fn at(&self, partition: i32) -> TopicPartition {
        TopicPartition { topic_id: self.topic, partition }
    }

    fn note_leader(&self, generation: i32, leader: &Str) {
        let before = self.seen.borrow_mut().leaders.entry(generation).or_insert_with(|| leader.clone()).clone();
        if before != *leader {
            self.history.violation(format!("generation {generation} has the leaders {before} and {leader}"));
        }
    }

    /// A commit was accepted that was sent when `fenced_by` was the newest.
    fn note_commit(&self, partition: i32, commit: Commit, fenced_by: Commit) {
        let Commit { generation, offset } = commit;
        trace::note(&format!("committed {partition} at {offset} in generation {generation}"));
        if fenced_by.generation > generation {
            self.history.violation(format!("{GROUP} {partition}: {commit:?} was accepted after {fenced_by:?}"));
        }
        let mut seen = self.seen.borrow_mut();
        let newest = seen.newest.entry(partition).or_insert(Commit::NONE);
        if newest.offset < offset {
            *newest = commit;
        }
    }

    /// Judges what is committed in the end, within `patience`.
    pub(crate) async fn judge(&self, patience: Duration) {
        let mut client = Client::default();
        let group = Str::from_static(GROUP);
        for partition in 0..EVENTS.partitions {
            let asking = async {
                loop {
                    if let Ok(node) = client.coordinator(any_node(), &group).await
                        && let Ok(offset) = client.committed(node, &group, self.at(partition)).await
                    {
                        return offset;
                    }
                    pause().await;
                }
            };
            let found = tokio::time::timeout(patience, asking).await.ok();
            let (newest, tried) = (self.newest(partition), self.seen.borrow().tried);
            if found.is_none_or(|found| !(newest.offset..=tried).contains(&found)) {
                self.history.violation(format!("{GROUP} {partition}: {found:?} is committed, was {newest:?}"));
            }
        }
    }
}

/// A partition that a member owns in a generation.
#[derive(Debug)]
struct Owned {
    partition: i32,
    /// What was committed when it began, and the newest commit by then.
    began_at: i64,
    newest: Commit,
}

/// A member of the group.
struct Member {
    group: Group,
    client: Client,
    place: Membership,
    coordinator: i32,
}

/// Takes part in the group until `stop`, and until it has committed once more; then leaves.
pub(crate) async fn take_part(group: Group, stop: Duration) {
    let mut member =
        Member { group, client: Client::default(), place: Membership::none(GROUP), coordinator: any_node() };
    while let Err(error) = member.live_a_generation(stop).await {
        tracing::debug!(member = %member.place.member, generation = member.place.generation, error, "joins again");
        pause().await;
    }
    // When it is lost, the session ends by itself.
    let _ = member.client.leave(member.coordinator, &member.place).await;
}

impl Member {
    async fn live_a_generation(&mut self, stop: Duration) -> Result<(), String> {
        let owned = self.enter().await?;
        loop {
            let is_last = pinned::elapsed() >= stop;
            self.client.heartbeat(self.coordinator, &self.place).await?;
            for one in &owned {
                self.commit(one).await?;
            }
            if is_last {
                return Ok(());
            }
            sleep(Duration::from_millis(rand::random_range(1..COMMIT_EVERY_MS))).await;
        }
    }

    /// Joins a generation; the partitions that it gives to this member.
    async fn enter(&mut self) -> Result<Vec<Owned>, String> {
        let name = self.place.group.clone();
        self.coordinator = self.client.coordinator(any_node(), &name).await?;
        let joined = self.client.join(self.coordinator, &mut self.place).await?;
        let members: Vec<Str> = joined.members.into_iter().map(|member| member.member_id).collect();
        let assignments = if joined.leader == self.place.member { shares(&members) } else { Vec::new() };
        let assigned = self.client.sync(self.coordinator, &self.place, assignments).await?;
        // A coordinator that was cut off may begin a generation, too: without its followers it cannot assign anything in it.
        self.group.note_leader(joined.generation_id, &joined.leader);
        let mut owned = Vec::new();
        for partition in assigned.iter().map(|byte| i32::from(*byte)) {
            let newest = self.group.newest(partition);
            let began_at = self.client.committed(self.coordinator, &name, self.group.at(partition)).await?;
            owned.push(Owned { partition, began_at, newest });
        }
        Ok(owned)
    }

    async fn commit(&mut self, owned: &Owned) -> Result<(), String> {
        let Owned { partition, began_at, newest } = owned;
        let (offset, fenced_by) = (self.group.next(), self.group.newest(*partition));
        let at = self.group.at(*partition);
        self.client.commit(self.coordinator, &self.place, at, offset).await?;
        if *began_at < newest.offset {
            let what = format!("{GROUP} {partition}: a member began at {began_at}, {newest:?} was acknowledged");
            self.group.history.violation(what);
        }
        self.group.note_commit(*partition, Commit { generation: self.place.generation, offset }, fenced_by);
        Ok(())
    }
}

/// The partitions in turns, one byte each.
fn shares(members: &[Str]) -> Vec<(Str, Bytes)> {
    let mut shares: Vec<(Str, Vec<u8>)> = members.iter().map(|member| (member.clone(), Vec::new())).collect();
    let count = shares.len().max(1);
    for (place, partition) in (0..u8::try_from(EVENTS.partitions).unwrap_or_default()).enumerate() {
        if let Some((_, share)) = shares.get_mut(place % count) {
            share.push(partition);
        }
    }
    shares.into_iter().map(|(member, share)| (member, Bytes::from(share))).collect()
}
