"""Reads a topic's Iceberg table as a stranger would, from its metadata file alone: PyIceberg, DuckDB and Polars."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import duckdb
import polars
import pyarrow as pa
from pyiceberg.table import StaticTable

from harness.parquet_rows import COLUMNS, row_of
from harness.records import Row


def pyiceberg_rows(metadata: Path) -> list[Row]:
    """All rows of the table, by PyIceberg."""
    table = StaticTable.from_metadata(f"file://{metadata}")
    return _arrow_rows(table.scan(selected_fields=tuple(COLUMNS)).to_arrow())


def polars_rows(metadata: Path) -> list[Row]:
    """All rows of the table, by Polars' own reader of the data files."""
    frame = polars.scan_iceberg(f"file://{metadata}", reader_override="native").select(COLUMNS).collect()
    return _arrow_rows(frame.to_arrow())


def duckdb_rows(metadata: Path) -> list[Row]:
    """All rows of the table, by DuckDB."""
    query = 'SELECT partition, "offset", epoch_us("timestamp"), key, value, headers, timestamp_type FROM iceberg_scan(?)'
    with connection() as connected:
        return [row_of(*values) for values in connected.execute(query, [str(metadata)]).fetchall()]


def connection() -> duckdb.DuckDBPyConnection:
    """DuckDB with its Iceberg extension, which comes as a package: nothing is downloaded."""
    connected = duckdb.connect()
    for name in ("avro", "iceberg"):
        spec = find_spec(f"duckdb_extension_{name}")
        assert spec is not None and spec.origin is not None, f"duckdb-extension-{name} is not installed"
        (file,) = Path(spec.origin).parent.rglob(f"{name}.duckdb_extension")
        connected.execute(f"LOAD '{file}'")
    connected.execute("SET TimeZone = 'UTC'")
    return connected


def _arrow_rows(table: pa.Table) -> list[Row]:
    columns: Sequence[pa.ChunkedArray] = [table.column(name) for name in COLUMNS]
    lists = [column.cast("int64") if pa.types.is_timestamp(column.type) else column for column in columns]
    return [row_of(*values) for values in zip(*(column.to_pylist() for column in lists), strict=True)]
