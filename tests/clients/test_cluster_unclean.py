"""Replicas that lost what they had: power cuts with and without flushes, and leaders that were not in sync."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import new_cluster
from harness.cluster import Cluster, FirnNode
from harness.cluster_requests import set_topic
from harness.cluster_tiers import archived, expect_contiguous, settle
from harness.load import Load, expect_all
from harness.loop_disk import LoopDisk, why_not
from harness.parquet_rows import pyarrow_rows
from harness.records import consume, expect_same, generated, produce
from harness.replicas import expect_replicas

MISSING = why_not()
pytestmark = pytest.mark.firn
needs_disks = pytest.mark.skipif(MISSING is not None, reason=MISSING or "")
PARTITIONS = 2
SMALL = {"batch.num.messages": 25}
TINY = {"segment.bytes": "16384", "segment.ms": "400"}


@pytest.fixture
def disks(tmp_path: Path) -> Iterator[tuple[Cluster[FirnNode], dict[int, LoopDisk]]]:
    """Three nodes, each on a disk of its own."""
    cluster = new_cluster(tmp_path / "cluster", {"firn.journal.bytes": str(8 << 20)})
    made: dict[int, LoopDisk] = {}
    try:
        for node_id, node in cluster.nodes.items():
            made[node_id] = LoopDisk(node.folder / "disk.img", node.data_dir, size_mb=128)
        cluster.start()
        yield cluster, made
        cluster.expect_healthy_logs()
    finally:
        cluster.close()
        for disk in made.values():
            disk.close()


@needs_disks
@pytest.mark.timeout(180)
def test_a_leader_that_loses_its_page_cache_takes_nothing_acknowledged_with_it(
    disks: tuple[Cluster[FirnNode], dict[int, LoopDisk]],
) -> None:
    """Without flushes a record is safe because others have it: who comes back with less must follow them, not lead."""
    cluster, own = disks
    topic = cluster.create_topic("unflushed", partitions=PARTITIONS, config={"firn.flush": "replicated", **TINY})
    with Load(cluster.bootstrap, topic, PARTITIONS, per_second=3000) as load:
        for turn in range(3):
            load.await_progress()
            leader = cluster.leader(topic, turn % PARTITIONS)
            own[leader.node_id].cut_power(flush_log=False)
            leader.kill()
            own[leader.node_id].remount()
            # Back before anybody may have noticed: its old place at the head must not be waiting for it.
            cluster.start([leader])
            load.await_progress()
            try:
                cluster.await_isr(topic, 3)
            except TimeoutError as error:
                raise TimeoutError(f"{error}\n{cluster.tail()}") from error
        load.finish()
        read = consume(cluster.bootstrap, topic, partitions=PARTITIONS)
        expect_all(load, read)
        expect_replicas(cluster, topic, read, partitions=PARTITIONS)


@needs_disks
@pytest.mark.timeout(180)
def test_a_power_cut_of_all_nodes_at_once_loses_nothing_acknowledged(
    disks: tuple[Cluster[FirnNode], dict[int, LoopDisk]],
) -> None:
    cluster, own = disks
    rng = random.Random(1)
    topic = cluster.create_topic("dark", partitions=PARTITIONS, config=TINY)
    with Load(cluster.bootstrap, topic, PARTITIONS, per_second=3000) as load:
        for _ in range(2):
            load.await_progress()
            for disk in own.values():
                disk.cut_power(flush_log=rng.random() < 0.5)
            cluster.kill()
            for disk in own.values():
                disk.remount()
            cluster.start()
            load.await_progress()
        load.finish()
        cluster.await_isr(topic, 3)
        read = consume(cluster.bootstrap, topic, partitions=PARTITIONS)
        expect_all(load, read)
        expect_replicas(cluster, topic, read, partitions=PARTITIONS)


@pytest.mark.timeout(120)
def test_an_unclean_leader_archives_its_own_lineage_without_a_gap(cluster: Cluster[FirnNode]) -> None:
    """KAFKA-15241: after an unclean election, what to archive next was computed from stale epochs."""
    topic = cluster.create_topic("unclean", tier="cold", replicas=2, min_isr=1, config=TINY)
    written = produce(cluster.bootstrap, topic, generated(300, seed=1), **SMALL)
    settle(cluster, topic)
    leader = cluster.leader(topic)
    (behind,) = [cluster.nodes[node] for node in cluster.part(topic).replicas if node != leader.node_id]
    behind.kill()
    cluster.await_isr_of(topic, leader)
    # Seen by one replica only, then this one is gone as well: hot, so that no other tier has them.
    set_topic(leader, topic, remote_storage_enable="false", segment_ms="3600000")
    lost = produce(cluster.bootstrap, topic, generated(70, seed=2), **SMALL)
    # While it leads there is nothing to elect.
    set_topic(leader, topic, unclean_leader_election_enable="true")
    leader.kill()
    cluster.start([behind])
    assert cluster.leader(topic, unlike=leader) is behind
    set_topic(behind, topic, remote_storage_enable="true", segment_ms="400")
    start = cluster.end_offset(topic)
    assert start == len(written) < len(written) + len(lost)
    written += produce(cluster.bootstrap, topic, generated(200, seed=3), **SMALL)
    cluster.start([leader])
    cluster.await_isr(topic, 2)
    settle(cluster, topic)
    objects = archived(behind, topic)
    expect_contiguous(objects)
    read = consume(cluster.bootstrap, topic)
    expect_same(written, read)
    expect_same(read, pyarrow_rows([found.file for found in objects]))
    expect_replicas(cluster, topic, read)
