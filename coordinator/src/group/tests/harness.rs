//! A shard with a log and a clock for tests: decides, stores, applies, and keeps all replies by token.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use crate::group::*;

pub(super) const GROUP: &str = "g";

pub(super) struct Shard {
    pub(super) groups: Groups,
    pub(super) now: i64,
    pub(super) log: Vec<GroupRecord>,
    pub(super) answered: BTreeMap<RequestToken, Reply>,
    next_token: u64,
    is_held: bool,
    /// Ends in the log, and what is to be settled there.
    outstanding: VecDeque<(usize, Appended)>,
    /// How much of the log is committed.
    pub(super) committed: usize,
}

pub(super) fn settings() -> GroupSettings {
    GroupSettings { initial_rebalance_delay_ms: 100, max_size: 8, ..GroupSettings::default() }
}

pub(super) fn subscription(topics: &[&str]) -> Bytes {
    let mut bytes = vec![0, 1];
    bytes.extend(u32::try_from(topics.len()).unwrap().to_be_bytes());
    for topic in topics {
        bytes.extend(u16::try_from(topic.len()).unwrap().to_be_bytes());
        bytes.extend(topic.as_bytes());
    }
    bytes.into()
}

pub(super) fn protocols(names: &[&str]) -> Arc<[Protocol]> {
    names.iter().map(|name| Protocol { name: (*name).into(), metadata: subscription(&["t"]) }).collect()
}

/// A join of a modern client without an id yet.
pub(super) fn newcomer(new_id: &str) -> JoinGroup {
    JoinGroup {
        group: GROUP.into(),
        member_id: "".into(),
        new_member_id: new_id.into(),
        instance_id: None,
        client_id: "client".into(),
        client_host: "/127.0.0.1".into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
        protocol_type: "consumer".into(),
        protocols: protocols(&["range"]),
        abilities: JoinAbilities { member_id_required: true, skip_assignment: true },
    }
}

/// A join of a member that has its id.
pub(super) fn known(id: &str) -> JoinGroup {
    JoinGroup { member_id: id.into(), new_member_id: "unused".into(), ..newcomer(id) }
}

/// A join of a static member without an id yet.
pub(super) fn static_newcomer(instance: &str, new_id: &str) -> JoinGroup {
    JoinGroup { instance_id: Some(instance.into()), ..newcomer(new_id) }
}

pub(super) fn identity(id: &str) -> MemberIdentity {
    MemberIdentity { member_id: id.into(), instance_id: None }
}

pub(super) fn commit_of(member: &str, generation: i32, offset: i64) -> CommitOffsets {
    let item = OffsetToCommit {
        topic: "t".into(),
        topic_id: model::TopicId::ZERO,
        partition: 0,
        offset,
        leader_epoch: 3,
        metadata: "where I was".into(),
    };
    CommitOffsets { group: GROUP.into(), member: identity(member), generation, retention_ms: None, offsets: vec![item] }
}

impl Shard {
    pub(super) fn new() -> Self {
        Self::with(settings())
    }

    pub(super) fn with(settings: GroupSettings) -> Self {
        let mut groups = Groups::new(settings);
        groups.activate(1_000);
        Self {
            groups,
            now: 1_000,
            log: Vec::new(),
            answered: BTreeMap::new(),
            next_token: 0,
            is_held: false,
            outstanding: VecDeque::new(),
            committed: 0,
        }
    }

    /// Appends a decision. Its records are committed at once, unless the log is held back.
    pub(super) fn store(&mut self, decision: Decision) {
        self.log.extend(decision.records.iter().cloned());
        let most = self.groups.bytes() + self.groups.growth_bytes(&decision);
        let (replies, appended) = self.groups.take(decision);
        assert_eq!(self.groups.bytes(), self.groups.weigh_all());
        assert!(self.groups.bytes() <= most, "a decision made the groups heavier than it said");
        for (token, reply) in replies {
            assert_eq!(self.answered.insert(token, reply), None, "{token:?} was answered twice");
        }
        self.outstanding.push_back((self.log.len(), appended));
        if !self.is_held {
            self.release();
        }
    }

    /// Keeps records from being committed, until [`Shard::release`].
    pub(super) fn hold(&mut self) {
        self.is_held = true;
    }

    pub(super) fn release(&mut self) {
        self.is_held = false;
        for (end, appended) in self.outstanding.drain(..) {
            self.groups.settle(appended, self.now);
            self.committed = end;
        }
    }

    pub(super) fn send(&mut self, command: Command) -> RequestToken {
        self.next_token += 1;
        let token = RequestToken(self.next_token);
        // As the driver does: a group with a record of its own under way is asked for heartbeats only.
        if self.groups.is_unsettled(command.group()) && !matches!(command, Command::Heartbeat(_)) {
            let is_held = self.is_held;
            self.release();
            self.is_held = is_held;
        }
        let decision = self.groups.decide(token, &command, self.now);
        self.store(decision);
        token
    }

    /// Lets time pass, stopping at every deadline on the way.
    pub(super) fn wait(&mut self, ms: i64) {
        let end = self.now + ms;
        while let Some(at) = self.groups.next_deadline().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            for decision in self.groups.tick(self.now) {
                self.store(decision);
            }
        }
        self.now = end;
    }

    pub(super) fn issued(&self) -> impl Iterator<Item = RequestToken> + use<> {
        (1..=self.next_token).map(RequestToken)
    }

    pub(super) fn is_parked(&self, token: RequestToken) -> bool {
        !self.answered.contains_key(&token)
    }

    pub(super) fn join(&mut self, join: JoinGroup) -> RequestToken {
        self.send(Command::Join(join))
    }

    /// The round trip of KIP-394: asks for an id, joins with it, waits.
    pub(super) fn arrive(&mut self, id: &str) -> RequestToken {
        let asked = self.join(newcomer(id));
        assert_eq!(self.join_error(asked), GroupError::MemberIdRequired);
        self.join(known(id))
    }

    pub(super) fn joined(&self, token: RequestToken) -> Joined {
        match self.answered.get(&token) {
            Some(Reply::Join(Ok(joined))) => joined.clone(),
            other => panic!("expected a completed join, got {other:?}"),
        }
    }

    pub(super) fn join_error(&self, token: RequestToken) -> GroupError {
        match self.answered.get(&token) {
            Some(Reply::Join(Err(refused))) => refused.error,
            other => panic!("expected a refused join, got {other:?}"),
        }
    }

    pub(super) fn sync(&mut self, id: &str, generation: i32, assignments: &[(&str, &str)]) -> RequestToken {
        let assignments =
            assignments.iter().map(|(id, bytes)| ((*id).into(), Bytes::from(bytes.to_string()))).collect();
        self.send(Command::Sync(SyncGroup {
            group: GROUP.into(),
            member: identity(id),
            generation,
            protocol_type: Some("consumer".into()),
            protocol_name: None,
            assignments,
        }))
    }

    pub(super) fn synced(&self, token: RequestToken) -> Result<String, GroupError> {
        match self.answered.get(&token) {
            Some(Reply::Sync(result)) => {
                result.clone().map(|synced| String::from_utf8(synced.assignment.to_vec()).unwrap())
            }
            other => panic!("expected the answer to a sync, got {other:?}"),
        }
    }

    pub(super) fn heartbeat(&mut self, id: &str, generation: i32) -> Result<(), GroupError> {
        let heartbeat = Heartbeat { group: GROUP.into(), member: identity(id), generation };
        let token = self.send(Command::Heartbeat(heartbeat));
        match self.answered[&token] {
            Reply::Heartbeat(result) => result,
            ref other => panic!("{other:?}"),
        }
    }

    pub(super) fn leave(&mut self, members: Vec<MemberIdentity>) -> Vec<Result<(), GroupError>> {
        let token = self.send(Command::Leave(LeaveGroup { group: GROUP.into(), members }));
        match &self.answered[&token] {
            Reply::Leave(Ok(results)) => results.clone(),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn commit(&mut self, commit: CommitOffsets) -> Result<Vec<Result<(), GroupError>>, GroupError> {
        let token = self.send(Command::CommitOffsets(commit));
        match &self.answered[&token] {
            Reply::CommitOffsets(result) => result.clone(),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn state(&self) -> GroupState {
        self.groups.describe(GROUP).map_or(GroupState::Dead, |group| group.state)
    }

    /// A stable group of these members, the first of them leading; each is assigned its own id. Returns the generation.
    pub(super) fn stabilise(&mut self, ids: &[&str]) -> i32 {
        let tokens: Vec<_> = ids.iter().map(|id| self.arrive(id)).collect();
        self.wait(1_000);
        let generation = self.joined(tokens[0]).generation;
        self.assign(ids, generation);
        assert_eq!(self.state(), GroupState::Stable);
        generation
    }

    /// The members sync, the first one as leader.
    pub(super) fn assign(&mut self, ids: &[&str], generation: i32) {
        let pairs: Vec<_> = ids.iter().map(|id| (*id, *id)).collect();
        let others: Vec<_> = ids[1..].iter().map(|id| self.sync(id, generation, &[])).collect();
        let leader = self.sync(ids[0], generation, &pairs);
        assert_eq!(self.synced(leader).unwrap(), ids[0]);
        for (token, id) in others.into_iter().zip(&ids[1..]) {
            assert_eq!(self.synced(token).unwrap(), *id);
        }
    }

    /// The same shard read back from its log by another broker.
    pub(super) fn reloaded(&self) -> Shard {
        self.reloaded_at(self.log.len())
    }

    /// The shard as a broker reads it back whose log ends there.
    pub(super) fn reloaded_at(&self, end: usize) -> Shard {
        let mut shard = Shard::new();
        shard.log = self.log[..end].to_vec();
        (shard.now, shard.next_token, shard.committed) = (self.now, self.next_token, end);
        shard.groups = Groups::new(settings());
        for record in &shard.log {
            shard.groups.apply(record);
        }
        shard.groups.activate(shard.now);
        shard
    }
}
