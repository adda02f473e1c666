"""Defects that other tiered logs had, as tests of this one; each names its source."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from harness import requests
from harness.batches import headers_of
from harness.bucket import await_health, await_trouble, expect_no_orphan, topic_objects
from harness.firn import FirnServer
from harness.load import Load, expect_all
from harness.parquet_rows import pyarrow_rows
from harness.pressure import memory_bytes
from harness.process import wait_until
from harness.proxy import Chosen, Fault, FaultProxy, Request, always
from harness.records import Draft, Row, consume, expect_same, generated, produce
from harness.requests import list_offset
from harness.wire import Wire

pytestmark = pytest.mark.firn
SMALL = {"batch.num.messages": 25}
DELAY_S = 1.5
SETTINGS = {
    "firn.object.store.timeout.ms": "1000",
    "firn.archive.retry.max.ms": "500",
    "firn.cold.fetch.timeout.ms": "2000",
    "firn.cold.cache.bytes": str(16 << 20),
    "firn.sweep.interval.ms": "100",
    # Longer than anything is late here: what arrives after its own deletion would stay.
    "firn.sweep.grace.ms": "2000",
}


def alter(server: FirnServer, topic: str, **config: str) -> None:
    """Sets settings of a topic; underscores stand for dots."""
    entries = [
        ConfigEntry(name.replace("_", "."), value, incremental_operation=AlterConfigOpType.SET)
        for name, value in config.items()
    ]
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)
    admin = server.admin()
    admin.incremental_alter_configs([resource])[resource].result(20)


def log_start(server: FirnServer, topic: str) -> int:
    """Where the topic's only partition begins."""
    (row,) = server.archive_status([topic])
    return int(row["log_start"])


def test_failed_uploads_do_not_count_into_the_size_that_retention_sees(proxied: FirnServer, proxy: FaultProxy) -> None:
    """KAFKA-17062, KAFKA-17428: unfinished copies were counted, and data within retention.bytes was deleted."""
    topic = proxied.create_topic("edge", tier="cold")
    written = produce(proxied.bootstrap, topic, generated(800, seed=1), **SMALL)
    proxied.settle(topic)
    (row,) = proxied.archive_status([topic])
    # Room for what is there and for what comes, and not for one more copy of either.
    alter(proxied, topic, retention_bytes=str(row["archived_record_bytes"] * 2))
    rule = Chosen(lambda r: r.is_write, Fault.LOST_ANSWER)
    with proxy.failing(rule):
        written += produce(proxied.bootstrap, topic, generated(600, seed=2), **SMALL)
        trouble = await_trouble(proxied, topic, ("put",))
        attempts = trouble["attempts"]
        wait_until("more failed uploads", lambda: await_trouble(proxied, topic, ("put",))["attempts"] >= attempts + 5)
        assert len([f for f in topic_objects(proxied, topic) if f.suffix == ".parquet"]) > row["archived_objects"]
        assert log_start(proxied, topic) == 0
    proxied.settle(topic)
    assert log_start(proxied, topic) == 0
    expect_same(written, consume(proxied.bootstrap, topic))
    expect_no_orphan(proxied, topic)


def test_earliest_stays_the_start_of_the_archive_over_restarts(proxied: FirnServer) -> None:
    """KAFKA-15351: the restart of the last replica moved the log start to the local start and hid the archive."""
    topic = proxied.create_topic("earliest", tier="cold")
    written = produce(proxied.bootstrap, topic, generated(400, seed=3), **SMALL)
    proxied.settle(topic)
    for end in (proxied.stop, proxied.kill):
        end()
        proxied.start()
        with Wire(proxied.host, proxied.port) as wire:
            assert list_offset(wire, topic, requests.EARLIEST).offset == 0
            assert list_offset(wire, topic, requests.EARLIEST_LOCAL).offset == 400
        expect_same(written, consume(proxied.bootstrap, topic))
    expect_no_orphan(proxied, topic)


def test_cold_chunks_may_be_dropped_and_fetched_again_by_many_at_once(proxied: FirnServer, proxy: FaultProxy) -> None:
    """KAFKA-15481, 17184, 15169, 15401: index cache races; readers used entries that were marked for deletion."""
    topic = proxied.create_topic("thrashed", tier="cold", config={"segment.bytes": str(4 << 20), "segment.ms": "400"})
    # Three times what the cache holds, so that every reader evicts what the others want next.
    drafts = [Draft(value=b"%06d" % number + b"x" * 20_000) for number in range(1500)]
    written = produce(proxied.bootstrap, topic, drafts, **{"batch.size": 500_000})
    proxied.settle(topic)
    results: list[list[Row]] = []
    failures: list[BaseException] = []

    def read(start: int) -> None:
        try:
            results.append(consume(proxied.bootstrap, topic, start=start, timeout_s=90))
        except BaseException as error:  # noqa: BLE001 - handed to the test
            failures.append(error)

    with proxy.failing(Chosen(lambda r: r.is_read and r.number % 7 == 0, Fault.SHORT)):
        readers = [threading.Thread(target=read, args=(start,)) for start in (0, 250, 500, 750, 1000, 1250)]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
    assert not failures, failures[0]
    for rows in results:
        expect_same(written[1500 - len(rows) :], rows)
    assert sorted(len(rows) for rows in results) == [250, 500, 750, 1000, 1250, 1500]


def test_damaged_side_files_are_made_again_and_never_archived(proxied: FirnServer) -> None:
    """KAFKA-15401 and its family: corrupt indexes were read, and copied to the archive."""
    topic = proxied.create_topic("side-files", config={"segment.bytes": "16384", "segment.ms": "300"})
    alter(proxied, topic, remote_storage_enable="false")
    written = produce(proxied.bootstrap, topic, generated(800, seed=4), **SMALL)
    proxied.stop()
    files = [
        f for f in (proxied.data_dir / "topics").glob(f"{topic}*/*") if f.suffix in (".index", ".timeindex", ".snapshot")
    ]
    assert len(files) > 6
    for number, file in enumerate(files):
        data = file.read_bytes()
        middle = len(data) // 2
        file.write_bytes(data[:middle] if number % 2 else bytes(byte ^ 0x55 for byte in data))
    proxied.start()
    expect_same(written, consume(proxied.bootstrap, topic))
    alter(proxied, topic, remote_storage_enable="true", local_retention_bytes="1", local_retention_ms="100")
    proxied.settle(topic)
    expect_same(written, consume(proxied.bootstrap, topic))
    expect_same(written, pyarrow_rows(proxied.archived_files(topic)))


def test_tiering_switched_on_live_deletes_nothing_before_it_is_archived(proxied: FirnServer, proxy: FaultProxy) -> None:
    """Redpanda#29674: local retention ran while the archive's state was absent."""
    config = {"segment.bytes": "16384", "segment.ms": "300", "remote.storage.enable": "false"}
    topic = proxied.create_topic("switched-on", config=config)
    written = produce(proxied.bootstrap, topic, generated(600, seed=5), **SMALL)
    with proxy.failing(always(Fault.UNAVAILABLE)):
        alter(proxied, topic, local_retention_bytes="1", local_retention_ms="1", remote_storage_enable="true")
        attempts = await_trouble(proxied, topic, ("put",))["attempts"]
        wait_until("more attempts", lambda: await_trouble(proxied, topic, ("put",))["attempts"] > attempts + 2)
        (row,) = proxied.archive_status([topic])
        assert (row["local_start"], row["archived_end"], row["log_start"]) == (0, 0, 0), row
        expect_same(written, consume(proxied.bootstrap, topic))
    proxied.settle(topic)
    expect_same(written, consume(proxied.bootstrap, topic))


def test_an_upload_that_is_committed_twice_keeps_its_only_copy(proxied: FirnServer, proxy: FaultProxy) -> None:
    """Redpanda#9597: the same segment added again stood among live and replaced ones, and the sweep took it."""
    topic = proxied.create_topic("twice", tier="cold")
    # Every upload, of data and of manifests, arrives, is answered by silence, and is sent again.
    seen: set[str] = set()

    def first_of_each(request: Request) -> bool:
        if not request.is_write or request.target in seen:
            return False
        seen.add(request.target)
        return True

    with proxy.failing(Chosen(first_of_each, Fault.LOST_ANSWER)):
        written = produce(proxied.bootstrap, topic, generated(400, seed=6), **SMALL)
        proxied.settle(topic)
    expect_no_orphan(proxied, topic)
    proxied.restart()
    expect_same(written, consume(proxied.bootstrap, topic))
    expect_no_orphan(proxied, topic)


def test_an_ambiguous_commit_never_deletes(proxied: FirnServer, proxy: FaultProxy) -> None:
    """Pulsar#21686: an error of the metadata store after the commit took effect made the clean-up delete the good copy."""
    topic = proxied.create_topic("ambiguous", tier="cold")
    rule = Chosen(lambda r: r.is_write and r.is_manifest, Fault.ERROR_AFTER)
    with proxy.failing(rule):
        written = produce(proxied.bootstrap, topic, generated(300, seed=7), **SMALL)
        wait_until("manifests of unknown fate", lambda: rule.struck > 8)
        (row,) = proxied.archive_status([topic])
        assert row["local_start"] == 0, "nothing leaves the disk before its commit is certain"
        proxied.kill()
    proxied.start()
    proxied.settle(topic)
    expect_same(written, consume(proxied.bootstrap, topic))
    expect_no_orphan(proxied, topic)


def test_an_open_segment_is_not_archived(proxied: FirnServer) -> None:
    """Pulsar#8938: a ledger that was still being written was offloaded, and its later entries were missing."""
    open_long = {"segment.bytes": "65536", "segment.ms": "3600000", "local.retention.ms": "-1"}
    topic = proxied.create_topic("open", tier="cold", config=open_long)
    written = produce(proxied.bootstrap, topic, generated(100, seed=9), **SMALL)
    # A topic that comes later and is archived: the archiver has passed over the first.
    other = proxied.create_topic("closed", tier="cold")
    produce(proxied.bootstrap, other, generated(100, seed=10), **SMALL)
    proxied.settle(other)
    (row,) = proxied.archive_status([topic])
    assert (row["archived_end"], row["log_end"]) == (0, 100) and not topic_objects(proxied, topic), row
    written += produce(proxied.bootstrap, topic, generated(500, seed=11), **SMALL)

    def archived() -> int:
        (row,) = proxied.archive_status([topic])
        return int(row["archived_end"]) if row["backlog_bytes"] == 0 else 0

    end = wait_until("closed segments to be archived", archived)
    assert 100 < end < 600, end
    expect_same(written[:end], pyarrow_rows(proxied.archived_files(topic)))
    expect_same(written, consume(proxied.bootstrap, topic))


def test_retention_waits_for_a_running_upload_and_leaves_no_object_behind(proxied: FirnServer, proxy: FaultProxy) -> None:
    """Pulsar#13219: retention deleted what was being offloaded; the offload then failed, or left its object for ever."""
    topic = proxied.create_topic("raced", tier="cold", config={"retention.ms": "-1"})
    old = 1_600_000_000_000
    rule = Chosen(lambda r: r.is_write and r.is_data, Fault.SLOW, times=4)
    with proxy.failing(rule):
        expired = produce(proxied.bootstrap, topic, [Draft(value=b"old" * 60, timestamp=old)] * 400, **SMALL)
        wait_until("uploads under way", lambda: rule.struck >= 1)
        alter(proxied, topic, retention_ms="3600000")
        kept = produce(proxied.bootstrap, topic, [Draft(value=b"new" * 60)] * 300, **SMALL)
        wait_until("retention to move the start", lambda: log_start(proxied, topic) >= 300, 30)
    wait_until("all that is left to settle", lambda: proxied.settle(topic) is None)
    read = consume(proxied.bootstrap, topic)
    expect_same((expired + kept)[-len(read) :], read)
    assert len(kept) <= len(read) < len(kept) + 200, len(read)
    expect_no_orphan(proxied, topic)
    await_health(proxied, topic)


def test_a_reader_goes_on_when_what_it_reads_moves_to_the_archive(proxied: FirnServer) -> None:
    """Pulsar#21737: the trimmer took the ledger that a reader stood in."""
    topic = proxied.create_topic("moved", config={"segment.bytes": "16384", "segment.ms": "300"})
    written = produce(proxied.bootstrap, topic, generated(800, seed=8), **SMALL)
    rows: list[tuple[int, int]] = []
    with Wire(proxied.host, proxied.port) as wire:
        offset = 0
        while offset < 800:
            answer = requests.fetch_one(wire, topic, offset, partition_max_bytes=8000)
            assert answer.error_code == requests.NONE, answer
            found = [(base, count) for base, _, count, _ in headers_of(answer.records or b"")]
            rows += found
            offset = found[-1][0] + found[-1][1] if found else offset
            if len(rows) > 3:  # in mid-stream, everything leaves the disk
                alter(proxied, topic, local_retention_bytes="1", local_retention_ms="1")
                proxied.settle(topic)
    covered = {offset for base, count in rows for offset in range(base, base + count)}
    assert covered >= set(range(800))
    expect_same(written, consume(proxied.bootstrap, topic))


@pytest.mark.parametrize("tier", ["hot", "cold"])
def test_every_offset_inside_large_batches_is_found(proxied: FirnServer, tier: str) -> None:
    """KAFKA-17801 and its like: lookups between two index entries missed what lay in the middle of a large batch."""
    config = {"segment.bytes": str(1 << 20), "segment.ms": "300" if tier == "cold" else "3600000"}
    topic = proxied.create_topic("large-batches", tier="cold", config=config)
    drafts = [Draft(key=b"%d" % number, value=b"v" * 900) for number in range(900)]
    written = produce(proxied.bootstrap, topic, drafts, **{"batch.size": 200_000, "linger.ms": 100})
    if tier == "cold":
        proxied.settle(topic)
    with Wire(proxied.host, proxied.port) as wire:
        for offset in range(0, 900, 7):
            answer = requests.fetch_one(wire, topic, offset, isolation=1, partition_max_bytes=1, max_wait_ms=2000)
            assert answer.error_code == requests.NONE and not answer.aborted_transactions
            base, _, count, _ = headers_of(answer.records or b"")[0]
            assert base <= offset < base + count, f"offset {offset} was answered with {base} to {base + count}"
    for start in (1, 450, 899):
        read = consume(proxied.bootstrap, topic, start=start, **{"isolation.level": "read_committed"})
        expect_same(written[start:], read)


def test_a_healthy_run_acknowledges_every_record_at_its_place(proxied: FirnServer) -> None:
    """Jepsen on Bufstream 0.1.0: acknowledged writes lost and spurious offsets of 0 in a healthy cluster."""
    topic = proxied.create_topic("healthy", tier="cold", partitions=3)
    load = Load(proxied.bootstrap, topic, 3, per_second=2500)
    begun = time.monotonic()
    while time.monotonic() - begun < 10:
        assert not load.errors, load.errors[0]
        time.sleep(0.2)
    load.finish()
    places = list(load.acknowledged.values())
    assert len(set(places)) == len(places), "two records were acknowledged at one place"
    firsts = [place for place in places if place[1] == 0]
    assert len(firsts) == 3 and all(offset >= 0 for _, offset in places), firsts
    expect_all(load, consume(proxied.bootstrap, topic, partitions=3))
    proxied.settle(topic)
    expect_all(load, consume(proxied.bootstrap, topic, partitions=3))
    expect_no_orphan(proxied, topic)


@pytest.fixture(scope="module")
def wide(work_dir: Path) -> Iterator[FirnServer]:
    """A server that takes messages of 30 MB, with a small cache."""
    (work_dir / "wide").mkdir()
    settings = {
        "firn.cold.cache.bytes": str(64 << 20),
        "firn.cold.fetch.timeout.ms": "20000",
        "fetch.max.bytes": str(57 << 20),
    }
    server = FirnServer(work_dir / "wide", None, settings)
    server.start()
    yield server
    server.close()


def test_one_fetch_of_many_cold_partitions_stays_within_its_bytes_and_memory(wide: FirnServer) -> None:
    """KAFKA-19763, KAFKA-19795: parallel reads of the archive exceeded fetch.max.bytes and the heap."""
    partitions, size = 50, 30_000_000
    config = {"segment.bytes": str(64 << 20), "segment.ms": "300", "max.message.bytes": str(32 << 20)}
    topic = wide.create_topic("wide", tier="cold", partitions=partitions, config=config)
    drafts = [Draft(value=b"%02d" % partition + b"a" * size, partition=partition) for partition in range(partitions)]
    # Compressed they are nothing; the archive answers them whole.
    produce(
        wide.bootstrap, topic, drafts,
        **{"compression.type": "zstd", "message.max.bytes": 32 << 20, "batch.size": 32 << 20, "linger.ms": 0,
           "queue.buffering.max.kbytes": 2_000_000},
    )  # fmt: skip
    wide.settle(topic, timeout_s=120)
    limit = 40 << 20
    offsets = dict.fromkeys(range(partitions), 0)
    got: set[int] = set()
    with Wire(wide.host, wide.port, timeout_s=60) as wire:
        topic_id = requests.topic_id(wire, topic)
        while offsets:
            request = requests.fetch_request(
                {topic_id: offsets}, max_bytes=limit, partition_max_bytes=32 << 20, max_wait_ms=10_000
            )
            answer = wire.ask(request)
            parts = [part for answered in answer.responses for part in answered.partitions]
            assert not any(part.error_code for part in parts), [part.error_code for part in parts]
            sizes = {part.partition_index: len(part.records or b"") for part in parts}
            assert sum(sizes.values()) <= limit + (1 << 20), f"{sum(sizes.values())} bytes in one answer"
            for index, length in sizes.items():
                if length:
                    got.add(index)
                    del offsets[index]
    assert got == set(range(partitions))
    assert memory_bytes(wide, "VmHWM") < 900 << 20
