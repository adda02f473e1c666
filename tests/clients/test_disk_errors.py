"""System calls on the data folder fail: EIO, no room, no descriptors, short writes, at some call under load.

Whatever the broker makes of it, nothing acknowledged is lost or doubled, and it never goes on after a failed sync as if that
had worked: it acknowledges nothing more, says which file failed, and recovers at its next start. FIRN_SEED repeats a run,
FIRN_DISK_ERRORS=all takes every call with every error.
"""

import os
import random
import re
import resource
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness import requests
from harness.batches import batch
from harness.firn import FirnServer
from harness.load import Load, expect_all
from harness.parquet_rows import pyarrow_rows
from harness.process import wait_until
from harness.records import consume, expect_same, generated, produce
from harness.stores import folder_store
from harness.syscall_faults import SyscallFault, why_not
from harness.wire import Wire

MISSING = why_not()
pytestmark = [pytest.mark.firn, pytest.mark.skipif(MISSING is not None, reason=MISSING or "")]

SEED = int(os.environ.get("FIRN_SEED") or random.SystemRandom().randrange(1 << 32))
PARTITIONS = 2
STORAGE_ERROR = 56
SETTINGS = {"firn.journal.bytes": str(8 << 20), "firn.sweep.interval.ms": "500", "firn.sweep.grace.ms": "1000"}
TINY = {"segment.bytes": "16384", "segment.ms": "300"}
FAILED = "the local log has failed"

# Call, error, and how many calls of a thread may go well before: few where calls are rare.
FAULTS = [
    ("pwritev", "EIO", 60),
    ("pwritev", "ENOSPC", 60),
    ("pwrite64", "EIO", 6),
    ("fdatasync", "EIO", 40),
    ("fsync", "EIO", 4),
    ("ftruncate", "EIO", 1),
    ("rename", "ENOSPC", 3),
    ("openat", "EIO", 8),
]
SHORT_WRITES = 1
if os.environ.get("FIRN_DISK_ERRORS") == "all":
    FAULTS += [
        ("pwritev", "EINTR", 60),
        ("pwrite64", "ENOSPC", 6),
        ("fdatasync", "ENOSPC", 40),
        ("rename", "EIO", 3),
        ("openat", "EMFILE", 8),
    ]
    SHORT_WRITES = 3

Start = Callable[[], FirnServer]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a server that outlives the signal of a file that may not grow."""
    made: list[FirnServer] = []

    def begin() -> FirnServer:
        folder = tmp_path / f"server{len(made)}"
        server = FirnServer(folder, folder_store(folder / "store"), SETTINGS)
        server.launcher = ("env", "--ignore-signal=XFSZ")
        made.append(server)
        server.start()
        return server

    yield begin
    for server in made:
        server.close()


def unhealthy(server: FirnServer) -> str:
    """What `/health` complains of; empty when it does not."""
    try:
        with urllib.request.urlopen(f"http://{server.admin_address}/health", timeout=5):
            return ""
    except urllib.error.HTTPError as error:
        return error.read().decode()


def expect_refusal(server: FirnServer, load: Load, old: str) -> None:
    """A broker whose log has failed says so everywhere, acknowledges nothing and serves nothing."""
    complaint = wait_until("health to tell of it", lambda: unhealthy(server))
    assert "acknowledges nothing until a restart" in complaint, complaint
    assert str(server.data_dir) in complaint, f"no file is named: {complaint}"
    (line,) = [line for line in server.log_text().splitlines() if " ERROR " in line and f"{FAILED}: nothing" in line]
    assert str(server.data_dir) in line
    wait_until("the log to say what to do", lambda: "mend the disk and restart" in server.log_text())
    known = len(load.acknowledged)
    with Wire(server.host, server.port) as wire:
        answer = requests.produce_raw(wire, old, batch([(b"k", b"v")]))
        assert answer.error_code == STORAGE_ERROR, answer
        # What was read from a disk that has failed could be gone after the next restart.
        wait_until("readers to be refused, too", lambda: requests.fetch_one(wire, old, 0).error_code == STORAGE_ERROR)
    # Answers of before may be on the way for a moment, new ones may not.
    wait_until("acknowledgements to end", lambda: _is_still(load), 20)
    assert len(load.acknowledged) - known <= 5000
    assert not load.errors, load.errors[0]


def _is_still(load: Load) -> bool:
    count = len(load.acknowledged)
    time.sleep(0.3)  # the absence of acknowledgements takes a while to see
    return len(load.acknowledged) == count


def outcome(server: FirnServer, load: Load, known: int) -> str:
    """Waits until the broker has failed, has ended, or goes on; says which."""

    def happened() -> str | None:
        if not server.alive():
            return "ended"
        if FAILED in server.log_text():
            return "failed"
        assert not load.errors, load.errors[0]
        return "goes on" if len(load.acknowledged) > known + 600 else None

    return wait_until("the broker to fail or to go on", happened, 60)


def end_badly(server: FirnServer, rng: random.Random) -> None:
    """Ends a broker that has failed, by force or by asking."""
    process = server.process
    if process is not None and process.exit_status is None and rng.random() < 0.5:
        process.signal(15)
        process.wait(30)
    server.kill()


def check_all(server: FirnServer, load: Load) -> None:
    """After a restart on a sound disk everything acknowledged is there once, in both tiers."""
    load.finish()
    expect_all(load, consume(server.bootstrap, load.topic, partitions=PARTITIONS))
    server.settle(load.topic, timeout_s=60)
    read = consume(server.bootstrap, load.topic, partitions=PARTITIONS)
    expect_all(load, read)
    expect_same(read, pyarrow_rows(server.archived_files(load.topic)))
    text = (server.folder / "server.log").read_text(errors="replace")
    assert "panicked" not in text, re.findall(r".*panicked.*\n.*", text)
    assert "recovery found damage" not in text
    assert not unhealthy(server)
    server.stop()


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("call", "error", "most"), FAULTS, ids=[f"{call}-{error}" for call, error, _ in FAULTS])
def test_a_failing_call_loses_nothing(start: Start, call: str, error: str, most: int) -> None:
    print(f"FIRN_SEED={SEED}")
    rng = random.Random(f"{SEED} {call} {error}")
    server = start()
    old = server.create_topic("old")
    produce(server.bootstrap, old, generated(20, seed=1))
    topic = server.create_topic("errors", tier="cold", partitions=PARTITIONS, config=TINY)
    with Load(server.bootstrap, topic, PARTITIONS, per_second=2000) as load:
        wait_until("the load", lambda: len(load.acknowledged) > 300 or load.errors, 60)
        assert server.process is not None
        when = f"{rng.randint(1, most)}{rng.choice(['', '+'])}"
        if error == "EINTR":
            when = when.rstrip("+") + "+5"
        trace = server.folder / "strace.log"
        with SyscallFault(server.process.pid, call, error, when, trace) as fault:
            wait_until(f"{call} to fail", lambda: fault.injected() or not server.alive(), 60)
            known = len(load.acknowledged)
            # An error that stays lets nobody go on, unless it is met by background work only.
            wait_until("an effect", lambda: _has_effect(server, load, known), 15)
        found = outcome(server, load, len(load.acknowledged))
        print(f"{call} {error} when={when}: the broker {found}; {fault.injected()[:3]}")
        if found == "failed":
            expect_refusal(server, load, old)
        if error == "EMFILE":
            assert found == "goes on", "too many open files are no reason to end"
        if call in ("fdatasync", "fsync") and any(str(server.data_dir / "journal") in line for line in fault.injected()):
            assert found != "goes on", "a failed flush of the journal may not be repeated"
        if call == "pwrite64" and error == "EIO":
            assert found == "goes on", "records need no new metadata"
            assert str(server.data_dir / "metadata") in fault.injected()[0]
            wait_until("health to tell of the metadata's log", lambda: unhealthy(server))
            (line, *_) = [line for line in server.log_text().splitlines() if "the metadata log cannot be written" in line]
            assert "raft.redb" in line and "mend the disk and restart" in line, line
        end_badly(server, rng)
        server.start()
        check_all(server, load)


def _has_effect(server: FirnServer, load: Load, known: int) -> bool:
    text = server.log_text()
    told = any(word in text for word in (FAILED, "cannot ", "Input/output error", "No space left", "Too many open files"))
    return told or not server.alive() or len(load.acknowledged) > known + 300


@pytest.mark.timeout(300)
@pytest.mark.parametrize("turn", range(SHORT_WRITES))
def test_a_short_write_loses_nothing(start: Start, turn: int) -> None:
    """No file may grow beyond a limit: the write that meets it is done in part, and the next one fails."""
    print(f"FIRN_SEED={SEED}")
    rng = random.Random(f"{SEED} short {turn}")
    server = start()
    old = server.create_topic("old")
    produce(server.bootstrap, old, generated(20, seed=1))
    # Segments that grow into the limit, or the journal's files, whichever is longer.
    size = rng.choice([16_384, 2 << 20])
    topic = server.create_topic("short", tier="cold", partitions=PARTITIONS, config={**TINY, "segment.bytes": str(size)})
    with Load(server.bootstrap, topic, PARTITIONS, per_second=4000) as load:
        wait_until("the load", lambda: len(load.acknowledged) > 300 or load.errors, 60)
        assert server.process is not None
        journal = max(path.stat().st_size for path in (server.data_dir / "journal").iterdir())
        limit = rng.randrange(8192, journal)
        # The metadata's file is written with the same limit: its length stays below.
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        found = wait_until("the log to fail", lambda: outcome(server, load, 1 << 60), 60)
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        print(f"limit {limit}: the broker {found}")
        if found == "failed":
            expect_refusal(server, load, old)
        end_badly(server, rng)
        server.start()
        check_all(server, load)
