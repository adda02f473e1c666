"""What followers serve, and what they refuse to store."""

from typing import Any

import pytest

from harness import requests
from harness.cluster import Cluster, FirnNode
from harness.process import wait_until
from harness.records import Draft, consume, expect_same, generated, produce
from harness.replicas import read_replica
from harness.wire import Wire

SETTINGS = {"replica.selector.class": "org.apache.kafka.common.replica.RackAwareReplicaSelector"}


@pytest.mark.timeout(120)
def test_a_leader_sends_consumers_to_the_replica_of_their_rack(cluster: Cluster[Any]) -> None:
    topic = cluster.create_topic("racks")
    written = produce(cluster.bootstrap, topic, generated(300, seed=1))
    leader = cluster.leader(topic)
    for node in cluster.nodes.values():
        with Wire(leader.host, leader.port) as wire:
            told = requests.fetch_one(wire, topic, 0, rack=node.rack)
        if node is leader:
            assert told.preferred_read_replica == -1 and told.records
        else:
            assert told.preferred_read_replica == node.node_id and not told.records
        assert consume(cluster.bootstrap, topic, **{"client.rack": node.rack}) == written
    with Wire(leader.host, leader.port) as wire:
        assert requests.fetch_one(wire, topic, 0, rack="nowhere").preferred_read_replica == -1


def damage(node: FirnNode, topic: str, value: bytes) -> None:
    """Overwrites a record's value in the node's local log, more of it than could be put right."""
    for path in node.data_dir.glob(f"topics/{topic}-0.*/*.log"):
        place = path.read_bytes().find(value)
        if place >= 0:
            with path.open("r+b") as file:
                file.seek(place)
                file.write(bytes(byte ^ 0xFF for byte in value))
            return
    raise AssertionError(f"node {node.node_id} has no record {value!r}")


@pytest.mark.timeout(180)
def test_damage_in_a_leaders_log_does_not_reach_a_follower(cluster: Cluster[Any]) -> None:
    """A follower that has to copy a damaged batch waits for a leader that has it intact; other partitions go on."""
    topic = cluster.create_topic("damaged", config={"compression.type": "uncompressed"}, min_isr=1)
    other = cluster.create_topic("unharmed", min_isr=1)
    first = produce(cluster.bootstrap, topic, generated(20, seed=2))
    leader = cluster.leader(topic)
    late = cluster.others(leader)[0]
    late.stop()
    for name in (topic, other):
        cluster.await_isr(name, 2, via=cluster.living)
    value = b"the value that does not survive on the leader's disk"
    produce(cluster.bootstrap, topic, [Draft(key=None, value=value, headers=(), timestamp=None, partition=0)])
    rest = produce(cluster.bootstrap, other, generated(200, seed=3))
    damage(leader, topic, value)
    late.start()
    cluster.await_isr(other, 3)
    assert read_replica(late, other, len(rest)) == rest
    told = f"cannot follow the leader, it is tried again leader={leader.node_id} partitions=1 first={topic}-0 "
    wait_until("the follower tells of it", lambda: told in late.log_text())
    assert late.node_id not in cluster.part(topic).isr, "it lacks what was acknowledged"
    # Another leader has it intact.
    leader.kill()
    cluster.leader(topic, unlike=leader)
    cluster.await_isr_of(topic, *cluster.others(leader), via=cluster.living)
    everything = consume(cluster.bootstrap, topic)
    assert everything[-1].value == value and len(everything) == len(first) + 1
    expect_same(everything, read_replica(late, topic, len(everything)))
    leader.start()
    cluster.await_isr(topic, 3)
