"""The object store fails in every way it can while records are written and read; nothing is lost, doubled or wrong."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition

from harness import requests
from harness.broker import unique
from harness.firn import FirnServer
from harness.parquet_rows import pyarrow_rows
from harness.process import wait_until
from harness.proxy import Fault, FaultProxy, Rule, always, data_reads, every, healthy, writes
from harness.records import Row, consume, expect_same, generated, produce
from harness.stores import VersityGw
from harness.wire import Wire

pytestmark = pytest.mark.firn
SMALL = {"batch.num.messages": 25}
# A broker that never hangs on its store: calls are given up after a second.
IMPATIENT = {
    "firn.object.store.timeout.ms": "1000",
    "firn.cold.fetch.timeout.ms": "500",
    "firn.cold.cache.bytes": str(16 << 20),
    "firn.sweep.interval.ms": "300",
    "firn.sweep.grace.ms": "3000",
}
# Answers to a fetch that tell the client to ask again: REQUEST_TIMED_OUT, NOT_LEADER_OR_FOLLOWER, STORAGE_ERROR.
RETRIABLE = {7, 6, 56}

FAULTS: dict[str, Rule] = {
    "down": always(Fault.REFUSE),
    "unavailable": always(Fault.UNAVAILABLE),
    "hanging": always(Fault.HANG),
    "slow": always(Fault.SLOW),
    "every third call refused": every(3, Fault.REFUSE),
    "every second call unavailable": every(2, Fault.UNAVAILABLE),
    "writes fail after they took effect": writes(2, Fault.ERROR_AFTER),
    "answers to writes get lost": writes(1, Fault.LOST_ANSWER),
    "answers are lost now and then": every(4, Fault.LOST_ANSWER),
    "short reads": data_reads(2, Fault.SHORT),
    "wrong bytes": data_reads(2, Fault.WRONG_BYTES),
    "only short reads": data_reads(1, Fault.SHORT),
    "only wrong bytes": data_reads(1, Fault.WRONG_BYTES),
}


@pytest.fixture(scope="module")
def server(work_dir: Path, versitygw: VersityGw, proxy: FaultProxy) -> Iterator[FirnServer]:
    """A server that sees its store only through the proxy."""
    instance = FirnServer(work_dir / "server", versitygw.store(proxy.endpoint), IMPATIENT)
    (work_dir / "server").mkdir()
    instance.start()
    yield instance
    instance.close()


class Writer(threading.Thread):
    """Writes without pause until told to stop; every record must be acknowledged."""

    def __init__(self, server: FirnServer, topic: str) -> None:
        super().__init__(daemon=True)
        self.server, self.topic = server, topic
        self.rows: list[Row] = []
        self.failure: BaseException | None = None
        self._stopping = threading.Event()
        self.start()

    def run(self) -> None:
        """Writes rounds of records."""
        seed = 0
        try:
            while not self._stopping.is_set():
                seed += 1
                config = {**SMALL, "enable.idempotence": True, "linger.ms": 1, "message.timeout.ms": 8000}
                self.rows += produce(self.server.bootstrap, self.topic, generated(100, seed, partitions=2), **config)
        except BaseException as error:  # noqa: BLE001 - handed to the test
            self.failure = error

    def finish(self) -> list[Row]:
        """Stops and returns what was acknowledged."""
        self._stopping.set()
        self.join(30)
        if self.failure is not None:
            raise self.failure
        return self.rows


@pytest.mark.parametrize("name", FAULTS)
def test_a_failing_store_harms_nothing(server: FirnServer, proxy: FaultProxy, name: str) -> None:
    topic = server.create_topic(f"fault-{unique('x')}", tier="cold", partitions=2)
    old = produce(server.bootstrap, topic, generated(400, seed=99, partitions=2), **SMALL)
    server.settle(topic)
    before = sum(proxy.injected.values())
    proxy.rule = FAULTS[name]
    try:
        writer = Writer(server, topic)
        try:
            wait_until("some records under the fault", lambda: len(writer.rows) >= 400 or writer.failure, 30)
            cold_reads_are_right_or_say_try_again(server, topic, old)
            wait_until("the fault to have struck", lambda: sum(proxy.injected.values()) >= before + 3, 30)
            hot_tail_is_readable(server, topic, writer)
        finally:
            new = writer.finish()
    finally:
        proxy.rule = healthy
    server.settle(topic)
    expect_same(old + new, consume(server.bootstrap, topic, partitions=2))
    expect_same(old + new, pyarrow_rows(server.archived_files(topic)))
    assert server.archive_status([topic])[0]["last_error"] is None, "the error of the past is still shown"
    assert server.alive() and "panicked" not in server.log_text()


def cold_reads_are_right_or_say_try_again(server: FirnServer, topic: str, old: list[Row]) -> None:
    """Fetches of archived offsets under the fault: the right records, nothing yet, or a retriable error."""
    values = {(row.partition, row.offset): row.value for row in old}
    with Wire(server.host, server.port, timeout_s=30) as wire:
        for offset in (0, 120, 199):
            answer = requests.fetch_one(wire, topic, offset, max_wait_ms=300)
            assert answer.error_code == requests.NONE or answer.error_code in RETRIABLE, answer
    try:
        for row in consume(server.bootstrap, topic, partitions=2, limit=60, timeout_s=3):
            assert (row.partition, row.offset) not in values or row.value == values[row.partition, row.offset]
    except TimeoutError:
        pass  # patience is all that was asked of the client


def hot_tail_is_readable(server: FirnServer, topic: str, writer: Writer) -> None:
    """What was just written can be read at once, whatever the store does.

    Only offsets that are surely still local count; with a store that half works the archiver may have moved on.
    """
    started = len(writer.rows)
    wait_until("the writer to go on", lambda: len(writer.rows) > started or writer.failure, 20)
    newest = max(row.offset for row in writer.rows[-100:] if row.partition == 0)
    (row,) = [row for row in server.archive_status([topic]) if row["partition"] == 0]
    start = max(newest - 10, int(row["local_start"]))

    def readable() -> bool:
        with Wire(server.host, server.port) as wire:
            answer = requests.fetch_one(wire, topic, start, max_wait_ms=100)
            return bool(answer.error_code == requests.NONE and answer.records)

    wait_until("the hot tail", readable, 10)


def test_a_store_that_comes_back_with_everything_lost_answers_is_not_written_twice(
    server: FirnServer, proxy: FaultProxy, versitygw: VersityGw
) -> None:
    """After the last fault nothing may be left over: what no manifest names is swept."""
    topic = server.create_topic("swept", tier="cold")
    proxy.rule = writes(1, Fault.LOST_ANSWER)
    try:
        written = produce(server.bootstrap, topic, generated(400, seed=1), **SMALL)
        seen = proxy.seen
        wait_until("attempts", lambda: proxy.seen > seen + 5)
    finally:
        proxy.rule = healthy
    server.settle(topic)
    named = {file.name for file in server.archived_files(topic)}

    def only_named() -> bool:
        lying = {file.name for file in versitygw.store().objects(".parquet") if f"/{topic}-" in str(file)}
        assert lying == named, f"{len(lying)} lie there, {len(named)} are named"
        return True

    wait_until("orphans to be swept", only_named, timeout_s=30)
    expect_same(written, consume(server.bootstrap, topic))


def test_the_server_itself_restarts_while_its_store_is_down(
    server: FirnServer, proxy: FaultProxy, versitygw: VersityGw
) -> None:
    topic = server.create_topic("restart-down", tier="cold")
    written = produce(server.bootstrap, topic, generated(200, seed=2), **SMALL)
    server.settle(topic)
    versitygw.stop()
    written += produce(server.bootstrap, topic, generated(200, seed=3), **SMALL)
    server.stop(timeout_s=20)
    versitygw.start()
    server.start()
    server.settle(topic)
    expect_same(written, consume(server.bootstrap, topic))


@pytest.mark.parametrize("timestamp", [1, requests.MAX_TIMESTAMP], ids=["the first", "the latest"])
def test_a_question_by_time_never_leads_below_a_log_start_that_the_ledger_does_not_know_yet(
    server: FirnServer, proxy: FaultProxy, timestamp: int
) -> None:
    """DeleteRecords holds at once; the ledger follows when the store takes manifests again."""
    topic = server.create_topic("deleted-while-down", tier="cold")
    # The last record below the new log start is the newest of all.
    old = [
        replace(draft, timestamp=(draft.timestamp or 0) + 5000 * (index == 99))
        for index, draft in enumerate(generated(300, seed=5))
    ]
    produce(server.bootstrap, topic, old, **SMALL)
    server.settle(topic)
    admin, part = server.admin(), TopicPartition(topic, 0, 100)
    proxy.rule = writes(1, Fault.UNAVAILABLE)
    try:
        assert admin.delete_records([part])[part].result(20).low_watermark == 100
        with Wire(server.host, server.port) as wire:
            answer = requests.list_offset(wire, topic, timestamp)
        assert answer.error_code == requests.NONE
        assert answer.offset >= 100, answer
        assert timestamp != 1 or answer.offset == 100
    finally:
        proxy.rule = healthy
