"""The metadata that `analytics` makes, over objects of a real archive: outside engines read what a consumer reads."""

import json
import os
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from confluent_kafka import TopicPartition
from pyiceberg.table import StaticTable

from harness.firn import FirnServer
from harness.iceberg_rows import connection, duckdb_rows, polars_rows, pyiceberg_rows
from harness.paths import firn_binary
from harness.records import Row, consume, corner_cases, expect_same, generated, produce

pytestmark = pytest.mark.firn
PARTITIONS = 2
READERS: Sequence[Callable[[Path], list[Row]]] = (pyiceberg_rows, duckdb_rows, polars_rows)


@dataclass
class Commits:
    """Commits to a topic's table, made by the example program from the archive's own list of objects."""

    server: FirnServer
    topic: str
    steps: list[dict[str, Any]] = field(default_factory=list)

    def objects(self) -> list[tuple[int, dict[str, Any]]]:
        """What the archive holds now, with partitions."""
        partitions = json.loads(self.server.http(f"/v1/archive/objects?topic={self.topic}"))
        return [(entry["partition"], row) for entry in partitions for row in entry["objects"]]

    def add(self, objects: Sequence[tuple[int, dict[str, Any]]], **change: Any) -> None:
        """One more commit."""
        step = {"now": 1_700_000_000_000 + len(self.steps), "expire_before": 0, "dropped": [], "cuts": []}
        self.steps.append({**step, "added": list(objects), **change})

    def write(self, folder: Path) -> Path:
        """Writes all commits; the newest metadata."""
        _, row = self.steps[0]["added"][0]
        cluster, topics, named, _rest = row["object"].split("/", 3)
        root = self.file(row["object"]).parents[5]
        steps = folder / "steps.json"
        topic_id = named.removeprefix(f"{self.topic}-")
        table = {
            "topic": self.topic,
            "topic_id": topic_id,
            "root": f"file://{root}",
            "folder": f"{cluster}/{topics}/{named}",
        }
        steps.write_text(json.dumps({**table, "commits": self.steps}))
        subprocess.run([writer_binary(), str(steps)], check=True, timeout=60)
        metadata = root / table["folder"] / "iceberg" / "metadata"
        version = (metadata / "version-hint.text").read_text()
        assert version == str(len(self.steps))
        return metadata / f"v{version}.metadata.json"

    def file(self, name: str) -> Path:
        """An object of the archive as a file."""
        (file,) = self.server.store.objects(name.rsplit("/", 1)[-1])
        return file


def writer_binary() -> str:
    """The example program: beside the server's binary, or where `FIRN_TABLE_WRITER` says."""
    named = os.environ.get("FIRN_TABLE_WRITER")
    binary = Path(named) if named else firn_binary().parent / "examples" / "write_table"
    assert binary.exists(), f"{binary} does not exist: run `cargo build --workspace --examples` or set FIRN_TABLE_WRITER"
    return str(binary)


@pytest.fixture
def commits(server: FirnServer) -> Commits:
    """A topic whose history is wholly in the archive, in at least six objects."""
    topic = server.create_topic("table", tier="cold", partitions=PARTITIONS)
    drafts = corner_cases() + generated(800, seed=6, partitions=PARTITIONS)
    produce(server.bootstrap, topic, drafts, **{"batch.num.messages": 25})
    server.settle(topic)
    commits = Commits(server, topic)
    assert len(commits.objects()) >= 6
    return commits


@pytest.mark.parametrize("reader", READERS)
def test_engines_read_the_rows_that_a_consumer_reads(
    commits: Commits, tmp_path: Path, reader: Callable[[Path], list[Row]]
) -> None:
    objects = commits.objects()
    commits.add(objects[::2])
    commits.add(objects[1::2])
    expect_same(consume(commits.server.bootstrap, commits.topic, partitions=PARTITIONS), reader(commits.write(tmp_path)))


@pytest.mark.parametrize("reader", READERS)
def test_a_log_start_inside_an_object_hides_the_rows_below_it(
    commits: Commits, tmp_path: Path, reader: Callable[[Path], list[Row]]
) -> None:
    objects = commits.objects()
    commits.add(objects)
    mine = [row for partition, row in objects if partition == 0]
    log_start = mine[1]["base_offset"] + 7
    part = TopicPartition(commits.topic, 0, log_start)
    before = consume(commits.server.bootstrap, commits.topic, partitions=PARTITIONS)
    offsets = pq.read_table(commits.file(mine[1]["object"]), columns=["offset"]).column("offset").to_pylist()
    below = sum(offset < log_start for offset in offsets)
    assert 0 < below < len(offsets)
    commits.add([], dropped=[mine[0]["object"]], cuts=[(0, mine[1]["object"], below)])
    read = reader(commits.write(tmp_path))
    admin = commits.server.admin()
    admin.delete_records([part])[part].result(20)
    after = consume(commits.server.bootstrap, commits.topic, partitions=PARTITIONS)
    assert 0 < len(after) < len(before)
    expect_same(after, read)


def test_bounds_let_engines_pass_over_objects(commits: Commits, tmp_path: Path) -> None:
    commits.add(commits.objects())
    metadata = commits.write(tmp_path)
    last = max(row["base_offset"] for partition, row in commits.objects() if partition == 1)
    table = StaticTable.from_metadata(f"file://{metadata}")
    assert len(list(table.scan(f"partition = 1 and offset >= {last}").plan_files())) == 1
    with connection() as connected:
        query = 'SELECT count(*) FROM iceberg_scan(?) WHERE partition = 1 AND "offset" >= ?'
        (counted,) = connected.execute(query, [str(metadata), last]).fetchone() or (0,)
    rows = consume(commits.server.bootstrap, commits.topic, partitions=PARTITIONS)
    assert counted == sum(row.partition == 1 and row.offset >= last for row in rows)


def test_the_hint_leads_to_the_newest_metadata(commits: Commits, tmp_path: Path) -> None:
    objects = commits.objects()
    commits.add(objects[:1])
    commits.add(objects[1:])
    table = commits.write(tmp_path).parents[1]
    with connection() as connected:
        found = connected.execute("SELECT count(*) FROM iceberg_scan(?)", [str(table)]).fetchone()
    assert found == (len(consume(commits.server.bootstrap, commits.topic, partitions=PARTITIONS)),)
