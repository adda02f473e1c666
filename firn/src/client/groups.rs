//! Consumer groups: which there are, who is in them, what they have committed.

use std::collections::BTreeMap;

use protocol::coordinator_record::decode_versioned;
use protocol::messages::consumer_protocol_assignment::ConsumerProtocolAssignment;
use protocol::messages::describe_groups_response::DescribedGroup;
use protocol::messages::list_groups_response::ListedGroup;
use protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use protocol::messages::offset_fetch_response::OffsetFetchResponse;
use protocol::messages::{DescribeGroupsRequest, FindCoordinatorRequest, ListGroupsRequest, OffsetFetchRequest};
use protocol::{ErrorCode, Str};

use super::{Backoff, Client, ClientError, Endpoint};

/// Offsets by topic and partition.
pub(crate) type TopicOffsets = BTreeMap<String, BTreeMap<i32, i64>>;

/// A group and what it has committed.
#[derive(Debug)]
pub(crate) struct GroupView {
    /// State and members.
    pub(crate) group: DescribedGroup,
    /// The node that coordinates it.
    pub(crate) coordinator: Endpoint,
    /// Committed offsets.
    pub(crate) committed: TopicOffsets,
}

impl Client {
    /// The groups of all brokers, by name.
    pub(crate) async fn groups(&mut self) -> Result<Vec<ListedGroup>, ClientError> {
        let mut groups = Vec::new();
        for (endpoint, answer) in self.call_all(&ListGroupsRequest::default()).await? {
            ClientError::check(answer.error_code, None, || format!("listing the groups of {endpoint}"))?;
            groups.extend(answer.groups);
        }
        groups.sort_by(|a, b| a.group_id.cmp(&b.group_id));
        Ok(groups)
    }

    /// One group; a group that does not exist has the state `Dead`.
    pub(crate) async fn group(&mut self, id: &str) -> Result<GroupView, ClientError> {
        let mut backoff = Backoff::until(self.deadline());
        loop {
            match self.try_group(id).await {
                Err(error @ ClientError::NoBroker { .. }) => return Err(error),
                Err(error) => backoff.pause_after(error).await?,
                Ok(view) => return Ok(view),
            }
        }
    }

    async fn try_group(&mut self, id: &str) -> Result<GroupView, ClientError> {
        let deadline = self.deadline();
        let coordinator = self.coordinator(id).await?;
        let request = DescribeGroupsRequest { groups: vec![Str::from(id)], ..DescribeGroupsRequest::default() };
        let answer = self.call_at(&coordinator, &request, deadline).await?;
        let doing = || format!("group {id:?}");
        let group = answer.groups.into_iter().next().unwrap_or_default();
        ClientError::check(group.error_code, group.error_message.as_deref(), doing)?;

        // Old versions read the fields outside of `groups`, newer ones those inside.
        let all =
            OffsetFetchRequestGroup { group_id: Str::from(id), topics: None, ..OffsetFetchRequestGroup::default() };
        let request = OffsetFetchRequest { groups: vec![all], ..OffsetFetchRequest::default() };
        let answer = self.call_at(&coordinator, &request, deadline).await?;
        let committed = committed(id, answer)?;
        Ok(GroupView { group, coordinator, committed })
    }

    async fn coordinator(&mut self, id: &str) -> Result<Endpoint, ClientError> {
        let doing = || format!("finding the coordinator of group {id:?}");
        let request =
            FindCoordinatorRequest { coordinator_keys: vec![Str::from(id)], ..FindCoordinatorRequest::default() };
        let answer = self.call_any(&request, self.deadline()).await?;
        let found = answer.coordinators.into_iter().next().unwrap_or_default();
        ClientError::check(found.error_code, found.error_message.as_deref(), doing)?;
        match u16::try_from(found.port) {
            Ok(port) => Ok(Endpoint { host: found.host.into(), port }),
            Err(_) => Err(ClientError::Refused {
                doing: doing(),
                code: ErrorCode::CoordinatorNotAvailable.code(),
                message: None,
            }),
        }
    }
}

fn committed(id: &str, answer: OffsetFetchResponse) -> Result<TopicOffsets, ClientError> {
    let group = answer.groups.into_iter().next().unwrap_or_default();
    ClientError::check(group.error_code, None, || format!("offsets of group {id:?}"))?;
    let mut offsets = TopicOffsets::new();
    for topic in group.topics {
        for part in topic.partitions {
            let doing = || format!("offset of group {id:?} for {} partition {}", topic.name, part.partition_index);
            ClientError::check(part.error_code, None, doing)?;
            // −1 is "nothing committed".
            if part.committed_offset >= 0 {
                let partitions = offsets.entry(topic.name.to_string()).or_default();
                partitions.insert(part.partition_index, part.committed_offset);
            }
        }
    }
    Ok(offsets)
}

/// The partitions in a member's assignment, by topic; nothing when the group is not one of consumers.
pub(crate) fn assigned_partitions(assignment: bytes::Bytes) -> BTreeMap<String, Vec<i32>> {
    let Ok(assignment) = decode_versioned::<ConsumerProtocolAssignment>(assignment) else { return BTreeMap::new() };
    let topic = |t: protocol::messages::consumer_protocol_assignment::TopicPartition| (t.topic.into(), t.partitions);
    assignment.assigned_partitions.into_iter().map(topic).collect()
}
