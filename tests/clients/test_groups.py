"""Consumer groups: several members, rebalances, static members, cooperative assignment, commits that outlive a restart."""

import subprocess
import threading
from collections.abc import Callable

import pytest
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaError, KafkaException, TopicPartition

from conftest import AnyServer
from harness.broker import unique
from harness.process import wait_until
from harness.records import Draft, consume, expect_same, generated, produce, row_of


class Member(threading.Thread):
    """One consumer of a group, polling on its own thread."""

    def __init__(self, server: AnyServer, group: str, topic: str, **config: object) -> None:
        super().__init__(daemon=True)
        self.errors: list[KafkaError] = []
        self.consumer = Consumer(
            {"error_cb": self.errors.append, "bootstrap.servers": server.bootstrap, "group.id": group,
             "auto.offset.reset": "earliest", "session.timeout.ms": 6000,
             "heartbeat.interval.ms": 200, "fetch.wait.max.ms": 100, **config}
        )  # fmt: skip
        self.rows: list[object] = []
        self.revoked: list[set[int]] = []
        self.lost = 0
        self._owned: set[int] = set()
        self._stopping = threading.Event()
        self._leave = True
        self._cooperative = config.get("partition.assignment.strategy") == "cooperative-sticky"
        self.consumer.subscribe([topic], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost)
        self.start()

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        added = {part.partition for part in partitions}
        if self._cooperative:
            consumer.incremental_assign(partitions)
            self._owned |= added
        else:
            consumer.assign(partitions)
            self._owned = added

    def _revoked(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        gone = {part.partition for part in partitions}
        self.revoked.append(gone)
        if self._cooperative:
            consumer.incremental_unassign(partitions)
        else:
            consumer.unassign()
        self._owned -= gone

    def _lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self.lost += 1
        self._revoked(consumer, partitions)

    @property
    def owned(self) -> frozenset[int]:
        """The partitions that this member reads now."""
        return frozenset(self._owned)

    def run(self) -> None:
        """Polls until told to stop."""
        while not self._stopping.is_set():
            message = self.consumer.poll(0.05)
            if message is None:
                continue
            if message.error() is None:
                self.rows.append(row_of(message))
            else:
                self.errors.append(message.error())
        if self._leave:
            self.consumer.close()

    def leave(self) -> None:
        """Leaves the group in order, committing what was read."""
        self._stopping.set()
        self.join(20)
        assert not self.is_alive()

    def vanish(self) -> None:
        """Stops polling without a word; the group learns of it by the session timeout."""
        self._leave = False
        self._stopping.set()
        self.join(20)


def balanced(members: list[Member], partitions: int, share: int | None = None) -> Callable[[], bool]:
    """Whether the members own all partitions between them, each once, and `share` each if given."""

    def check() -> bool:
        owned = [member.owned for member in members]
        assert sorted(part for parts in owned for part in parts) == list(range(partitions)), owned
        return share is None or all(len(parts) == share for parts in owned)

    return check


@pytest.mark.parametrize("strategy", ["range", "roundrobin", "cooperative-sticky"])
def test_members_come_and_go(server: AnyServer, strategy: str) -> None:
    topic = server.create_topic("group", partitions=6)
    group = unique("members")
    config = {"partition.assignment.strategy": strategy}
    first = Member(server, group, topic, **config)
    wait_until("one member to own all", balanced([first], 6))
    second = Member(server, group, topic, **config)
    third = Member(server, group, topic, **config)
    members = [first, second, third]
    wait_until("three members to share", balanced(members, 6, share=2))
    written = produce(server.bootstrap, topic, generated(300, seed=1, partitions=6))
    wait_until("all records to be read", lambda: sum(len(member.rows) for member in members) >= 300)
    second.leave()
    wait_until("two members to share", balanced([first, third], 6, share=3))
    written += produce(server.bootstrap, topic, generated(300, seed=2, partitions=6))
    wait_until("the rest to be read", lambda: sum(len(member.rows) for member in members) >= 600)
    for member in (first, third):
        member.leave()
    rows = [row for member in members for row in member.rows]
    expect_same(written, rows)
    if strategy == "cooperative-sticky":
        assert all(len(gone) < 6 for gone in first.revoked[:-1]), "a cooperative member keeps what it may keep"


def test_a_member_that_dies_is_replaced(server: AnyServer) -> None:
    topic = server.create_topic("dead-member", partitions=4)
    group = unique("dead")
    session = {"session.timeout.ms": 2000}
    alive = Member(server, group, topic, **session)
    wait_until("one member to own all", balanced([alive], 4))
    # A process of its own, because only a killed process stops beating without saying goodbye.
    doomed = subprocess.Popen(  # noqa: S603
        ["kcat", "-b", server.bootstrap, "-X", "session.timeout.ms=2000", "-X",  # noqa: S607
         "partition.assignment.strategy=range", "-q", "-G", group, topic],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_until("both to share", lambda: len(alive.owned) == 2)
    finally:
        doomed.kill()
        doomed.wait()
    wait_until("the other to take over", balanced([alive], 4), timeout_s=20)
    alive.leave()


def test_a_static_member_returns_without_a_rebalance(server: AnyServer) -> None:
    topic = server.create_topic("static", partitions=4)
    group = unique("static")

    def member(name: str) -> Member:
        return Member(server, group, topic, **{"group.instance.id": name, "session.timeout.ms": 20_000})

    one, two = member("one"), member("two")
    wait_until("both to share", balanced([one, two], 4, share=2))
    before, revocations = two.owned, len(one.revoked)
    two.leave()  # a static member says nothing when it closes
    again = member("two")
    wait_until("the same instance to return", lambda: again.owned == before, timeout_s=15)
    assert len(one.revoked) == revocations, "the other member was disturbed"
    rival = Consumer(
        {"bootstrap.servers": server.bootstrap, "group.id": group, "group.instance.id": "two",
         "session.timeout.ms": 20_000, "heartbeat.interval.ms": 200}
    )  # fmt: skip
    rival.subscribe([topic])

    def rival_owns() -> bool:
        rival.poll(0.1)
        return len(rival.assignment()) == 2

    wait_until("the newest holder of an instance id to win", rival_owns, timeout_s=20)
    fatal = {KafkaError.FENCED_INSTANCE_ID, KafkaError._FATAL}
    wait_until("the old holder to be fenced", lambda: fatal & {error.code() for error in again.errors}, timeout_s=20)
    again.vanish()
    rival.close()
    one.leave()


def committed_offsets(consumer: Consumer, wanted: list[TopicPartition]) -> list[TopicPartition]:
    """What the group has committed, as soon as its coordinator is up again."""

    def ask() -> list[TopicPartition] | None:
        try:
            return consumer.committed(wanted, timeout=30)
        except KafkaException as error:
            if error.args[0].code() in (KafkaError.NOT_COORDINATOR, KafkaError.COORDINATOR_LOAD_IN_PROGRESS):
                return None
            raise

    return wait_until("the committed offsets", ask)


def test_commits_with_metadata_outlive_a_restart(server: AnyServer) -> None:
    topic = server.create_topic("commits", partitions=3)
    group = unique("commits")
    written = produce(server.bootstrap, topic, generated(90, seed=4, partitions=3))
    config = {"bootstrap.servers": server.bootstrap, "group.id": group, "enable.auto.commit": False}
    consumer = Consumer(config)
    offsets = [TopicPartition(topic, 0, 11, metadata="halfway ❄"), TopicPartition(topic, 1, 30), TopicPartition(topic, 2, 0)]
    result = consumer.commit(offsets=offsets, asynchronous=False)
    assert [part.error for part in result] == [None] * 3
    consumer.close()
    server.restart()
    reader = Consumer({**config, "auto.offset.reset": "error", "enable.partition.eof": True})
    wanted = [TopicPartition(topic, index) for index in range(3)]
    committed = committed_offsets(reader, wanted)
    assert [(part.offset, part.metadata or "") for part in committed] == [(11, "halfway ❄"), (30, ""), (0, "")]
    reader.assign(committed)
    read, ends = [], 0
    while ends < 3:
        for message in reader.consume(100, timeout=10):
            if message.error() is None:
                read.append(row_of(message))
            else:
                assert message.error().code() == KafkaError._PARTITION_EOF, message.error()
                ends += 1
    reader.close()
    expect_same([row for row in written if row.offset >= {0: 11, 1: 30, 2: 0}[row.partition]], read)


def test_a_group_resumes_where_it_stopped(server: AnyServer) -> None:
    topic = server.create_topic("resume", partitions=2)
    group = unique("resume")
    first = produce(server.bootstrap, topic, generated(100, seed=5, partitions=2))
    member = Member(server, group, topic)
    wait_until("the first records", lambda: len(member.rows) >= 100)
    member.leave()
    server.restart()
    second = produce(server.bootstrap, topic, generated(100, seed=6, partitions=2))
    successor = Member(server, group, topic)
    wait_until("the second records", lambda: len(successor.rows) >= 100)
    successor.leave()
    expect_same(first, member.rows)
    expect_same(second, successor.rows)


def test_a_running_member_survives_a_restart_of_the_server(server: AnyServer) -> None:
    topic = server.create_topic("survive", partitions=2)
    member = Member(server, unique("survive"), topic, **{"session.timeout.ms": 10_000})
    wait_until("the assignment", balanced([member], 2))
    written = produce(server.bootstrap, topic, generated(50, seed=8, partitions=2))
    wait_until("the first records", lambda: len(member.rows) >= 50)
    server.restart()
    written += produce(server.bootstrap, topic, generated(50, seed=9, partitions=2))
    wait_until("the records after the restart", lambda: len(set(member.rows)) >= 100)
    member.leave()
    expect_same(written, set(member.rows))


def test_stale_generations_and_unknown_members_are_refused(server: AnyServer) -> None:
    topic = server.create_topic("stale", partitions=1)
    group = unique("stale")
    member = Member(server, group, topic)
    wait_until("the assignment", balanced([member], 1))
    outsider = Consumer({"bootstrap.servers": server.bootstrap, "group.id": group})
    with pytest.raises(KafkaException) as refused:
        outsider.commit(offsets=[TopicPartition(topic, 0, 1)], asynchronous=False)
    assert refused.value.args[0].code() == KafkaError.UNKNOWN_MEMBER_ID
    outsider.close()
    member.leave()


def test_offsets_of_an_empty_group_can_be_altered_and_deleted(server: AnyServer) -> None:
    topic = server.create_topic("alter-offsets", partitions=1)
    group = unique("alter")
    produce(server.bootstrap, topic, [Draft(value=b"x")] * 10)
    admin = server.admin()
    wanted = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 0, 7)])
    altered = admin.alter_consumer_group_offsets([wanted])[group].result(20)
    assert altered.topic_partitions[0].error is None
    listed = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])[group].result(20)
    assert [(part.topic, part.partition, part.offset) for part in listed.topic_partitions] == [(topic, 0, 7)]
    admin.delete_consumer_groups([group])[group].result(20)
    unknown = Consumer({"bootstrap.servers": server.bootstrap, "group.id": group})
    assert unknown.committed([TopicPartition(topic, 0)], timeout=20)[0].offset < 0
    unknown.close()


def test_only_members_that_speak_a_common_protocol_may_join(server: AnyServer) -> None:
    topic = server.create_topic("protocols", partitions=1)
    group = unique("protocols")
    member = Member(server, group, topic, **{"partition.assignment.strategy": "range"})
    wait_until("the assignment", balanced([member], 1))
    errors: list[KafkaError] = []
    other = Consumer(
        {"bootstrap.servers": server.bootstrap, "group.id": group, "error_cb": errors.append,
         "partition.assignment.strategy": "cooperative-sticky"}
    )  # fmt: skip
    other.subscribe([topic])

    def refused() -> bool:
        message = other.poll(0.1)
        codes = [error.code() for error in errors]
        codes += [message.error().code()] if message is not None and message.error() else []
        return KafkaError.INCONSISTENT_GROUP_PROTOCOL in codes

    wait_until("the join to be refused", refused, timeout_s=20)
    other.close()
    member.leave()
    assert consume(server.bootstrap, topic) == []
