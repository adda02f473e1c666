"""One item that a request names many times: answered once, or refused once; and the longest names there are."""

import struct
from collections.abc import Iterator

import pytest
from kafka.protocol.admin import DescribeGroupsRequest
from kafka.protocol.consumer import (
    JoinGroupRequest,
    ListOffsetsRequest,
    OffsetCommitRequest,
    OffsetFetchRequest,
)
from kafka.protocol.metadata import FindCoordinatorRequest, MetadataRequest

from conftest import AnyServer
from harness.process import wait_until
from harness.requests import NONE
from harness.wire import Wire
from harness.worst_requests import Encoder, Names, Shape, request_tables

INVALID_REQUEST = 42


@pytest.fixture
def wire(server: AnyServer) -> Iterator[Wire]:
    with Wire(server.host, server.port) as connected:
        yield connected


def coordinator_is_there(wire: Wire, group: str) -> None:
    find = FindCoordinatorRequest[4](key_type=0, coordinator_keys=[group])
    wait_until("a coordinator", lambda: wire.ask(find).coordinators[0].error_code == NONE)


def test_a_topic_named_many_times_is_described_once(server: AnyServer, wire: Wire) -> None:
    topic = server.create_topic("often")
    wanted = [MetadataRequest.MetadataRequestTopic(name=topic)] * 2000
    answer = wire.ask(MetadataRequest[12](topics=wanted, allow_auto_topic_creation=False))
    assert [(one.name, one.error_code) for one in answer.topics] == [(topic, NONE)]


def test_a_partition_whose_offset_is_asked_for_twice_is_refused_once(server: AnyServer, wire: Wire) -> None:
    topic = server.create_topic("often", partitions=2)
    item = ListOffsetsRequest.ListOffsetsTopic
    parts = [item.ListOffsetsPartition(partition_index=i, current_leader_epoch=-1, timestamp=-1) for i in (0, 1, 0)]
    answer = wire.ask(
        ListOffsetsRequest[9](replica_id=-1, isolation_level=0, topics=[item(name=topic, partitions=parts)], timeout_ms=1000)
    )
    found = {one.partition_index: one.error_code for one in answer.topics[0].partitions}
    assert len(answer.topics[0].partitions) == 2
    assert found == {0: INVALID_REQUEST, 1: NONE}


@pytest.mark.firn
def test_a_group_named_many_times_is_answered_once(server: AnyServer, wire: Wire) -> None:
    topic = server.create_topic("often", partitions=2)
    coordinator_is_there(wire, "often")
    item = OffsetCommitRequest.OffsetCommitRequestTopic
    parts = [
        item.OffsetCommitRequestPartition(
            partition_index=index, committed_offset=7 + index, committed_leader_epoch=-1, committed_metadata="m"
        )
        for index in (0, 1)
    ]
    commit = OffsetCommitRequest[8](
        group_id="often", generation_id_or_member_epoch=-1, member_id="", group_instance_id=None,
        topics=[item(name=topic, partitions=parts)],
    )  # fmt: skip
    wait_until("the commit", lambda: wire.ask(commit).topics[0].partitions[1].error_code == NONE)
    described = wire.ask(DescribeGroupsRequest[5](groups=["often"] * 3000, include_authorized_operations=False))
    assert [group.group_id for group in described.groups] == ["often"]
    group = OffsetFetchRequest.OffsetFetchRequestGroup
    topics = group.OffsetFetchRequestTopics
    groups = [group(group_id="often", topics=[topics(name=topic, partition_indexes=[i, i])]) for i in (0, 1, 0)]
    (answer,) = wire.ask(OffsetFetchRequest[8](groups=groups, require_stable=False)).groups
    (of_topic,) = answer.topics
    assert [(one.partition_index, one.committed_offset) for one in of_topic.partitions] == [(0, 7), (1, 8)]


def test_a_topic_that_is_deleted_or_widened_twice_in_one_request_stays_as_it_is(server: AnyServer, wire: Wire) -> None:
    topic = server.create_topic("often")
    tables = request_tables()
    names = Names({"Name": topic, "TopicNames": topic}, {"Count": 3, "timeoutMs": 5000, "TimeoutMs": 5000}, bytes(16))
    for api, version, target in [(37, 3, ".Topics"), (20, 5, ".TopicNames")]:
        frame = Encoder(tables[api], version, Shape("twice", target, 2), names).frame()
        wire.send_bytes(frame)
        answer = wire.read_frame()
        assert answer.count(topic.encode()) == 1 and struct.pack(">h", INVALID_REQUEST) in answer, answer
    described = wire.ask(
        MetadataRequest[12](topics=[MetadataRequest.MetadataRequestTopic(name=topic)], allow_auto_topic_creation=False)
    )
    assert [(one.error_code, len(one.partitions)) for one in described.topics] == [(NONE, 1)]


def test_the_longest_client_id_gets_an_answer_to_its_join(wire: Wire) -> None:
    coordinator_is_there(wire, "long")
    join = JoinGroupRequest[5](
        group_id="long", session_timeout_ms=10_000, rebalance_timeout_ms=10_000, member_id="", group_instance_id=None,
        protocol_type="consumer", protocols=[JoinGroupRequest.JoinGroupRequestProtocol(name="range", metadata=b"m")],
    )  # fmt: skip
    join.with_header(correlation_id=1, client_id="c" * 32_767)
    wire.send_bytes(bytes(join.encode(header=True, framed=True)))
    assert len(wire.read_frame()) > 4
