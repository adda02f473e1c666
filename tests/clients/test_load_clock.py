"""A wall clock that jumps by hours, days and years under a running server (libfaketime; the steady clock stays true)."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Consumer

from conftest import new_server
from harness.firn import FirnServer
from harness.load import Load, expect_all
from harness.pressure import stays_healthy
from harness.process import wait_until
from harness.records import Draft, consume, produce
from harness.requests import EARLIEST, fetch_one, list_offset
from harness.wire import Wire

pytestmark = pytest.mark.firn
LIBRARIES = [
    *Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"),
    *Path("/usr/lib").glob("faketime/libfaketimeMT.so.1"),
]
# A client whose clock is hours before or behind the broker's is refused by default, as in Apache Kafka.
ANY_TIME = {"message.timestamp.after.max.ms": str(2**63 - 1)}
DAY_MS = 86_400_000


def start_with_clock(folder: Path, settings: dict[str, str] | None = None) -> tuple[FirnServer, Callable[[str], None]]:
    """A server, and what moves its wall clock ("+5h", "-5h", "+800d", "+0")."""
    assert LIBRARIES, "libfaketime is missing: scripts/setup-tests.sh installs it"
    server = new_server(folder / "server", settings)
    assert isinstance(server, FirnServer)
    offset = folder / "offset"

    def move(by: str) -> None:
        fresh = folder / "offset.new"
        fresh.write_text(by + "\n")
        fresh.replace(offset)

    move("+0")
    server.env = {
        "LD_PRELOAD": str(LIBRARIES[0]),
        "FAKETIME_TIMESTAMP_FILE": str(offset),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }
    server.start()
    return server, move


def test_sessions_polls_and_writers_do_not_feel_the_clock(tmp_path: Path) -> None:
    server, move = start_with_clock(tmp_path)
    try:
        topic = server.create_topic("clock", config=ANY_TIME)
        empty = server.create_topic("empty")
        moves = 0

        def count(*_: object) -> None:
            nonlocal moves
            moves += 1

        load = Load(server.bootstrap, topic, 1, per_second=2000)
        consumer = Consumer(
            {"bootstrap.servers": server.bootstrap, "group.id": "clock", "session.timeout.ms": 6000,
             "heartbeat.interval.ms": 500, "auto.offset.reset": "earliest", "auto.commit.interval.ms": 200}
        )  # fmt: skip
        consumer.subscribe([topic], on_assign=count, on_revoke=count, on_lost=count)
        seen = read_some(consumer, -1)
        for by in ("+5h", "+0", "-5h", "+0", "+800d", "-800d", "+0"):
            move(by)
            with Wire(server.host, server.port) as wire:
                began = time.monotonic()
                fetch_one(wire, empty, 0, max_wait_ms=700)
                assert 0.5 < time.monotonic() - began < 15, "a long poll went by the wall clock"
            seen = read_some(consumer, seen)
        assert moves == 1, "the member lost its partition"
        consumer.close()
        load.finish()
        expect_all(load, consume(server.bootstrap, topic))
        assert "leapt ahead" in server.log_text()
        stays_healthy(server, connections=None)  # the load's producer still has its own
        server.stop()
    finally:
        server.close()


def read_some(consumer: Consumer, last: int) -> int:
    """Reads on for some hundred records, in order; the last offset."""
    goal = last + 300
    deadline = time.monotonic() + 60
    while last < goal:
        assert time.monotonic() < deadline, f"the consumer stands still at {last}"
        message = consumer.poll(0.2)
        if message is not None:
            assert message.error() is None, message.error()
            assert message.offset() == last + 1
            last = message.offset()
    return last


def test_a_leap_ahead_deletes_nothing_and_a_leap_back_stops_nothing(tmp_path: Path) -> None:
    server, move = start_with_clock(tmp_path)
    try:
        limits = {**ANY_TIME, "retention.ms": str(DAY_MS), "segment.ms": "1000"}
        hot = server.create_topic("hot", config={**limits, "remote.storage.enable": "false"})
        cold = server.create_topic("cold", tier="cold", config=limits)
        now = int(time.time() * 1000)
        drafts = [Draft(value=b"%d" % index, timestamp=now) for index in range(50)]
        written = {topic: produce(server.bootstrap, topic, drafts) for topic in (hot, cold)}
        server.settle(cold)
        checks = 0

        def rounds() -> int:
            # Retention looks every 200 ms; an expired topic shows that it has looked.
            return log_start(server, expired)

        for by in ("+6h", "+800d"):
            move(by)
            expired = server.create_topic("expired", config={**limits, "retention.ms": "1000", "segment.ms": "500"})
            produce(server.bootstrap, expired, [Draft(value=b"x", timestamp=1000)] * 3)
            wait_until("retention to do its work elsewhere", rounds, timeout_s=30)
            checks += 1
            for topic, rows in written.items():
                assert log_start(server, topic) == 0, f"{topic} lost records to a clock that leapt {by}"
                assert consume(server.bootstrap, topic) == rows
        assert checks == 2
        move("-6h")
        back = server.create_topic("back", tier="cold", config={**limits, "retention.ms": "-1"})
        # Retention goes by the records' own times: those from the clock's future stay until it gets there.
        old = [Draft(value=draft.value, timestamp=now - DAY_MS) for draft in drafts[:5]]
        produce(server.bootstrap, back, old)
        server.settle(back, timeout_s=30)
        move("-12h")
        produce(server.bootstrap, back, old)
        server.settle(back, timeout_s=30)
        assert len(consume(server.bootstrap, back)) == 10
        stays_healthy(server)
        server.stop()
    finally:
        server.close()


def log_start(server: FirnServer, topic: str) -> int:
    """The first offset that there is."""
    with Wire(server.host, server.port) as wire:
        return int(list_offset(wire, topic, EARLIEST).offset)


def test_an_open_segment_closes_although_the_clock_went_back(tmp_path: Path) -> None:
    server, move = start_with_clock(tmp_path)
    try:
        move("+5h")
        topic = server.create_topic("open", tier="cold", config={**ANY_TIME, "segment.ms": "3000"})
        produce(server.bootstrap, topic, [Draft(value=b"before")])
        move("+0")
        server.settle(topic, timeout_s=30)
        stays_healthy(server)
    finally:
        server.close()
