"""Requests about the whole cluster, sent by hand to the one node that a test means, as plain functions."""

from collections.abc import Mapping, Sequence
from typing import Any

from kafka.protocol.admin import (
    AlterPartitionReassignmentsRequest,
    DeleteRecordsRequest,
    DescribeClusterRequest,
    DescribeQuorumRequest,
    ElectLeadersRequest,
    IncrementalAlterConfigsRequest,
    ListPartitionReassignmentsRequest,
)

from harness import requests
from harness.broker import Broker
from harness.cluster import Cluster
from harness.process import wait_until
from harness.wire import Wire

PREFERRED, UNCLEAN = 0, 1
_TOPIC, _SET = 2, 0


def _ask(node: Broker, request: Any) -> Any:
    with Wire(node.host, node.port) as wire:
        return wire.ask(request)


def describe_cluster(node: Broker) -> Any:
    """DescribeCluster: cluster_id, controller_id, brokers (broker_id, host, port, rack)."""
    answer = _ask(node, DescribeClusterRequest[1](include_cluster_authorized_operations=False, endpoint_type=1))
    assert answer.error_code == requests.NONE, answer
    return answer


def quorum(node: Broker) -> Any:
    """DescribeQuorum: leader_id, leader_epoch, current_voters (replica_id)."""
    kind = DescribeQuorumRequest.TopicData
    log = kind(topic_name="__cluster_metadata", partitions=[kind.PartitionData(partition_index=0)])
    answer = _ask(node, DescribeQuorumRequest[1](topics=[log]))
    assert answer.error_code == requests.NONE, answer
    part = answer.topics[0].partitions[0]
    assert part.error_code == requests.NONE, answer
    return part


def voters(node: Broker) -> set[int]:
    """Who votes on the metadata."""
    return {voter.replica_id for voter in quorum(node).current_voters}


def await_voters(cluster: Cluster[Any], timeout_s: float = 60) -> None:
    """Waits until every node has its vote; one that has lost its disk gets it back when it has caught up."""
    wait_until("every node to vote", lambda: voters(cluster.living[0]) == set(cluster.nodes), timeout_s)


def set_topic(node: Broker, topic: str, **config: str) -> None:
    """Sets settings of a topic; underscores stand for dots."""
    resource = IncrementalAlterConfigsRequest.AlterConfigsResource
    configs = [
        resource.AlterableConfig(name=name.replace("_", "."), config_operation=_SET, value=value)
        for name, value in config.items()
    ]
    wanted = resource(resource_type=_TOPIC, resource_name=topic, configs=configs)
    answer = _ask(node, IncrementalAlterConfigsRequest[1](resources=[wanted], validate_only=False))
    assert answer.responses[0].error_code == requests.NONE, answer


def delete_records(node: Broker, topic: str, before: int, timeout_ms: int = 20_000) -> tuple[int, int]:
    """DeleteRecords of partition 0 for this node to answer: its error and the low watermark."""
    kind = DeleteRecordsRequest.DeleteRecordsTopic
    part = kind.DeleteRecordsPartition(partition_index=0, offset=before)
    answer = _ask(node, DeleteRecordsRequest[2](topics=[kind(name=topic, partitions=[part])], timeout_ms=timeout_ms))
    told = answer.topics[0].partitions[0]
    return told.error_code, told.low_watermark


def elect(node: Broker, kind: int, topic: str, *partitions: int) -> int:
    """ElectLeaders for these partitions; the first error of them."""
    wanted = ElectLeadersRequest.TopicPartitions(topic=topic, partitions=list(partitions))
    answer = _ask(node, ElectLeadersRequest[2](election_type=kind, topic_partitions=[wanted], timeout_ms=20_000))
    results = [part.error_code for result in answer.replica_election_results for part in result.partition_result]
    return next((code for code in (answer.error_code, *results) if code), requests.NONE)


def reassign(node: Broker, topic: str, wanted: Mapping[int, Sequence[int] | None]) -> None:
    """AlterPartitionReassignments: partitions to their new replicas, None cancels."""
    kind = AlterPartitionReassignmentsRequest.ReassignableTopic
    parts = [
        kind.ReassignablePartition(partition_index=index, replicas=None if replicas is None else list(replicas))
        for index, replicas in wanted.items()
    ]
    answer = _ask(
        node, AlterPartitionReassignmentsRequest[0](timeout_ms=20_000, topics=[kind(name=topic, partitions=parts)])
    )
    assert answer.error_code == requests.NONE, answer
    for response in answer.responses:
        assert all(part.error_code == requests.NONE for part in response.partitions), answer


def reassigning(node: Broker) -> dict[tuple[str, int], tuple[list[int], list[int]]]:
    """ListPartitionReassignments: replicas that are being added and removed, by topic and partition."""
    answer = _ask(node, ListPartitionReassignmentsRequest[0](timeout_ms=20_000, topics=None))
    assert answer.error_code == requests.NONE, answer
    return {
        (topic.name, part.partition_index): (list(part.adding_replicas), list(part.removing_replicas))
        for topic in answer.topics
        for part in topic.partitions
    }
