"""Topics of many partitions come and go beside a busy tiered one, which must not notice."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import new_server
from harness.firn import FirnServer
from harness.load import Load, expect_all
from harness.process import wait_until
from harness.records import consume, generated, produce

pytestmark = pytest.mark.firn
# Segments close and go all the time, so that a checkpoint is always wanted.
SETTINGS = {"firn.archive.interval.ms": "50"}
TINY = {"segment.bytes": "4096", "segment.ms": "150", "local.retention.ms": "1"}
TOPICS = 25
PARTITIONS = 12


@pytest.fixture(scope="module")
def server(work_dir: Path) -> Iterator[FirnServer]:
    """A server of its own, which is stopped and started."""
    instance = new_server(work_dir / "server", SETTINGS)
    assert isinstance(instance, FirnServer)
    instance.start()
    yield instance
    instance.close()


def folders(server: FirnServer, names: list[str]) -> list[str]:
    """What is left of these topics on the local disk."""
    return [folder.name for folder in (server.data_dir / "topics").iterdir() if any(name in folder.name for name in names)]


def test_deleted_topics_leave_a_busy_one_alone(server: FirnServer) -> None:
    busy = server.create_topic("busy", tier="cold", partitions=2, config=TINY)
    passed = []
    with Load(server.bootstrap, busy, 2, per_second=4000) as load:
        admin = server.admin()
        for number in range(TOPICS):
            passed.append(server.create_topic("passing", partitions=PARTITIONS))
            produce(server.bootstrap, passed[-1], generated(60, seed=number, partitions=PARTITIONS))
            admin.delete_topics([passed[-1]], operation_timeout=20)[passed[-1]].result(20)
            assert server.ready(), server.tail()
        known = len(load.acknowledged)
        wait_until("writing to go on", lambda: len(load.acknowledged) > known + 200 or load.errors)
        load.finish()
    assert not load.errors
    wait_until("the folders of deleted topics to go", lambda: not folders(server, passed))
    server.kill()
    server.start()
    assert not folders(server, passed)
    expect_all(load, consume(server.bootstrap, busy, partitions=2))
