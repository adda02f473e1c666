//! Every version of every API that the broker announces is asked once, and answered well.
//!
//! The requests go the ordinary way: an existing topic with records, a group with a member. An answer that the version
//! cannot carry would never come; one that it carries wrongly would not decode; and every `error_code` in it must be 0.
#![allow(clippy::needless_update, reason = "every message is written alike, those without unknown tags too")]

use std::collections::BTreeSet;
use std::fmt::Debug;

use bytes::Bytes;
use model::batch::{BatchBuilder, BatchFacts, NewRecord};
use protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use protocol::messages::{
    alter_configs_request as alter, create_partitions_request as more, delete_records_request as cut,
    delete_topics_request as removal, describe_configs_request as configs, describe_log_dirs_request as dirs,
    describe_producers_request as producers, describe_topic_partitions_request as partitions, fetch_request as fetch,
    incremental_alter_configs_request as incremental, join_group_request as join, leave_group_request as leave,
    list_offsets_request as offsets, metadata_request as metadata, offset_commit_request as commit,
    offset_delete_request as forget, offset_fetch_request as committed, offset_for_leader_epoch_request as epochs,
    produce_request as produce, sync_group_request as sync, *,
};
use protocol::versions::{SERVED, served_api};
use protocol::{ApiKey, Request, Str};
use uuid::Uuid;

use crate::node::{Client, Node};

mod cluster;

const TOPIC: &str = "versions";
const TOPIC_RESOURCE: i8 = 2;
const EARLIEST: i64 = -2;
const MEMBER_ID_REQUIRED: i16 = 79;
/// Groups are committed to without members, as by a consumer that assigns itself.
const NO_GENERATION: i32 = -1;

struct Asker {
    client: Client,
    asked: BTreeSet<(i16, i16)>,
    topic_id: Uuid,
}

impl Asker {
    /// Asks, and notes it.
    fn ask<R: Request>(&mut self, request: &R, version: i16) -> R::Response {
        self.asked.insert((R::KEY.id(), version));
        self.client.ask(request, version)
    }

    /// Asks in every version, each request made for it; no answer may tell an error.
    fn each<R: Request>(&mut self, make: impl Fn(i16, Uuid) -> R) {
        for version in versions::<R>() {
            let request = make(version, self.topic_id);
            let response = self.ask(&request, version);
            expect_success(&response, R::KEY, version);
        }
    }
}

fn versions<R: Request>() -> std::ops::RangeInclusive<i16> {
    let served = served_api(R::KEY).unwrap();
    served.min..=served.max
}

/// Whatever the response's shape: none of its error codes is set.
fn expect_success(response: &impl Debug, key: ApiKey, version: i16) {
    let shown = format!("{response:?}");
    let codes: Vec<_> = shown.split("error_code: ").skip(1).map(|rest| rest.split([',', ' ']).next()).collect();
    assert!(codes.iter().all(|code| *code == Some("0")), "{key} of version {version} failed: {shown}");
}

fn text(text: impl AsRef<str>) -> Str {
    Str::from(text.as_ref())
}

/// The name where the version has names, else the empty one.
fn name_if(has_names: bool) -> Str {
    if has_names { text(TOPIC) } else { Str::default() }
}

/// The id where the version has ids, else none.
fn id_if(has_ids: bool, id: Uuid) -> Uuid {
    if has_ids { id } else { Uuid::nil() }
}

#[test]
fn every_announced_version_is_answered() {
    let node = Node::start(&["group.initial.rebalance.delay.ms=0"]);
    let mut asker = Asker { client: node.connect(), asked: BTreeSet::new(), topic_id: Uuid::nil() };
    create_topics(&mut asker);
    describe_cluster(&mut asker);
    cluster::operate(&mut asker);
    write_and_read(&mut asker);
    list_offsets(&mut asker);
    configure(&mut asker);
    describe_logs(&mut asker);
    join_and_leave(&mut asker);
    commit_offsets(&mut asker);
    delete(&mut asker);

    let announced = SERVED.iter().flat_map(|api| (api.min..=api.max).map(|version| (api.key.id(), version)));
    let missed: Vec<_> = announced.filter(|version| !asker.asked.contains(version)).collect();
    assert!(missed.is_empty(), "announced, but not asked here (API, version): {missed:?}");
}

fn create_topics(asker: &mut Asker) {
    let topic = |name: Str| CreatableTopic {
        name,
        num_partitions: 1,
        replication_factor: 1,
        configs: vec![CreatableTopicConfig {
            name: text("retention.ms"),
            value: Some(text("-1")),
            ..CreatableTopicConfig::default()
        }],
        ..CreatableTopic::default()
    };
    let request = |names: &[Str]| CreateTopicsRequest {
        topics: names.iter().cloned().map(topic).collect(),
        timeout_ms: 10_000,
        ..CreateTopicsRequest::default()
    };
    asker.each(|version, _| request(&[text(format!("created-{version}"))]));
    let created = asker.ask(&request(&[text(TOPIC)]), 7);
    expect_success(&created, ApiKey::CreateTopics, 7);
    asker.topic_id = created.topics[0].topic_id;
    asker.each(|version, _| CreatePartitionsRequest {
        topics: vec![more::CreatePartitionsTopic {
            name: text("created-2"),
            count: i32::from(version) + 2,
            assignments: None,
            ..more::CreatePartitionsTopic::default()
        }],
        timeout_ms: 10_000,
        ..CreatePartitionsRequest::default()
    });
}

fn describe_cluster(asker: &mut Asker) {
    let tells_software = |version| if version >= 3 { text("test") } else { Str::default() };
    asker.each(|version, _| ApiVersionsRequest {
        client_software_name: tells_software(version),
        client_software_version: tells_software(version),
        ..ApiVersionsRequest::default()
    });
    asker.each(|_, _| MetadataRequest {
        topics: Some(vec![metadata::MetadataRequestTopic {
            name: Some(text(TOPIC)),
            ..metadata::MetadataRequestTopic::default()
        }]),
        ..MetadataRequest::default()
    });
    asker.each(|_, _| DescribeClusterRequest::default());
    asker.each(|_, _| DescribeTopicPartitionsRequest {
        topics: vec![partitions::TopicRequest { name: text(TOPIC), ..partitions::TopicRequest::default() }],
        ..DescribeTopicPartitionsRequest::default()
    });
}

fn batch() -> Bytes {
    let mut builder = BatchBuilder::new(BatchFacts::default());
    for offset in 0..3 {
        let headers = [("h", Some(&b"v"[..]))];
        let record =
            NewRecord { offset, timestamp: 1_700_000_000_000, key: None, value: Some(b"v"), headers: &headers };
        builder.append(&record);
    }
    builder.finish().unwrap()
}

fn write_and_read(asker: &mut Asker) {
    asker.each(|version, id| ProduceRequest {
        acks: -1,
        timeout_ms: 10_000,
        topic_data: vec![produce::TopicProduceData {
            name: name_if(version < 13),
            topic_id: id_if(version >= 13, id),
            partition_data: vec![produce::PartitionProduceData {
                records: Some(batch().into()),
                ..produce::PartitionProduceData::default()
            }],
            ..produce::TopicProduceData::default()
        }],
        ..ProduceRequest::default()
    });
    for version in versions::<FetchRequest>() {
        let partition =
            fetch::FetchPartition { fetch_offset: 1, partition_max_bytes: 1 << 20, ..fetch::FetchPartition::default() };
        let request = FetchRequest {
            max_wait_ms: 1000,
            min_bytes: 1,
            topics: vec![fetch::FetchTopic {
                topic: name_if(version < 13),
                topic_id: id_if(version >= 13, asker.topic_id),
                partitions: vec![partition],
                ..fetch::FetchTopic::default()
            }],
            ..FetchRequest::default()
        };
        let response = asker.ask(&request, version);
        expect_success(&response, ApiKey::Fetch, version);
        let fetched = &response.responses[0].partitions[0];
        assert!(fetched.records.as_ref().is_some_and(|records| !records.is_empty()), "version {version}: {fetched:?}");
        assert!(fetched.high_watermark > 0, "version {version}: {fetched:?}");
    }
    asker.each(|_, _| InitProducerIdRequest {
        transactional_id: None,
        transaction_timeout_ms: 60_000,
        ..InitProducerIdRequest::default()
    });
}

fn list_offsets(asker: &mut Asker) {
    asker.each(|_, _| ListOffsetsRequest {
        topics: vec![offsets::ListOffsetsTopic {
            name: text(TOPIC),
            partitions: vec![offsets::ListOffsetsPartition {
                timestamp: EARLIEST,
                ..offsets::ListOffsetsPartition::default()
            }],
            ..offsets::ListOffsetsTopic::default()
        }],
        ..ListOffsetsRequest::default()
    });
    asker.each(|_, _| OffsetForLeaderEpochRequest {
        replica_id: -1,
        topics: vec![epochs::OffsetForLeaderTopic {
            topic: text(TOPIC),
            partitions: vec![epochs::OffsetForLeaderPartition::default()],
            ..epochs::OffsetForLeaderTopic::default()
        }],
        ..OffsetForLeaderEpochRequest::default()
    });
}

fn configure(asker: &mut Asker) {
    asker.each(|_, _| DescribeConfigsRequest {
        resources: vec![configs::DescribeConfigsResource {
            resource_type: TOPIC_RESOURCE,
            resource_name: text(TOPIC),
            ..configs::DescribeConfigsResource::default()
        }],
        include_synonyms: true,
        ..DescribeConfigsRequest::default()
    });
    asker.each(|_, _| AlterConfigsRequest {
        resources: vec![alter::AlterConfigsResource {
            resource_type: TOPIC_RESOURCE,
            resource_name: text(TOPIC),
            configs: vec![alter::AlterableConfig {
                name: text("segment.ms"),
                value: Some(text("60000")),
                ..alter::AlterableConfig::default()
            }],
            ..alter::AlterConfigsResource::default()
        }],
        ..AlterConfigsRequest::default()
    });
    asker.each(|_, _| IncrementalAlterConfigsRequest {
        resources: vec![incremental::AlterConfigsResource {
            resource_type: TOPIC_RESOURCE,
            resource_name: text(TOPIC),
            configs: vec![incremental::AlterableConfig {
                name: text("segment.ms"),
                value: Some(text("70000")),
                ..incremental::AlterableConfig::default()
            }],
            ..incremental::AlterConfigsResource::default()
        }],
        ..IncrementalAlterConfigsRequest::default()
    });
}

fn describe_logs(asker: &mut Asker) {
    asker.each(|_, _| DescribeLogDirsRequest {
        topics: Some(vec![dirs::DescribableLogDirTopic {
            topic: text(TOPIC),
            partitions: vec![0],
            ..dirs::DescribableLogDirTopic::default()
        }]),
        ..DescribeLogDirsRequest::default()
    });
    asker.each(|_, _| DescribeProducersRequest {
        topics: vec![producers::TopicRequest {
            name: text(TOPIC),
            partition_indexes: vec![0],
            ..producers::TopicRequest::default()
        }],
        ..DescribeProducersRequest::default()
    });
}

/// One group for each version of JoinGroup; the other APIs, which have fewer versions, stay at their last.
fn join_and_leave(asker: &mut Asker) {
    let group = |version: i16| text(format!("group-{version}"));
    asker.each(|version, _| {
        let key = group(version);
        let (key, keys) = if version < 4 { (key, Vec::new()) } else { (Str::default(), vec![key]) };
        FindCoordinatorRequest { key, coordinator_keys: keys, ..FindCoordinatorRequest::default() }
    });
    for version in versions::<JoinGroupRequest>() {
        let (member_id, generation_id) = join(asker, version, &group(version));
        let at_most = |last: i16| version.min(last);
        let response = asker.ask(&sync_request(group(version), generation_id, &member_id, at_most(5)), at_most(5));
        expect_success(&response, ApiKey::SyncGroup, at_most(5));
        assert_eq!(response.assignment, Bytes::from_static(b"assigned"));
        let heartbeat = HeartbeatRequest {
            group_id: group(version),
            generation_id,
            member_id: member_id.clone(),
            ..HeartbeatRequest::default()
        };
        expect_success(&asker.ask(&heartbeat, at_most(4)), ApiKey::Heartbeat, at_most(4));
        let describe = DescribeGroupsRequest { groups: vec![group(version)], ..DescribeGroupsRequest::default() };
        let described = asker.ask(&describe, at_most(6));
        expect_success(&described, ApiKey::DescribeGroups, at_most(6));
        assert_eq!(described.groups[0].members.len(), 1, "{described:?}");
        let listed = asker.ask(&ListGroupsRequest::default(), at_most(5));
        expect_success(&listed, ApiKey::ListGroups, at_most(5));
        assert!(listed.groups.iter().any(|listed| listed.group_id == group(version)), "{listed:?}");
        let mut leaving = LeaveGroupRequest { group_id: group(version), ..LeaveGroupRequest::default() };
        if at_most(5) < 3 {
            leaving.member_id = member_id;
        } else {
            leaving.members = vec![leave::MemberIdentity { member_id, ..leave::MemberIdentity::default() }];
        }
        expect_success(&asker.ask(&leaving, at_most(5)), ApiKey::LeaveGroup, at_most(5));
    }
    asker.each(|version, _| DeleteGroupsRequest {
        groups_names: vec![group(version)],
        ..DeleteGroupsRequest::default()
    });
}

/// Joins as the only member; from version 4 on the broker first hands out an id (KIP-394).
fn join(asker: &mut Asker, version: i16, group: &Str) -> (Str, i32) {
    let mut request = JoinGroupRequest {
        group_id: group.clone(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: if version >= 1 { 10_000 } else { -1 },
        protocol_type: text("consumer"),
        protocols: vec![join::JoinGroupRequestProtocol {
            name: text("range"),
            metadata: Bytes::from_static(b"subscribed"),
            ..join::JoinGroupRequestProtocol::default()
        }],
        ..JoinGroupRequest::default()
    };
    let mut joined = asker.ask(&request, version);
    if version >= 4 {
        assert_eq!(joined.error_code, MEMBER_ID_REQUIRED, "version {version}: {joined:?}");
        request.member_id = joined.member_id;
        joined = asker.ask(&request, version);
    }
    expect_success(&joined, ApiKey::JoinGroup, version);
    assert_eq!((&joined.leader, joined.members.len()), (&joined.member_id, 1), "version {version}: {joined:?}");
    (joined.member_id, joined.generation_id)
}

fn sync_request(group_id: Str, generation_id: i32, member_id: &Str, version: i16) -> SyncGroupRequest {
    SyncGroupRequest {
        group_id,
        generation_id,
        member_id: member_id.clone(),
        protocol_type: (version >= 5).then(|| text("consumer")),
        protocol_name: (version >= 5).then(|| text("range")),
        assignments: vec![sync::SyncGroupRequestAssignment {
            member_id: member_id.clone(),
            assignment: Bytes::from_static(b"assigned"),
            ..sync::SyncGroupRequestAssignment::default()
        }],
        ..SyncGroupRequest::default()
    }
}

fn commit_offsets(asker: &mut Asker) {
    let group = text("commits");
    asker.each(|version, id| OffsetCommitRequest {
        group_id: group.clone(),
        generation_id_or_member_epoch: NO_GENERATION,
        topics: vec![commit::OffsetCommitRequestTopic {
            name: name_if(version < 10),
            topic_id: id_if(version >= 10, id),
            partitions: vec![commit::OffsetCommitRequestPartition {
                committed_offset: 2,
                committed_metadata: Some(text("note")),
                ..commit::OffsetCommitRequestPartition::default()
            }],
            ..commit::OffsetCommitRequestTopic::default()
        }],
        ..OffsetCommitRequest::default()
    });
    for version in versions::<OffsetFetchRequest>() {
        let response = asker.ask(&offset_fetch(&group, version, asker.topic_id), version);
        expect_success(&response, ApiKey::OffsetFetch, version);
        let found = match response.groups.first() {
            Some(group) => group.topics[0].partitions[0].committed_offset,
            None => response.topics[0].partitions[0].committed_offset,
        };
        assert_eq!(found, 2, "version {version}");
    }
    asker.each(|_, _| OffsetDeleteRequest {
        group_id: group.clone(),
        topics: vec![forget::OffsetDeleteRequestTopic {
            name: text(TOPIC),
            partitions: vec![forget::OffsetDeleteRequestPartition::default()],
            ..forget::OffsetDeleteRequestTopic::default()
        }],
        ..OffsetDeleteRequest::default()
    });
}

/// From version 8 on several groups are asked for at once, from 10 on by topic id.
fn offset_fetch(group: &Str, version: i16, topic_id: Uuid) -> OffsetFetchRequest {
    if version < 8 {
        return OffsetFetchRequest {
            group_id: group.clone(),
            topics: Some(vec![committed::OffsetFetchRequestTopic {
                name: text(TOPIC),
                partition_indexes: vec![0],
                ..committed::OffsetFetchRequestTopic::default()
            }]),
            ..OffsetFetchRequest::default()
        };
    }
    OffsetFetchRequest {
        groups: vec![committed::OffsetFetchRequestGroup {
            group_id: group.clone(),
            topics: Some(vec![committed::OffsetFetchRequestTopics {
                name: name_if(version < 10),
                topic_id: id_if(version >= 10, topic_id),
                partition_indexes: vec![0],
                ..committed::OffsetFetchRequestTopics::default()
            }]),
            ..committed::OffsetFetchRequestGroup::default()
        }],
        ..OffsetFetchRequest::default()
    }
}

fn delete(asker: &mut Asker) {
    asker.each(|version, _| DeleteRecordsRequest {
        topics: vec![cut::DeleteRecordsTopic {
            name: text(TOPIC),
            partitions: vec![cut::DeleteRecordsPartition {
                offset: i64::from(version) + 1,
                ..cut::DeleteRecordsPartition::default()
            }],
            ..cut::DeleteRecordsTopic::default()
        }],
        timeout_ms: 10_000,
        ..DeleteRecordsRequest::default()
    });
    asker.each(|version, _| {
        let name = text(format!("created-{}", version.max(2)));
        // The first version that was created is deleted once only.
        let name = if version == 1 { text("created-7") } else { name };
        let mut request = DeleteTopicsRequest { timeout_ms: 10_000, ..DeleteTopicsRequest::default() };
        if version < 6 {
            request.topic_names = vec![name];
        } else {
            request.topics =
                vec![removal::DeleteTopicState { name: Some(name), ..removal::DeleteTopicState::default() }];
        }
        request
    });
}
