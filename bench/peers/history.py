"""Firn's recovery beside a short and a long history: it must not depend on the length."""

from clients import run
from harness.firn import FirnServer
from harness.process import wait_until
from peers.brokers import KINDS, running
from peers.figures import Run
from peers.recovery import killed_and_back

_KIND = "firn"
_RECORD_BYTES = 1 << 10
# Small segments make many of them; their objects are as small. Several partitions are archived at the same time.
_SMALL = {"segment.bytes": str(16 << 10)}
_PARTITIONS = 8
_SEGMENT_RECORDS = 15
_BATCH_BYTES = 15 * 1100
"""A batch is a segment."""
_SHORT_SEGMENTS, _LONG_SEGMENTS = 80, 10_000
_SHORT_GB = 0.2
_ARCHIVED_WITHIN_S = 600


def measure(bench: Run) -> None:
    """Once, pinned only: the lengths differ by far more than rounds do."""
    if bench.cores.name != "pinned":
        return
    bench.attempt("history, segments", lambda: _segments(bench))
    bench.attempt("history, bytes", lambda: _bytes(bench))


def _segments(bench: Run) -> None:
    """A few archived segments, then 10,000 of them; local copies stay, as by default for a day."""
    kind = KINDS[_KIND]
    with running(kind, bench.cores, bench.work) as server:
        assert isinstance(server, FirnServer)
        topic = server.create_topic("segments", partitions=_PARTITIONS, config={**_SMALL, **kind.topic})
        written = 0
        for case, segments in (("short-segments", _SHORT_SEGMENTS), ("long-segments", _LONG_SEGMENTS)):
            records = segments * _SEGMENT_RECORDS
            _grow(bench, server, topic, records - written, _PARTITIONS, _SEGMENT_RECORDS, "--batch-bytes", _BATCH_BYTES)
            written = records
            _await_archived(server, topic)
            killed_and_back(bench, server, _KIND, case, lambda: _grow(bench, server, topic, _PARTITIONS, _PARTITIONS, 1))
            bench.add(_KIND, case, "objects", len(server.store.objects(".parquet")))


def _bytes(bench: Run) -> None:
    """A little of it, then `--history-gb`, at default settings."""
    kind = KINDS[_KIND]
    with running(kind, bench.cores, bench.work) as server:
        assert isinstance(server, FirnServer)
        topic = server.create_topic("bytes", config={"segment.bytes": str(128 << 20), **kind.topic})
        written = 0
        for case, gb in (("short-bytes", _SHORT_GB), ("long-bytes", bench.history_gb)):
            records = int(gb * 1e9 / _RECORD_BYTES)
            _grow(bench, server, topic, records - written, 1, 64)
            written = records
            _await_archived(server, topic)
            killed_and_back(bench, server, _KIND, case, lambda: _grow(bench, server, topic, 1, 1, 1))


def _grow(
    bench: Run, server: FirnServer, topic: str, records: int, partitions: int, call_records: int, *more: object
) -> None:
    run(
        server, "produce", topic, "--records", records, "--partitions", partitions, "--call-records", call_records, *more,
        launcher=bench.cores.client,
    )  # fmt: skip


def _await_archived(server: FirnServer, topic: str) -> None:
    """Until only open segments are left."""

    def archived() -> bool:
        return all(row["backlog_bytes"] == 0 for row in server.archive_status([topic]))

    wait_until("the archive", archived, _ARCHIVED_WITHIN_S, 0.25)
