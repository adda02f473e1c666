"""SIGKILL at random instants under load: what was acknowledged is there exactly once, in the log and in the Parquet."""

import os
import random
import time

import pytest

from conftest import PEER, StartServer
from harness.load import Load, expect_all
from harness.parquet_rows import duckdb_rows, pyarrow_rows
from harness.process import wait_until
from harness.records import consume, expect_same

# A JVM takes seconds to start; two kills show that the test itself is right.
KILLS = int(os.environ.get("FIRN_KILLS") or (2 if PEER == "kafka" else 50))
SEED = int(os.environ.get("FIRN_SEED") or random.SystemRandom().randrange(1 << 32))
PARTITIONS = 3
SETTINGS = {"firn.sweep.interval.ms": "500", "firn.sweep.grace.ms": "10000"}
TINY = {"segment.bytes": "8192", "segment.ms": "300"}


@pytest.mark.timeout(420)
def test_nothing_acknowledged_is_lost_or_doubled(start_server: StartServer) -> None:
    print(f"FIRN_SEED={SEED} FIRN_KILLS={KILLS}")
    rng = random.Random(SEED)
    server = start_server(SETTINGS)
    topic = server.create_topic("killed", tier="cold", partitions=PARTITIONS, config=TINY)
    load = Load(server.bootstrap, topic, PARTITIONS)
    for _ in range(KILLS):
        known = len(load.acknowledged)
        wait_until("progress after a kill", lambda known=known: len(load.acknowledged) > known or load.errors, 60)
        assert not load.errors, load.errors[0]
        time.sleep(rng.random() * 0.5)  # the instant of the kill is meant to be any
        server.kill()
        server.start()
    load.finish()
    assert load.sent > KILLS

    read = consume(server.bootstrap, topic, partitions=PARTITIONS)
    expect_all(load, read)
    server.settle(topic, timeout_s=120)
    expect_all(load, consume(server.bootstrap, topic, partitions=PARTITIONS))
    if server.tiered:
        files = server.archived_files(topic)
        assert len(files) > KILLS // 2
        expect_same(read, pyarrow_rows(files))
        expect_same(read, duckdb_rows(files))
        assert "panicked" not in (server.folder / "server.log").read_text(errors="replace")
    server.stop()
