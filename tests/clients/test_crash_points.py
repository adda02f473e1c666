"""The server dies between any two steps of settling, retention, the sweep and deletion; after a restart nothing is missing.

`FIRN_TEST_CRASH_AT=STEP:N` kills a debug build the Nth time it gets to that step (broker/src/crash_point.rs). One data
folder and one store serve all tests of this file, so each start also recovers what the tests before it left.
"""

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import NewTopic

from conftest import new_server
from harness.broker import COLD, unique
from harness.bucket import expect_no_orphan, topic_objects
from harness.firn import FirnServer
from harness.load import Load, expect_all
from harness.parquet_rows import pyarrow_rows
from harness.process import wait_until
from harness.records import Row, consume, expect_same

pytestmark = pytest.mark.firn
GRACE_MS = 300
SETTINGS = {"firn.sweep.interval.ms": "100", "firn.sweep.grace.ms": str(GRACE_MS), "firn.archive.interval.ms": "50"}
PARTITIONS = 2
# Closed segments are small and many, so that one pass archives and evicts several.
TINY = {"segment.bytes": "4096", "segment.ms": "150"}
ORDER = ("log_start", "local_start", "archived_end", "last_stable", "high_watermark", "log_end")


@pytest.fixture(scope="module")
def server(work_dir: Path) -> Iterator[FirnServer]:
    """One server for the whole file, which most tests find stopped and leave stopped."""
    instance = new_server(work_dir / "server", SETTINGS)
    assert isinstance(instance, FirnServer)
    instance.start()
    yield instance
    text = (instance.folder / "server.log").read_text(errors="replace")
    instance.close()
    assert "panicked" not in text


def restart_to_crash(server: FirnServer, step: str) -> None:
    """Restarts the server so that it dies at this step."""
    server.kill()
    server.env["FIRN_TEST_CRASH_AT"] = step
    server.spawn()


def await_crash(server: FirnServer, step: str) -> None:
    """Waits until the server died there, and starts it to live on."""
    process = server.process
    assert process is not None
    wait_until(f"the server to die at {step}", lambda: process.exit_status is not None, 20)
    assert process.exit_status == -signal.SIGABRT, f"it ended otherwise\n{server.tail()}"
    del server.env["FIRN_TEST_CRASH_AT"]
    server.start()


@contextlib.contextmanager
def crashing(server: FirnServer, step: str, config: dict[str, str] | None = None) -> Iterator[Load]:
    """A topic under load while the server dies at the step and comes back; the load has ended when this returns."""
    topic = server.create_topic("crashed", tier="cold", partitions=PARTITIONS, config={**TINY, **(config or {})})
    restart_to_crash(server, step)
    with Load(server.bootstrap, topic, PARTITIONS, per_second=6000) as load:
        yield load
        await_crash(server, step)
        check_status(server, topic)
        known = len(load.acknowledged)
        wait_until("writing to go on", lambda: len(load.acknowledged) > known + 200 or load.errors)
        load.finish()


def check_status(server: FirnServer, topic: str) -> None:
    """The offsets of both tiers stand in their order."""
    for row in server.archive_status([topic]):
        offsets = [row[name] for name in ORDER]
        assert offsets == sorted(offsets), row


def starts(server: FirnServer, topic: str) -> dict[int, int]:
    """The log starts of a topic's partitions."""
    return {row["partition"]: row["log_start"] for row in server.archive_status([topic])}


def check_all(server: FirnServer, load: Load) -> list[Row]:
    """Reads hot and cold, then cold alone, then the objects, and looks for what should not be there."""
    first = starts(server, load.topic)
    read = consume(server.bootstrap, load.topic, partitions=PARTITIONS)
    # Retention may move the start between the two looks.
    if starts(server, load.topic) == first:
        expect_all(load, read, first)
    server.settle(load.topic)
    check_status(server, load.topic)
    expect_no_orphan(server, load.topic)
    first = starts(server, load.topic)
    read = consume(server.bootstrap, load.topic, partitions=PARTITIONS)
    expect_all(load, read, first)
    rows = pyarrow_rows(server.archived_files(load.topic))
    expect_same(read, [row for row in rows if row.offset >= first[row.partition]])
    return read


@pytest.mark.parametrize(
    "step",
    [
        "archive.object-written:1",
        "archive.object-written:7",
        "archive.manifest-written:1",
        "archive.manifest-written:4",
        "archive.ledger-committed:1",
        "archive.evicting:3",
        "archive.evicted:1",
        "sweep.begun:5",
        "sweep.deleted:2",
    ],
)
def test_a_crash_while_settling_loses_and_doubles_nothing(server: FirnServer, step: str) -> None:
    with crashing(server, step) as load:
        pass
    check_all(server, load)
    assert starts(server, load.topic) == {0: 0, 1: 0}


@pytest.mark.parametrize("step", ["retention.log-start-moved:1", "retention.log-start-moved:3"])
def test_a_crash_while_retention_moves_the_start_leaves_no_hole(server: FirnServer, step: str) -> None:
    """KAFKA-15352: the start moves first, so no reader is promised an object that is gone."""
    with crashing(server, step, {"retention.bytes": "40000"}) as load:
        pass
    check_all(server, load)
    assert all(start > 0 for start in starts(server, load.topic).values())


def test_a_crash_after_deleting_records_does_not_bring_them_back(server: FirnServer) -> None:
    step = "delete-records.log-start-moved"
    with crashing(server, step) as load:
        wait_until("records", lambda: len(load.acknowledged) > 2000)
        part = TopicPartition(load.topic, 0, 700)
        # The answer is lost with the server: librdkafka may ask again, which changes nothing.
        admin = server.admin()
        deleting = admin.delete_records([part], request_timeout=20)
    with contextlib.suppress(KafkaException):
        deleting[part].result(30)
    assert starts(server, load.topic) == {0: 700, 1: 0}
    check_all(server, load)


@pytest.mark.parametrize("step", ["topic.deleted:1", "topic.log-removed:1", "topic.log-removed:2", "purge.deleted:1"])
def test_a_crash_while_a_topic_is_deleted_leaves_nothing_of_it(server: FirnServer, step: str) -> None:
    topic = server.create_topic("gone", tier="cold", partitions=PARTITIONS, config=TINY)
    load = Load(server.bootstrap, topic, PARTITIONS, per_second=6000)
    wait_until("objects", lambda: len(server.archived_files(topic)) > 4)
    load.finish()
    restart_to_crash(server, step)
    wait_until("the server to serve", server.ready)
    admin = server.admin()
    deleting = admin.delete_topics([topic], operation_timeout=20, request_timeout=20)
    await_crash(server, step)
    with contextlib.suppress(KafkaException):
        deleting[topic].result(30)
    wait_until("the topic to be gone", lambda: topic not in server.admin().list_topics(timeout=10).topics)
    wait_until("its objects to go", lambda: not topic_objects(server, topic))
    wait_until("its local files to go", lambda: not [f for f in server.data_dir.rglob("*") if topic in str(f)])
    # The name is free, and nothing of the old topic shows under it.
    server.create_topic(name=topic, tier="cold", partitions=PARTITIONS, config=TINY)
    assert not consume(server.bootstrap, topic, partitions=PARTITIONS)
    fresh = Load(server.bootstrap, topic, PARTITIONS, per_second=6000)
    wait_until("records", lambda: len(fresh.acknowledged) > 300)
    fresh.finish()
    check_all(server, fresh)


def test_a_crash_between_a_topics_creation_and_its_folders_still_creates_it(server: FirnServer) -> None:
    step = "topic.created:2"
    restart_to_crash(server, step)
    wait_until("the server to serve", server.ready)
    name = unique("created")
    admin = server.admin()
    topic = NewTopic(name, num_partitions=PARTITIONS, replication_factor=1, config={**COLD, **TINY})
    creating = admin.create_topics([topic], operation_timeout=20)
    await_crash(server, step)
    # The answer was lost with the server; a second try finds the topic there.
    with contextlib.suppress(KafkaException):
        creating[name].result(30)
    load = Load(server.bootstrap, name, PARTITIONS, per_second=6000)
    wait_until("records", lambda: len(load.acknowledged) > 300)
    load.finish()
    check_all(server, load)
