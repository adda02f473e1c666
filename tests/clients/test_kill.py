"""SIGKILL at random instants under load: what was acknowledged is there exactly once, in the log and in the Parquet."""

import os
import random
import threading
import time
from collections import Counter

import pytest
from confluent_kafka import KafkaError, Message, Producer

from conftest import PEER, StartServer
from harness.parquet_rows import duckdb_rows, pyarrow_rows
from harness.process import wait_until
from harness.records import Row, consume, expect_same

# A JVM takes seconds to start; two kills show that the test itself is right.
KILLS = int(os.environ.get("FIRN_KILLS") or (2 if PEER == "kafka" else 50))
SEED = int(os.environ.get("FIRN_SEED") or random.SystemRandom().randrange(1 << 32))
PARTITIONS = 3
SETTINGS = {"firn.sweep.interval.ms": "500", "firn.sweep.grace.ms": "10000"}
TINY = {"segment.bytes": "8192", "segment.ms": "300"}


class Load(threading.Thread):
    """An idempotent producer that numbers its records and notes which were acknowledged, and where."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        super().__init__(daemon=True)
        self.topic = topic
        self.sent = 0
        self.acknowledged: dict[int, tuple[int, int]] = {}
        self.errors: list[KafkaError] = []
        self._stopping = threading.Event()
        self._producer = Producer(
            {"bootstrap.servers": bootstrap, "enable.idempotence": True, "acks": "all", "linger.ms": 2,
             "batch.num.messages": 40, "batch.size": 6000, "message.timeout.ms": 120_000,
             "reconnect.backoff.ms": 10, "reconnect.backoff.max.ms": 100, "retry.backoff.ms": 20,
             "compression.type": "lz4", "queue.buffering.max.messages": 3000, "log_level": 0,
             "error_cb": self._failed}
        )  # fmt: skip
        self.start()

    def _failed(self, error: KafkaError) -> None:
        if error.fatal():
            self.errors.append(error)

    def run(self) -> None:
        """Writes as fast as the broker takes it."""
        while not self._stopping.is_set():
            number = self.sent

            def delivered(error: KafkaError | None, message: Message, number: int = number) -> None:
                if error is not None:
                    self.errors.append(error)
                else:
                    self.acknowledged[number] = (message.partition(), message.offset())

            try:
                self._producer.produce(
                    self.topic, key=b"%d" % (number % 7), value=b"%d " % number + b"." * (number % 200),
                    partition=number % PARTITIONS, headers=[("n", b"%d" % number), ("n", None)], on_delivery=delivered,
                )  # fmt: skip
                self.sent += 1
                self._producer.poll(0)
            except BufferError:
                self._producer.poll(0.02)
            if number % 50 == 0:
                time.sleep(0.002)

    def finish(self) -> None:
        """Stops writing and waits until everything is acknowledged."""
        self._stopping.set()
        self.join(30)
        assert self._producer.flush(90) == 0, "records were never acknowledged"


def number_of(row: Row) -> int:
    """The number that the load wrote."""
    assert row.value is not None
    return int(row.value.split(b" ")[0])


@pytest.mark.timeout(420)
def test_nothing_acknowledged_is_lost_or_doubled(start_server: StartServer) -> None:
    print(f"FIRN_SEED={SEED} FIRN_KILLS={KILLS}")
    rng = random.Random(SEED)
    server = start_server(SETTINGS)
    topic = server.create_topic("killed", tier="cold", partitions=PARTITIONS, config=TINY)
    load = Load(server.bootstrap, topic)
    for _ in range(KILLS):
        known = len(load.acknowledged)
        wait_until("progress after a kill", lambda known=known: len(load.acknowledged) > known or load.errors, 60)
        assert not load.errors, load.errors[0]
        time.sleep(rng.random() * 0.5)  # the instant of the kill is meant to be any
        server.kill()
        server.start()
    load.finish()
    assert not load.errors, load.errors[0]
    assert len(load.acknowledged) == load.sent > KILLS

    read = consume(server.bootstrap, topic, partitions=PARTITIONS)
    check(load, read)
    server.settle(topic, timeout_s=120)
    check(load, consume(server.bootstrap, topic, partitions=PARTITIONS))
    if server.tiered:
        files = server.archived_files(topic)
        assert len(files) > KILLS // 2
        expect_same(read, pyarrow_rows(files))
        expect_same(read, duckdb_rows(files))
        assert "panicked" not in (server.folder / "server.log").read_text(errors="replace")
    server.stop()


def check(load: Load, read: list[Row]) -> None:
    """Every number exactly once, at the acknowledged place, in order, without a gap."""
    counts = Counter(number_of(row) for row in read)
    doubled = [number for number, count in counts.items() if count > 1]
    lost = [number for number in load.acknowledged if number not in counts]
    assert not doubled and not lost, f"doubled {doubled[:5]}, lost {lost[:5]} of {len(load.acknowledged)}"
    places = {number_of(row): (row.partition, row.offset) for row in read}
    for number, (partition, offset) in load.acknowledged.items():
        # A repeated batch may be acknowledged without its offset.
        assert offset < 0 or places[number] == (partition, offset), f"record {number} was acknowledged elsewhere"
    for partition in range(PARTITIONS):
        rows = [row for row in read if row.partition == partition]
        assert [row.offset for row in rows] == list(range(len(rows))), f"partition {partition} has a gap"
        assert [number_of(row) for row in rows] == sorted(number_of(row) for row in rows), "the order was lost"
        assert all(row.headers == (("n", b"%d" % number_of(row)), ("n", None)) for row in rows)
