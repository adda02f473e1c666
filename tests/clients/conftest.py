"""Fixtures of the client tests: servers, stores, and their logs when a test fails.

FIRN_PEER=kafka runs the tests against a real Apache Kafka instead, except those marked `firn`, which are about
tiers, the admin port or Firn's own command. A test that fails there is a wrong test.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from harness.cluster import Cluster, firn_cluster
from harness.firn import FirnServer
from harness.kafka_cluster import kafka_cluster
from harness.kafka_peer import KafkaServer
from harness.namespaces import Network
from harness.proxy import FaultProxy
from harness.stores import Store, VersityGw

PEER = os.environ.get("FIRN_PEER", "firn")

AnyServer = FirnServer | KafkaServer
StartServer = Callable[..., AnyServer]
StartCluster = Callable[..., Cluster[Any]]


def pytest_configure(config: pytest.Config) -> None:
    """Names the markers."""
    config.addinivalue_line("markers", "firn: about what only Firn has (tiers, admin port, its own command)")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leaves out what a real Kafka cannot show."""
    if PEER == "kafka":
        for item in items:
            if item.get_closest_marker("firn"):
                item.add_marker(pytest.mark.skip(reason="only Firn has this"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    """Adds the end of every server's log to a failed test's report."""
    report = yield
    if report.failed:
        for name, value in getattr(item, "funcargs", {}).items():
            if isinstance(value, FirnServer | KafkaServer | Cluster):
                report.sections.append((f"server log ({name})", value.tail()))
        for server in (*_running, *_clusters):
            report.sections.append(("server log", server.tail()))
    return report


_running: list[AnyServer] = []
_clusters: list[Cluster[Any]] = []


@pytest.fixture(scope="module")
def work_dir(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A folder for this test file; kept, and named, when a test in it failed and FIRN_KEEP is set."""
    folder = Path(tempfile.mkdtemp(prefix=f"firn-{request.module.__name__}-"))
    yield folder
    if os.environ.get("FIRN_KEEP"):
        print(f"kept {folder}")
    else:
        shutil.rmtree(folder, ignore_errors=True)


def new_server(folder: Path, settings: Mapping[str, str] | None = None, store: Store | None = None) -> AnyServer:
    """A server of the kind under test, not yet started."""
    folder.mkdir(parents=True, exist_ok=True)
    if PEER == "kafka":
        return KafkaServer(folder, settings)
    return FirnServer(folder, store, settings)


@pytest.fixture(scope="module")
def server(work_dir: Path, request: pytest.FixtureRequest) -> Iterator[AnyServer]:
    """One server for all tests of a file; the file may define SETTINGS for it."""
    instance = new_server(work_dir / "server", getattr(request.module, "SETTINGS", None))
    instance.start()
    yield instance
    died = not instance.alive()
    tail = instance.tail()
    instance.close()
    assert not died, f"the server died during these tests\n{tail}"


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[StartServer]:
    """Starts servers for one test only; they end with it."""
    count = 0

    def start(settings: Mapping[str, str] | None = None, store: Store | None = None) -> AnyServer:
        nonlocal count
        count += 1
        instance = new_server(tmp_path / f"server{count}", settings, store)
        _running.append(instance)
        instance.start()
        return instance

    yield start
    for instance in _running:
        instance.close()
    _running.clear()


def new_cluster(
    folder: Path,
    settings: Mapping[str, str] | None = None,
    size: int = 3,
    store: Store | None = None,
    network: Network | None = None,
) -> Cluster[Any]:
    """A cluster of the kind under test, not yet started."""
    folder.mkdir(parents=True, exist_ok=True)
    if PEER == "kafka":
        return kafka_cluster(folder, size, settings, network)
    return firn_cluster(folder, size, settings, store, network)


@pytest.fixture(scope="module")
def cluster(work_dir: Path, request: pytest.FixtureRequest) -> Iterator[Cluster[Any]]:
    """Three nodes for all tests of a file, which leave all of them running; the file may define SETTINGS for them."""
    instance = new_cluster(work_dir / "cluster", getattr(request.module, "SETTINGS", None))
    _clusters.append(instance)
    instance.start()
    yield instance
    died = [node for node in instance.nodes.values() if not node.alive()]
    tails = "\n".join(node.tail() for node in died)
    instance.close()
    _clusters.remove(instance)
    assert not died, f"nodes died during these tests\n{tails}"
    instance.expect_healthy_logs()


@pytest.fixture
def start_cluster(tmp_path: Path) -> Iterator[StartCluster]:
    """Starts clusters for one test only; they, and their networks, end with it."""
    made: list[Cluster[Any]] = []

    def start(
        settings: Mapping[str, str] | None = None,
        size: int = 3,
        store: Store | None = None,
        network: Network | None = None,
    ) -> Cluster[Any]:
        instance = new_cluster(tmp_path / f"cluster{len(made)}", settings, size, store, network)
        made.append(instance)
        _clusters.append(instance)
        instance.start()
        return instance

    yield start
    for instance in made:
        instance.close()
        _clusters.remove(instance)
        instance.expect_healthy_logs()


@pytest.fixture(scope="module")
def versitygw(work_dir: Path) -> Iterator[VersityGw]:
    """An S3 server on loopback."""
    gateway = VersityGw(work_dir / "versitygw")
    yield gateway
    gateway.stop()


@pytest.fixture(scope="module")
def proxy(versitygw: VersityGw, request: pytest.FixtureRequest) -> Iterator[FaultProxy]:
    """A proxy in front of VersityGW; the file may define DELAY_S, how late what is late arrives."""
    instance = FaultProxy(versitygw.port, delay_s=getattr(request.module, "DELAY_S", 0.4))
    yield instance
    instance.close()


@pytest.fixture(scope="module")
def proxied(work_dir: Path, versitygw: VersityGw, proxy: FaultProxy, request: pytest.FixtureRequest) -> Iterator[FirnServer]:
    """One server for all tests of a file that sees its store only through the proxy; the file may define SETTINGS."""
    folder = work_dir / "proxied"
    folder.mkdir()
    instance = FirnServer(folder, versitygw.store(proxy.endpoint), getattr(request.module, "SETTINGS", None))
    instance.start()
    yield instance
    died, text, tail = not instance.alive(), instance.log_text(), instance.tail()
    instance.close()
    assert not died, f"the server died during these tests\n{tail}"
    assert "panicked" not in text
