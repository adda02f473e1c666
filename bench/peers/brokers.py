"""The brokers that are measured, each alone or three of a kind, on new data: their settings, cores, CPU time and memory."""

import gc
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from harness.broker import Broker
from harness.cluster import Cluster, FirnNode, firn_cluster
from harness.firn import FirnServer
from harness.kafka_cluster import KafkaNode, kafka_cluster
from harness.kafka_peer import KafkaServer
from harness.paths import CACHE
from harness.stores import Store
from measure import cpu_s
from peers.host import touch_memory

KAFKA_JVM = ("-Xms1g", "-Xmx1g", "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20",
             "-XX:InitiatingHeapOccupancyPercent=35", "-XX:+ExplicitGCInvokesConcurrent")  # fmt: skip
"""What Kafka's own start script gives a broker."""
_BLOCK_BYTES = 512
"""Of `st_blocks`."""
_TIERED = {
    "remote.log.storage.system.enable": "true",
    "remote.log.metadata.manager.listener.name": "PLAINTEXT",
    "remote.log.storage.manager.class.name": "org.apache.kafka.server.log.remote.storage.LocalTieredStorage",
    "remote.log.metadata.manager.impl.prefix": "rlmm.config.",
    "remote.log.storage.manager.impl.prefix": "rsm.config.",
    "rlmm.config.remote.log.metadata.topic.replication.factor": "1",
    "rlmm.config.remote.log.metadata.topic.num.partitions": "1",
    "remote.log.manager.task.interval.ms": "1000",
    "log.retention.check.interval.ms": "1000",
}
_THREE = {
    "offsets.topic.replication.factor": "3",
    # What the tests make shorter, at the defaults of both.
    "offsets.topic.num.partitions": "50",
    "broker.session.timeout.ms": "9000",
    "replica.lag.time.max.ms": "30000",
}
_THREE_TIERED = {"rlmm.config.remote.log.metadata.topic.replication.factor": "3"}

AnyCluster = Cluster[FirnNode] | Cluster[KafkaNode]


@dataclass(frozen=True)
class Kind:
    """One way to run one of the brokers."""

    name: str
    what: str
    """In words, for the table's head."""
    settings: Mapping[str, str] = field(default_factory=dict)
    topic: Mapping[str, str] = field(default_factory=dict)
    """Settings of every topic that is measured."""

    @property
    def kafka(self) -> bool:
        """Whether it is Apache Kafka."""
        return self.name.startswith("kafka")

    @property
    def tiered(self) -> bool:
        """Whether history is to move to the second tier."""
        return self.name.endswith("-tiered")


KINDS = {
    kind.name: kind
    for kind in (
        Kind("kafka", "Apache Kafka 4.3.1, default settings: no flush per acknowledgement"),
        Kind("kafka-flush", "the same with log.flush.interval.messages=1", {"log.flush.interval.messages": "1"}),
        Kind("kafka-tiered", "the same as kafka with LocalTieredStorage", _TIERED),
        Kind("firn", "Firn, firn.flush=durable: flushed before the acknowledgement", topic={"firn.flush": "durable"}),
        Kind("firn-replicated", "Firn, firn.flush=replicated: no flush, like Kafka", topic={"firn.flush": "replicated"}),
        Kind("firn-tiered", "the same as firn-replicated, looking once a second for local copies to drop",
             {"log.retention.check.interval.ms": "1000"}, {"firn.flush": "replicated"}),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Cores:
    """Which cores the broker and the client get; empty: all of them."""

    name: str
    broker: tuple[str, ...] = ()
    client: tuple[str, ...] = ()


PINNED = Cores("pinned", ("taskset", "-c", "0"), ("taskset", "-c", "1"))
UNPINNED = Cores("unpinned")


@contextmanager
def running(kind: Kind, cores: Cores, work: Path, store: Store | None = None) -> Iterator[Broker]:
    """The broker on new data; ended, and its data deleted, at the end of the block. Firn's store is a folder by default."""
    with _folder(kind, work) as folder:
        server = _kafka(kind, folder) if kind.kafka else _firn(kind, folder, store)
        _place(server, cores)
        touch_memory()
        try:
            server.start()
            yield server
        finally:
            server.kill()


@contextmanager
def running_three(kind: Kind, cores: Cores, work: Path) -> Iterator[AnyCluster]:
    """Three brokers that vote, too, share the broker's cores, and have one store; otherwise as one alone."""
    with _folder(kind, work) as folder:
        cluster: AnyCluster = _three_of_kafka(kind, folder) if kind.kafka else _three_of_firn(kind, folder)
        for node in cluster.nodes.values():
            _place(node, cores)
        touch_memory()
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.close()


@contextmanager
def _folder(kind: Kind, work: Path) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix=f"{kind.name}-", dir=work))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        gc.collect()  # admin clients in cycles would go on asking for the broker that is gone


def _place(server: Broker, cores: Cores) -> None:
    server.launcher = cores.broker
    server.admin_settings = {"log_level": "0"}  # that the broker was killed is no news


def _firn(kind: Kind, folder: Path, store: Store | None) -> FirnServer:
    server = FirnServer(folder, store)
    server.settings = dict(kind.settings)  # the tests' fast timers are not the defaults
    return server


def _three_of_firn(kind: Kind, folder: Path) -> Cluster[FirnNode]:
    cluster = firn_cluster(folder)
    for node in cluster.nodes.values():
        node.settings = {**_THREE, **kind.settings}
    return cluster


def _kafka(kind: Kind, folder: Path) -> KafkaServer:
    server = KafkaServer(folder, _kafka_settings(kind, folder))
    _as_started_by_its_script(server, kind)
    return server


def _three_of_kafka(kind: Kind, folder: Path) -> Cluster[KafkaNode]:
    settings = {**_THREE, **_kafka_settings(kind, folder)}
    cluster = kafka_cluster(folder, settings=settings | (_THREE_TIERED if kind.tiered else {}))
    for node in cluster.nodes.values():
        _as_started_by_its_script(node, kind)
    return cluster


def _kafka_settings(kind: Kind, folder: Path) -> dict[str, str]:
    settings = dict(kind.settings)
    if kind.tiered:
        (folder / "remote").mkdir()
        settings["rsm.config.dir"] = str(folder / "remote")
    return settings


def _as_started_by_its_script(server: KafkaServer, kind: Kind) -> None:
    server.tiered = kind.tiered
    server.jvm = KAFKA_JVM
    server.class_path = f"{CACHE / 'peer-jars'}/*"


def pid(server: Broker) -> int:
    """Its process id; both kinds keep the child process."""
    process = server.process if isinstance(server, (FirnServer, KafkaServer)) else None
    if process is None:
        raise RuntimeError("the broker does not run")
    return process.pid


def broker_cpu_s(server: Broker) -> float:
    """CPU seconds that it has used so far."""
    return cpu_s(pid(server))


def cluster_cpu_s(cluster: AnyCluster) -> float:
    """CPU seconds that those of its brokers that run have used so far."""
    return sum(broker_cpu_s(node) for node in cluster.living)


def disk_bytes(server: Broker, topic: str) -> int:
    """Of the blocks that the files of the topic's partition 0 take; journals and other files for all topics do not count."""
    assert isinstance(server, (FirnServer, KafkaServer))
    folders = [found for found in (server.folder / "data").rglob(f"{topic}-0*") if found.is_dir()]
    return sum(file.stat().st_blocks * _BLOCK_BYTES for folder in folders for file in folder.iterdir())


def resident_mb(server: Broker) -> float:
    """Resident memory now, in 10⁶ bytes."""
    return _memory_mb(server, "VmRSS")


def peak_resident_mb(server: Broker) -> float:
    """The most since its start or since `forget_peak`, in 10⁶ bytes."""
    return _memory_mb(server, "VmHWM")


def forget_peak(server: Broker) -> None:
    """From now on the peak is counted anew."""
    Path(f"/proc/{pid(server)}/clear_refs").write_text("5", encoding="ascii")


def proportional_mb(server: Broker) -> float:
    """Resident memory now, of pages that several processes share only this one's part, in 10⁶ bytes."""
    return _memory_mb(server, "Pss:", "smaps_rollup")


def _memory_mb(server: Broker, field: str, file: str = "status") -> float:
    status = Path(f"/proc/{pid(server)}/{file}").read_text(encoding="ascii")
    kib = next(line.split()[1] for line in status.splitlines() if line.startswith(field))
    return int(kib) * 1024 / 1e6
