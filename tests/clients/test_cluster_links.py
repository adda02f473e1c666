"""Nodes that live but do not hear each other: cuts in both directions, in one, between two only, and links that leak.

Clients reach every node all the time, so an old leader that does not know of the new one is asked to write, too.
"""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import KafkaException, Producer

from conftest import new_cluster
from harness import requests
from harness.batches import batch
from harness.cluster import Cluster, Node
from harness.cluster_requests import describe_cluster, quorum
from harness.load import Load, expect_all
from harness.namespaces import Network, why_not
from harness.process import wait_until
from harness.records import consume
from harness.replicas import expect_replicas
from harness.wire import Closed, Wire

MISSING = why_not()
pytestmark = pytest.mark.skipif(MISSING is not None, reason=MISSING or "")
PARTITIONS = 2
# By default a client waits for an answer of a leader that cannot answer for half a minute.
IMPATIENT = {"socket.timeout.ms": 2000}


@pytest.fixture(scope="module")
def net() -> Iterator[Network]:
    made = Network((1, 2, 3))
    yield made
    made.close()


@pytest.fixture(scope="module")
def cluster(work_dir: Any, net: Network) -> Iterator[Cluster[Any]]:
    """Three nodes, each in a namespace of its own."""
    instance = new_cluster(work_dir / "cluster", network=net)
    try:
        instance.start()
        yield instance
        died = [node.tail() for node in instance.nodes.values() if not node.alive()]
        assert not died, "\n".join(died)
    finally:
        instance.close()
    instance.expect_healthy_logs()


@pytest.fixture(autouse=True)
def healed(net: Network) -> Iterator[None]:
    """Every test leaves whole links behind."""
    yield
    net.heal()


def finish(cluster: Cluster[Any], net: Network, load: Load) -> None:
    """The links are whole: all replicas come to have the same, every acknowledged record once."""
    net.heal()
    cluster.await_isr(load.topic, 3, timeout_s=60)
    load.await_progress()
    load.finish()
    read = consume(cluster.bootstrap, load.topic, partitions=load.partitions)
    expect_all(load, read)
    expect_replicas(cluster, load.topic, read, partitions=load.partitions)


def controller(cluster: Cluster[Any], unlike: Node | None = None) -> Node:
    """The node that leads the metadata log, as another than `unlike` tells."""
    asked = next(node for node in cluster.living if node is not unlike)
    return cluster.nodes[describe_cluster(asked).controller_id]


@pytest.mark.timeout(120)
def test_an_isolated_leader_acknowledges_nothing_and_throws_away_what_it_took(cluster: Cluster[Any], net: Network) -> None:
    """Redpanda#31140: a leader that could not replicate its epoch let a stale write in, and poisoned all replicas."""
    topic = cluster.create_topic("isolated", partitions=PARTITIONS)
    with Load(cluster.bootstrap, topic, PARTITIONS, per_second=2000, **IMPATIENT) as load:
        load.await_progress()
        old = cluster.leader(topic)
        net.isolate(old.node_id)
        # Taken by one node of three, promised by nobody: the new leader's lineage is without it.
        with Wire(old.host, old.port, timeout_s=5) as wire:
            stale = requests.produce_raw(wire, topic, batch([(b"stale", b"write")]), acks=1)
            assert stale.error_code in (requests.NONE, requests.NOT_LEADER_OR_FOLLOWER)
        new = cluster.leader(topic, unlike=old)
        load.await_progress()
        with pytest.raises((AssertionError, OSError, Closed)), Wire(old.host, old.port, timeout_s=4) as wire:
            answer = requests.produce_raw(wire, topic, batch(), acks=-1)
            assert answer.error_code == requests.NONE, "the old leader acknowledged alone"
        assert cluster.part(topic, via=new).leader == new.node_id
        # Every record that is read is one of the load's: the stale write is nowhere.
        finish(cluster, net, load)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("direction", ["out", "in"])
def test_a_node_that_only_hears_or_is_only_heard_stops_nobody(cluster: Cluster[Any], net: Network, direction: str) -> None:
    topic = cluster.create_topic(f"one-way-{direction}", partitions=PARTITIONS)
    with Load(cluster.bootstrap, topic, PARTITIONS, per_second=2000, **IMPATIENT) as load:
        load.await_progress()
        victim = controller(cluster)
        for other in cluster.others(victim):
            ends = (victim.node_id, other.node_id)
            net.cut(*(ends if direction == "out" else reversed(ends)))
        others = cluster.others(victim)
        cluster.await_parts(
            "others to lead", topic, lambda part: part.leader in {node.node_id for node in others}, via=others
        )
        load.await_progress()
        finish(cluster, net, load)


@pytest.mark.timeout(120)
def test_two_nodes_that_do_not_hear_each_other_do_not_stop_the_third(cluster: Cluster[Any], net: Network) -> None:
    """Redpanda#30885: a follower that hears its leader no more livelocked the votes, and acks=all stood still."""
    topic = cluster.create_topic("partial", partitions=PARTITIONS)
    with Load(cluster.bootstrap, topic, PARTITIONS, per_second=2000, **IMPATIENT) as load:
        load.await_progress()
        leader = controller(cluster)
        cut = cluster.others(leader)[0]
        net.cut_both(leader.node_id, cut.node_id)
        # Long enough for several elections, if there were any: progress again and again.
        for _ in range(5):
            load.await_progress(30)
        # Whoever leads now, the cluster's metadata can still be changed while the cut lasts.
        made = cluster.others(cut)[0].create_topic("during-the-cut", partitions=1, replicas=1)
        assert made
        finish(cluster, net, load)


@pytest.mark.timeout(120)
def test_a_node_that_comes_back_does_not_unseat_the_controller(cluster: Cluster[Any], net: Network) -> None:
    """A voter that was alone must not have raised the term: the leader of the log would have to give up for it."""
    topic = cluster.create_topic("back", partitions=PARTITIONS)
    with Load(cluster.bootstrap, topic, PARTITIONS, per_second=1000, **IMPATIENT) as load:
        load.await_progress()
        leader = controller(cluster)
        before = quorum(leader).leader_epoch
        alone = cluster.others(leader)[0]
        net.isolate(alone.node_id)
        cluster.await_parts("the others in sync", topic, lambda part: alone.node_id not in part.isr, via=[leader])
        # Twice as long as a voter waits for a leader at the most.
        cut_until = time.monotonic() + 8
        while time.monotonic() < cut_until:
            load.await_progress()
        finish(cluster, net, load)
    after = quorum(leader)
    assert (after.leader_id, after.leader_epoch) == (leader.node_id, before)


@pytest.mark.timeout(120)
def test_links_that_lose_packets_lose_no_records(cluster: Cluster[Any], net: Network) -> None:
    topic = cluster.create_topic("leaking", partitions=PARTITIONS)
    with Load(cluster.bootstrap, topic, PARTITIONS, per_second=1000, **IMPATIENT) as load:
        load.await_progress()
        net.leak(15)
        for _ in range(3):
            load.await_progress()
        finish(cluster, net, load)


@pytest.mark.timeout(120)
def test_nodes_that_hear_nobody_wait_and_go_on(cluster: Cluster[Any], net: Network) -> None:
    topic, doomed = cluster.create_topic("scattered"), cluster.create_topic("doomed")
    for node in net.nodes:
        net.isolate(node)
    leader = cluster.leader(topic)
    acknowledged: list[Any] = []
    producer = Producer({"bootstrap.servers": leader.bootstrap, "acks": "all", "message.timeout.ms": 90_000, "log_level": 0})
    producer.produce(topic, b"waits", on_delivery=lambda error, message: acknowledged.append((error, message.offset())))
    assert producer.flush(3) == 1 and not acknowledged, "one node of three acknowledged alone"
    with pytest.raises((KafkaException, TimeoutError)):
        admin = leader.admin()
        admin.delete_topics([doomed], operation_timeout=2, request_timeout=3)[doomed].result(10)
    net.heal()
    assert producer.flush(60) == 0
    assert acknowledged == [(None, 0)]

    def settled() -> bool:
        # A deletion whose answer was lost may still happen: then it happens everywhere.
        told = [bool(cluster.parts(doomed, node)) for node in cluster.living]
        return len(set(told)) == 1

    wait_until("the nodes to agree on the topic", settled)
