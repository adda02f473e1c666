"""Leaders are killed, stopped, paused and restarted under load: nothing is lost or doubled, and producers soon go on."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest
from confluent_kafka import Consumer
from kafka.protocol.metadata import MetadataRequest

from harness.cluster import NO_NODE, Cluster, Node
from harness.load import Load, expect_all, number_of
from harness.process import wait_until
from harness.records import consume
from harness.replicas import expect_replicas
from harness.wire import Wire

PARTITIONS = 3
PER_SECOND = 4000


def finish(cluster: Cluster[Any], load: Load) -> None:
    """Every record exactly once, in order, at its place, in every replica."""
    load.finish()
    read = consume(cluster.bootstrap, load.topic, partitions=load.partitions)
    expect_all(load, read)
    cluster.await_isr(load.topic, 3)
    expect_replicas(cluster, load.topic, read, partitions=load.partitions)


@pytest.mark.timeout(240)
def test_a_killed_leader_loses_doubles_and_reorders_nothing(cluster: Cluster[Any]) -> None:
    topic = cluster.create_topic("killed", partitions=PARTITIONS)
    with Load(cluster.bootstrap, topic, PARTITIONS, per_second=PER_SECOND) as load:
        for turn in range(3):
            load.await_progress()
            load.longest_pause_s = 0
            leader = cluster.leader(topic, turn % PARTITIONS)
            leader.kill()
            load.await_progress()
            print(f"node {leader.node_id} killed: {load.longest_pause_s * 1000:.0f} ms without an acknowledgement")
            cluster.start([leader])
            cluster.await_isr(topic, 3)
        finish(cluster, load)


@pytest.mark.timeout(120)
def test_a_producer_resumes_soon_after_its_leader_was_killed(cluster: Cluster[Any]) -> None:
    topic = cluster.create_topic("resumes")
    with Load(cluster.bootstrap, topic, 1, per_second=1000, burst=2) as load:
        load.await_progress()
        load.longest_pause_s = 0
        leader = cluster.leader(topic)
        leader.kill()
        load.await_progress()
        pause_s = load.longest_pause_s
        print(f"{pause_s * 1000:.0f} ms without an acknowledgement after SIGKILL")
        cluster.start([leader])
        finish(cluster, load)
    # The goal is a second on a quiet machine; this only tells a broken connection from a timeout.
    assert pause_s < 5, f"no acknowledgement for {pause_s:.1f} s"


@pytest.mark.timeout(120)
@pytest.mark.parametrize("how", ["kill", "stop"])
def test_who_sees_the_end_of_a_leader_first_is_told_the_next_one(cluster: Cluster[Any], how: str) -> None:
    """A client asks as soon as a connection breaks, perhaps before the one that is asked has seen the loss.

    The lost broker is named on for a while: librdkafka drops one that is not, and its partitions with it, before it looks
    at who leads them now.
    """
    topic = cluster.create_topic("asked")
    asking = MetadataRequest[12](topics=[MetadataRequest.MetadataRequestTopic(name=topic)], allow_auto_topic_creation=False)
    for turn in range(3):
        leader = cluster.leader(topic)
        with ExitStack() as open_ones, ThreadPoolExecutor(1) as pool:

            def connect(node: Node, open_ones: ExitStack = open_ones) -> Wire:
                return open_ones.enter_context(Wire(node.host, node.port))

            watched, asked = connect(leader), [connect(node) for node in cluster.others(leader)]
            ended = pool.submit(leader.kill if how == "kill" else leader.stop)
            assert watched.closed_by_server()
            for wire in asked:
                wire.send(asking)
            for wire in asked:
                answer = wire.receive(asking)
                assert answer.topics[0].partitions[0].leader_id not in (leader.node_id, NO_NODE), answer
                assert leader.node_id in {broker.node_id for broker in answer.brokers}
            ended.result()
            left = {node.node_id for node in cluster.living}
            for wire in asked if turn == 0 else ():
                wait_until(
                    "the lost broker to be named no longer",
                    lambda wire=wire, left=left: {broker.node_id for broker in wire.ask(asking).brokers} == left,
                )
        cluster.start([leader])
        cluster.await_isr(topic, 3)


@pytest.mark.timeout(240)
def test_a_leader_that_stands_still_is_replaced_and_follows_when_it_wakes(cluster: Cluster[Any]) -> None:
    topic = cluster.create_topic("paused", partitions=PARTITIONS)
    # By default a client waits for an answer of the old leader for half a minute.
    with Load(cluster.bootstrap, topic, PARTITIONS, per_second=PER_SECOND, **{"socket.timeout.ms": 2000}) as load:
        load.await_progress()
        load.longest_pause_s = 0
        leader = cluster.leader(topic)
        before = cluster.part(topic)
        leader.pause()
        try:
            new = cluster.leader(topic, unlike=leader)
            assert cluster.part(topic, via=new).epoch > before.epoch
            load.await_progress()
            print(f"node {leader.node_id} paused: {load.longest_pause_s * 1000:.0f} ms without an acknowledgement")
        finally:
            leader.resume()
        finish(cluster, load)


@pytest.mark.timeout(240)
def test_a_controlled_shutdown_hands_over_before_it_ends(cluster: Cluster[Any]) -> None:
    topic = cluster.create_topic("handed", partitions=PARTITIONS)
    with Load(cluster.bootstrap, topic, PARTITIONS, per_second=PER_SECOND) as load:
        load.await_progress()
        load.longest_pause_s = 0
        leader = cluster.leader(topic)
        leader.stop()
        # Nobody had to find out that it is gone: the others lead already.
        assert all(part.leader not in (leader.node_id, -1) for part in cluster.parts(topic).values())
        load.await_progress()
        print(f"node {leader.node_id} stopped: {load.longest_pause_s * 1000:.0f} ms without an acknowledgement")
        cluster.start([leader])
        finish(cluster, load)


@pytest.mark.timeout(240)
def test_a_rolling_restart_fails_no_client(cluster: Cluster[Any]) -> None:
    topic = cluster.create_topic("rolled", partitions=PARTITIONS)
    troubles: list[str] = []
    consumer = Consumer(
        {"bootstrap.servers": cluster.bootstrap, "group.id": topic, "auto.offset.reset": "earliest", "log_level": 0,
         "error_cb": lambda error: troubles.append(str(error)) if error.fatal() else None}
    )  # fmt: skip
    consumer.subscribe([topic])
    seen: dict[int, list[int]] = {partition: [] for partition in range(PARTITIONS)}

    def read_on(goal: int) -> None:
        def reached() -> bool:
            for message in consumer.consume(500, timeout=0.1):
                error = message.error()
                if error is not None:
                    assert error.retriable(), error
                else:
                    seen[message.partition()].append(message.offset())
            return sum(len(offsets) for offsets in seen.values()) >= goal

        wait_until(f"{goal} records", reached, 60, 0)

    with Load(cluster.bootstrap, topic, PARTITIONS, per_second=2000) as load:
        for node in cluster.nodes.values():
            load.await_progress()
            read_on(len(load.acknowledged))
            node.restart()
            cluster.await_isr(topic, 3)
        load.finish()
        read_on(load.sent)
        consumer.close()
        assert not troubles
        read = consume(cluster.bootstrap, topic, partitions=PARTITIONS)
        expect_all(load, read)
        # A group may read again what it had not committed, and may not skip anything.
        for partition, offsets in seen.items():
            assert set(offsets) == {row.offset for row in read if row.partition == partition}
        assert {number_of(row) for row in read} == set(range(load.sent))
