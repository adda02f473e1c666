"""Three nodes become one cluster, and stay one: restarts, all killed at once, a minority lost, the majority lost."""

from typing import Any

import pytest
from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import NewTopic

from harness.broker import unique
from harness.cluster import Cluster, Node
from harness.cluster_requests import describe_cluster
from harness.process import wait_until
from harness.records import Draft, consume, expect_same, generated, produce
from harness.replicas import expect_replicas, read_replica


def brokers_told(cluster: Cluster[Any], node: Node) -> dict[int, tuple[str, str | None]]:
    """The brokers that one node tells: address and rack by id."""
    described = describe_cluster(node)
    assert described.controller_id in cluster.nodes
    return {broker.broker_id: (f"{broker.host}:{broker.port}", broker.rack) for broker in described.brokers}


def await_all_told(cluster: Cluster[Any], *missing: Node) -> None:
    """Waits until every living node tells all brokers but the missing ones."""
    wanted = {node.node_id: (node.bootstrap, node.rack) for node in cluster.others(*missing)}
    for node in cluster.living:
        wait_until(f"node {node.node_id} to tell {wanted}", lambda node=node: brokers_told(cluster, node) == wanted)


def test_every_node_tells_the_same_cluster(cluster: Cluster[Any]) -> None:
    await_all_told(cluster)
    ids = {describe_cluster(node).cluster_id for node in cluster.nodes.values()}
    assert len(ids) == 1
    topic = cluster.create_topic("spread", partitions=6)
    leaders = [part.leader for part in cluster.parts(topic).values()]
    assert {leaders.count(node_id) for node_id in cluster.nodes} == {2}, f"leaders are not even: {leaders}"
    written = [row for node in cluster.nodes.values() for row in produce_spread(node, topic, 6)]
    for node in cluster.nodes.values():
        expect_same(written, consume(node.bootstrap, topic, partitions=6))


def produce_spread(node: Node, topic: str, partitions: int) -> list[Any]:
    """Some records to every partition, by way of one node."""
    return produce(node.bootstrap, topic, [Draft(value=b"%d" % index, partition=index % partitions) for index in range(60)])


@pytest.mark.timeout(180)
def test_each_node_restarts_and_the_cluster_goes_on(cluster: Cluster[Any]) -> None:
    topic = cluster.create_topic("restarted", partitions=3)
    written = produce(cluster.bootstrap, topic, generated(300, seed=1, partitions=3))
    for turn, node in enumerate(list(cluster.nodes.values())):
        node.kill()
        await_all_told(cluster, node)
        made_meanwhile = cluster.others(node)[0].create_topic(f"without-{node.node_id}", replicas=2)
        written += produce(cluster.bootstrap, topic, generated(60, seed=10 + turn, partitions=3))
        cluster.start([node])
        await_all_told(cluster)
        cluster.await_isr(topic, 3)
        assert cluster.parts(made_meanwhile, node)
        expect_same(written, consume(node.bootstrap, topic, partitions=3))
    expect_replicas(cluster, topic, written, partitions=3)


@pytest.mark.timeout(180)
def test_all_nodes_are_killed_at_once(cluster: Cluster[Any]) -> None:
    topic = cluster.create_topic("outage", partitions=3)
    written = produce(cluster.bootstrap, topic, generated(600, seed=2, partitions=3))
    cluster.kill()
    cluster.start()
    cluster.await_isr(topic, 3)
    expect_same(written, consume(cluster.bootstrap, topic, partitions=3))
    written += produce(cluster.bootstrap, topic, generated(60, seed=3, partitions=3))
    expect_replicas(cluster, topic, written, partitions=3)


@pytest.mark.timeout(180)
def test_without_the_majority_reads_go_on_and_writes_wait(cluster: Cluster[Any]) -> None:
    topic = cluster.create_topic("minority", config={"segment.bytes": str(1 << 20)})
    written = produce(cluster.bootstrap, topic, generated(300, seed=4))
    survivor = cluster.leader(topic)
    cluster.kill(cluster.others(survivor))
    acknowledged: list[Any] = []
    producer = Producer(
        {"bootstrap.servers": survivor.bootstrap, "enable.idempotence": True, "message.timeout.ms": 120_000, "log_level": 0}
    )
    producer.produce(topic, b"waits", on_delivery=lambda error, message: acknowledged.append((error, message)))
    producer.poll(0.1)
    expect_same(written, read_replica(survivor, topic, len(written)))
    with pytest.raises(KafkaException):
        new = NewTopic(unique("impossible"), 1, 1)
        admin = survivor.admin()
        admin.create_topics([new], operation_timeout=2, request_timeout=3)[new.topic].result(20)
    producer.poll(1)
    assert not acknowledged, "a write was acknowledged by one node of three"
    cluster.start(cluster.others(survivor))
    cluster.await_isr(topic, 3)
    assert producer.flush(60) == 0
    ((error, message),) = acknowledged
    assert error is None and message.offset() == len(written), (error, message.offset())
    assert [row.value for row in consume(cluster.bootstrap, topic)] == [*(row.value for row in written), b"waits"]
