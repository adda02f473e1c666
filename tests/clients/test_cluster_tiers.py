"""Both tiers of a cluster: the archiver moves with leadership, any replica serves the history, an empty node has it at once.

Defects that other tiered logs had are named with their source.
"""

import time

import pytest

from harness import requests
from harness.bucket import expect_no_orphan, topic_objects
from harness.cluster import Cluster, FirnNode
from harness.cluster_requests import await_voters, reassign, reassigning, set_topic
from harness.cluster_tiers import archived, disk_bytes, expect_contiguous, replica_status, settle
from harness.load import Load, expect_all
from harness.parquet_rows import pyarrow_rows
from harness.process import wait_until
from harness.records import Draft, Row, consume, expect_same, generated, produce
from harness.replicas import expect_replicas, read_replica
from harness.wire import Wire

pytestmark = pytest.mark.firn
SETTINGS = {"firn.sweep.interval.ms": "300", "firn.sweep.grace.ms": "3000", "firn.cold.cache.bytes": str(16 << 20)}
SMALL = {"batch.num.messages": 25}
TINY = {"segment.bytes": "16384", "segment.ms": "400"}


def finish(cluster: Cluster[FirnNode], load: Load) -> list[Row]:
    """All that was acknowledged is there once, and all of it is archived; returns what is read."""
    load.finish()
    read = consume(cluster.bootstrap, load.topic)
    expect_all(load, read)
    settle(cluster, load.topic)
    return read


def await_archived(cluster: Cluster[FirnNode], topic: str, above: int, unlike: FirnNode | None = None) -> None:
    """Waits until the leader's archive has got beyond an offset."""

    def beyond() -> bool:
        row = replica_status(cluster.leader(topic, unlike=unlike), topic)
        assert row["archived_end"] > above, row
        return True

    wait_until(f"the archive of {topic} to get beyond {above}", beyond, 60)


@pytest.mark.timeout(180)
def test_the_archive_moves_with_leadership_without_gap_or_overlap(cluster: Cluster[FirnNode]) -> None:
    """Crabka#367: after a failover, what another epoch had archived could not be read."""
    topic = cluster.create_topic("moving", tier="cold", config=TINY)
    with Load(cluster.bootstrap, topic, 1, per_second=3000) as load:
        reached = 0
        for _ in range(3):
            load.await_progress()
            await_archived(cluster, topic, reached)
            leader = cluster.leader(topic)
            reached = replica_status(leader, topic)["archived_end"]
            leader.kill()
            load.await_progress()
            cluster.start([leader])
            cluster.await_isr(topic, 3)
        read = finish(cluster, load)
    leader = cluster.leader(topic)
    objects = archived(leader, topic)
    expect_contiguous(objects)
    assert objects[-1].next == len(read)
    assert len({found.epoch for found in objects}) >= 3, "the leaders of three epochs have archived"
    expect_same(read, pyarrow_rows([found.file for found in objects]))
    expect_replicas(cluster, topic, read)
    listed = leader.cli("archive", "list", topic, "--admin", leader.admin_address).stdout.decode()
    assert all(found.file.name in listed or str(found.base) in listed for found in objects)
    expect_no_orphan(leader, topic)


@pytest.mark.timeout(120)
def test_an_old_leader_that_wakes_archives_nothing_over_the_new_one(cluster: Cluster[FirnNode]) -> None:
    """KAFKA-16511, KAFKA-16890: two leaders' overlapping segments leaked for ever, or moved the log start backwards."""
    topic = cluster.create_topic("overlapping", tier="cold", config=TINY)
    with Load(cluster.bootstrap, topic, 1, per_second=3000, **{"socket.timeout.ms": 2000}) as load:
        for _ in range(2):
            load.await_progress()
            old = cluster.leader(topic)
            old.pause()
            try:
                new = cluster.leader(topic, unlike=old)
                await_archived(cluster, topic, replica_status(new, topic)["high_watermark"], unlike=old)
            finally:
                old.resume()
            cluster.await_isr(topic, 3)
        read = finish(cluster, load)
    leader = cluster.leader(topic)
    expect_contiguous(archived(leader, topic))
    expect_no_orphan(leader, topic)
    # The start moves over the first of them, never back, and all of them go in the end.
    set_topic(leader, topic, retention_ms="1000")
    wait_until("all to expire", lambda: replica_status(leader, topic)["log_start"] == len(read), 60)
    # The log start moves first, the ledger after it: a crash in between leaves no hole.
    wait_until("the ledger to follow", lambda: not archived(leader, topic))
    # The manifest of an empty archive stays, with the epoch that the next one has to beat.
    wait_until("the objects to go", lambda: not [file for file in topic_objects(leader, topic) if file.suffix == ".parquet"])


@pytest.mark.timeout(120)
def test_retention_by_size_counts_nothing_twice_after_a_failover(cluster: Cluster[FirnNode]) -> None:
    """KAFKA-20732: a new leader ran retention before it knew what was archived, counted everything twice, and deleted it."""
    # Local copies stay: both tiers have everything, the worst case for whoever adds the two.
    both = {**TINY, "local.retention.bytes": "-1", "local.retention.ms": "-1"}
    topic = cluster.create_topic("counted", tier="cold", config=both)
    written = produce(cluster.bootstrap, topic, generated(600, seed=1), **SMALL)
    wait_until("the archive", lambda: replica_status(cluster.leader(topic), topic)["archived_end"] == len(written), 60)
    size = replica_status(cluster.leader(topic), topic)["archived_record_bytes"]
    limit = str(size * 5 // 4)
    set_topic(cluster.leader(topic), topic, retention_bytes=limit, local_retention_bytes=limit)
    for _ in range(2):
        leader = cluster.leader(topic)
        leader.kill()
        new = cluster.leader(topic, unlike=leader)
        # Several rounds of retention: another topic's expiry shows that it has looked.
        expired = cluster.create_topic("expired", replicas=1, config={"retention.ms": "1000", "segment.ms": "300"})
        produce(cluster.bootstrap, expired, [Draft(value=b"x", timestamp=1000)] * 3)
        wait_until("retention to do its work", lambda expired=expired: start_of(cluster, expired) == 3, 30)
        assert start_of(cluster, topic) == 0, "retention deleted what was within its limit"
        expect_same(written, read_replica(new, topic, len(written)))
        cluster.start([leader])
        cluster.await_isr(topic, 3)
    expect_replicas(cluster, topic, written)


def start_of(cluster: Cluster[FirnNode], topic: str) -> int:
    """The log start that the leader tells."""
    leader = cluster.leader(topic)
    with Wire(leader.host, leader.port) as wire:
        return int(requests.list_offset(wire, topic, requests.EARLIEST).offset)


@pytest.mark.timeout(120)
def test_an_empty_node_takes_over_without_copying_the_history(cluster: Cluster[FirnNode]) -> None:
    """KAFKA-15632, KAFKA-15695: a follower rebuilt from the archive led at once, and sent readers to its empty disk."""
    topic = cluster.create_topic("replaced", tier="cold", replicas=2, min_isr=1, config=TINY)
    drafts = [Draft(value=b"%06d" % number + bytes(500)) for number in range(4000)]
    history = produce(cluster.bootstrap, topic, drafts, **SMALL)
    settle(cluster, topic)
    set_topic(cluster.leader(topic), topic, local_retention_ms="3600000", local_retention_bytes="-1")
    written = history + produce(cluster.bootstrap, topic, generated(100, seed=2), **SMALL)
    leader = cluster.leader(topic)
    (other,) = [cluster.nodes[node] for node in cluster.part(topic).replicas if node != leader.node_id]
    before = disk_bytes(other)
    other.kill()
    other.wipe()
    began = time.monotonic()
    cluster.start([other])
    cluster.await_isr(topic, 2)
    in_sync_s = time.monotonic() - began
    await_voters(cluster)
    print(f"an empty node is in sync after {in_sync_s:.1f} s, a voter again after {time.monotonic() - began:.1f} s")
    row = replica_status(other, topic)
    # Only the tail is on its disk; the history's two megabytes stay where they are.
    assert row["local_start"] >= len(history) and row["local_bytes"] < 300_000, row
    assert row["log_start"] == 0 and disk_bytes(other) <= before + (1 << 20)
    leader.kill()
    assert cluster.leader(topic, unlike=leader) is other
    expect_same(written, read_replica(other, topic, len(written)))
    with Wire(other.host, other.port) as wire:
        for offset in range(0, len(written), 97):
            part = requests.fetch_one(wire, topic, offset, partition_max_bytes=2000)
            assert part.error_code == requests.NONE
    written += produce(cluster.bootstrap, topic, generated(50, seed=3), **SMALL)
    cluster.start([leader])
    cluster.await_isr(topic, 2)
    expect_replicas(cluster, topic, written)
    expect_contiguous(archived(other, topic))


@pytest.mark.timeout(120)
def test_a_follower_whose_next_offset_has_left_both_tiers_begins_at_the_log_start(cluster: Cluster[FirnNode]) -> None:
    """KAFKA-13369: while a follower was away, its next offset left the local and the remote tier."""
    topic = cluster.create_topic("away", tier="cold", config=TINY)
    produce(cluster.bootstrap, topic, generated(100, seed=4), **SMALL)
    leader = cluster.leader(topic)
    away = cluster.others(leader)[0]
    away.kill()
    produce(cluster.bootstrap, topic, generated(600, seed=5), **SMALL)
    settle(cluster, topic, replicas=False)
    set_topic(leader, topic, retention_ms="86400000")  # the records are of 2023
    wait_until("the history to go", lambda: start_of(cluster, topic) == 700, 60)
    set_topic(leader, topic, retention_ms="-1")
    written = produce(cluster.bootstrap, topic, generated(200, seed=6), **SMALL)
    cluster.start([away])
    cluster.await_isr(topic, 3)
    assert replica_status(away, topic)["log_start"] == 700
    expect_replicas(cluster, topic, written, start=700)


@pytest.mark.timeout(120)
def test_nothing_leaves_the_disk_or_the_bucket_when_all_nodes_start_anew(cluster: Cluster[FirnNode]) -> None:
    """Redpanda#29674: local retention ran while the archive's state was absent. KAFKA-15351: the archive was hidden."""
    topic = cluster.create_topic("anew", tier="cold", config=TINY)
    written = produce(cluster.bootstrap, topic, generated(800, seed=7), **SMALL)
    cluster.kill()
    cluster.start()
    cluster.await_isr(topic, 3)
    expect_replicas(cluster, topic, written)
    settle(cluster, topic)
    cluster.kill()
    cluster.start()
    cluster.await_isr(topic, 3)
    assert start_of(cluster, topic) == 0
    expect_replicas(cluster, topic, written)
    expect_contiguous(archived(cluster.leader(topic), topic))


@pytest.mark.timeout(120)
def test_a_replica_that_moves_while_its_leader_uploads_leaves_no_gap(cluster: Cluster[FirnNode]) -> None:
    """KAFKA-16711: a replica that had moved went on with the copied offset of its old place."""
    topic = cluster.create_topic("wandering", tier="cold", replicas=1, min_isr=1, config=TINY)
    with Load(cluster.bootstrap, topic, 1, per_second=3000) as load:
        (home,) = cluster.part(topic).replicas
        for node_id in [node for node in cluster.nodes if node != home] + [home]:
            load.await_progress()
            await_archived(cluster, topic, replica_status(cluster.leader(topic), topic)["archived_end"])
            reassign(cluster.living[0], topic, {0: [node_id]})
            wait_until("the move", lambda: (topic, 0) not in reassigning(cluster.living[0]), 60)
            cluster.await_isr_of(topic, cluster.nodes[node_id])
        load.await_progress()
        read = finish(cluster, load)
    objects = archived(cluster.leader(topic), topic)
    expect_contiguous(objects)
    expect_same(read, pyarrow_rows([found.file for found in objects]))
    expect_no_orphan(cluster.leader(topic), topic)
