"""A leader of three is killed or stopped under load: how long nothing is acknowledged, and how fast many leaders change."""

import time
from collections.abc import Callable, Mapping

from confluent_kafka.admin import NewTopic

from clients import run
from harness.broker import unique
from harness.cluster import NOBODY, Node
from harness.cluster_requests import PREFERRED, elect
from harness.load import Load
from peers.brokers import KINDS, AnyCluster
from peers.figures import Run

_PER_SECOND = 1000
_BURST = 3
"""One record of each partition, every 3 ms."""
_FIRN_TURNS = 3
"""Kafka's figure is its session timeout, and its brokers take long to come back: one turn of it is enough."""
_MANY = 1000


def measure(bench: Run, name: str, cluster: AnyCluster, config: Mapping[str, str]) -> None:
    """SIGKILL, then SIGTERM, of a leader while each broker leads a partition that is written to; the worst of some turns."""
    topic = cluster.create_topic("failover", partitions=len(cluster.nodes), config=config)
    for case, end in (("three-killed", lambda node: node.kill()), ("three-stopped", lambda node: node.stop())):
        turns = 1 if KINDS[name].kafka else _FIRN_TURNS
        pauses = [_pause_s(cluster, topic, end) for _ in range(turns)]
        bench.add(name, case, "pause_s", max(pauses))


def _pause_s(cluster: AnyCluster, topic: str, end: Callable[[Node], None]) -> float:
    """The longest time without an acknowledgement of a partition while a leader ends; the cluster is whole again then."""
    load = Load(cluster.bootstrap, topic, len(cluster.nodes), per_second=_PER_SECOND, burst=_BURST)
    try:
        load.await_progress()
        leader = cluster.leader(topic)
        load.longest_pause_s = 0
        end(leader)
        cluster.leader(topic, unlike=leader)
        load.await_progress()
        pause_s = load.longest_pause_s
        load.finish()  # nothing is lost
    finally:
        load.abandon()
    cluster.start([leader])
    cluster.await_isr(topic, len(cluster.nodes), timeout_s=60)
    elect(cluster.living[0], PREFERRED, topic, *range(len(cluster.nodes)))
    return pause_s


def measure_many(bench: Run, name: str, cluster: AnyCluster, config: Mapping[str, str]) -> None:
    """SIGKILL of the leader of 1,000 partitions, until both others tell of new leaders, and until each has a record more."""
    topic, leader = unique("many"), next(iter(cluster.nodes.values()))
    others = [node.node_id for node in cluster.others(leader)]
    admin = cluster.admin()
    replicas = [[leader.node_id, *others]] * _MANY
    start = time.monotonic()
    wanted = NewTopic(
        topic, _MANY, replica_assignment=replicas, config=leader.topic_config({**config, "min.insync.replicas": "2"})
    )
    admin.create_topics([wanted], operation_timeout=60)[topic].result(90)
    cluster.await_parts("led by one", topic, lambda part: part.leader == leader.node_id and len(part.isr) == 3, timeout_s=90)
    _write_each(bench, cluster, topic)
    bench.add(name, "three-many", "create_s", time.monotonic() - start)
    killed = time.monotonic()
    leader.kill()
    cluster.await_parts("led by others", topic, lambda part: part.leader not in (NOBODY, leader.node_id), timeout_s=90)
    bench.add(name, "three-many", "leaders_s", time.monotonic() - killed)
    _write_each(bench, cluster, topic)
    bench.add(name, "three-many", "acknowledging_s", time.monotonic() - killed)


def _write_each(bench: Run, cluster: AnyCluster, topic: str) -> None:
    """One record to each partition."""
    run(
        cluster, "produce", topic, "--records", _MANY, "--partitions", _MANY, "--call-records", 1,
        launcher=bench.cores.client,
    )  # fmt: skip
