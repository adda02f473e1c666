"""A topic is deleted, and its name used again, while its segments are on their way to the store (KAFKA-15130)."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.firn import FirnServer
from harness.process import wait_until
from harness.proxy import Fault, FaultProxy, Request, healthy
from harness.records import consume, expect_same, generated, produce
from harness.stores import VersityGw

pytestmark = pytest.mark.firn
SMALL = {"batch.num.messages": 25}
SETTINGS = {
    # Uploads arrive after the server has given them up, and after the topic's folder was emptied.
    "firn.object.store.timeout.ms": "500",
    "firn.sweep.interval.ms": "200",
    "firn.sweep.grace.ms": "4000",
}
GRACE_S = 4.0
LATE_S = 2.0
DELAY_S = LATE_S


@pytest.fixture(scope="module")
def server(work_dir: Path, versitygw: VersityGw, proxy: FaultProxy) -> Iterator[FirnServer]:
    """A server that sees its store only through the proxy."""
    (work_dir / "server").mkdir()
    instance = FirnServer(work_dir / "server", versitygw.store(proxy.endpoint), SETTINGS)
    instance.start()
    yield instance
    instance.close()


def objects(server: FirnServer, folder: str) -> list[Path]:
    """What lies in a topic's folder of the store."""
    return [file for file in server.store.objects() if f"/{folder}/" in str(file)]


def test_uploads_that_arrive_after_the_deletion_are_removed_and_never_read(server: FirnServer, proxy: FaultProxy) -> None:
    late = []

    def late_uploads(request: Request) -> Fault:
        if request.method not in ("PUT", "POST") or not request.is_data:
            return Fault.NONE
        late.append(request.target)
        return Fault.SLOW

    topic = server.create_topic("again", tier="cold")
    (row,) = server.archive_status([topic])
    old = f"{topic}-{row['topic_id']}"
    proxy.rule = late_uploads
    produce(server.bootstrap, topic, generated(600, seed=1), **SMALL)
    wait_until("an upload to be under way", lambda: late)
    admin = server.admin()
    admin.delete_topics([topic], operation_timeout=20)[topic].result(20)
    proxy.rule = healthy
    begun = time.monotonic()
    server.create_topic(tier="cold", name=topic)
    assert not consume(server.bootstrap, topic)
    written = produce(server.bootstrap, topic, generated(200, seed=2), **SMALL)
    server.settle(topic)
    expect_same(written, consume(server.bootstrap, topic))

    time.sleep(max(0.0, begun + LATE_S + 0.5 - time.monotonic()))  # now the first upload has arrived
    wait_until("it to be removed", lambda: not objects(server, old), 10)
    wait_until("the cluster to forget the old topic", lambda: "removed the archive of a deleted" in server.log_text(), 20)
    assert not objects(server, old)
    expect_same(written, consume(server.bootstrap, topic))


def test_objects_outlive_their_topic_by_the_grace_period(server: FirnServer) -> None:
    topic = server.create_topic("read", tier="cold")
    produce(server.bootstrap, topic, generated(300, seed=3), **SMALL)
    server.settle(topic)
    (row,) = server.archive_status([topic])
    folder = f"{topic}-{row['topic_id']}"
    before, deleted = objects(server, folder), time.monotonic()
    server.cli("topic", "delete", topic, "--bootstrap", server.bootstrap)
    # Several sweeps pass meanwhile.
    time.sleep(GRACE_S / 2)
    after = objects(server, folder)
    assert after == before or time.monotonic() - deleted > GRACE_S, after
    wait_until("the objects to go", lambda: not objects(server, folder))
