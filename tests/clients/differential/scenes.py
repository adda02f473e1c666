"""A sensible request for every API, in every version: the odd ones are made from it.

A scene is called once per request and side. What it changes belongs to that request alone.
"""

from collections.abc import Callable
from typing import Any

from differential.sides import Side, Values, batch

Scene = Callable[[Side, int], Values]


def _topic(side: Side, name: str, version: int, ids_since: int, field: str = "Name") -> Values:
    """Name or id, as the version wants it."""
    return {"TopicId": side.topic_id(name)} if version >= ids_since else {field: name}


def produce(side: Side, version: int) -> Values:
    """One batch into a partition of its own."""
    part = {"Index": side.next_of("partition"), "Records": batch()}
    data = [_topic(side, "parts", version, 13) | {"PartitionData": [part]}]
    return {"Acks": -1, "TimeoutMs": 5_000, "TopicData": data}


def fetch(side: Side, version: int) -> Values:
    """The log of alpha-0 from its second record on."""
    part = {"Partition": 0, "FetchOffset": 1, "PartitionMaxBytes": 1 << 20}
    topics = [_topic(side, "alpha", version, 13, "Topic") | {"Partitions": [part]}]
    return {"ReplicaId": -1, "MaxWaitMs": 50, "MinBytes": 1, "MaxBytes": 1 << 20, "Topics": topics}


def list_offsets(side: Side, version: int) -> Values:
    """By timestamp."""
    part = {"PartitionIndex": 0, "Timestamp": 1_600_000_000_500}
    return {"ReplicaId": -1, "TimeoutMs": 1_000, "Topics": [{"Name": "alpha", "Partitions": [part]}]}


def metadata(side: Side, version: int) -> Values:
    """One topic, by name."""
    return {"Topics": [{"Name": "alpha"}], "AllowAutoTopicCreation": False, "IncludeClusterAuthorizedOperations": True,
            "IncludeTopicAuthorizedOperations": True}  # fmt: skip


def offset_commit(side: Side, version: int) -> Values:
    """Without a membership."""
    part = {"PartitionIndex": 0, "CommittedOffset": 2, "CommittedMetadata": "text"}
    topics = [_topic(side, "alpha", version, 10) | {"Partitions": [part]}]
    return {"GroupId": side.own_group("commit"), "Topics": topics}


def offset_fetch(side: Side, version: int) -> Values:
    """A partition with a committed offset and one without."""
    topics = [_topic(side, "alpha", version, 10) | {"PartitionIndexes": [0, 1]}]
    return {"GroupId": "committed", "Topics": topics, "Groups": [{"GroupId": "committed", "Topics": topics}]}


def find_coordinator(side: Side, version: int) -> Values:
    """Of a group."""
    return {"Key": "group", "KeyType": 0, "CoordinatorKeys": ["group"]}


def join_group(side: Side, version: int) -> Values:
    """The first member of a group."""
    protocol = {"Name": "range", "Metadata": b"metadata"}
    return {"GroupId": side.own_group("join"), "SessionTimeoutMs": 30_000, "RebalanceTimeoutMs": 60_000, "MemberId": "",
            "ProtocolType": "test", "Protocols": [protocol], "Reason": "test"}  # fmt: skip


def sync_group(side: Side, version: int) -> Values:
    """The leader's assignment in a group of its own."""
    group = side.own_group("sync")
    member, generation = side.join(group)
    assigned = [{"MemberId": member, "Assignment": b"assignment"}]
    return {"GroupId": group, "GenerationId": generation, "MemberId": member, "ProtocolType": "test",
            "ProtocolName": "range", "Assignments": assigned}  # fmt: skip


def heartbeat(side: Side, version: int) -> Values:
    """Of the only member."""
    group = side.own_group("heartbeat")
    member, generation = side.join_and_sync(group)
    return {"GroupId": group, "GenerationId": generation, "MemberId": member}


def leave_group(side: Side, version: int) -> Values:
    """Of the only member."""
    group = side.own_group("leave")
    member, _ = side.join_and_sync(group)
    return {"GroupId": group, "MemberId": member, "Members": [{"MemberId": member}]}


def describe_groups(side: Side, version: int) -> Values:
    """A group with a member."""
    return {"Groups": ["joined"], "IncludeAuthorizedOperations": True}


def list_groups(side: Side, version: int) -> Values:
    """Only those that other requests leave alone."""
    return {"StatesFilter": ["NoSuchState"], "TypesFilter": []}


def create_topics(side: Side, version: int) -> Values:
    """One topic with a setting."""
    topic = {"Name": f"created-{side.next_of('created')}", "NumPartitions": 2, "ReplicationFactor": 1}
    return {"Topics": [topic | {"Configs": [{"Name": "retention.ms", "Value": "1000000"}]}], "timeoutMs": 5_000}


def delete_topics(side: Side, version: int) -> Values:
    """By name."""
    name = side.own_topic()
    return {"Topics": [{"Name": name}], "TopicNames": [name], "TimeoutMs": 5_000}


def delete_records(side: Side, version: int) -> Values:
    """The first two of three."""
    index = side.next_of("partition")
    side.produce("parts", index, batch())
    return {"Topics": [{"Name": "parts", "Partitions": [{"PartitionIndex": index, "Offset": 2}]}], "TimeoutMs": 5_000}


def init_producer_id(side: Side, version: int) -> Values:
    """Without transactions."""
    return {"TransactionalId": None, "TransactionTimeoutMs": 60_000}


def offset_for_leader_epoch(side: Side, version: int) -> Values:
    """The first epoch."""
    return {"ReplicaId": -1, "Topics": [{"Topic": "alpha", "Partitions": [{"Partition": 0, "LeaderEpoch": 0}]}]}


def describe_configs(side: Side, version: int) -> Values:
    """All settings of a topic."""
    return {"Resources": [{"ResourceType": 2, "ResourceName": "alpha", "ConfigurationKeys": ["retention.ms"]}],
            "IncludeSynonyms": False}  # fmt: skip


def alter_configs(side: Side, version: int) -> Values:
    """One setting of a topic."""
    config = {"Name": "retention.ms", "Value": "86400000"}
    return {"Resources": [{"ResourceType": 2, "ResourceName": "changed", "Configs": [config]}]}


def incremental_alter_configs(side: Side, version: int) -> Values:
    """Likewise."""
    config = {"Name": "retention.ms", "ConfigOperation": 0, "Value": "86400000"}
    return {"Resources": [{"ResourceType": 2, "ResourceName": "changed", "Configs": [config]}]}


def describe_log_dirs(side: Side, version: int) -> Values:
    """One topic."""
    return {"Topics": [{"Topic": "alpha", "Partitions": [0, 2]}]}


def create_partitions(side: Side, version: int) -> Values:
    """Two more."""
    return {"Topics": [{"Name": side.own_topic(), "Count": 3, "Assignments": None}], "TimeoutMs": 5_000}


def delete_groups(side: Side, version: int) -> Values:
    """A group with nothing but an offset."""
    group = side.own_group("delete")
    side.commit(group, "alpha", 0, 1)
    return {"GroupsNames": [group]}


def elect_leaders(side: Side, version: int) -> Values:
    """The preferred ones."""
    return {"ElectionType": 0, "TopicPartitions": [{"Topic": "alpha", "Partitions": [0]}], "TimeoutMs": 5_000}


def alter_reassignments(side: Side, version: int) -> Values:
    """To where it is."""
    part = {"PartitionIndex": 0, "Replicas": [side.broker_id]}
    return {"TimeoutMs": 5_000, "Topics": [{"Name": "changed", "Partitions": [part]}]}


def list_reassignments(side: Side, version: int) -> Values:
    """Of one topic."""
    return {"TimeoutMs": 5_000, "Topics": [{"Name": "alpha", "PartitionIndexes": [0]}]}


def offset_delete(side: Side, version: int) -> Values:
    """A partition with a committed offset and one without."""
    group = side.own_group("offset-delete")
    side.commit(group, "alpha", 0, 1)
    parts = [{"PartitionIndex": 0}, {"PartitionIndex": 1}]
    return {"GroupId": group, "Topics": [{"Name": "alpha", "Partitions": parts}]}


def describe_quorum(side: Side, version: int) -> Values:
    """The one there is."""
    return {"Topics": [{"TopicName": "__cluster_metadata", "Partitions": [{"PartitionIndex": 0}]}]}


def update_features(side: Side, version: int) -> Values:
    """A feature that neither has."""
    update = {"Feature": "no.such.feature", "MaxVersionLevel": 1}
    return {"timeoutMs": 5_000, "FeatureUpdates": [update], "ValidateOnly": True}


def describe_cluster(side: Side, version: int) -> Values:
    """With operations."""
    return {"IncludeClusterAuthorizedOperations": True, "EndpointType": 1}


def describe_producers(side: Side, version: int) -> Values:
    """A partition with one, a partition with none."""
    return {"Topics": [{"Name": "alpha", "PartitionIndexes": [2, 1]}]}


def unregister_broker(side: Side, version: int) -> Values:
    """One that there is not."""
    return {"BrokerId": 4711}


def describe_topic_partitions(side: Side, version: int) -> Values:
    """Two topics."""
    return {"Topics": [{"Name": "alpha"}, {"Name": "beta"}], "ResponsePartitionLimit": 2000,
            "Cursor": {"TopicName": "alpha", "PartitionIndex": 1}}  # fmt: skip


def add_raft_voter(side: Side, version: int) -> Values:
    """One that there is not, of another cluster."""
    listener = {"Name": "CONTROLLER", "Host": "127.0.0.1", "Port": 1}
    return {"ClusterId": "another", "TimeoutMs": 1_000, "VoterId": 4711, "Listeners": [listener]}


def remove_raft_voter(side: Side, version: int) -> Values:
    """One that there is not, of another cluster."""
    return {"ClusterId": "another", "VoterId": 4711}


def api_versions(side: Side, version: int) -> Values:
    """With a name."""
    return {"ClientSoftwareName": "differential", "ClientSoftwareVersion": "1"}


SCENES: dict[str, Scene] = {
    "Produce": produce,
    "Fetch": fetch,
    "ListOffsets": list_offsets,
    "Metadata": metadata,
    "OffsetCommit": offset_commit,
    "OffsetFetch": offset_fetch,
    "FindCoordinator": find_coordinator,
    "JoinGroup": join_group,
    "Heartbeat": heartbeat,
    "LeaveGroup": leave_group,
    "SyncGroup": sync_group,
    "DescribeGroups": describe_groups,
    "ListGroups": list_groups,
    "ApiVersions": api_versions,
    "CreateTopics": create_topics,
    "DeleteTopics": delete_topics,
    "DeleteRecords": delete_records,
    "InitProducerId": init_producer_id,
    "OffsetForLeaderEpoch": offset_for_leader_epoch,
    "DescribeConfigs": describe_configs,
    "AlterConfigs": alter_configs,
    "DescribeLogDirs": describe_log_dirs,
    "CreatePartitions": create_partitions,
    "DeleteGroups": delete_groups,
    "ElectLeaders": elect_leaders,
    "IncrementalAlterConfigs": incremental_alter_configs,
    "AlterPartitionReassignments": alter_reassignments,
    "ListPartitionReassignments": list_reassignments,
    "OffsetDelete": offset_delete,
    "DescribeQuorum": describe_quorum,
    "UpdateFeatures": update_features,
    "DescribeCluster": describe_cluster,
    "DescribeProducers": describe_producers,
    "UnregisterBroker": unregister_broker,
    "DescribeTopicPartitions": describe_topic_partitions,
    "AddRaftVoter": add_raft_voter,
    "RemoveRaftVoter": remove_raft_voter,
}


def scene(api: str) -> Scene:
    """The scene of an API; fails for one that has none, so that a new API gets its comparison."""
    found: Any = SCENES.get(api)
    assert found is not None, f"{api} is announced and has no scene in {__file__}"
    return found
