"""Rows of SQL: counts, look-ups, an aggregate beside DuckDB, a scan beside a consumer, producers beside queries."""

import json
import re
import statistics
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import duckdb

from clients import run, size_bytes
from harness.firn import FirnServer
from harness.pressure import metric
from measure import MB, Row

_PARTITIONS = 4
_TOPIC = {"segment.bytes": str(64 << 20), "segment.ms": "2000", "local.retention.bytes": "1", "local.retention.ms": "100"}
_THREADS = 2
_WRITE = ("--linger-ms", 50, "--batch-bytes", 1_000_000)
_PACED = ("--rate", 5000, "--linger-ms", 5, "--seconds", 8, "--warmup-seconds", 2)
_AGGREGATE = """\
SELECT json_get_str(value, 'event_type') AS kind, count(*) AS orders, max(json_get_int(value, 'sequence')) AS last
FROM {topic} GROUP BY 1 ORDER BY 1"""
_AGGREGATE_DUCKDB = """\
SELECT json_extract_string(decode(value), '$.event_type') AS kind, count(*) AS orders,
       max(CAST(json_extract_string(decode(value), '$.sequence') AS BIGINT)) AS last
FROM read_parquet({files}) GROUP BY 1 ORDER BY 1"""
_UNITS = {"": 1, "K": 1e3, "M": 1e6}
Answer = list[dict[str, object]]


@dataclass
class Table:
    """A topic that is wholly archived."""

    server: FirnServer
    topic: str
    records: int

    def ask(self, query: str) -> Answer:
        """The rows of a query over HTTP."""
        body = json.dumps({"query": query.format(topic=f'"{self.topic}"'), "format": "json"}).encode()
        request = urllib.request.Request(f"http://{self.server.admin_address}/v1/sql", body)
        try:
            with urllib.request.urlopen(request, timeout=600) as answer:
                return [json.loads(row) for row in answer.read().splitlines()]
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{query}: {error.read().decode()}") from error

    def value(self, query: str) -> object:
        """The only value of the only row."""
        ((value,),) = [row.values() for row in self.ask(query)]
        return value

    def chunk_bytes(self) -> float:
        """Mean size of an archived chunk, as stored."""
        partitions = json.loads(self.server.http(f"/v1/archive/objects?topic={self.topic}"))
        objects = [entry for partition in partitions for entry in partition["objects"]]
        return sum(entry["bytes"] for entry in objects) / sum(entry["chunks"] for entry in objects)


def rows(folder: Path, count: int, rounds: int) -> list[Row]:
    """Writes `count` records of 1 KiB into one topic, waits until all are archived and gone from local disk, and asks."""
    server = FirnServer(folder / "sql", settings={"firn.sql.threads": str(_THREADS)})
    server.start()
    try:
        topic = server.create_topic("orders", partitions=_PARTITIONS, config=_TOPIC)
        run(server, "produce", topic, "--records", count, "--partitions", _PARTITIONS, *_WRITE)
        server.settle(topic, 600)
        table = Table(server, topic, count)
        compared = [*_aggregates(table, rounds), *_scans(table, rounds)]
        return [*_counts(table, rounds), *_look_ups(table), *compared, *_beside(table)]
    finally:
        server.close()


def _counts(table: Table, rounds: int) -> list[Row]:
    span = table.ask("SELECT min(timestamp) AS first, max(timestamp) AS last FROM {topic}")[0]
    middle = f"""
        SELECT count(*) FROM {{topic}} WHERE timestamp >= TIMESTAMP '{span["first"]}' + INTERVAL '200 milliseconds'
        AND timestamp < TIMESTAMP '{span["last"]}' - INTERVAL '200 milliseconds'"""
    assert table.value("SELECT count(*) FROM {topic}") == table.records
    cases = [
        ("SQL: count(*), warm", "SELECT count(*) FROM {topic}", ""),
        ("SQL: count(*) of a time range, warm", middle, f"{table.value(middle):,} of {table.records:,} records"),
        ("SQL: max(offset) by partition, warm", "SELECT partition, max(offset) FROM {topic} GROUP BY partition", ""),
    ]
    at_most = {0: 50.0, 1: 50.0}
    return [
        Row(name, _median_ms(lambda q=query: table.ask(q), 2 * rounds + 1), "ms", at_most=at_most.get(place), note=note)
        for place, (name, query, note) in enumerate(cases)
    ]


def _look_ups(table: Table) -> list[Row]:
    place = table.records // _PARTITIONS // 2
    by_offset = f"SELECT value FROM {{topic}} WHERE partition = 1 AND offset = {place}"
    found = [_look_up(table, "SQL: one record by offset", by_offset, 1)]
    # Written at a rate of every day: a moment is less than a chunk.
    topic = table.server.create_topic("steady", partitions=_PARTITIONS, config=_TOPIC)
    run(table.server, "produce", topic, "--partitions", _PARTITIONS, *_PACED)
    table.server.settle(topic, 60)
    steady = Table(table.server, topic, 0)
    middle = steady.value("SELECT timestamp FROM {topic} WHERE partition = 0 AND offset = 3700")
    at = f"TIMESTAMP '{middle}'"
    by_time = f"SELECT value FROM {{topic}} WHERE timestamp >= {at} AND timestamp < {at} + INTERVAL '100 milliseconds'"
    # Footers are warm, as for the counts.
    steady.ask("SELECT partition, max(offset) FROM {topic} GROUP BY partition")
    return [*found, _look_up(steady, "SQL: a moment of all partitions by time", by_time, _PARTITIONS)]


def _look_up(table: Table, name: str, query: str, partitions: int) -> Row:
    before = metric(table.server, "firn_object_store_received_bytes_total")
    started = time.perf_counter()
    answer = table.ask(query)
    ms = (time.perf_counter() - started) * 1000
    received = metric(table.server, "firn_object_store_received_bytes_total") - before
    assert answer, query
    plan = "\n".join(str(row["plan"]) for row in table.ask(f"EXPLAIN ANALYZE {query}"))
    scanned = sum(float(number) * _UNITS[unit] for number, unit in re.findall(r"bytes_scanned=([\d.]+) ?([KM]?)", plan))
    # Pages that lie close together share a request, and then what is between them comes along.
    note = f"{len(answer):,} records, {scanned / 1e6:.2f} MB read, {received / 1e6:.2f} MB fetched, {ms:.0f} ms"
    return Row(name, scanned / table.chunk_bytes() / partitions, "chunks/p", at_most=2, note=note)


def _aggregates(table: Table, rounds: int) -> list[Row]:
    files = [str(file) for file in table.server.archived_files(table.topic)]
    connected = duckdb.connect()
    connected.execute(f"SET threads = {_THREADS}")
    theirs_query = _AGGREGATE_DUCKDB.format(files=files)
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(rounds):
        started = time.perf_counter()
        answer = table.ask(_AGGREGATE)
        ours.append(time.perf_counter() - started)
        started = time.perf_counter()
        same = connected.execute(theirs_query).fetchall()
        theirs.append(time.perf_counter() - started)
        assert [tuple(row.values()) for row in answer] == same, "DuckDB answers otherwise"
    ratio = statistics.median(theirs) / statistics.median(ours)
    seconds = f"{statistics.median(ours):.2f} s, DuckDB {duckdb.__version__} {statistics.median(theirs):.2f} s"
    note = f"{seconds}, {_THREADS} threads each"
    return [Row("SQL: aggregate over JSON / DuckDB", ratio, "×", 0.7, note=note, raw={"ours": ours, "theirs": theirs})]


def _scans(table: Table, rounds: int) -> list[Row]:
    total = size_bytes(table.records)
    query = "SELECT count(*), sum(octet_length(key)) + sum(octet_length(value)) AS bytes FROM {topic}"
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(rounds):
        started = time.perf_counter()
        (row,) = table.ask(query)
        ours.append(time.perf_counter() - started)
        assert row["bytes"] == total, row
        theirs.append(run(table.server, "consume", table.topic, "--partitions", _PARTITIONS)["seconds"])
    ratio = statistics.median(theirs) / statistics.median(ours)
    note = f"{total / MB / statistics.median(ours):,.0f} MB/s; librdkafka {total / MB / statistics.median(theirs):,.0f} MB/s"
    return [Row("SQL: scan of all values / a consumer", ratio, "×", 5, note=note, raw={"ours": ours, "theirs": theirs})]


def _beside(table: Table) -> list[Row]:
    """Producers at a fixed rate, alone and while queries run one after the other."""
    topic = table.server.create_topic("paced", partitions=_PARTITIONS)

    def p99_ms() -> float:
        return float(run(table.server, "produce", topic, "--partitions", _PARTITIONS, *_PACED)["latency"]["p99_ms"])

    p99_ms()
    alone = p99_ms()
    over, asked = threading.Event(), 0

    def keep_asking() -> None:
        nonlocal asked
        while not over.is_set():
            table.ask(_AGGREGATE)
            asked += 1

    asking = threading.Thread(target=keep_asking)
    asking.start()
    try:
        beside = p99_ms()
    finally:
        over.set()
        asking.join()
    note = f"{beside:.1f} ms beside {asked} aggregates over all values, {alone:.1f} ms alone"
    return [Row("SQL: produce p99 beside scans / alone", beside / alone, "×", note=note)]


def _median_ms(call: Callable[[], object], times: int) -> float:
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        call()
        taken.append((time.perf_counter() - started) * 1000)
    return statistics.median(taken)
