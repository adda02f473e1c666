"""Followers fall behind and catch up: the ISR, the high watermark, and what producers are told meanwhile."""

import time
from typing import Any

import pytest
from confluent_kafka import TopicPartition
from kafka.protocol.metadata import MetadataRequest

from harness import requests
from harness.batches import batch
from harness.cluster import Cluster, Node
from harness.cluster_requests import PREFERRED, delete_records, elect, quorum, reassign, set_topic
from harness.load import Load, expect_all
from harness.process import wait_until
from harness.records import consume, expect_same, generated, produce
from harness.replicas import expect_replicas, read_replica
from harness.wire import Wire, topic_id

# A follower that stands still is put out of the ISR for its lag here, long before its session ends.
SETTINGS = {"broker.session.timeout.ms": "20000", "replica.lag.time.max.ms": "2000"}


def write(node: Node, topic: str, acks: int, timeout_ms: int = 10_000) -> tuple[int, int]:
    """One batch to this node; its error and offset."""
    with Wire(node.host, node.port) as wire:
        answer = requests.produce_raw(wire, topic, batch(), acks=acks, timeout_ms=timeout_ms)
    return answer.error_code, answer.base_offset


def await_refusal(leader: Node, topic: str) -> int:
    """Waits until the leader refuses a write for want of replicas before it appends it; the end of its log then."""

    def refused() -> bool:
        error = write(leader, topic, acks=-1, timeout_ms=500)[0]
        # Until the leader itself acts on the smaller ISR, the write is appended and then not promised.
        after_append = (requests.NOT_ENOUGH_REPLICAS_AFTER_APPEND, requests.REQUEST_TIMED_OUT)
        assert error in (requests.NOT_ENOUGH_REPLICAS, *after_append), error
        return error == requests.NOT_ENOUGH_REPLICAS

    wait_until("writes to be refused", refused)
    return write(leader, topic, acks=1)[1]


@pytest.mark.timeout(120)
def test_the_isr_shrinks_by_a_follower_that_lags_and_grows_when_it_has_caught_up(cluster: Cluster[Any]) -> None:
    topic = cluster.create_topic("lags", partitions=2)
    with Load(cluster.bootstrap, topic, 2, per_second=2000) as load:
        leader = cluster.leader(topic)
        slow = cluster.others(leader)[0]
        load.await_progress()
        slow.pause()
        try:
            awake = cluster.others(slow)
            cluster.await_parts("the slow follower out of sync", topic, lambda part: slow.node_id not in part.isr, via=awake)
            load.await_progress()
        finally:
            slow.resume()
        cluster.await_isr(topic, 3)
        load.finish()
        read = consume(cluster.bootstrap, topic, partitions=2)
        expect_all(load, read)
        expect_replicas(cluster, topic, read, partitions=2)


@pytest.mark.timeout(120)
def test_clients_that_ask_who_leads_do_not_wait_for_a_broker_that_stands_still(cluster: Cluster[Any]) -> None:
    """Nothing is decided about it before its session ends, which is far longer here than an answer may take."""
    topic = cluster.create_topic("still")
    asking = MetadataRequest[12](topics=[MetadataRequest.MetadataRequestTopic(name=topic)], allow_auto_topic_creation=False)
    still, asked = cluster.leader(topic), cluster.others(cluster.leader(topic))[0]
    still.pause()
    try:
        # The connection to it is given up in this time.
        end = time.monotonic() + 4
        with Wire(asked.host, asked.port, timeout_s=1) as wire:
            while time.monotonic() < end:
                assert wire.ask(asking).topics[0].partitions[0].leader_id == still.node_id
                time.sleep(0.02)
    finally:
        still.resume()
    cluster.await_isr(topic, 3)


@pytest.mark.timeout(120)
def test_too_few_in_sync_refuse_writes_and_show_nothing_that_could_be_lost(cluster: Cluster[Any]) -> None:
    topic = cluster.create_topic("few", replicas=2, min_isr=2)
    written = produce(cluster.bootstrap, topic, generated(50, seed=1))
    leader = cluster.leader(topic)
    (follower,) = [cluster.nodes[node_id] for node_id in cluster.part(topic).replicas if node_id != leader.node_id]
    follower.pause()
    try:
        awake = cluster.others(follower)
        cluster.await_isr_of(topic, leader, via=awake)
        taken = await_refusal(leader, topic)
        assert taken >= 50
        # Only one replica has it: no consumer may see it yet (KIP-966).
        with Wire(leader.host, leader.port) as wire:
            assert requests.list_offset(wire, topic, requests.LATEST).offset == 50
        expect_same(written, read_replica(leader, topic, 50))
    finally:
        follower.resume()
    cluster.await_isr(topic, 2)
    wait_until("the record to be seen", lambda: cluster.end_offset(topic) == taken + 1)
    assert write(leader, topic, acks=-1) == (requests.NONE, taken + 1)
    expect_replicas(cluster, topic, consume(cluster.bootstrap, topic))


@pytest.mark.timeout(120)
def test_a_smaller_min_isr_lets_writes_through_at_once(cluster: Cluster[Any]) -> None:
    topic = cluster.create_topic("loosened", replicas=2, min_isr=2)
    leader = cluster.leader(topic)
    (follower,) = [cluster.nodes[node_id] for node_id in cluster.part(topic).replicas if node_id != leader.node_id]
    follower.pause()
    try:
        cluster.await_isr_of(topic, leader, via=cluster.others(follower))
        await_refusal(leader, topic)
        set_topic(leader, topic, min_insync_replicas="1")
        wait_until("the write to be taken", lambda: write(leader, topic, acks=-1, timeout_ms=500)[0] == requests.NONE)
    finally:
        follower.resume()
    cluster.await_isr(topic, 2)
    expect_replicas(cluster, topic, consume(cluster.bootstrap, topic))


def test_only_the_leader_takes_writes(cluster: Cluster[Any]) -> None:
    topic = cluster.create_topic("led")
    leader = cluster.leader(topic)
    for node in cluster.others(leader):
        for acks in (1, -1):
            assert write(node, topic, acks)[0] == requests.NOT_LEADER_OR_FOLLOWER
    assert write(leader, topic, acks=-1) == (requests.NONE, 0)
    assert cluster.end_offset(topic) == 1


def test_a_broker_that_does_not_lead_says_so_in_every_version(cluster: Cluster[Any]) -> None:
    """Versions that can name the leader (KIP-951) and those that cannot: no client is left without an answer."""
    topic = cluster.create_topic("elsewhere")
    other = cluster.others(cluster.leader(topic))[0]
    with Wire(other.host, other.port, timeout_s=10) as wire:
        for version in range(3, 14):
            refused = requests.produce_raw(wire, topic, batch([(b"k", b"v")]), version=version)
            assert refused.error_code == requests.NOT_LEADER_OR_FOLLOWER, version
        for version in range(4, 17):
            wanted = topic_id(wire, topic) if version >= 13 else topic
            answer = wire.ask(requests.fetch_request({wanted: {0: 0}}, version=version, max_wait_ms=10))
            # From version 11 on consumers may read from any replica (KIP-392).
            expected = requests.NONE if version >= 11 else requests.NOT_LEADER_OR_FOLLOWER
            assert answer.responses[0].partitions[0].error_code == expected, version


@pytest.mark.timeout(120)
def test_deleted_records_stay_deleted_under_the_next_leader(cluster: Cluster[Any]) -> None:
    topic = cluster.create_topic("deleted")
    produce(cluster.bootstrap, topic, generated(100, seed=5))
    leader = cluster.leader(topic)
    admin, part = cluster.admin(), TopicPartition(topic, 0, 60)
    assert admin.delete_records([part])[part].result(20).low_watermark == 60
    leader.kill()
    start = start_told(cluster.leader(topic, unlike=leader), topic)
    cluster.start([leader])
    cluster.await_isr(topic, 3)
    assert start == 60


def start_told(node: Node, topic: str) -> int:
    """The log start as this node tells it once it leads: another may tell of a new leader before that one knows."""

    def told() -> tuple[int] | None:
        with Wire(node.host, node.port) as wire:
            answer = requests.list_offset(wire, topic, requests.EARLIEST)
        return (answer.offset,) if answer.error_code == requests.NONE else None

    return wait_until(f"node {node.node_id} to tell the log start", told)[0]


@pytest.mark.firn
@pytest.mark.timeout(120)
def test_a_log_start_that_readers_saw_stays_though_the_next_leader_had_not_heard_of_it(cluster: Cluster[Any]) -> None:
    topic = cluster.create_topic("unheard")
    produce(cluster.bootstrap, topic, generated(100, seed=6))
    # The controller stays awake, and the first in line to lead next is the one that stands still.
    controller = cluster.nodes[quorum(cluster.living[0]).leader_id]
    leader, deaf = cluster.others(controller)
    reassign(controller, topic, {0: [leader.node_id, deaf.node_id, controller.node_id]})
    elect(controller, PREFERRED, topic, 0)
    wait_until("the leader that is meant", lambda: cluster.leader(topic) is leader)
    cluster.await_isr(topic, 3)
    deaf.pause()
    try:
        # Answers the fetch that was under way.
        assert write(leader, topic, acks=1)[0] == requests.NONE
        assert delete_records(leader, topic, 60, timeout_ms=200)[0] == requests.REQUEST_TIMED_OUT
        wait_until("the log start to move", lambda: start_told(leader, topic) == 60)
        leader.kill()
    finally:
        deaf.resume()
    start = start_told(cluster.leader(topic, unlike=leader), topic)
    cluster.start([leader])
    cluster.await_isr(topic, 3)
    assert start == 60


@pytest.mark.firn
@pytest.mark.timeout(120)
def test_a_log_start_that_nobody_can_keep_is_not_shown(cluster: Cluster[Any]) -> None:
    topic = cluster.create_topic("unkept")
    produce(cluster.bootstrap, topic, generated(100, seed=7))
    leader = cluster.leader(topic)
    for node in cluster.others(leader):
        node.pause()
    try:
        assert delete_records(leader, topic, 60, timeout_ms=500)[0] == requests.REQUEST_TIMED_OUT
        assert start_told(leader, topic) == 0
    finally:
        for node in cluster.others(leader):
            node.resume()
    admin, part = cluster.admin(), TopicPartition(topic, 0, 60)
    assert admin.delete_records([part])[part].result(20).low_watermark == 60
    assert start_told(cluster.leader(topic), topic) == 60
    cluster.await_isr(topic, 3)
