"""The disk of one replica changes a bit of a segment, then leadership changes: nothing is skipped, nothing else suffers."""

from pathlib import Path

import pytest

from harness import requests
from harness.batches import headers_of
from harness.cluster import Cluster, FirnNode
from harness.cluster_requests import elect
from harness.process import wait_until
from harness.records import Row, consume, expect_same, generated, produce
from harness.replicas import expect_replicas
from harness.wire import Wire

pytestmark = pytest.mark.firn
HOT = {"remote.storage.enable": "false", "segment.ms": "3600000"}
ONE = {"batch.num.messages": 1}
PREFERRED = 0


def segment(node: FirnNode, topic: str) -> Path:
    """The only segment file of the topic's only partition on that node."""
    (path,) = (node.data_dir / "topics").glob(f"{topic}-0.*/*.log")
    return path


def flip(path: Path, position: int, mask: int) -> None:
    """Changes one bit."""
    with path.open("r+b") as file:
        file.seek(position)
        (byte,) = file.read(1)
        file.seek(position)
        file.write(bytes([byte ^ mask]))


def lead(cluster: Cluster[FirnNode], node: FirnNode, topic: str) -> None:
    """Makes the preferred leader lead."""
    elect(node, PREFERRED, topic, 0)
    wait_until(f"node {node.node_id} to lead", lambda: cluster.leader(topic) is node)


def diverge(cluster: Cluster[FirnNode], topic: str) -> tuple[FirnNode, list[Row]]:
    """Gives the preferred leader five records that no other node has, and kills it while the others go on without it.

    Answers that node and what is committed. It will have to truncate when it comes back.
    """
    written = produce(cluster.bootstrap, topic, generated(300, seed=1), **ONE)
    old = cluster.nodes[cluster.part(topic).replicas[0]]
    # An orderly end writes a checkpoint: the journal does not have these records any more, and cannot put them right.
    old.stop()
    old.start()
    cluster.await_isr(topic, 3)
    lead(cluster, old, topic)
    others = cluster.others(old)
    # Two of three nodes are down: no replica can leave the ISR.
    cluster.kill(others)
    produce(old.bootstrap, topic, generated(5, seed=2), acks=1, **ONE)
    old.kill()
    cluster.start(others)
    cluster.leader(topic, unlike=old)
    return old, written + produce(cluster.bootstrap, topic, generated(20, seed=3), **ONE)


@pytest.mark.timeout(180)
def test_a_damaged_replica_truncates_leads_and_skips_no_record(cluster: Cluster[FirnNode]) -> None:
    topic = cluster.create_topic("damaged", min_isr=1, config=HOT)
    other = cluster.create_topic("sound", min_isr=1, config=HOT)
    sound = produce(cluster.bootstrap, other, generated(50, seed=4))
    old, written = diverge(cluster, topic)
    path = segment(old, topic)
    size = 12 + int.from_bytes(path.read_bytes()[8:12])
    # The offset of the second batch: no checksum covers it.
    flip(path, size + 7, 0x10)
    cluster.start([old])
    cluster.await_isr(topic, 3)
    log = old.log_text()
    assert "gave up records that the leader does not have" in log, "it did not have to truncate"
    assert "has failed" not in log
    lead(cluster, old, topic)
    with Wire(old.host, old.port) as wire:
        answer = requests.fetch_one(wire, topic, 1)
        assert answer.error_code in (requests.NONE, requests.CORRUPT_MESSAGE)
        if answer.error_code == requests.NONE:
            assert headers_of(answer.records)[0][0] == 1, "a record was skipped"

        def restored() -> bool:
            return requests.fetch_one(wire, topic, 1).error_code == requests.NONE

        wait_until("the other replicas to restore the damaged record", restored)
    expect_same(written, consume(cluster.bootstrap, topic))
    expect_replicas(cluster, topic, written)
    expect_same(sound, consume(cluster.bootstrap, other))


@pytest.mark.timeout(180)
def test_a_damaged_batch_and_a_truncation_leave_a_broker_that_starts_again(cluster: Cluster[FirnNode]) -> None:
    topic = cluster.create_topic("damaged", min_isr=1, config=HOT)
    other = cluster.create_topic("sound", min_isr=1, config=HOT)
    sound = produce(cluster.bootstrap, other, generated(50, seed=4))
    old, written = diverge(cluster, topic)
    flip(segment(old, topic), 70, 0x04)
    cluster.start([old])
    cluster.await_isr(topic, 3)
    sound += produce(cluster.bootstrap, other, generated(50, seed=5))
    # The journal still has the truncation.
    old.kill()
    old.start()
    for name in (topic, other):
        cluster.await_isr(name, 3)
    sound += produce(cluster.bootstrap, other, generated(50, seed=6))
    expect_same(sound, consume(cluster.bootstrap, other))
    expect_replicas(cluster, other, sound)
    expect_same(written, consume(cluster.bootstrap, topic))
