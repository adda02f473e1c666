"""Faults of the device itself: syncs that end late or fail, power cuts that tear, a device that is full or does not answer.

The disks are file systems of ours (harness/faulty_disk.py). A failed sync there is one of the device: its pages can still be
read, no later sync writes them, and a power cut shows that they were never durable. FIRN_SEED repeats a schedule.
"""

import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from confluent_kafka import Producer

from harness import requests
from harness.cluster import Cluster, FirnNode, firn_cluster
from harness.faulty_disk import FaultyDisk, why_not
from harness.firn import FirnServer
from harness.load import Load, expect_all
from harness.process import wait_until
from harness.records import consume, expect_same, generated, produce
from harness.replicas import expect_replicas
from harness.stores import folder_store
from harness.wire import Wire, topic_id

MISSING = why_not()
pytestmark = [pytest.mark.firn, pytest.mark.skipif(MISSING is not None, reason=MISSING or "")]

SEED = int(os.environ.get("FIRN_SEED") or random.SystemRandom().randrange(1 << 32))
PARTITIONS = 3
# A small journal and small segments: many files, checkpoints twice a second.
SETTINGS = {"firn.journal.bytes": str(8 << 20)}
TINY = {"segment.bytes": "16384", "segment.ms": "300"}
LARGE = 400 * 1024
"""Bytes of a record that does not go through the journal."""

StartOn = Callable[[str], tuple[FirnServer, FaultyDisk]]


@pytest.fixture
def start_on(tmp_path: Path) -> Iterator[StartOn]:
    """Starts a server whose data folder, or whose archive, lies on a device of its own."""
    made: list[tuple[FirnServer, FaultyDisk]] = []

    def start(what: str) -> tuple[FirnServer, FaultyDisk]:
        folder = tmp_path / f"server{len(made)}"
        disk = FaultyDisk(folder / ("store" if what == "archive" else "data"))
        server = FirnServer(folder, folder_store(folder / "store"), SETTINGS)
        made.append((server, disk))
        server.start()
        return server, disk

    yield start
    for server, disk in made:
        server.close()
        disk.close()


def acknowledgement_times(server: FirnServer, topics: list[str], seconds: float, pause_s: float) -> list[float]:
    """Seconds from sending to acknowledgement of every record, each topic written by a producer of its own, one by one.

    The producers pause for up to `pause_s`, so that records come at any moment of another one's sync.
    """
    took: list[float] = []
    end = time.monotonic() + seconds

    def write(topic: str) -> None:
        producer = Producer({"bootstrap.servers": server.bootstrap, "acks": "all", "linger.ms": 0, "log_level": 0})
        while time.monotonic() < end:
            time.sleep(random.random() * pause_s)
            sent = time.monotonic()
            producer.produce(topic, b"." * 300)
            assert producer.flush(60) == 0
            took.append(time.monotonic() - sent)

    writers = [threading.Thread(target=write, args=[topic]) for topic in topics]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    return took


@pytest.mark.timeout(120)
def test_no_acknowledgement_is_earlier_than_its_sync(start_on: StartOn) -> None:
    """Every sync of the journal takes its time, the checkpoints' too: no record can be durable before one has passed."""
    server, disk = start_on("data")
    evicted = server.create_topic("evicted", tier="cold", config={"segment.bytes": "1024", "segment.ms": "100"})
    topics = [evicted, server.create_topic("early")]
    delay_s = 0.2
    disk.delay("sync", delay_s, "/journal/")
    took = acknowledgement_times(server, topics, seconds=20, pause_s=delay_s)
    disk.clear()
    assert len(took) > 20
    assert min(took) >= delay_s, f"acknowledged after {min(took):.3f} s, every sync takes {delay_s} s"


@pytest.mark.timeout(300)
def test_power_cuts_with_late_syncs_lose_nothing(start_on: StartOn) -> None:
    """Flushes, checkpoints and evictions sync the same files from several threads while every sync takes its time."""
    print(f"FIRN_SEED={SEED}")
    rng = random.Random(SEED)
    server, disk = start_on("data")
    topic = server.create_topic("late", tier="cold", partitions=PARTITIONS, config=TINY)
    with Load(server.bootstrap, topic, PARTITIONS, per_second=2000, burst=5, **{"max.in.flight": 5}) as load:
        for turn in range(5):
            disk.delay("sync", rng.choice([0.03, 0.1, 0.3]), "journal")
            disk.delay("sync", rng.choice([0.005, 0.05]))
            load.await_progress()
            time.sleep(rng.random() * 2)  # the instant of the cut is meant to be any
            disk.cut_power(torn=None if turn % 2 else rng.randrange(1 << 32))
            server.kill()
            disk.clear()
            disk.remount()
            server.start()
        load.finish()
    assert disk.hits > 0
    expect_all(load, consume(server.bootstrap, topic, partitions=PARTITIONS))
    assert "recovery found damage" not in (server.folder / "server.log").read_text(errors="replace")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("size", [300, LARGE], ids=["small records", "large records"])
def test_what_a_failed_sync_left_in_the_page_cache_is_not_taken_for_durable(start_on: StartOn, size: int) -> None:
    """The process restarts after the failure, finds the records in the page cache, and then the power goes."""
    server, disk = start_on("data")
    topic = server.create_topic("failed")
    acknowledged: dict[int, int] = {}
    producer = Producer({
        "bootstrap.servers": server.bootstrap, "enable.idempotence": True, "acks": "all", "linger.ms": 0,
        "message.timeout.ms": 120_000, "reconnect.backoff.max.ms": 100, "retry.backoff.ms": 20, "log_level": 0,
        "retry.backoff.max.ms": 100,
    })  # fmt: skip

    def send(numbers: range) -> None:
        for number in numbers:
            value = b"%d " % number + b"." * size

            def noted(error: object, message: object, number: int = number) -> None:
                assert error is None, error
                acknowledged[number] = message.offset()  # type: ignore[attr-defined]

            producer.produce(topic, value, on_delivery=noted)
            producer.poll(0)

    send(range(20))
    assert producer.flush(60) == 0
    disk.fail("sync", times=1)
    send(range(20, 40))
    wait_until("the broker to see its disk fail", lambda: producer.poll(0.05) is not None and disk.hits > 0)
    time.sleep(0.3)  # what is appended to the page cache meanwhile is part of the fault
    disk.clear()
    server.kill()
    server.start()
    assert producer.flush(60) == 0, "the producer's batches are acknowledged after the restart"
    disk.cut_power()
    server.kill()
    disk.remount()
    server.start()
    values = [row.value for row in consume(server.bootstrap, topic)]
    assert sorted(acknowledged) == list(range(40))
    assert [int(value.split(b" ")[0]) for value in values] == list(range(40)), "acknowledged records are lost or doubled"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("call", ["sync", "sync-folder"])
def test_an_object_whose_sync_failed_is_not_archived(start_on: StartOn, call: str) -> None:
    """The retry finds the object readable. Only a later sync that succeeds may let the local copy go."""
    server, disk = start_on("archive")
    topic = server.create_topic("unsynced", tier="cold", partitions=PARTITIONS, config=TINY)
    with Load(server.bootstrap, topic, PARTITIONS, per_second=3000) as load:
        load.await_progress()
        server.wait_archived(topic, share=0.1)
        disk.fail(call, times=12)
        wait_until("the archive's folder to fail", lambda: disk.hits >= 12)
        load.await_progress()
        load.finish()
    server.wait_archived(topic, share=0.5)
    disk.cut_power()
    server.kill()
    disk.remount()
    server.start()
    expect_all(load, consume(server.bootstrap, topic, partitions=PARTITIONS))
    server.settle(topic, timeout_s=120)
    expect_all(load, consume(server.bootstrap, topic, partitions=PARTITIONS))


StartCluster = Callable[[], tuple[Cluster[FirnNode], dict[int, FaultyDisk]]]


@pytest.fixture
def start_cluster_on_disks(tmp_path: Path) -> Iterator[StartCluster]:
    """Starts three nodes, each with a device of its own."""
    made: list[tuple[Cluster[FirnNode], dict[int, FaultyDisk]]] = []

    def start() -> tuple[Cluster[FirnNode], dict[int, FaultyDisk]]:
        disks = {number: FaultyDisk(tmp_path / f"node{number}" / "data") for number in (1, 2, 3)}
        cluster = firn_cluster(tmp_path, settings=SETTINGS)
        made.append((cluster, disks))
        cluster.start()
        return cluster, disks

    yield start
    for cluster, disks in made:
        cluster.close()
        for disk in disks.values():
            disk.close()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("fault", ["fails", "is full"])
@pytest.mark.parametrize("role", ["leader", "follower"])
def test_a_node_whose_disk_fails_or_is_full_makes_way(start_cluster_on_disks: StartCluster, fault: str, role: str) -> None:
    """Others acknowledge within a second; the node's own restart, or room on its disk, brings it back."""
    cluster, disks = start_cluster_on_disks()
    topic = cluster.create_topic("makes-way")
    with Load(cluster.bootstrap, topic, 1, per_second=1000, burst=2) as load:
        load.await_progress()
        leader = cluster.leader(topic)
        node = leader if role == "leader" else cluster.others(leader)[0]
        disk = disks[node.node_id]
        load.longest_pause_s = 0
        if fault == "fails":
            disk.fail("sync", "/journal/")
        else:
            disk.fill()
        if role == "leader":
            cluster.leader(topic, unlike=node)
        cluster.await_isr_of(topic, *cluster.others(node), via=cluster.others(node))
        load.await_progress()
        pause_s = load.longest_pause_s
        print(f"{role}'s disk {fault}: {pause_s * 1000:.0f} ms without an acknowledgement")
        disk.clear()
        if fault == "fails":
            node.kill()
            cluster.start([node])
        else:
            disk.free()
        cluster.await_isr(topic, 3)
        load.finish()
    read = consume(cluster.bootstrap, topic)
    expect_all(load, read)
    expect_replicas(cluster, topic, read)
    # The goal is a second on a quiet machine; this only tells a failover from a timeout.
    assert pause_s < 4, f"no acknowledgement for {pause_s:.1f} s"


@pytest.mark.timeout(300)
def test_power_cuts_of_all_nodes_with_late_syncs_lose_nothing(start_cluster_on_disks: StartCluster) -> None:
    print(f"FIRN_SEED={SEED}")
    rng = random.Random(SEED)
    cluster, disks = start_cluster_on_disks()
    topic = cluster.create_topic("all-cut", partitions=PARTITIONS)
    with Load(cluster.bootstrap, topic, PARTITIONS, per_second=1500, burst=5) as load:
        for _ in range(3):
            for disk in disks.values():
                disk.delay("sync", rng.choice([0.01, 0.1]), "journal")
            load.await_progress()
            time.sleep(rng.random())  # the instant of the cut is meant to be any
            cuts = [
                threading.Thread(target=disk.cut_power, kwargs={"torn": rng.randrange(1 << 32)}) for disk in disks.values()
            ]
            for cut in cuts:
                cut.start()
            for cut in cuts:
                cut.join()
            cluster.kill()
            for disk in disks.values():
                disk.clear()
                disk.remount()
            cluster.start()
            cluster.await_isr(topic, 3)
        load.finish()
    read = consume(cluster.bootstrap, topic, partitions=PARTITIONS)
    expect_all(load, read)
    expect_replicas(cluster, topic, read, partitions=PARTITIONS)


@pytest.mark.timeout(120)
def test_a_file_that_cannot_be_read_at_a_restart_takes_no_other_topic_along(start_on: StartOn) -> None:
    """Large records are in their segment only: nothing else tells whether they were acknowledged."""
    server, disk = start_on("data")
    topic, other = server.create_topic("unreadable"), server.create_topic("readable")
    drafts = [replace(draft, value=b"." * LARGE) for draft in generated(3, seed=1)]
    large = produce(server.bootstrap, topic, drafts, **{"batch.num.messages": 1})
    written = produce(server.bootstrap, other, generated(50, seed=1))
    server.kill()
    disk.fail("read", f"/{topic}-0.")
    server.start()
    assert disk.hits > 0
    expect_same(written, consume(server.bootstrap, other))
    written += produce(server.bootstrap, other, generated(50, seed=2))
    with Wire(server.host, server.port) as wire:
        response = wire.ask(requests.fetch_request({topic_id(wire, topic): {0: 0}}))
        (answered,) = response.responses[0].partitions
        assert answered.error_code == requests.CORRUPT_MESSAGE, "what cannot be read is refused, not skipped"
        assert requests.list_offset(wire, topic, requests.LATEST).offset == len(large), "nothing acknowledged is cut off"
    disk.clear()
    expect_same(large, consume(server.bootstrap, topic))
    expect_same(written, consume(server.bootstrap, other))
