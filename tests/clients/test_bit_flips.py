"""The disk changes a single bit of a file: that is told, nothing wrong is served, and the archive stands in where it can.

Every kind of file that a broker keeps is changed, most while the broker is stopped, segments while it runs, too.
"""

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition

from harness import requests
from harness.batches import headers_of
from harness.firn import FirnServer
from harness.parquet_rows import pyarrow_rows
from harness.process import wait_until
from harness.records import Row, consume, expect_same, generated, produce
from harness.stores import folder_store
from harness.wire import Wire

pytestmark = pytest.mark.firn

SETTINGS = {"firn.journal.bytes": str(8 << 20), "firn.sweep.interval.ms": "500", "firn.sweep.grace.ms": "1000"}
SMALL = {"batch.num.messages": 20}
KEPT = {"local.retention.ms": "-1", "local.retention.bytes": "-1"}
SEGMENTS = {"segment.bytes": "16384", "segment.ms": "600000", "index.interval.bytes": "1024"}
UNTIERED = {**SEGMENTS, "remote.storage.enable": "false"}
ARCHIVED_TOO = {**SEGMENTS, **KEPT}
RECORDS = 1200

StartNew = Callable[[], FirnServer]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[StartNew]:
    """Starts servers for one test."""
    made: list[FirnServer] = []

    def begin() -> FirnServer:
        folder = tmp_path / f"server{len(made)}"
        server = FirnServer(folder, folder_store(folder / "store"), SETTINGS)
        made.append(server)
        server.start()
        return server

    yield begin
    for server in made:
        server.close()


def flip(path: Path, position: int, mask: int = 0x10) -> None:
    """Changes one bit; the same call changes it back."""
    with path.open("r+b") as file:
        file.seek(position)
        (byte,) = file.read(1)
        file.seek(position)
        file.write(bytes([byte ^ mask]))


def partition_dir(server: FirnServer, topic: str) -> Path:
    """The folder of the topic's only partition."""
    (folder,) = (server.data_dir / "topics").glob(f"{topic}-0.*")
    return folder


def segments(server: FirnServer, topic: str) -> list[Path]:
    """The segment files, oldest first."""
    return sorted(partition_dir(server, topic).glob("*.log"))


def filled(server: FirnServer, config: dict[str, str]) -> tuple[str, list[Row]]:
    """A topic of several segments."""
    topic = server.create_topic("flipped", config=config)
    rows = produce(server.bootstrap, topic, generated(RECORDS, seed=5), **SMALL)
    assert len(segments(server, topic)) > 4
    return topic, rows


def archived(server: FirnServer, topic: str) -> int:
    """Waits until all closed segments are in the archive; up to which offset that is."""
    base = int(segments(server, topic)[-1].stem)

    def done() -> int:
        end = int(server.archive_status([topic])[0]["archived_end"])
        assert end >= base, (end, base)
        return end

    return wait_until("closed segments to be archived", done)


def local_start(server: FirnServer, topic: str) -> int:
    """First offset on the local disk."""
    return int(server.archive_status([topic])[0]["local_start"])


def errors_of(server: FirnServer, *words: str) -> list[str]:
    """Lines of this run's log at ERROR that hold all of these words."""
    return [line for line in server.log_text().splitlines() if " ERROR " in line and all(word in line for word in words)]


@pytest.mark.parametrize("position", ["the offset", "the length", "the epoch", "the records"])
@pytest.mark.parametrize("when", ["running", "stopped"])
def test_a_changed_segment_is_read_from_the_archive_and_dropped(start: StartNew, when: str, position: str) -> None:
    server = start()
    topic, rows = filled(server, ARCHIVED_TOO)
    archived(server, topic)
    if when == "stopped":
        server.stop()
    path = segments_of(server, topic)[2]
    at = {"the offset": 6, "the length": 10, "the epoch": 15, "the records": 300}[position]
    flip(path, at)
    if when == "stopped":
        server.start()
    expect_same(rows, consume(server.bootstrap, topic))
    assert errors_of(server, path.name, f"topic={topic}", "partition=0", "the archive has its records"), server.tail()
    behind = int(segments_of(server, topic)[-1].stem)
    wait_until("the damaged segment to leave the disk", lambda: not path.exists() and local_start(server, topic) > 0)
    assert local_start(server, topic) <= behind, "what is sound stays"
    expect_same(rows, consume(server.bootstrap, topic))
    expect_same(rows, consume(server.bootstrap, topic, **{"check.crcs": False}))


def segments_of(server: FirnServer, topic: str) -> list[Path]:
    """As `segments`, also while the server is stopped."""
    return segments(server, topic)


def test_a_changed_segment_that_is_not_archived_is_refused_and_told(start: StartNew) -> None:
    """It is neither served nor archived; what lies around it is; giving it up lets the archive go on."""
    server = start()
    topic, rows = filled(server, UNTIERED)
    path, follower = segments(server, topic)[2:4]
    base, end = int(path.stem), int(follower.stem)
    first_batch = 12 + int.from_bytes(path.read_bytes()[8:12])
    flip(path, first_batch + 100)
    with Wire(server.host, server.port) as wire:
        first = requests.fetch_one(wire, topic, base)
        assert first.error_code == requests.NONE, "the batches before the damage are sound"
        header = headers_of(first.records)[-1]
        damaged = header[0] + header[2]
        assert requests.fetch_one(wire, topic, damaged).error_code == requests.CORRUPT_MESSAGE
        assert requests.fetch_one(wire, topic, end).error_code == requests.NONE
        for offset in range(0, RECORDS, 7):
            answer = requests.fetch_one(wire, topic, offset)
            if answer.error_code == requests.NONE:
                assert headers_of(answer.records)[0][0] <= offset
            else:
                assert answer.error_code == requests.CORRUPT_MESSAGE and base <= offset < end
    (line,) = errors_of(server, path.name, "not archived")
    for told in (f"topic={topic}", "partition=0", f"offset={damaged}", f"segment_end={end}", "restore the file"):
        assert told in line, line
    alter(server, topic, "remote.storage.enable=true")

    def refused() -> bool:
        status = server.archive_status([topic])[0]
        assert path.name in (status["last_error"] or ""), status
        assert status["archived_end"] <= base, status
        return True

    wait_until("the archive to refuse it", refused)
    assert errors_of(server, path.name, "cannot be archived")
    assert all(row.offset < base for row in pyarrow_rows(server.archived_files(topic)))
    admin = server.admin()
    given_up = TopicPartition(topic, 0, end)
    admin.delete_records([given_up])[given_up].result(20)
    sound = [row for row in rows if row.offset >= end]
    expect_same(sound, consume(server.bootstrap, topic))
    wait_until("the archive to go on", lambda: server.archive_status([topic])[0]["archived_end"] > end, 60)
    expect_same(sound, consume(server.bootstrap, topic))


def alter(server: FirnServer, topic: str, setting: str) -> None:
    """Changes a setting by Firn's own command."""
    server.cli("topic", "alter", topic, "--bootstrap", server.bootstrap, "--config", setting)


def test_the_open_segment_is_watched_too(start: StartNew) -> None:
    server = start()
    topic, rows = filled(server, ARCHIVED_TOO)
    archived(server, topic)
    path = segments(server, topic)[-1]
    flip(path, 80)
    with Wire(server.host, server.port) as wire:
        assert requests.fetch_one(wire, topic, int(path.stem)).error_code == requests.CORRUPT_MESSAGE
    assert errors_of(server, path.name, "not archived")
    flip(path, 80)
    expect_same(rows, consume(server.bootstrap, topic))


@pytest.mark.parametrize("suffix", ["index", "timeindex"])
def test_a_changed_index_changes_no_answer(start: StartNew, suffix: str) -> None:
    server = start()
    topic, rows = filled(server, UNTIERED)
    times = sorted({row.timestamp for row in rows})[:: len(rows) // 60]

    def answers() -> list[int]:
        with Wire(server.host, server.port) as wire:
            return [requests.list_offset(wire, topic, time).offset for time in times]

    expected = answers()
    rng = random.Random(11)
    named = 0
    for _ in range(4):
        server.stop()
        for path in sorted(partition_dir(server, topic).glob(f"*.{suffix}")):
            size = path.stat().st_size
            if size:
                flip(path, rng.randrange(size), 1 << rng.randrange(8))
        server.start()
        assert answers() == expected
        expect_same(rows, consume(server.bootstrap, topic))
        named += sum("index" in line and "damaged" in line for line in server.log_text().splitlines())
    assert named > 0, "no line of the log names a damaged index"


def test_changed_snapshots_of_producers_are_not_believed(start: StartNew) -> None:
    server = start()
    topic, rows = filled(server, UNTIERED)
    server.stop()
    for path in partition_dir(server, topic).glob("*.snapshot"):
        flip(path, 9)
    server.start()
    alter(server, topic, "remote.storage.enable=true")
    archived(server, topic)
    assert "a snapshot of producer state is damaged" in server.log_text()
    expect_same(rows, consume(server.bootstrap, topic))


def test_a_changed_checkpoint_history_and_identity_are_told_and_rebuilt(start: StartNew) -> None:
    server = start()
    topic, rows = filled(server, UNTIERED)
    server.stop()
    folder = partition_dir(server, topic)
    flip(server.data_dir / "checkpoint", 60)
    flip(folder / "history", 12)
    flip(folder / "partition", 5)
    # History and identity are needed only where the journal does not reach back to the partition's beginning.
    for path in (server.data_dir / "journal").glob("slot-*"):
        path.unlink()
    server.start()
    expect_same(rows, consume(server.bootstrap, topic))
    assert errors_of(server, "checkpoint is damaged")
    assert errors_of(server, str(folder / "history"), "damaged")
    assert errors_of(server, str(folder / "partition"), "damaged")
    rows += produce(server.bootstrap, topic, generated(50, seed=9))
    server.restart()
    expect_same(rows, consume(server.bootstrap, topic))


def journal_entries(server: FirnServer) -> list[tuple[int, Path, int]]:
    """Journal position, file and place in it of every entry, oldest first."""
    found = []
    for path in (server.data_dir / "journal").glob("slot-*"):
        data = path.read_bytes()
        at = data.find(b"FJE1")
        while at >= 0:
            found.append((int.from_bytes(data[at + 8 : at + 16]), path, at))
            at = data.find(b"FJE1", at + 1)
    return sorted(found)


@pytest.mark.parametrize("which", [-3, -1], ids=["others follow", "the last"])
def test_a_changed_journal_costs_nothing(start: StartNew, which: int) -> None:
    """One bit is put right, also in what was flushed last; several are taken from the segments where others follow."""
    server = start()
    topic, rows = filled(server, UNTIERED)
    for turn in range(3):
        for part in range(5):
            rows += produce(server.bootstrap, topic, generated(20, seed=10 * turn + part))
        server.kill()
        _, path, at = journal_entries(server)[which]
        flip(path, at + 70, 1 << turn)
        if which == -3 and turn == 2:
            flip(path, at + 71)
        server.start()
        expect_same(rows, consume(server.bootstrap, topic))
        told = "the journal is damaged" if which == -3 and turn == 2 else "had changed and was put right"
        assert errors_of(server, told), server.tail()


def test_a_changed_metadata_file_is_refused_or_harmless(start: StartNew) -> None:
    """The Raft log holds topics and the archive's ledger: it is whole, or the broker does not start and says why."""
    rng = random.Random(13)
    server = start()
    topic, rows = filled(server, ARCHIVED_TOO)
    end = archived(server, topic)
    server.stop()
    path = server.data_dir / "metadata" / "raft.redb"
    whole = path.read_bytes()
    used = [position for position in range(0, len(whole), 64) if any(whole[position : position + 64])]
    refused = 0
    for _ in range(30):
        path.write_bytes(whole)
        flip(path, rng.choice(used) + rng.randrange(64), 1 << rng.randrange(8))
        process = server.spawn()
        deadline = time.monotonic() + 60
        while process.exit_status is None and not server.ready():
            assert time.monotonic() < deadline, f"neither ready nor refused\n{server.tail()}"
            time.sleep(0.02)
        if process.exit_status is not None:
            assert process.exit_status == 1, server.tail()
            assert "raft.redb is damaged" in server.log_text(), server.tail()
            refused += 1
            continue
        assert server.archive_status([topic])[0]["archived_end"] >= end
        with Wire(server.host, server.port) as wire:
            assert requests.list_offset(wire, topic, requests.LATEST).offset == len(rows)
        server.kill()
    print(f"{refused} of 30 changes were refused")
    # Wherever the topic's name stands: in pages that are no longer used, and in the one that counts.
    changed = whole.replace(topic.encode(), topic.encode()[:-1] + bytes([topic.encode()[-1] ^ 1]))
    assert changed != whole
    path.write_bytes(changed)
    process = server.spawn()
    assert process.wait(60) == 1, server.tail()
    assert "raft.redb is damaged" in server.log_text(), server.tail()
    path.write_bytes(whole)
    server.start()
    expect_same(rows, consume(server.bootstrap, topic))
