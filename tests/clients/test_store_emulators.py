"""The core again with Azurite, and with a stand-in for Google Cloud Storage, as the store."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition

from harness.emulators import azurite, google
from harness.firn import FirnServer
from harness.process import wait_until
from harness.records import consume, corner_cases, expect_same, generated, produce

pytestmark = pytest.mark.firn
SMALL = {"batch.num.messages": 25}
SETTINGS = {"firn.sweep.interval.ms": "200", "firn.sweep.grace.ms": "500"}
KINDS = {"azure": azurite, "google": google}


@pytest.fixture(scope="module", params=KINDS)
def server(request: pytest.FixtureRequest, work_dir: Path) -> Iterator[FirnServer]:
    """A server whose archive is on an emulator."""
    folder = work_dir / request.param
    folder.mkdir()
    emulator, store = KINDS[request.param](folder)
    instance = FirnServer(folder / "server", store, SETTINGS)
    (folder / "server").mkdir()
    instance.start()
    yield instance
    instance.close()
    emulator.close()


def objects(server: FirnServer, topic: str) -> int:
    """How many objects the archive has of the topic."""
    return sum(row["archived_objects"] for row in server.archive_status([topic]))


def test_records_come_back_after_a_kill(server: FirnServer) -> None:
    topic = server.create_topic("emulated", tier="cold", partitions=2)
    drafts = corner_cases() + generated(500, seed=1, partitions=2)
    written = produce(server.bootstrap, topic, drafts, **SMALL)
    server.settle(topic)
    expect_same(written, consume(server.bootstrap, topic, partitions=2))
    server.kill()
    server.start()
    expect_same(written, consume(server.bootstrap, topic, partitions=2))
    assert objects(server, topic) > 0


def test_deleted_records_leave_the_store(server: FirnServer) -> None:
    topic = server.create_topic("shrinking", tier="cold")
    written = produce(server.bootstrap, topic, generated(500, seed=3), **SMALL)
    server.settle(topic)
    before = objects(server, topic)
    part = TopicPartition(topic, 0, 250)
    admin = server.admin()
    assert admin.delete_records([part])[part].result(20).low_watermark == 250
    expect_same(written[250:], consume(server.bootstrap, topic))
    wait_until("objects to go", lambda: objects(server, topic) < before)
    admin.delete_topics([topic], operation_timeout=20)[topic].result(20)
    wait_until("the rest to go", lambda: "removed the archive of a deleted topic" in server.log_text())
