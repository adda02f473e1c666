"""Reads a topic's Iceberg table as a stranger would: PyIceberg, DuckDB, Polars, by the catalog or from the bucket alone."""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote

# Planning by PyIceberg is what the tests have installed; Polars warns of that otherwise.
os.environ.setdefault("POLARS_ICEBERG_PLANNER", "pyiceberg")

import duckdb
import polars
import pyarrow as pa
from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.table import StaticTable
from pyiceberg.table import Table as PyTable

from harness.firn import FirnServer
from harness.parquet_rows import COLUMNS, row_of
from harness.process import wait_until
from harness.records import Row, consume, expect_same
from harness.stores import ACCESS_KEY, BUCKET, SECRET_KEY

_SELECT = 'SELECT partition, "offset", epoch_us("timestamp"), key, value, headers, timestamp_type FROM '


Reader = Callable[["Lake", str], list[Row]]


@dataclass(frozen=True)
class Lake:
    """The tables of one server."""

    server: FirnServer

    @property
    def catalog_url(self) -> str:
        """The REST catalog."""
        return f"http://{self.server.admin_address}/iceberg"

    @property
    def on_s3(self) -> bool:
        """Whether the bucket is one, and not a folder."""
        return self.server.store.url.startswith("s3://")

    @property
    def s3_properties(self) -> dict[str, str]:
        """The properties that a reader of the bucket alone needs."""
        return {**self.s3_credentials, "s3.endpoint": self.server.store.env["AWS_ENDPOINT_URL"]} if self.on_s3 else {}

    @property
    def s3_credentials(self) -> dict[str, str]:
        """The properties that a reader needs beside those of the catalog."""
        if not self.on_s3:
            return {}
        return {"s3.access-key-id": ACCESS_KEY, "s3.secret-access-key": SECRET_KEY, "s3.region": "us-east-1"}

    def catalog(self) -> Catalog:
        """The catalog, by PyIceberg."""
        return load_catalog("firn", type="rest", uri=self.catalog_url, **self.s3_credentials)

    def folders(self, topic: str) -> list[Path]:
        """The folders with the topic's metadata as they lie in the store, one for each topic of that name."""
        return sorted({file.parent for file in self.server.store.objects(".metadata.json") if f"/{topic}-" in str(file)})

    def version(self, topic: str) -> int:
        """The newest version, by the hint; 0 for a table that is not there."""
        hints = [folder / "version-hint.text" for folder in self.folders(topic)]
        return max((int(hint.read_text()) for hint in hints if hint.exists()), default=0)

    def metadata_url(self, topic: str) -> str:
        """Where the bucket alone says that the newest metadata are."""
        (folder,) = self.folders(topic)
        return self.url(folder / f"v{(folder / 'version-hint.text').read_text()}.metadata.json")

    def url(self, file: Path) -> str:
        """A file of the store as the outside engines name it."""
        if not self.on_s3:
            return f"file://{file}"
        assert self.server.store.folder is not None
        return f"s3://{BUCKET}/{file.relative_to(self.server.store.folder)}"

    def summary(self, topic: str) -> dict[str, str]:
        """What the newest snapshot says of itself, by the catalog."""
        loaded = json.loads(self.server.http(f"/iceberg/v1/namespaces/topics/tables/{quote(topic)}"))["metadata"]
        current = loaded["current-snapshot-id"]
        (summary,) = [snapshot["summary"] for snapshot in loaded["snapshots"] if snapshot["snapshot-id"] == current]
        return dict(summary)

    def expect_one_history(self, topic: str) -> None:
        """Each of the metadata follows the one before; snapshots are in order."""
        loaded = json.loads(self.server.http(f"/iceberg/v1/namespaces/topics/tables/{topic}"))["metadata"]
        logged = [int(entry["metadata-file"].rsplit("/v", 1)[1].split(".")[0]) for entry in loaded["metadata-log"]]
        newest = int(self.catalog().load_table(("topics", topic)).metadata_location.rsplit("/v", 1)[1].split(".")[0])
        assert logged and logged[-1] in (newest - 1, newest), (logged, newest)
        assert logged == list(range(logged[0], logged[-1] + 1)), logged
        order = [(snapshot["sequence-number"], snapshot["timestamp-ms"]) for snapshot in loaded["snapshots"]]
        assert order == sorted(set(order)), order

    def expect_the_log(
        self, topic: str, partitions: int, readers: Sequence[Reader] | None = None, timeout_s: float = 20
    ) -> list[Row]:
        """Once the topic is wholly archived, every reader soon finds the records of a consumer in the table."""
        rows = consume(self.server.bootstrap, topic, partitions=partitions)

        def shown() -> bool:
            summary = self.summary(topic)
            assert int(summary["total-records"]) - int(summary["total-position-deletes"]) == len(rows), summary
            return True

        wait_until(f"the table of {topic} to have {len(rows)} rows", shown, timeout_s)
        for reader in READERS if readers is None else readers:
            try:
                expect_same(rows, reader(self, topic))
            except Exception as error:
                error.add_note(f"read by {reader.__name__}")
                raise
        return rows


def pyiceberg_rest(lake: Lake, topic: str) -> list[Row]:
    """All rows, by PyIceberg and the catalog."""
    return _pyiceberg_rows(lake.catalog().load_table(("topics", topic)))


def pyiceberg_static(lake: Lake, topic: str) -> list[Row]:
    """All rows, by PyIceberg and the metadata file."""
    return _pyiceberg_rows(StaticTable.from_metadata(lake.metadata_url(topic), lake.s3_properties))


def polars_rest(lake: Lake, topic: str) -> list[Row]:
    """All rows, by Polars' own reader of the data files."""
    options: Any = None
    if lake.on_s3:
        options = {
            "aws_access_key_id": ACCESS_KEY, "aws_secret_access_key": SECRET_KEY, "aws_region": "us-east-1",
            "aws_endpoint_url": lake.s3_properties["s3.endpoint"],
        }  # fmt: skip
    table = lake.catalog().load_table(("topics", topic))
    frame = polars.scan_iceberg(table, reader_override="native", storage_options=options)
    return _arrow_rows(frame.select(COLUMNS).collect().to_arrow())


def duckdb_rest(lake: Lake, topic: str) -> list[Row]:
    """All rows, by DuckDB and the catalog."""
    with connection(lake) as connected:
        return _duckdb_rows(connected, f'{_SELECT} lake.topics."{topic}"')


def duckdb_metadata(lake: Lake, topic: str) -> list[Row]:
    """All rows, by DuckDB and the metadata file."""
    with connection(lake) as connected:
        return _duckdb_rows(connected, f"{_SELECT} iceberg_scan(?)", lake.metadata_url(topic))


def duckdb_folder(lake: Lake, topic: str) -> list[Row]:
    """All rows, by DuckDB and the table's folder, where the hint leads on."""
    (folder,) = lake.folders(topic)
    for _ in range(5):
        try:
            with connection(lake) as connected:
                return _duckdb_rows(connected, f"{_SELECT} iceberg_scan(?)", lake.url(folder.parent))
        except duckdb.HTTPException as error:
            # On S3 it refuses a hint that is replaced between its look at it and its read.
            assert "ETag" in str(error) and "version-hint.text" in str(error), error
    raise AssertionError("the hint is replaced all the time")


READERS: Sequence[Reader] = (
    pyiceberg_rest, pyiceberg_static, polars_rest, duckdb_rest, duckdb_metadata, duckdb_folder,
)  # fmt: skip
# One by the catalog and one by the bucket, for tests that read often.
FEW: Sequence[Reader] = (pyiceberg_static, duckdb_rest)


def connection(lake: Lake) -> duckdb.DuckDBPyConnection:
    """DuckDB with the catalog attached as `lake`. Its extensions come as packages: nothing is downloaded."""
    connected = duckdb.connect()
    for name in ("avro", "httpfs", "iceberg"):
        spec = find_spec(f"duckdb_extension_{name}")
        assert spec is not None and spec.origin is not None, f"duckdb-extension-{name} is not installed"
        (file,) = Path(spec.origin).parent.rglob(f"{name}.duckdb_extension")
        connected.execute(f"LOAD '{file}'")
    connected.execute("SET TimeZone = 'UTC'")
    if lake.on_s3:
        endpoint = lake.s3_properties["s3.endpoint"].removeprefix("http://")
        connected.execute(
            f"CREATE SECRET (TYPE s3, KEY_ID '{ACCESS_KEY}', SECRET '{SECRET_KEY}', REGION 'us-east-1', "
            f"ENDPOINT '{endpoint}', URL_STYLE 'path', USE_SSL false)"
        )
    connected.execute(
        f"ATTACH '' AS lake (TYPE iceberg, ENDPOINT '{lake.catalog_url}', AUTHORIZATION_TYPE 'none', "
        "ACCESS_DELEGATION_MODE 'none')"
    )
    return connected


def _duckdb_rows(connected: duckdb.DuckDBPyConnection, query: str, *values: str) -> list[Row]:
    return [row_of(*row) for row in connected.execute(query, list(values)).fetchall()]


def _pyiceberg_rows(table: PyTable) -> list[Row]:
    return _arrow_rows(table.scan(selected_fields=tuple(COLUMNS)).to_arrow())


def _arrow_rows(table: pa.Table) -> list[Row]:
    columns: Sequence[pa.ChunkedArray] = [table.column(name) for name in COLUMNS]
    lists = [column.cast("int64") if pa.types.is_timestamp(column.type) else column for column in columns]
    return [row_of(*values) for values in zip(*(column.to_pylist() for column in lists), strict=True)]
