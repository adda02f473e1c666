"""A partition whose log cannot be opened: who asks learns of it, all else is served, and with its topic its folder goes."""

import json

import pytest

from conftest import StartServer
from harness.firn import FirnServer
from harness.pressure import metric
from harness.process import wait_until
from harness.records import Draft, consume, produce

pytestmark = pytest.mark.firn


def folders(server: FirnServer, topic: str) -> list[str]:
    """The folders of a topic's partitions."""
    found = (path.name for path in (server.data_dir / "topics").glob(f"{topic}-*"))
    return sorted(name for name in found if not name.endswith(".deleted"))


def test_a_partition_that_cannot_be_opened_is_named_and_goes_with_its_topic(start_server: StartServer) -> None:
    server = start_server({})
    server.create_topic(name="torn", partitions=1)
    server.create_topic(name="whole", partitions=1)
    for topic in ("torn", "whole"):
        produce(server.bootstrap, topic, [Draft(value=b"v%d" % index, partition=0) for index in range(50)])
    server.kill()
    (log,) = (server.data_dir / "topics").glob("torn-0.*/*.log")
    log.unlink()
    log.mkdir()
    server.start()
    assert len(consume(server.bootstrap, "whole", partitions=1)) == 50
    assert "partition torn-0 is out of service: cannot" in server.http("/health")
    assert metric(server, "firn_unopened_partitions") == 1
    check = server.cli("cluster", "check", "--json", "--bootstrap", server.bootstrap, check=False)
    assert check.returncode == 1
    found = [finding for finding in json.loads(check.stdout)["findings"] if "cannot open 1 partition" in finding["what"]]
    assert [finding["where"] for finding in found] == [["torn-0"]]
    admin = server.admin()
    admin.delete_topics(["torn"])["torn"].result(20)
    wait_until("the folder to be gone", lambda: folders(server, "torn") == [])
    assert "out of service" not in server.http("/health")
    server.create_topic(name="torn", partitions=1)
    produce(server.bootstrap, "torn", [Draft(value=b"new", partition=0)])
    server.kill()
    server.start()
    assert [row.value for row in consume(server.bootstrap, "torn", partitions=1)] == [b"new"]
    assert metric(server, "firn_unopened_partitions") == 0
