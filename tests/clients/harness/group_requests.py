"""Requests of consumer groups, sent by hand over one connection, as plain functions."""

from collections.abc import Mapping
from typing import Any

from kafka.protocol.consumer import (
    HeartbeatRequest,
    JoinGroupRequest,
    OffsetCommitRequest,
    OffsetFetchRequest,
    SyncGroupRequest,
)

from harness.wire import Wire

NONE = 0
UNKNOWN_SERVER_ERROR = -1
COORDINATOR_NOT_AVAILABLE = 15
REBALANCE_IN_PROGRESS = 27
MEMBER_ID_REQUIRED = 79

_WITHOUT_MEMBER_ID = 3
_MEMBER_ID_FIRST = 5


def join_request(group: str, session_ms: int, member_id: str = "", metadata: bytes = b"", version: int = 3) -> Any:
    """A JoinGroup; up to version 3 a newcomer joins at once, later it is given a member id first."""
    offered = [JoinGroupRequest.JoinGroupRequestProtocol(name="range", metadata=metadata)]
    return JoinGroupRequest[version](
        group_id=group, session_timeout_ms=session_ms, rebalance_timeout_ms=60_000, member_id=member_id,
        group_instance_id=None, protocol_type="test", protocols=offered,
    )  # fmt: skip


def ask_for_member_id(wire: Wire, group: str, session_ms: int) -> str:
    """Asks for a member id, without joining."""
    answer = wire.ask(join_request(group, session_ms, version=_MEMBER_ID_FIRST))
    assert answer.error_code == MEMBER_ID_REQUIRED, answer
    return str(answer.member_id)


def sync_request(group: str, generation: int, member_id: str, assignments: Mapping[str, bytes]) -> Any:
    """A SyncGroup; the leader's has assignments."""
    kind = SyncGroupRequest.SyncGroupRequestAssignment
    assigned = [kind(member_id=member, assignment=assignment) for member, assignment in assignments.items()]
    return SyncGroupRequest[2](group_id=group, generation_id=generation, member_id=member_id, assignments=assigned)


def heartbeat_request(group: str, generation: int, member_id: str) -> Any:
    """A Heartbeat."""
    return HeartbeatRequest[2](group_id=group, generation_id=generation, member_id=member_id)


class Member:
    """The only member of a group, with a connection of its own."""

    def __init__(self, wire: Wire, group: str, session_ms: int = 6_000) -> None:
        self.wire, self.group = wire, group
        joined = wire.ask(join_request(group, session_ms))
        assert joined.error_code == NONE, joined
        self.generation, self.member_id = joined.generation_id, joined.member_id
        synced = wire.ask(sync_request(group, self.generation, self.member_id, {self.member_id: b"all"}))
        assert synced.error_code == NONE, synced

    def heartbeat(self) -> int:
        """The error code of a heartbeat."""
        return int(self.wire.ask(heartbeat_request(self.group, self.generation, self.member_id)).error_code)


def commit_request(group: str, offsets: Mapping[str, int]) -> Any:
    """An OffsetCommit for partition 0 of topics, of a consumer without membership."""
    kind = OffsetCommitRequest.OffsetCommitRequestTopic
    part = kind.OffsetCommitRequestPartition
    topics = [
        kind(name=topic, partitions=[
            part(partition_index=0, committed_offset=offset, committed_leader_epoch=-1, committed_metadata="")
        ])
        for topic, offset in offsets.items()
    ]  # fmt: skip
    return OffsetCommitRequest[7](
        group_id=group, generation_id_or_member_epoch=-1, member_id="", group_instance_id=None, topics=topics
    )


def commit(wire: Wire, group: str, topic: str, offset: int) -> int:
    """The error code of a commit for partition 0."""
    return int(wire.ask(commit_request(group, {topic: offset})).topics[0].partitions[0].error_code)


def committed(wire: Wire, group: str, topic: str) -> tuple[int, int]:
    """Error code and offset of partition 0, -1 for none."""
    kind = OffsetFetchRequest.OffsetFetchRequestTopic
    asked = [kind(name=topic, partition_indexes=[0])]
    answer = wire.ask(OffsetFetchRequest[7](group_id=group, topics=asked, require_stable=False))
    if answer.error_code != NONE:
        return int(answer.error_code), -1
    part = answer.topics[0].partitions[0]
    return int(part.error_code), int(part.committed_offset)
