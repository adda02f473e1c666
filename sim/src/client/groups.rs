//! The calls of a member of a consumer group (classic protocol).

use bytes::Bytes;
use model::TopicPartition;
use protocol::messages::join_group_request::JoinGroupRequestProtocol;
use protocol::messages::leave_group_request::MemberIdentity;
use protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use protocol::messages::{
    FindCoordinatorRequest, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest,
    OffsetCommitRequest, OffsetFetchRequest, SyncGroupRequest,
};
use protocol::{ErrorCode, Str};

use super::{Client, checked, only};

const PROTOCOL: Str = Str::from_static("simulated");
const PROTOCOL_TYPE: Str = Str::from_static("consumer");
const SESSION_MS: i32 = 2_000;
const REBALANCE_MS: i32 = 2_000;

/// A member's place in a group: its id, and the generation that it takes part in.
#[derive(Debug, Clone)]
pub(crate) struct Membership {
    pub(crate) group: Str,
    pub(crate) member: Str,
    pub(crate) generation: i32,
}

impl Membership {
    /// Of a client that is not a member, and may become one.
    pub(crate) fn none(group: &str) -> Self {
        Membership { group: Str::from(group), member: Str::default(), generation: -1 }
    }
}

impl Client {
    /// The node that coordinates a group.
    pub(crate) async fn coordinator(&mut self, node: i32, group: &Str) -> Result<i32, String> {
        let request =
            FindCoordinatorRequest { coordinator_keys: vec![group.clone()], ..FindCoordinatorRequest::default() };
        let answer = self.call(node, &request, 4).await?;
        let found = answer.coordinators.into_iter().next().ok_or("no answer for the group")?;
        checked(found.error_code).map(|()| found.node_id)
    }

    /// Joins, with the id that is given out to a new member.
    pub(crate) async fn join(&mut self, node: i32, who: &mut Membership) -> Result<JoinGroupResponse, String> {
        for _ in 0..2 {
            let protocol = JoinGroupRequestProtocol { name: PROTOCOL, ..JoinGroupRequestProtocol::default() };
            let request = JoinGroupRequest {
                group_id: who.group.clone(),
                session_timeout_ms: SESSION_MS,
                rebalance_timeout_ms: REBALANCE_MS,
                member_id: who.member.clone(),
                protocol_type: PROTOCOL_TYPE,
                protocols: vec![protocol],
                ..JoinGroupRequest::default()
            };
            let answer = self.call(node, &request, 7).await?;
            if answer.error_code == ErrorCode::MemberIdRequired.code() {
                who.member = answer.member_id;
                continue;
            }
            if answer.error_code == ErrorCode::UnknownMemberId.code() {
                who.member = Str::default();
            }
            checked(answer.error_code)?;
            (who.member, who.generation) = (answer.member_id.clone(), answer.generation_id);
            return Ok(answer);
        }
        Err("no member id".to_owned())
    }

    /// Hands in the assignments, as the leader, or none; the own one.
    pub(crate) async fn sync(
        &mut self,
        node: i32,
        who: &Membership,
        assignments: Vec<(Str, Bytes)>,
    ) -> Result<Bytes, String> {
        let assignment = |(member_id, assignment)| SyncGroupRequestAssignment {
            member_id,
            assignment,
            ..SyncGroupRequestAssignment::default()
        };
        let request = SyncGroupRequest {
            group_id: who.group.clone(),
            generation_id: who.generation,
            member_id: who.member.clone(),
            protocol_type: Some(PROTOCOL_TYPE),
            protocol_name: Some(PROTOCOL),
            assignments: assignments.into_iter().map(assignment).collect(),
            ..SyncGroupRequest::default()
        };
        let answer = self.call(node, &request, 5).await?;
        checked(answer.error_code).map(|()| answer.assignment)
    }

    pub(crate) async fn heartbeat(&mut self, node: i32, who: &Membership) -> Result<(), String> {
        let request = HeartbeatRequest {
            group_id: who.group.clone(),
            generation_id: who.generation,
            member_id: who.member.clone(),
            ..HeartbeatRequest::default()
        };
        checked(self.call(node, &request, 4).await?.error_code)
    }

    pub(crate) async fn leave(&mut self, node: i32, who: &Membership) -> Result<(), String> {
        let member = MemberIdentity { member_id: who.member.clone(), ..MemberIdentity::default() };
        let request =
            LeaveGroupRequest { group_id: who.group.clone(), members: vec![member], ..LeaveGroupRequest::default() };
        checked(self.call(node, &request, 5).await?.error_code)
    }

    /// Commits an offset of a partition.
    pub(crate) async fn commit(
        &mut self,
        node: i32,
        who: &Membership,
        at: TopicPartition,
        offset: i64,
    ) -> Result<(), String> {
        let part = OffsetCommitRequestPartition {
            partition_index: at.partition,
            committed_offset: offset,
            ..OffsetCommitRequestPartition::default()
        };
        let topic = OffsetCommitRequestTopic {
            topic_id: at.topic_id.0,
            partitions: vec![part],
            ..OffsetCommitRequestTopic::default()
        };
        let request = OffsetCommitRequest {
            group_id: who.group.clone(),
            generation_id_or_member_epoch: who.generation,
            member_id: who.member.clone(),
            topics: vec![topic],
            ..OffsetCommitRequest::default()
        };
        let answer = self.call(node, &request, 10).await?;
        checked(only(answer.topics.into_iter().flat_map(|topic| topic.partitions))?.error_code)
    }

    /// The committed offset of a partition; -1 when there is none.
    pub(crate) async fn committed(&mut self, node: i32, group: &Str, at: TopicPartition) -> Result<i64, String> {
        let topic = OffsetFetchRequestTopics {
            topic_id: at.topic_id.0,
            partition_indexes: vec![at.partition],
            ..OffsetFetchRequestTopics::default()
        };
        let group = OffsetFetchRequestGroup {
            group_id: group.clone(),
            topics: Some(vec![topic]),
            ..OffsetFetchRequestGroup::default()
        };
        let request = OffsetFetchRequest { groups: vec![group], ..OffsetFetchRequest::default() };
        let answer = self.call(node, &request, 10).await?;
        let group = answer.groups.into_iter().next().ok_or("no answer for the group")?;
        checked(group.error_code)?;
        let part = only(group.topics.into_iter().flat_map(|topic| topic.partitions))?;
        checked(part.error_code).map(|()| part.committed_offset)
    }
}
