"""One node that becomes three: what its groups committed while it was alone gets its other replicas by itself."""

import json
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition

from conftest import StartCluster
from harness.broker import unique
from harness.cluster import Cluster, FirnNode, joining_node
from harness.cluster_command import ask
from harness.process import wait_until
from harness.records import generated, produce

pytestmark = pytest.mark.firn

OFFSETS = "__consumer_offsets"


def consumer(cluster: Cluster[FirnNode], group: str) -> Consumer:
    """A consumer of the group."""
    return Consumer({"bootstrap.servers": cluster.bootstrap, "group.id": group, "enable.auto.commit": False, "log_level": 0})


def committed(cluster: Cluster[FirnNode], group: str, topic: str) -> int:
    """The group's offset of partition 0."""
    asking = consumer(cluster, group)
    try:
        (found,) = asking.committed([TopicPartition(topic, 0)], timeout=20)
        assert found.error is None, found.error
        return found.offset
    finally:
        asking.close()


def findings(cluster: Cluster[FirnNode]) -> list[dict[str, Any]]:
    """What `firn cluster check` finds."""
    run = cluster.living[0].cli("cluster", "check", "--bootstrap", cluster.bootstrap, "--json", check=False)
    found: list[dict[str, Any]] = json.loads(run.stdout)["findings"]
    return found


@pytest.mark.timeout(240)
def test_the_offsets_of_groups_are_replicated_when_a_node_gets_company(start_cluster: StartCluster, tmp_path: Path) -> None:
    cluster = start_cluster(size=1)
    topic = cluster.create_topic("alone", replicas=1, min_isr=1)
    produce(cluster.bootstrap, topic, generated(50, seed=1))
    groups = [unique("group") for _ in range(8)]
    for number, group in enumerate(groups):
        member = consumer(cluster, group)
        member.commit(offsets=[TopicPartition(topic, 0, number + 1)], asynchronous=False)
        member.close()
    assert {len(part.replicas) for part in cluster.parts(OFFSETS).values()} == {1}
    second, third = (joining_node(cluster, tmp_path / "joining", number) for number in (2, 3))
    second.start()
    assert {len(part.replicas) for part in cluster.parts(OFFSETS).values()} == {1}, "two are not enough"
    third.start()
    parts = cluster.await_isr(OFFSETS, 3)
    assert {part.replicas[0] for part in parts.values()} == {1, 2, 3}, "the leaders are spread"
    assert len(cluster.part(topic).replicas) == 1, "other topics stay as they are"
    found = {finding["what"]: finding for finding in findings(cluster)}
    (fewer,) = [finding for what, finding in found.items() if "fewer replicas than default.replication.factor (3)" in what]
    assert fewer["severity"] == "note" and fewer["where"] == [f"{topic}: 1 replica"], fewer
    (voters,) = [finding for what, finding in found.items() if "the metadata have 1 voter (2 more nodes" in what]
    assert voters["severity"] == "problem" and "firn cluster voters add 2" in voters["advice"], voters
    ask(cluster, "voters", "add", "2")
    assert any("the metadata have 2 voters (1 more node without a vote: 3)" in f["what"] for f in findings(cluster))
    ask(cluster, "voters", "add", "3")
    assert not [finding for finding in findings(cluster) if finding["severity"] == "problem"]
    # What somebody decides stays.
    ask(cluster, "reassign", OFFSETS, "--partition", "0", "--replicas", "2")
    assert cluster.part(OFFSETS, 0).replicas == (2,)
    ask(cluster, "reassign", OFFSETS, "--partition", "0", "--replicas", "2,3")
    first = cluster.nodes[1]
    first.kill()
    for number, group in enumerate(groups):
        wait_until(f"the offset of group {number}", lambda g=group, n=number: committed(cluster, g, topic) == n + 1)
    first.start()
    parts = cluster.await_parts("all replicas in sync", OFFSETS, lambda part: part.isr == frozenset(part.replicas))
    assert {index: len(part.replicas) for index, part in parts.items()} == {0: 2, 1: 3, 2: 3, 3: 3}
