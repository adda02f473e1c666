"""Consumer groups when the leader of their `__consumer_offsets` partition goes: nothing committed is lost or reset."""

import contextlib
from collections.abc import Sequence
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaException, TopicPartition

from harness.broker import unique
from harness.cluster import Cluster
from harness.load import Load
from harness.process import wait_until

PARTITIONS = 4


def member(cluster: Cluster[Any], group: str, **config: object) -> Consumer:
    """A consumer of the group."""
    return Consumer(
        {"bootstrap.servers": cluster.bootstrap, "group.id": group, "enable.auto.commit": False, "log_level": 0,
         "auto.offset.reset": "error", "session.timeout.ms": 6000, "heartbeat.interval.ms": 500,
         "reconnect.backoff.max.ms": 200, "socket.timeout.ms": 3000, **config}
    )  # fmt: skip


def committed(cluster: Cluster[Any], group: str, topic: str) -> list[int]:
    """What a stranger to the group is told of its offsets, once it is told."""
    consumer = member(cluster, group)

    def told() -> Sequence[int] | None:
        try:
            answers = consumer.committed([TopicPartition(topic, index) for index in range(PARTITIONS)], timeout=5)
        except KafkaException:
            return None
        return None if any(answer.error for answer in answers) else [answer.offset for answer in answers]

    try:
        return list(wait_until("the committed offsets", told))
    finally:
        consumer.close()


@pytest.mark.timeout(180)
def test_committed_offsets_survive_every_coordinator(cluster: Cluster[Any]) -> None:
    topic, group = cluster.create_topic("read", partitions=PARTITIONS), unique("group")
    writer = member(cluster, group)
    for turn in range(3):
        offsets = [TopicPartition(topic, index, 100 * turn + index + 1) for index in range(PARTITIONS)]

        def taken(offsets: list[TopicPartition] = offsets) -> bool:
            try:
                answers = writer.commit(offsets=offsets, asynchronous=False) or []
            except KafkaException:
                return False
            return not any(answer.error for answer in answers)

        wait_until("the commit", taken)
        leader = cluster.coordinator(group)
        leader.kill()
        assert cluster.coordinator(group, unlike=leader).alive()
        assert committed(cluster, group, topic) == [offset.offset for offset in offsets]
        cluster.start([leader])
        cluster.await_isr("__consumer_offsets", 3)
    writer.close()


class Follower:
    """A member that checks every offset it is given, and where it resumes whenever partitions are given to it."""

    def __init__(self, cluster: Cluster[Any], group: str, topic: str) -> None:
        self.topic = topic
        self.next: dict[int, int] = {}
        self.confirmed: dict[int, int] = {}
        self.asked: dict[int, set[int]] = {partition: {0} for partition in range(PARTITIONS)}
        self.assignments = 0
        self.consumer = member(cluster, group, **{"auto.offset.reset": "earliest"})
        self.consumer.subscribe([topic], on_assign=self._assigned)

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self.assignments += 1
        for part in consumer.committed(partitions, timeout=30):
            offset = max(part.offset, 0)
            known = self.confirmed.get(part.partition, 0)
            assert offset >= known and offset in self.asked[part.partition], f"{part} resumes at {offset}, not at {known}"
            self.next[part.partition] = offset

    def read(self) -> int:
        """Reads what there is; how many records."""
        count = 0
        for message in self.consumer.consume(500, timeout=0.1):
            error = message.error()
            if error is not None:
                assert not error.fatal(), error
                continue
            expected = self.next[message.partition()]
            assert message.offset() == expected, f"given {message.offset()} of {message.partition()}, not {expected}"
            self.next[message.partition()] = expected + 1
            count += 1
        return count

    def read_on(self, count: int) -> None:
        """Reads so many records more."""
        left = count

        def reached() -> bool:
            nonlocal left
            left -= self.read()
            return left <= 0

        wait_until(f"{count} more records", reached, 60, 0)

    def commit(self) -> None:
        """Commits what was read; again until it is taken."""

        def taken() -> bool:
            offsets = dict(self.next)
            for partition, offset in offsets.items():
                self.asked[partition].add(offset)
            wanted = [TopicPartition(self.topic, partition, offset) for partition, offset in offsets.items()]
            try:
                answers = self.consumer.commit(offsets=wanted, asynchronous=False) or []
            except KafkaException:
                self.read()
                return False
            if any(answer.error for answer in answers):
                self.read()
                return False
            self.confirmed = offsets
            return True

        wait_until("the commit", taken, 60)


@pytest.mark.timeout(180)
def test_members_go_on_where_they_were_when_their_coordinator_dies(cluster: Cluster[Any]) -> None:
    topic, group = cluster.create_topic("followed", partitions=PARTITIONS), unique("group")
    follower = Follower(cluster, group, topic)
    with (
        contextlib.closing(follower.consumer),
        Load(cluster.bootstrap, topic, PARTITIONS, per_second=2000) as load,
    ):
        for _ in range(2):
            follower.read_on(1000)
            follower.commit()
            leader = cluster.coordinator(group)
            leader.kill()
            follower.read_on(1000)
            follower.commit()
            assert dict(enumerate(committed(cluster, group, topic))) == follower.confirmed
            cluster.start([leader])
            cluster.await_isr("__consumer_offsets", 3)
            cluster.await_isr(topic, 3)
        load.finish()
        follower.read_on(load.sent - sum(follower.next.values()))
        print(f"partitions were given to the member {follower.assignments} times")
