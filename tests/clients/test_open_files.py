"""The process runs out of file descriptors and gets them back, without a restart.

Who needs one more meanwhile is told to try again, the log says what to do, and nothing acknowledged is lost.
"""

import resource
import time
from collections.abc import Iterator
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
from harness.wire import Wire, api_versions

pytestmark = pytest.mark.firn

PARTITIONS = 2
STORAGE_ERROR = 56
SETTINGS = {"firn.journal.bytes": str(8 << 20), "firn.sweep.interval.ms": "500", "firn.sweep.grace.ms": "1000"}
TINY = {"segment.bytes": "16384", "segment.ms": "300"}
TOLD = "raise the limit of open files (LimitNOFILE= of the service, ulimit -n)"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FirnServer]:
    server = FirnServer(tmp_path, folder_store(tmp_path / "store"), SETTINGS)
    # A soft limit below the hard one, as login shells and services have it.
    server.launcher = ("sh", "-c", 'ulimit -Sn 512 && ulimit -Hn 2048 && exec "$@"', "sh")
    server.start()
    yield server
    server.close()


def limit_files(server: FirnServer, soft: int) -> None:
    """So many files the running server may have open from now on."""
    assert server.process is not None
    hard = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)[1]
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (soft, hard))


def refused(wire: Wire, topic: str) -> bool:
    """Whether a write is refused as one that may be tried again; it is taken while the segment's file is still open."""
    code = requests.produce_raw(wire, topic, batch([(b"k", b"v")])).error_code
    assert code in (0, STORAGE_ERROR), code
    return code == STORAGE_ERROR


@pytest.mark.timeout(300)
def test_running_out_of_descriptors_stops_nobody_for_good(server: FirnServer) -> None:
    began = time.monotonic()
    assert server.process is not None
    assert resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE) == (2048, 2048), "the soft limit was not raised"
    assert "raised the limit of open files" in server.log_text()
    old = server.create_topic("old")
    known = produce(server.bootstrap, old, generated(200, seed=1))
    # Enough segments that some of their files are not open.
    topic = server.create_topic("descriptors", tier="cold", partitions=PARTITIONS, config=TINY)
    with Load(server.bootstrap, topic, PARTITIONS, per_second=2000) as load:
        for _ in range(3):
            count = len(load.acknowledged)
            wait_until("progress", lambda count=count: len(load.acknowledged) > count + 600 or load.errors, 60)
            with Wire(server.host, server.port) as wire:
                assert api_versions(wire), "the server itself has accepted it"
                limit_files(server, 3)
                wait_until("a write to be refused as one that may be tried again", lambda wire=wire: refused(wire, old), 30)
                assert requests.fetch_one(wire, old, 0).error_code == STORAGE_ERROR
                # The system accepts in the server's place and lets it wait.
                with Wire(server.host, server.port) as late:
                    wait_until("accepting to fail", lambda: "cannot accept a connection" in server.log_text(), 30)
                    limit_files(server, 2048)
                    assert api_versions(late)
                assert requests.fetch_one(wire, old, 0).error_code == 0
                assert not refused(wire, old)
        count = len(load.acknowledged)
        wait_until("writing to go on", lambda: len(load.acknowledged) > count + 600 or load.errors, 60)
        name = server.create_topic("made")
        expect_same(produce(server.bootstrap, name, generated(50, seed=3)), consume(server.bootstrap, name))
        load.finish()
        server.settle(topic, timeout_s=60)
        read = consume(server.bootstrap, topic, partitions=PARTITIONS)
        expect_all(load, read)
        expect_same(read, pyarrow_rows(server.archived_files(topic)))
        expect_same(known, consume(server.bootstrap, old, limit=len(known)))
        expect_healthy(server, time.monotonic() - began)
        server.kill()
        server.start()
        expect_all(load, consume(server.bootstrap, topic, partitions=PARTITIONS))
        expect_same(known, consume(server.bootstrap, old, limit=len(known)))
        server.stop()


def expect_healthy(server: FirnServer, lasted_s: float) -> None:
    """The server has told of it, at most once a minute, and nothing of it is left."""
    most = 1 + lasted_s // 60
    assert server.http("/health")
    text = server.log_text()
    assert "panicked" not in text and "the local log has failed" not in text
    told = [line for line in text.splitlines() if " ERROR " in line and "too many files are open" in line and TOLD in line]
    assert 1 <= len(told) <= most and all("limit=3 " in line for line in told), told
    assert text.count("cannot accept a connection") <= most
