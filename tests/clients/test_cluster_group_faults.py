"""Consumer groups while the log below them cannot commit, and around the deletion of topics.

What one client does to the log of its group is no affair of other groups in the same partition of `__consumer_offsets`.
"""

import contextlib
import time
from pathlib import Path
from typing import Any

import pytest
from kafka.protocol.admin import CreateTopicsRequest, DeleteTopicsRequest

from harness.broker import unique
from harness.cluster import Cluster
from harness.cluster_requests import set_topic
from harness.group_requests import (
    COORDINATOR_NOT_AVAILABLE,
    NONE,
    UNKNOWN_SERVER_ERROR,
    Member,
    ask_for_member_id,
    commit,
    commit_request,
    committed,
    heartbeat_request,
    join_request,
    sync_request,
)
from harness.process import wait_until
from harness.syscall_faults import SlowCalls, why_not
from harness.wire import Wire, topic_id

SETTINGS = {
    "offsets.topic.num.partitions": "1",
    "group.initial.rebalance.delay.ms": "1000",
    "group.min.session.timeout.ms": "1000",
    # The defaults: a follower that does not answer holds up commits for nine seconds.
    "broker.session.timeout.ms": "9000",
    "replica.lag.time.max.ms": "30000",
    # Two requests of this size make a record that is larger than any request and reply.
    "socket.request.max.bytes": "4000000",
    "replica.fetch.response.max.bytes": "65536",
    "replica.fetch.max.bytes": "65536",
}

OFFSETS = "__consumer_offsets"


def wire_to(node: Any) -> Wire:
    """A connection to the node."""
    return Wire(node.host, node.port, timeout_s=60)


def create_request(names: list[str]) -> Any:
    """A CreateTopics of topics with one partition."""
    kind = CreateTopicsRequest.CreatableTopic
    config = kind.CreatableTopicConfig(name="remote.storage.enable", value="false")
    topics = [kind(name=name, num_partitions=1, replication_factor=3, assignments=[], configs=[config]) for name in names]
    return CreateTopicsRequest[5](topics=topics, timeout_ms=30_000, validate_only=False)


@pytest.mark.timeout(180)
def test_commits_for_new_topics_survive_the_clean_up_of_their_predecessors(cluster: Cluster[Any], tmp_path: Path) -> None:
    names, group = [unique("again") for _ in range(20)], unique("group")
    # Many logs on a slow disk make the clean-up of the deletion take long: the commits come before its end.
    large = cluster.create_topic("large", partitions=40)
    coordinator = cluster.coordinator(group)
    other = cluster.others(coordinator)[0]
    with (
        wire_to(coordinator) as wire,
        wire_to(other) as deleting,
        wire_to(other) as creating,
        contextlib.ExitStack() as stack,
    ):

        def id_of(name: str) -> Any:
            try:
                return topic_id(wire, name)
            except AssertionError:
                return None

        assert {topic.error_code for topic in creating.ask(create_request(names)).topics} == {NONE}
        before = {name: wait_until("the topic", lambda name=name: id_of(name)) for name in names}
        for number, name in enumerate([*names, large]):
            assert commit(wire, group, name, number) == NONE
        # No answer is waited for: the nodes answer when they have cleaned up.
        deletion = DeleteTopicsRequest[5](topic_names=[*names, large], timeout_ms=60_000)
        slow = SlowCalls(coordinator.process.pid, "fdatasync,fsync", 10, tmp_path / "strace.log")
        stack.enter_context(slow if why_not() is None else contextlib.nullcontext())
        deleting.send(deletion)
        wait_until("the deletion", lambda: all(id_of(name) is None for name in names), interval_s=0.001)
        creation = create_request(names)
        creating.send(creation)
        for number, name in enumerate(names):
            wait_until("the topic", lambda name=name: id_of(name) not in (None, before[name]), interval_s=0.001)
            assert commit(wire, group, name, 100 + number) == NONE
            assert committed(wire, group, name) == (NONE, 100 + number)
        assert {topic.error_code for topic in deleting.receive(deletion).responses} == {NONE}
        assert {topic.error_code for topic in creating.receive(creation).topics} == {NONE}
        wait_until("the clean-up", lambda: committed(wire, group, large) == (NONE, -1))
        kept = [committed(wire, group, name) for name in names]
        assert kept == [(NONE, 100 + number) for number in range(len(names))]
    cluster.admin().delete_topics(names)


@pytest.mark.timeout(120)
def test_a_member_id_that_is_never_used_does_not_disturb_a_stable_group(cluster: Cluster[Any]) -> None:
    group = unique("group")
    node = cluster.coordinator(group)
    with wire_to(node) as wire, wire_to(node) as stranger:
        member = Member(wire, group, session_ms=30_000)
        for _ in range(2):
            ask_for_member_id(stranger, group, session_ms=1_000)
            for _ in range(6):
                time.sleep(0.25)
                assert member.heartbeat() == NONE, "a rebalance without a cause"


def is_refused(node: Any, topic: str) -> bool:
    """Whether a commit of a group that nothing else uses is refused for want of replicas."""
    with Wire(node.host, node.port, timeout_s=2) as wire:
        try:
            return commit(wire, unique("probe"), topic, 1) == COORDINATOR_NOT_AVAILABLE
        except TimeoutError:
            return False


@pytest.mark.timeout(120)
def test_a_commit_that_lacks_replicas_is_refused_alone(cluster: Cluster[Any]) -> None:
    topic, writer, reader = cluster.create_topic("lacking"), unique("writer"), unique("reader")
    node = cluster.coordinator(writer)
    with wire_to(node) as wire, wire_to(node) as other:
        member = Member(other, unique("member"), session_ms=30_000)
        assert commit(wire, writer, topic, 1) == commit(other, reader, topic, 7) == NONE
        set_topic(node, OFFSETS, min_insync_replicas="3")
        follower = cluster.others(node)[0]
        follower.kill()
        try:
            cluster.await_isr(OFFSETS, 2, via=[node])
            # A commit that comes before the leader itself knows of the loss is taken, and waits for the follower to return.
            wait_until("the leader to refuse commits", lambda: is_refused(node, topic))
            for offset in range(2, 22):
                # Kafka refuses the commit, keeps the groups and answers all the others.
                assert commit(wire, writer, topic, offset) == COORDINATOR_NOT_AVAILABLE
                assert committed(other, reader, topic) == (NONE, 7)
                assert committed(other, writer, topic) == (NONE, 1)
                assert member.heartbeat() == NONE
                time.sleep(0.05)
            set_topic(node, OFFSETS, min_insync_replicas="2")
            wait_until("commits to pass again", lambda: commit(wire, writer, topic, 99) == NONE)
        finally:
            cluster.start([follower])
            set_topic(node, OFFSETS, min_insync_replicas="2")
            cluster.await_isr(OFFSETS, 3)


class Crowd:
    """Members of one group, each with a connection of its own."""

    def __init__(self, node: Any, group: str, count: int, session_ms: int) -> None:
        self.group = group
        self.wires = [wire_to(node) for _ in range(count)]
        joins = [join_request(group, session_ms) for _ in self.wires]
        answers = self._ask_all(joins)
        assert {answer.error_code for answer in answers} == {NONE}
        self.ids = [answer.member_id for answer in answers]
        (self.generation,) = {answer.generation_id for answer in answers}
        leader = answers[0].leader
        everything = {member: b"part" for member in self.ids}
        syncs = [sync_request(group, self.generation, it, everything if it == leader else {}) for it in self.ids]
        assert {answer.error_code for answer in self._ask_all(syncs)} == {NONE}

    def _ask_all(self, requests: list[Any]) -> list[Any]:
        for wire, request in zip(self.wires, requests, strict=True):
            wire.send(request)
        return [wire.receive(request) for wire, request in zip(self.wires, requests, strict=True)]

    def heartbeat(self) -> set[int]:
        """The error codes of a heartbeat of each."""
        beats = [heartbeat_request(self.group, self.generation, it) for it in self.ids]
        return {answer.error_code for answer in self._ask_all(beats)}

    def close(self) -> None:
        """Hangs up, without leaving."""
        for wire in self.wires:
            wire.close()


@pytest.mark.timeout(180)
def test_members_are_answered_and_kept_while_an_append_is_outstanding(cluster: Cluster[Any]) -> None:
    topic, writer = cluster.create_topic("stalled"), unique("writer")
    node = cluster.coordinator(writer)
    follower = cluster.others(node)[0]
    crowd = Crowd(node, unique("crowd"), count=600, session_ms=6_000)
    with wire_to(node) as wire, wire_to(node) as other:
        member = Member(other, unique("member"), session_ms=6_000)
        assert commit(wire, writer, topic, 1) == NONE
        follower.pause()
        try:
            request = commit_request(writer, {topic: 2})
            wire.send(request)
            slowest, until = 0.0, time.monotonic() + 9
            while time.monotonic() < until:
                began = time.monotonic()
                assert member.heartbeat() == NONE
                assert committed(other, writer, topic)[0] == NONE
                slowest = max(slowest, time.monotonic() - began)
                assert crowd.heartbeat() == {NONE}, "a live member was expelled"
                time.sleep(0.5)
            assert wire.receive(request).topics[0].partitions[0].error_code == NONE
            assert slowest < 4, f"a heartbeat and an offset took {slowest:.1f} s, as long as another group's append"
            assert crowd.heartbeat() == {NONE}
            assert committed(other, writer, topic) == (NONE, 2)
        finally:
            follower.resume()
            crowd.close()
            cluster.await_isr(OFFSETS, 3)


@pytest.mark.timeout(240)
def test_a_group_too_large_for_the_log_is_refused_and_a_large_one_is_copied(cluster: Cluster[Any]) -> None:
    topic, group = cluster.create_topic("beside", partitions=6), unique("large")
    node = cluster.coordinator(group)
    half = bytes(3_800_000)

    def assign(wire: Wire, group: str) -> int:
        joined = wire.ask(join_request(group, 60_000, metadata=half))
        assert joined.error_code == NONE
        synced = sync_request(group, joined.generation_id, joined.member_id, {joined.member_id: half})
        return int(wire.ask(synced).error_code)

    with wire_to(node) as wire, wire_to(node) as other:
        assert assign(wire, group) == UNKNOWN_SERVER_ERROR, "larger than max.message.bytes"
        assert commit(other, unique("small"), topic, 1) == NONE
        # What the topic allows, its followers can copy, whatever they take from a client.
        set_topic(node, OFFSETS, max_message_bytes="20000000")
        try:
            assert assign(wire, unique("large")) == NONE
            assert commit(other, unique("small"), topic, 2) == NONE, "committed behind it, by all in-sync replicas"
            for name in (OFFSETS, topic):
                cluster.await_isr(name, 3)
        finally:
            set_topic(node, OFFSETS, max_message_bytes="1048588")
