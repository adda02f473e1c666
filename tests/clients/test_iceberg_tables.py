"""A topic's Iceberg table, kept by the server: outside engines read what a consumer reads, whatever happens to the log."""

import json
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType
from pyiceberg.exceptions import NoSuchNamespaceError, NoSuchTableError

from conftest import StartServer
from harness.bucket import topic_objects
from harness.firn import FirnServer
from harness.iceberg_rows import FEW, Lake, connection, duckdb_rest, pyiceberg_rest, pyiceberg_static
from harness.java import iceberg_metadata_tables
from harness.load import Load
from harness.process import wait_until
from harness.records import Draft, Row, consume, corner_cases, expect_same, generated, produce
from harness.stores import VersityGw

pytestmark = pytest.mark.firn
PARTITIONS = 2
SMALL = {"batch.num.messages": 25}
# Dropped objects stay for the grace period, so that a table that lags by an interval never names one that is gone.
SETTINGS = {
    "firn.iceberg.commit.interval.ms": "100",
    "firn.sweep.interval.ms": "200",
    "firn.sweep.grace.ms": "5000",
}


@pytest.fixture(scope="module", params=["folder", "s3"])
def lake(request: pytest.FixtureRequest, work_dir: Path, versitygw: VersityGw) -> Iterator[Lake]:
    """A server with its tables, over a folder and over VersityGW."""
    folder = work_dir / request.param
    folder.mkdir()
    store = versitygw.store() if request.param == "s3" else None
    server = FirnServer(folder, store, SETTINGS)
    server.start()
    yield Lake(server)
    text = (folder / "server.log").read_text(errors="replace")
    server.close()
    assert "panicked" not in text


def write(lake: Lake, topic: str, seed: int, count: int = 400) -> None:
    """Records that are wholly in the archive afterwards."""
    produce(lake.server.bootstrap, topic, corner_cases() + generated(count, seed=seed, partitions=PARTITIONS), **SMALL)
    lake.server.settle(topic)


def test_engines_read_the_rows_that_a_consumer_reads(lake: Lake) -> None:
    topic = lake.server.create_topic("table", tier="cold", partitions=PARTITIONS)
    write(lake, topic, seed=6)
    lake.expect_the_log(topic, PARTITIONS, FEW)
    write(lake, topic, seed=7)
    rows = lake.expect_the_log(topic, PARTITIONS)
    # Bounds lead to the one object that matters.
    last = max(row.offset for row in rows if row.partition == 1)
    wanted = f'partition = 1 and "offset" >= {last}'
    table = lake.catalog().load_table(("topics", topic))
    assert len(list(table.scan(wanted.replace('"', "")).plan_files())) == 1
    with connection(lake) as connected:
        assert connected.execute(f'SELECT count(*) FROM lake.topics."{topic}" WHERE {wanted}').fetchone() == (1,)


def test_a_table_never_has_more_or_less_than_the_log_while_it_is_archived(lake: Lake) -> None:
    topic = lake.server.create_topic("busy", tier="cold", partitions=PARTITIONS)
    wait_until("the table", lambda: lake.version(topic) > 0)
    assert not pyiceberg_rest(lake, topic) and not duckdb_rest(lake, topic)
    seen: list[list[Row]] = []
    with Load(lake.server.bootstrap, topic, PARTITIONS, per_second=3000) as load:
        for reader in (pyiceberg_rest, duckdb_rest) * 3:
            known = len(load.acknowledged)
            wait_until("more records", lambda known=known: len(load.acknowledged) > known + 400 or load.errors)
            seen.append(reader(lake, topic))
        load.finish()
    rows = consume(lake.server.bootstrap, topic, partitions=PARTITIONS)
    for some in seen:
        for partition in range(PARTITIONS):
            mine = [row for row in some if row.partition == partition]
            expect_same([row for row in rows if row.partition == partition][: len(mine)], mine)
    assert len(seen[-1]) > len(seen[0])
    lake.server.settle(topic)
    lake.expect_the_log(topic, PARTITIONS, FEW)


def test_retention_drops_objects_from_the_table(lake: Lake) -> None:
    topic = lake.server.create_topic("kept", tier="cold", partitions=PARTITIONS, config={"retention.bytes": "60000"})
    for seed in (8, 9):
        write(lake, topic, seed, count=600)
    start = {row["partition"]: row["log_start"] for row in lake.server.archive_status([topic])}
    assert all(start.values()), start
    rows = lake.expect_the_log(topic, PARTITIONS)
    assert min(row.offset for row in rows if row.partition == 0) >= start[0]


def test_a_log_start_inside_an_object_hides_the_rows_below_it(lake: Lake) -> None:
    topic = lake.server.create_topic("cut", tier="cold", partitions=PARTITIONS)
    write(lake, topic, seed=10)
    admin = lake.server.admin()
    before = len(lake.expect_the_log(topic, PARTITIONS, FEW))
    bases = [int(file.name.split("-", 1)[0]) for file in lake.server.archived_files(topic) if "/0/data/" in str(file)]
    for log_start in (bases[1] + 7, bases[1] + 12, bases[2] + 1):
        part = TopicPartition(topic, 0, log_start)
        admin.delete_records([part])[part].result(20)
        after = len(lake.expect_the_log(topic, PARTITIONS))
        assert after < before
        before = after
        assert lake.summary(topic)["total-position-deletes"] != "0"
    (cut,) = {file for file in lake.folders(topic)[0].parent.rglob("*-cut.parquet") if pq.read_metadata(file).num_rows == 1}
    assert pq.read_table(cut).column("pos").to_pylist() == [0]


def test_a_table_goes_on_after_a_restart(lake: Lake) -> None:
    topic = lake.server.create_topic("again", tier="cold", partitions=PARTITIONS)
    write(lake, topic, seed=11)
    lake.expect_the_log(topic, PARTITIONS, FEW)
    uuid = lake.catalog().load_table(("topics", topic)).metadata.table_uuid
    lake.server.restart()
    lake.expect_the_log(topic, PARTITIONS, FEW)
    write(lake, topic, seed=12)
    lake.expect_the_log(topic, PARTITIONS)
    assert lake.catalog().load_table(("topics", topic)).metadata.table_uuid == uuid
    lake.expect_one_history(topic)


def test_a_deleted_topic_takes_its_table_along_and_its_namesake_has_another(lake: Lake) -> None:
    topic = lake.server.create_topic("gone", tier="cold", partitions=PARTITIONS)
    write(lake, topic, seed=13)
    lake.expect_the_log(topic, PARTITIONS, FEW)
    uuid = lake.catalog().load_table(("topics", topic)).metadata.table_uuid
    admin = lake.server.admin()
    admin.delete_topics([topic], operation_timeout=20)[topic].result(20)
    with pytest.raises(NoSuchTableError):
        lake.catalog().load_table(("topics", topic))
    wait_until("its objects and its table to go", lambda: not topic_objects(lake.server, topic))
    lake.server.create_topic(name=topic, tier="cold", partitions=PARTITIONS)
    write(lake, topic, seed=14)
    lake.expect_the_log(topic, PARTITIONS, FEW)
    assert lake.catalog().load_table(("topics", topic)).metadata.table_uuid != uuid


def test_switching_a_table_on_shows_the_whole_archive(lake: Lake) -> None:
    off = {"firn.iceberg.enable": "false"}
    topic = lake.server.create_topic("late", tier="cold", partitions=PARTITIONS, config=off)
    write(lake, topic, seed=15)
    write(lake, topic, seed=16)
    assert ("topics", topic) not in lake.catalog().list_tables("topics")
    with pytest.raises(NoSuchTableError, match=r"firn\.iceberg\.enable"):
        lake.catalog().load_table(("topics", topic))
    assert not lake.folders(topic)
    entry = ConfigEntry("firn.iceberg.enable", "true", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    admin = lake.server.admin()
    admin.incremental_alter_configs([resource])[resource].result(20)
    wait_until("the table", lambda: lake.version(topic) > 0)
    lake.expect_the_log(topic, PARTITIONS)


def test_names_with_dots_and_dashes_lead_to_their_topics(lake: Lake) -> None:
    topic = lake.server.create_topic("orders.eu-west_1", tier="cold", partitions=PARTITIONS)
    write(lake, topic, seed=17)
    rows = lake.expect_the_log(topic, PARTITIONS, FEW)
    escaped = topic.replace("_", "__").replace(".", "_d").replace("-", "_h")
    catalog = lake.catalog()
    assert ("topics", topic) in catalog.list_tables("topics")
    # The namesake of the second form has its own table, and takes nothing from the first.
    namesake = lake.server.create_topic(name=escaped, tier="cold")
    wait_until("the namesake's table", lambda: lake.version(namesake) > 0)
    assert catalog.load_table(f"topics_escaped.{escaped}").scan().to_arrow().num_rows == len(rows)
    assert catalog.load_table(f"topics.{escaped}").scan().to_arrow().num_rows == 0
    with connection(lake) as connected:
        assert connected.execute(f"SELECT count(*) FROM lake.topics_escaped.{escaped}").fetchone() == (len(rows),)


def test_clients_in_java_open_metadata_tables(lake: Lake) -> None:
    if lake.on_s3:
        pytest.skip("one store is enough: the test's client reads files")
    topic = lake.server.create_topic("looked.into", tier="cold", partitions=PARTITIONS)
    write(lake, topic, seed=20, count=100)
    lake.expect_the_log(topic, PARTITIONS, FEW)
    found = iceberg_metadata_tables(lake.catalog_url, topic, "snapshots", "files", "missing")
    assert found["snapshots"] >= 1 and found["files"] == len(lake.server.archived_files(topic)) and found["missing"] == -1


def test_a_time_that_engines_cannot_hold_is_null_and_its_milliseconds_stay(lake: Lake) -> None:
    far, late = 9_223_372_036_854_775, 253_402_300_799_999
    anything = {"message.timestamp.after.max.ms": str(2**63 - 1)}
    topic = lake.server.create_topic("far", tier="cold", config=anything)
    drafts = [Draft(value=b"x", timestamp=timestamp) for timestamp in (1_700_000_000_000, late, late + 1, far)]
    expect_same(produce(lake.server.bootstrap, topic, drafts), consume(lake.server.bootstrap, topic))
    wait_until("its table", lambda: lake.version(topic) > 0 and lake.summary(topic)["total-records"] == "4")
    with connection(lake) as connected:
        columns = 'epoch_ms(max("timestamp")), count("timestamp"), list(timestamp_ms ORDER BY "offset")'
        row = connected.execute(f'SELECT {columns} FROM lake.topics."{topic}"').fetchone()
        assert row == (late, 2, [None, None, late + 1, far])
    times = lake.catalog().load_table(("topics", topic)).scan(selected_fields=("timestamp",)).to_arrow()["timestamp"]
    assert [time and time.year for time in times.to_pylist()] == [2023, 9999, None, None]


def test_the_catalog_is_for_reading(lake: Lake) -> None:
    topic = lake.server.create_topic("readonly", tier="cold", partitions=PARTITIONS)
    write(lake, topic, seed=18, count=100)
    rows = lake.expect_the_log(topic, PARTITIONS, FEW)
    catalog = lake.catalog()
    assert catalog.list_namespaces() == [("topics",), ("topics_escaped",)]
    assert catalog.namespace_exists("topics") and catalog.table_exists(("topics", topic))
    assert not catalog.table_exists(("topics", "nothing"))
    with pytest.raises(NoSuchNamespaceError):
        catalog.list_tables("elsewhere")
    with connection(lake) as connected:
        for change in (f'DELETE FROM lake.topics."{topic}"', "CREATE TABLE lake.topics.mine (a INTEGER)"):
            with pytest.raises(Exception, match="only producers, retention and DeleteRecords change that"):
                connected.execute(change)
    path = f"http://{lake.server.admin_address}/iceberg/v1/namespaces/topics/tables/{topic}"
    for method in ("POST", "DELETE"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(urllib.request.Request(path, b"{}", method=method), timeout=10)  # noqa: S310 - loopback
        error = json.loads(refused.value.read())["error"]
        assert (refused.value.code, error["type"]) == (406, "UnsupportedOperationException")
    assert len(lake.expect_the_log(topic, PARTITIONS, FEW)) == len(rows)


@pytest.mark.parametrize("step", ["iceberg.files-written:2", "iceberg.metadata-written:2", "iceberg.hint-written:2"])
def test_a_crash_in_a_commit_leaves_no_half_of_it(start_server: StartServer, step: str) -> None:
    server = start_server(SETTINGS)
    assert isinstance(server, FirnServer)
    lake = Lake(server)
    topic = server.create_topic("crashed", tier="cold", partitions=PARTITIONS)
    write(lake, topic, seed=19)
    lake.expect_the_log(topic, PARTITIONS, FEW)
    server.kill()
    server.env["FIRN_TEST_CRASH_AT"] = step
    server.spawn()
    with Load(server.bootstrap, topic, PARTITIONS, per_second=3000) as load:
        process = server.process
        assert process is not None
        wait_until(f"the server to die at {step}", lambda: process.exit_status is not None, 20)
        assert process.exit_status == -signal.SIGABRT, server.tail()
        # Who has only the bucket reads a whole table meanwhile.
        whole = len(pyiceberg_static(lake, topic))
        del server.env["FIRN_TEST_CRASH_AT"]
        server.start()
        known = len(load.acknowledged)
        wait_until("writing to go on", lambda: len(load.acknowledged) > known + 200 or load.errors)
        load.finish()
    server.settle(topic)
    rows = lake.expect_the_log(topic, PARTITIONS)
    assert len(rows) > whole > 0
    lake.expect_one_history(topic)
