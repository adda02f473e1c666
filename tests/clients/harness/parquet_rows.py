"""Reads archived objects as a stranger would: with pyarrow and with DuckDB, knowing only the documented columns."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
from confluent_kafka import TIMESTAMP_CREATE_TIME, TIMESTAMP_LOG_APPEND_TIME, TIMESTAMP_NOT_AVAILABLE

from harness.records import Headers, Row

COLUMNS = ["partition", "offset", "timestamp", "key", "value", "headers", "timestamp_type"]
# Kafka's numbers on disk to librdkafka's.
_TYPES = {0: TIMESTAMP_CREATE_TIME, 1: TIMESTAMP_LOG_APPEND_TIME}


def pyarrow_rows(files: Iterable[Path]) -> list[Row]:
    """All rows of these objects, by pyarrow."""
    rows = []
    for file in files:
        table = pq.ParquetFile(file).read(columns=COLUMNS)
        columns = [table.column(name) for name in COLUMNS]
        columns[2] = columns[2].cast("int64")
        rows += [row_of(*values) for values in zip(*(column.to_pylist() for column in columns), strict=True)]
    return rows


def duckdb_rows(files: Sequence[Path]) -> list[Row]:
    """All rows of these objects, by DuckDB; it reads the files as one table."""
    if not files:
        return []
    query = """
        SELECT partition, "offset", epoch_us("timestamp"), key, value, headers, timestamp_type
        FROM read_parquet(?) ORDER BY partition, "offset"
    """
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        found = connection.execute(query, [[str(file) for file in files]]).fetchall()
    return [row_of(*values) for values in found]


def row_of(
    partition: int,
    offset: int,
    micros: int | None,
    key: bytes | None,
    value: bytes | None,
    headers: Sequence[dict[str, object]],
    kind: int,
) -> Row:
    """The documented columns as a consumer sees them."""
    pairs: Headers = tuple((str(header["key"]), header["value"]) for header in headers)  # type: ignore[misc]
    if micros is None:
        return Row(partition, offset, TIMESTAMP_NOT_AVAILABLE, -1, key, value, pairs)
    assert micros % 1000 == 0, f"offset {offset}: Kafka's clock ticks in milliseconds, not in {micros} us"
    return Row(partition, offset, _TYPES[kind], micros // 1000, key, value, pairs)
