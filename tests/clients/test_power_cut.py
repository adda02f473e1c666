"""The power goes at random instants under load: what was acknowledged, or only served, is there; nothing else is.

The data folder lies on a file system of its own (harness/loop_disk.py) that is shut down for good at some instant: every
later call fails, and what was never synced is gone. FIRN_POWER_CUTS is the number of cuts, FIRN_SEED repeats a schedule.
"""

import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness import requests
from harness.firn import FirnServer
from harness.load import Load, expect_all
from harness.loop_disk import LoopDisk, why_not
from harness.parquet_rows import duckdb_rows, pyarrow_rows
from harness.process import wait_until
from harness.records import Row, consume, expect_same, generated, produce
from harness.stores import folder_store
from harness.wire import Wire

MISSING = why_not()
pytestmark = [pytest.mark.firn, pytest.mark.skipif(MISSING is not None, reason=MISSING or "")]

CUTS = int(os.environ.get("FIRN_POWER_CUTS") or 12)
SEED = int(os.environ.get("FIRN_SEED") or random.SystemRandom().randrange(1 << 32))
PARTITIONS = 3
SETTINGS = {"firn.sweep.interval.ms": "500", "firn.sweep.grace.ms": "10000", "firn.journal.bytes": str(8 << 20)}
TINY = {"segment.bytes": "8192", "segment.ms": "300"}
# Local disk keeps what is archived, so that both tiers have the same records.
BOTH_TIERS = {**TINY, "segment.bytes": "16384", "local.retention.ms": "-1", "local.retention.bytes": "-1"}

StartOnDisk = Callable[..., tuple[FirnServer, LoopDisk]]


@pytest.fixture
def start_on_disk(tmp_path: Path) -> Iterator[StartOnDisk]:
    """Starts a server whose data folder is a disk of its own; `store_inside` puts the archive on it, too."""
    made: list[tuple[FirnServer, LoopDisk]] = []

    def start(*, store_inside: bool = False, settings: dict[str, str] | None = None) -> tuple[FirnServer, LoopDisk]:
        folder = tmp_path / f"server{len(made)}"
        disk = LoopDisk(folder / "disk.img", folder / "data")
        store = folder_store(folder / "data" / "archive" if store_inside else folder / "store")
        server = FirnServer(folder, store, {**SETTINGS, **(settings or {})})
        made.append((server, disk))
        server.start()
        return server, disk

    yield start
    for server, disk in made:
        server.close()
        disk.close()


def cut_and_restart(server: FirnServer, disk: LoopDisk, rng: random.Random) -> None:
    """The power goes, the process with it, and both come back."""
    disk.cut_power(flush_log=rng.random() < 0.5)
    # The process may see its disk fail for a moment; what it acknowledges meanwhile counts, too.
    time.sleep(rng.choice([0, 0, 0.05, 0.2]))
    server.kill()
    disk.remount()
    server.start()


@pytest.mark.timeout(1500)
@pytest.mark.parametrize("store", ["on the same disk", "on another disk"])
def test_nothing_acknowledged_is_lost_in_a_power_cut(start_on_disk: StartOnDisk, store: str) -> None:
    print(f"FIRN_SEED={SEED} FIRN_POWER_CUTS={CUTS}")
    rng = random.Random(f"{SEED} {store}")
    cuts = (CUTS + 1) // 2
    server, disk = start_on_disk(store_inside=store == "on the same disk")
    topic = server.create_topic("cut", tier="cold", partitions=PARTITIONS, config=TINY)
    with Load(server.bootstrap, topic, PARTITIONS, per_second=10_000) as load:
        for _ in range(cuts):
            known = len(load.acknowledged)
            wait_until("progress after a cut", lambda known=known: len(load.acknowledged) > known or load.errors, 60)
            assert not load.errors, load.errors[0]
            time.sleep(rng.random() * 0.6)  # the instant of the cut is meant to be any
            if rng.random() < 0.3:
                # Recovered after a kill, cut before anything was flushed again.
                server.kill()
                server.start()
            cut_and_restart(server, disk, rng)
        load.finish()
    assert load.sent > cuts
    read = consume(server.bootstrap, topic, partitions=PARTITIONS)
    expect_all(load, read)
    server.settle(topic, timeout_s=120)
    expect_all(load, consume(server.bootstrap, topic, partitions=PARTITIONS))
    files = server.archived_files(topic)
    assert len(files) > cuts // 2
    expect_same(read, pyarrow_rows(files))
    expect_same(read, duckdb_rows(files))
    text = (server.folder / "server.log").read_text(errors="replace")
    assert "panicked" not in text
    # The file system keeps its promises: nothing that recovery could call damage may be left by a cut.
    assert "recovery found damage" not in text
    server.stop()


def test_what_was_archived_before_a_power_cut_is_archived_after_it(start_on_disk: StartOnDisk) -> None:
    """The ledger lies on the disk that is cut, the objects on another: neither may speak of what the other lost."""
    rng = random.Random(SEED)
    server, disk = start_on_disk()
    topic = server.create_topic("ledger", tier="cold", config=BOTH_TIERS)
    for turn in range(3):
        produce(server.bootstrap, topic, generated(300, seed=turn), **{"batch.num.messages": 20})
        wait_until("some objects", lambda: server.archive_status([topic])[0]["archived_end"] > 0)
        before = server.archive_status([topic])[0]["archived_end"]
        rows = pyarrow_rows(server.archived_files(topic))
        cut_and_restart(server, disk, rng)
        assert server.archive_status([topic])[0]["archived_end"] >= before
        kept = [row for row in pyarrow_rows(server.archived_files(topic)) if row.offset < len(rows)]
        expect_same(rows, kept)


@pytest.mark.parametrize("flush", ["durable", "replicated"])
def test_what_was_served_after_a_kill_survives_a_power_cut(start_on_disk: StartOnDisk, flush: str) -> None:
    """KAFKA-10101: recovery found records in the page cache, served them, and a power cut took them before any flush."""
    rng = random.Random(SEED)
    server, disk = start_on_disk()
    topic = server.create_topic("served", config={"firn.flush": flush, "segment.bytes": "16384"})
    served: list[Row] = []
    for turn in range(3):
        written = served + produce(server.bootstrap, topic, generated(200, seed=turn))
        server.kill()
        server.start()
        served = consume(server.bootstrap, topic)
        expect_same(written, served)
        cut_and_restart(server, disk, rng)
        expect_same(served, consume(server.bootstrap, topic))


def test_leader_epochs_survive_a_power_cut(start_on_disk: StartOnDisk) -> None:
    """KAFKA-16541: epochs that were not synced were lost in a power cut, and replicas then truncated wrongly."""
    rng = random.Random(SEED)
    server, disk = start_on_disk()
    topic = server.create_topic("epochs")
    ends: dict[int, int] = {}
    for turn in range(5):
        with Wire(server.host, server.port) as wire:
            epoch = requests.list_offset(wire, topic, requests.LATEST).leader_epoch
        written = len(produce(server.bootstrap, topic, generated(20, seed=turn)))
        ends[epoch] = (max(ends.values()) if ends else 0) + written
        with Wire(server.host, server.port) as wire:
            found = {epoch: requests.end_of_epoch(wire, topic, epoch) for epoch in ends}
        assert found == {epoch: (epoch, end) for epoch, end in ends.items()}
        cut_and_restart(server, disk, rng)
        with Wire(server.host, server.port) as wire:
            assert {epoch: requests.end_of_epoch(wire, topic, epoch) for epoch in ends} == found
    assert len(ends) == 5, "every start begins an epoch"
