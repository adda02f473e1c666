"""The disk fills up and is given room again, without a restart: who writes is told to try again, who reads is served.

Each test has a file system of its own that a file takes the room of. Firn's data folder, or its archive, lies on it.
"""

import contextlib
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka import KafkaException

from harness import requests
from harness.batches import batch
from harness.broker import unique
from harness.firn import FirnServer
from harness.load import Load, expect_all
from harness.loop_disk import LoopDisk, why_not
from harness.parquet_rows import pyarrow_rows
from harness.process import wait_until
from harness.records import consume, expect_same, generated, produce
from harness.stores import folder_store
from harness.wire import Wire

MISSING = why_not()
pytestmark = [pytest.mark.firn, pytest.mark.skipif(MISSING is not None, reason=MISSING or "")]

PARTITIONS = 2
STORAGE_ERROR = 56
SETTINGS = {"firn.journal.bytes": str(8 << 20), "firn.sweep.interval.ms": "500", "firn.sweep.grace.ms": "1000"}
TINY = {"segment.bytes": "16384", "segment.ms": "300"}

StartFull = Callable[[str], tuple[FirnServer, LoopDisk]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[StartFull]:
    """Starts a server with its data folder, or its archive, on a small disk."""
    made: list[tuple[FirnServer, LoopDisk]] = []

    def begin(what: str) -> tuple[FirnServer, LoopDisk]:
        folder = tmp_path / f"server{len(made)}"
        disk = LoopDisk(folder / "disk.img", folder / ("store" if what == "archive" else "data"), size_mb=128)
        server = FirnServer(folder, folder_store(folder / "store"), SETTINGS)
        made.append((server, disk))
        server.start()
        return server, disk

    yield begin
    for server, disk in made:
        server.close()
        disk.close()


def check_all(server: FirnServer, load: Load) -> None:
    """Everything acknowledged is there once, in both tiers, and the process that lived through it ends in order."""
    load.finish()
    expect_all(load, consume(server.bootstrap, load.topic, partitions=PARTITIONS))
    server.settle(load.topic, timeout_s=120)
    read = consume(server.bootstrap, load.topic, partitions=PARTITIONS)
    expect_all(load, read)
    expect_same(read, pyarrow_rows(server.archived_files(load.topic)))
    assert server.alive() and "panicked" not in server.log_text()
    assert server.http("/health")
    server.restart()
    expect_all(load, consume(server.bootstrap, load.topic, partitions=PARTITIONS))


@pytest.mark.timeout(400)
def test_a_full_data_disk_stops_writers_only_until_there_is_room(start: StartFull) -> None:
    """Segments, journal, checkpoint and snapshots meet the full disk in whatever order the load brings them to it."""
    server, disk = start("data")
    topic = server.create_topic("full", tier="cold", partitions=PARTITIONS, config=TINY)
    old = server.create_topic("old")
    known = produce(server.bootstrap, old, generated(200, seed=1))
    rng = random.Random(7)
    with Load(server.bootstrap, topic, PARTITIONS, per_second=4000) as load:
        for turn in range(4):
            count = len(load.acknowledged)
            wait_until("progress", lambda count=count: len(load.acknowledged) > count + 500 or load.errors, 60)
            # A little room lets some of the next steps through before the disk is full.
            disk.fill(leave_bytes=rng.choice([0, 40_960, 409_600]))
            told = turn + 1
            wait_until("an append to be refused", lambda told=told: server.log_text().count("the disk is full") >= told, 60)
            with Wire(server.host, server.port) as wire:

                def refused(wire: Wire = wire) -> bool:
                    # A batch that needs more than the room that may be left in the last block of the segment.
                    answer = requests.produce_raw(wire, old, batch([(b"k", b"v" * 200_000)]))
                    assert answer.error_code == STORAGE_ERROR, answer
                    return True

                disk.fill()
                wait_until("a write to be refused as one that may be tried again", refused, 30)
            found = consume(server.bootstrap, old, limit=len(known))
            expect_same(known, found)
            assert server.alive()
            disk.free()
        count = len(load.acknowledged)
        wait_until("writing to go on", lambda: len(load.acknowledged) > count + 500 or load.errors, 60)
        check_all(server, load)


@pytest.mark.timeout(400)
def test_the_metadata_log_waits_for_room(start: StartFull) -> None:
    """Topics cannot be made while its disk is full; afterwards they can, and the archive's ledger goes on, too."""
    server, disk = start("data")
    topic = server.create_topic("ledger", tier="cold", partitions=PARTITIONS, config=TINY)
    # Filling what room the file of the metadata has takes a minute or two.
    patient = {"message.timeout.ms": 400_000}
    with Load(server.bootstrap, topic, PARTITIONS, per_second=2000, **patient) as load:
        wait_until("objects", lambda: len(server.archived_files(topic)) > 2, 60)
        disk.fill()
        # Gives back what is reserved beyond the end of the file, which would last for hours.
        metadata = server.data_dir / "metadata" / "raft.redb"
        os.truncate(metadata, metadata.stat().st_size)
        disk.fill()

        def waits() -> bool:
            if "changes of the cluster's metadata wait" in server.log_text():
                return True
            with contextlib.suppress(KafkaException):
                server.create_topic(unique("wanted"))
            return False

        # redb uses the room that its file has first.
        wait_until("the metadata log to meet the full disk", waits, 180)
        disk.free()
        wait_until("the metadata log to go on", lambda: "there is room again" in server.log_text(), 30)
        name = wait_until("a topic to be made", lambda: server.create_topic("made"), 30)
        written = produce(server.bootstrap, name, generated(50, seed=3))
        expect_same(written, consume(server.bootstrap, name))
        check_all(server, load)
        assert name in server.admin().list_topics(timeout=10).topics


@pytest.mark.timeout(400)
def test_a_full_archive_folder_only_holds_up_the_archive(start: StartFull) -> None:
    server, disk = start("archive")
    topic = server.create_topic("store-full", tier="cold", partitions=PARTITIONS, config=TINY)
    with Load(server.bootstrap, topic, PARTITIONS, per_second=2000) as load:
        wait_until("objects", lambda: len(server.archived_files(topic)) > 2, 60)
        disk.fill()

        def told() -> bool:
            errors = [row["last_error"] for row in server.archive_status([topic])]
            assert any(error and "No space left" in error for error in errors), errors
            return True

        wait_until("the status to tell of it", told, 60)
        count = len(load.acknowledged)
        wait_until("writing to go on meanwhile", lambda: len(load.acknowledged) > count + 1000 or load.errors, 60)
        disk.free()
        load.finish()
        server.settle(topic, timeout_s=120)
        assert all(row["last_error"] is None for row in server.archive_status([topic]))
        check_all(server, load)
        staged = [path for path in (server.folder / "store").rglob("*#*") if path.is_file()]
        wait_until("what failed uploads left to be swept", lambda: not any(path.exists() for path in staged), 30)
