"""The object store stalls, is far away, or is gone for long: deadlines hold, reads make progress, writing goes on."""

import contextlib
import statistics
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import requests
from harness.bucket import await_health, await_trouble, expect_no_orphan, status_sentences, status_text
from harness.firn import FirnServer
from harness.process import wait_until
from harness.proxy import Chosen, Fault, FaultProxy, Request, always
from harness.records import Draft, Row, consume, expect_same, generated, produce
from harness.stores import VersityGw
from harness.wire import Wire

pytestmark = pytest.mark.firn
SMALL = {"batch.num.messages": 25}
TIMEOUT_MS = 1000
SETTINGS = {
    "firn.object.store.timeout.ms": str(TIMEOUT_MS),
    "firn.archive.retry.max.ms": "500",
    "firn.cold.fetch.timeout.ms": "500",
    "firn.sweep.interval.ms": "200",
    "firn.sweep.grace.ms": "1000",
}
PATIENT = {
    "firn.object.store.timeout.ms": "30000",
    "firn.sweep.interval.ms": "60000",
}
OUTAGE_S = 12.0
OUTAGE_PARTITIONS = 40
STUCK_PARTITIONS = 12
ONE_SEGMENT = {"segment.bytes": str(1 << 20), "segment.ms": "300"}


@pytest.fixture(scope="module")
def far(work_dir: Path, versitygw: VersityGw) -> Iterator[tuple[FirnServer, FaultProxy]]:
    """A server with default patience behind a proxy of its own."""
    (work_dir / "far").mkdir()
    proxy = FaultProxy(versitygw.port)
    server = FirnServer(work_dir / "far", versitygw.store(proxy.endpoint), PATIENT)
    server.start()
    yield server, proxy
    server.close()
    proxy.close()


def test_a_stalled_upload_is_detected_and_restarted(proxied: FirnServer, proxy: FaultProxy) -> None:
    """Aiven#820: uploads that stopped in the middle of their body hung for hours."""
    topic = proxied.create_topic("stalled", tier="cold")
    rule = Chosen(lambda r: r.is_write and r.is_data, Fault.STALL_REQUEST, times=6)
    with proxy.failing(rule):
        written = produce(proxied.bootstrap, topic, generated(200, seed=1), **SMALL)
        await_trouble(proxied, topic, ("put", "timed out"), timeout_s=20)
        wait_until("the stalls to be over", lambda: rule.struck == 6, 40)
        proxied.settle(topic)
    expect_same(written, consume(proxied.bootstrap, topic))
    expect_no_orphan(proxied, topic)
    await_health(proxied, topic)


def test_a_store_that_is_back_is_noticed_by_a_broker_that_calls_nothing(tmp_path: Path, versitygw: VersityGw) -> None:
    proxy = FaultProxy(versitygw.port)
    settings = {"firn.object.store.timeout.ms": "1000", "firn.cold.fetch.timeout.ms": "500", "firn.iceberg.enable": "false"}
    server = FirnServer(tmp_path, versitygw.store(proxy.endpoint), settings)
    server.start()
    try:
        topic = server.create_topic("idle", tier="cold")
        written = produce(server.bootstrap, topic, generated(200, seed=9), **SMALL)
        server.settle(topic)
        server.restart()
        with proxy.failing(always(Fault.UNAVAILABLE)):
            with contextlib.suppress(Exception):
                consume(server.bootstrap, topic, timeout_s=4)
            assert wait_until("the trouble to be told", server.store_trouble)
        wait_until("it to be over", lambda: server.store_trouble() is None, 30)
        expect_same(written, consume(server.bootstrap, topic))
    finally:
        server.close()
        proxy.close()


@pytest.mark.parametrize("operation", ["manifest", "list", "delete"])
def test_no_call_waits_longer_than_its_deadline(proxied: FirnServer, proxy: FaultProxy, operation: str) -> None:
    topic = proxied.create_topic("deadline", tier="cold")
    choice, words, activity = {
        "manifest": (lambda r: r.is_write and r.is_manifest, ("put", "timed out"), "archive"),
        "list": (lambda r: r.is_list, ("list", "timed out"), "sweep"),
        "delete": (lambda r: r.is_delete, ("delete", "timed out"), "sweep"),
    }[operation]
    # The manifest of the first commit is what the second leaves to the sweep.
    written = produce(proxied.bootstrap, topic, generated(100, seed=1), **SMALL)
    proxied.settle(topic)
    with proxy.failing(Chosen(choice, Fault.HANG)):
        written += produce(proxied.bootstrap, topic, generated(200, seed=2), **SMALL)
        await_trouble(proxied, topic, words, activity, timeout_s=30)
    proxied.settle(topic)
    expect_same(written, consume(proxied.bootstrap, topic))
    expect_no_orphan(proxied, topic)
    await_health(proxied, topic)


def test_partitions_with_a_long_backlog_leave_their_turn_to_others(
    far: tuple[FirnServer, FaultProxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, proxy = far
    busy = [server.create_topic("busy", tier="cold") for _ in range(2)]
    rule = Chosen(lambda r: r.is_write and r.is_data and any(topic in r.target for topic in busy), Fault.LATENCY)
    monkeypatch.setattr(proxy, "delay_s", 0.2)
    with proxy.failing(rule):
        for topic in busy:
            produce(server.bootstrap, topic, generated(3000, seed=5), **SMALL)
        wait_until("both to be archived", lambda: rule.struck >= 2)
        other = server.create_topic("other", tier="cold")
        produce(server.bootstrap, other, generated(50, seed=6), **SMALL)
        server.settle(other)
        assert all(row["backlog_bytes"] > 0 for row in server.archive_status(busy))


def test_reads_that_stall_answer_empty_in_time_and_get_their_records_later(proxied: FirnServer, proxy: FaultProxy) -> None:
    """The family of Aiven#483: a fetch that times out goes on filling the cache; the client sees no storm of errors."""
    topic = proxied.create_topic("slow-reads", tier="cold")
    written = produce(proxied.bootstrap, topic, generated(300, seed=3), **SMALL)
    proxied.settle(topic)
    rule = Chosen(lambda r: r.is_read and r.is_data, Fault.STALL_ANSWER, times=2)
    with proxy.failing(rule), Wire(proxied.host, proxied.port) as wire:
        begun = time.monotonic()
        answer = requests.fetch_one(wire, topic, 0, max_wait_ms=300)
        assert (answer.error_code, answer.records or b"") == (requests.NONE, b"")
        assert time.monotonic() - begun < 5, "the answer must not wait for the store"
        expect_same(written, consume(proxied.bootstrap, topic))
    assert rule.struck == 2

    # Late answers: the first fetch gives up, a later one finds what the first has asked for, with no request of its own.
    late = proxied.create_topic("late-reads", tier="cold", config=ONE_SEGMENT)
    written = produce(proxied.bootstrap, late, generated(300, seed=4), **SMALL)
    proxied.settle(late)

    def reads() -> list[Request]:
        return [request for request in proxy.requests if request.is_read and late in request.target]

    before = len(reads())
    with (
        proxy.failing(Chosen(lambda r: r.is_read and late in r.target, Fault.SLOW)),
        Wire(proxied.host, proxied.port) as wire,
    ):
        answers = []

        def fetched() -> bool:
            answers.append(requests.fetch_one(wire, late, 0, max_wait_ms=100))
            return bool(answers[-1].records)

        wait_until("the late records", fetched, 20)
        assert all(answer.error_code == requests.NONE for answer in answers), answers
        assert len(answers) > 1, "the store was too fast for this test"
        # A manifest, a footer and the pages: each once, however often the client asked.
        assert len(reads()) - before <= 3, [request.target for request in reads()]
    expect_same(written, consume(proxied.bootstrap, late))


@pytest.mark.parametrize("latency_ms", [20, 200, 2000])
def test_a_distant_store_slows_neither_writing_nor_hot_reads(far: tuple[FirnServer, FaultProxy], latency_ms: int) -> None:
    server, proxy = far
    topic = server.create_topic(f"far-{latency_ms}", tier="cold", config=ONE_SEGMENT)
    written = produce(server.bootstrap, topic, generated(1500, seed=5), **SMALL)
    server.settle(topic)
    busy = server.create_topic(f"busy-{latency_ms}", tier="cold", config=ONE_SEGMENT)
    near_ms = acknowledgement_ms(server, busy, 20)
    read: list[Row] = []
    proxy.delay_s = latency_ms / 1000
    with proxy.failing(always(Fault.LATENCY)):
        reader = threading.Thread(target=lambda: read.extend(consume(server.bootstrap, topic, timeout_s=120)), daemon=True)
        begun = time.monotonic()
        reader.start()
        far_ms = acknowledgement_ms(server, busy, 40)
        reader.join(120)
        took_s = time.monotonic() - begun
        expect_same(written, read)
        # Of a cold start: manifest, footer, pages; more is read ahead meanwhile.
        assert took_s < 6 + 8 * latency_ms / 1000, f"a cold read took {took_s:.1f} s"
        assert far_ms < 3 * near_ms + 100, f"acknowledgements took {near_ms:.1f} ms, then {far_ms:.1f} ms"
        server.settle(busy)
    expect_same(written, consume(server.bootstrap, topic))


def acknowledgement_ms(server: FirnServer, topic: str, count: int) -> float:
    """The median time of one acknowledged record and of reading it back."""
    times = []
    for number in range(count):
        begun = time.monotonic()
        (row,) = produce(server.bootstrap, topic, [Draft(value=b"%d" % number)], **{"linger.ms": 0})
        with Wire(server.host, server.port) as wire:
            answer = requests.fetch_one(wire, topic, row.offset, max_wait_ms=1000)
        times.append(time.monotonic() - begun)
        assert answer.error_code == requests.NONE
    return 1000 * statistics.median(times)


def test_archiving_resumes_by_itself_after_a_long_outage(
    proxied: FirnServer, proxy: FaultProxy, versitygw: VersityGw
) -> None:
    """An hour at default settings (pauses up to a minute), with both shortened alike: twelve seconds, half a second."""
    topic = proxied.create_topic("outage", tier="cold", partitions=OUTAGE_PARTITIONS)
    written = produce(proxied.bootstrap, topic, generated(400, seed=6, partitions=OUTAGE_PARTITIONS), **SMALL)
    proxied.settle(topic)
    versitygw.stop()
    begun = time.monotonic()
    sizes, since = [], set()
    while time.monotonic() - begun < OUTAGE_S:
        drafts = generated(400, seed=100 + len(sizes), partitions=OUTAGE_PARTITIONS)
        new = produce(proxied.bootstrap, topic, drafts, **SMALL)
        written += new
        hot_record_is_readable(proxied, topic, new[0])
        rows = proxied.archive_status([topic])
        sizes.append(sum(row["local_bytes"] for row in rows))
        trouble = proxied.store_trouble()
        since |= {trouble["since_ms"]} if trouble else set()
        time.sleep(0.3)
    assert sizes == sorted(sizes) and sizes[-1] > 3 * sizes[0], "the local disk did not take what the store could not"
    # Nothing is put into a store before it has said that it is the cluster's.
    await_trouble(proxied, topic, ("identity of the object store", "get of"))
    assert since and max(since) - min(since) < 1000, "the beginning of the outage must not move"
    assert all(row["backlog_bytes"] > 0 and row["backlog_seconds"] >= 5 for row in proxied.archive_status([topic]))
    said = status_sentences(proxied, topic)
    archiving = [line for line in said if "archiving fails" in line]
    assert archiving and all("wait" in line for line in archiving), said
    assert all("the sweep fails" in line for line in said if line not in archiving), said
    assert "calls in a row" in status_text(proxied).splitlines()[0]
    proxy.most_active = 0
    versitygw.start()
    proxied.settle(topic)
    # Two archivers, one sweep, and the odd call that was under way.
    assert proxy.most_active <= 8, f"{proxy.most_active} requests at a time when the store came back"
    expect_same(written, consume(proxied.bootstrap, topic, partitions=OUTAGE_PARTITIONS))
    expect_no_orphan(proxied, topic)
    await_health(proxied, topic)


def test_a_restart_needs_no_store_that_was_used_before(proxied: FirnServer, versitygw: VersityGw) -> None:
    """A broker that fell during an outage of the store serves what is on its disk, and archives when the store is back."""
    topic = proxied.create_topic("restarted", tier="cold")
    written = produce(proxied.bootstrap, topic, generated(200, seed=16), **SMALL)
    proxied.settle(topic)
    versitygw.stop()
    written += produce(proxied.bootstrap, topic, generated(200, seed=17), **SMALL)
    proxied.kill()
    proxied.start()
    hot_record_is_readable(proxied, topic, written[-1])
    written += produce(proxied.bootstrap, topic, generated(200, seed=18), **SMALL)
    hot_record_is_readable(proxied, topic, written[-1])
    # Nothing is put into a store before it has said that it is the cluster's.
    await_trouble(proxied, topic, ("identity of the object store", "get of"))
    versitygw.start()
    proxied.settle(topic)
    expect_same(written, consume(proxied.bootstrap, topic))
    await_health(proxied, topic)


def hot_record_is_readable(server: FirnServer, topic: str, row: Row) -> None:
    """What was just written comes back from the local disk at once."""
    with Wire(server.host, server.port) as wire:
        answer = requests.fetch_one(wire, topic, row.offset, partition=row.partition, max_wait_ms=100)
        assert answer.error_code == requests.NONE and answer.records


def test_local_retention_of_other_topics_goes_on_while_the_store_hangs(proxied: FirnServer, proxy: FaultProxy) -> None:
    """A partition that waits for the store does not keep others from giving up their disk space."""
    # Nothing is that old: retention has to read the manifests to find that out.
    config = {"retention.ms": "1000000000000"}
    stuck = proxied.create_topic("stuck", tier="cold", partitions=STUCK_PARTITIONS, config=config)
    config = {"remote.storage.enable": "false", "retention.bytes": "20000", "segment.bytes": "16384", "segment.ms": "300"}
    local = proxied.create_topic("local", config=config)
    produce(proxied.bootstrap, stuck, generated(1200, seed=7, partitions=STUCK_PARTITIONS), **SMALL)
    proxied.settle(stuck)
    with proxy.failing(Chosen(lambda r: r.is_read and r.is_manifest, Fault.HANG)):
        proxied.restart()  # forgets the manifests: retention has to read them
        proxy.rule = always(Fault.HANG)
        produce(proxied.bootstrap, stuck, generated(1200, seed=9, partitions=STUCK_PARTITIONS), **SMALL)
        await_trouble(proxied, stuck, ("timed out",), "retention", timeout_s=30)
        await_trouble(proxied, stuck, ("timed out",), timeout_s=30)
        produce(proxied.bootstrap, local, generated(1500, seed=8), **SMALL)

        def relieved() -> bool:
            (row,) = proxied.archive_status([local])
            return row["log_start"] > 1000

        begun = time.monotonic()
        wait_until("the local topic's retention", relieved, 20)
        took_s = time.monotonic() - begun
        assert took_s < 2 * TIMEOUT_MS / 1000, f"it waited {took_s:.1f} s, as long as the store's deadlines"
    proxied.settle(stuck)
    wait_until("the store to be well", lambda: proxied.store_trouble() is None)
