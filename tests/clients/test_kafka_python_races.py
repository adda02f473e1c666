"""kafka-python falls silent by two races of its own, with any broker; each is forced here, left open and closed.

A test named `..._open_...` that fails with a newer release says that this half of `harness.kafka_python_races`, and its
line in docs/kafka-compatibility.md, can go.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from confluent_kafka.admin import NewPartitions
from kafka import KafkaConsumer
from kafka.cluster import ClusterMetadata

from conftest import AnyServer
from harness.broker import unique
from harness.kafka_python_races import close_forgotten_rejoin, close_lost_subscription
from harness.process import wait_until

METADATA_AGE_S = 3.0


@contextmanager
def consumer_of(server: AnyServer, **settings: Any) -> Iterator[KafkaConsumer]:
    """A consumer without topics; naming the version, as kafka-python's own tests do, it waits for no answer yet."""
    consumer = KafkaConsumer(bootstrap_servers=server.bootstrap, api_version=(4, 3), enable_auto_commit=False, **settings)
    try:
        yield consumer
    finally:
        consumer.close()


@contextmanager
def subscribed_in_flight(
    server: AnyServer, topic: str, monkeypatch: pytest.MonkeyPatch, **settings: Any
) -> Iterator[KafkaConsumer]:
    """A consumer that subscribes after its first Metadata request is built and before the answer is taken in."""
    asked, subscribed = threading.Event(), threading.Event()
    build, apply = ClusterMetadata.metadata_request, ClusterMetadata.update_metadata

    def metadata_request(cluster: ClusterMetadata) -> Any:
        request = build(cluster)
        asked.set()
        return request

    def update_metadata(cluster: ClusterMetadata, answer: Any) -> None:
        assert subscribed.wait(20)
        apply(cluster, answer)

    monkeypatch.setattr(ClusterMetadata, "metadata_request", metadata_request)
    monkeypatch.setattr(ClusterMetadata, "update_metadata", update_metadata)
    with consumer_of(server, **settings) as consumer:
        assert asked.wait(20)
        consumer.subscribe([topic])
        subscribed.set()
        yield consumer


@contextmanager
def rejoined_between_polls(server: AnyServer) -> Iterator[KafkaConsumer]:
    """A group of one that rejoins for a second partition; its `poll` ends before the join, the next comes after it."""
    topic = server.create_topic()
    admin = server.admin()
    with consumer_of(server, group_id=unique("group")) as consumer:
        consumer.subscribe([topic])
        with pytest.MonkeyPatch.context() as until_settled:
            close_forgotten_rejoin(until_settled)
            wait_until("the first assignment", lambda: assigned(consumer) == {0} and not consumer._coordinator.need_rejoin())
        admin.create_partitions([NewPartitions(topic, 2)])[topic].result(20)
        wait_until("the second partition", lambda: consumer.topics() and consumer.partitions_for_topic(topic) == {0, 1})
        consumer.poll(timeout_ms=0)
        join = consumer._coordinator._join_task
        wait_until("the end of the join", lambda: join.is_done)
        assert join.succeeded()
        yield consumer


def assigned(consumer: KafkaConsumer) -> set[int]:
    """The partitions that it holds after one more poll."""
    consumer.poll(timeout_ms=100)
    return {part.partition for part in consumer.assignment()}


def test_an_open_subscription_race_lasts_as_long_as_metadata_is_kept(
    server: AnyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = server.create_topic(partitions=2)
    started = time.monotonic()
    age_ms = int(METADATA_AGE_S * 1000)
    with subscribed_in_flight(server, topic, monkeypatch, metadata_max_age_ms=age_ms) as consumer:
        wait_until("the assignment", lambda: assigned(consumer) == {0, 1})
    assert time.monotonic() - started >= METADATA_AGE_S


@pytest.mark.parametrize("way", ["closed", "group"])
def test_a_closed_subscription_race_or_a_group_needs_no_new_metadata_age(
    server: AnyServer, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    topic = server.create_topic(partitions=2)
    if way == "closed":
        close_lost_subscription(monkeypatch)
    else:
        close_forgotten_rejoin(monkeypatch)  # the group's first assignment is empty, the second may meet that race
    settings = {} if way == "closed" else {"group_id": unique("group")}
    with subscribed_in_flight(server, topic, monkeypatch, **settings) as consumer:
        wait_until("the assignment", lambda: assigned(consumer) == {0, 1})


def test_an_open_rejoin_race_leaves_the_new_partition_without_a_reader(server: AnyServer) -> None:
    with rejoined_between_polls(server) as consumer:
        until = time.monotonic() + 2
        while time.monotonic() < until:
            assert assigned(consumer) == {0}


def test_a_closed_rejoin_race_takes_the_new_partition(server: AnyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    close_forgotten_rejoin(monkeypatch)
    with rejoined_between_polls(server) as consumer:
        wait_until("the new assignment", lambda: assigned(consumer) == {0, 1})
