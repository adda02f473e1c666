"""History in the second tier: writing it, replaying it, its size, and what replaying it does to producers."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from clients import run
from harness.broker import Broker
from harness.firn import FirnServer
from harness.kafka_peer import KafkaServer
from harness.process import wait_until
from peers.brokers import KINDS, broker_cpu_s, resident_mb, running
from peers.figures import Run

_SEGMENT = str(128 << 20)
_HOT = {"segment.bytes": _SEGMENT, "remote.storage.enable": "false"}
_COLD = {
    "segment.bytes": _SEGMENT,
    "remote.storage.enable": "true",
    "local.retention.bytes": "1",
    "local.retention.ms": "100",
}
_WRITTEN = 1 << 20
# The newest segment is still open and stays on local disk in both.
_ARCHIVED = 800_000
_BROKERS = ("kafka-tiered", "firn-tiered")
_REPLAYERS = 4
_RATE = 5000
_SECONDS = 8


def measure(bench: Run) -> None:
    """Both brokers in turn, pinned only."""
    if bench.cores.name != "pinned":
        return
    for number in range(bench.rounds):
        for name in _BROKERS:
            bench.attempt(f"tiered, {name}, round {number + 1}", lambda n=name: _round(bench, n))


def _round(bench: Run, name: str) -> None:
    kind = KINDS[name]
    with running(kind, bench.cores, bench.work) as server:
        hot = server.create_topic("hot", config={**_HOT, **kind.topic})
        _write(bench, server, hot, _ARCHIVED)
        _read(bench, name, server, hot, "tier-hot")
        cold = server.create_topic("cold", config={**_COLD, **kind.topic})
        before = broker_cpu_s(server)
        written = _write(bench, server, cold, _WRITTEN)
        _await_archived(server, cold)
        used = broker_cpu_s(server) - before
        bench.add(name, "produce-archive", "cpu_s_per_gb", used / (written["bytes"] / 1e9))
        _read(bench, name, server, cold, "tier-cold")
        _replay_beside_producer(bench, name, server, cold)
        bench.add(name, "tiers-end", "resident_mb", resident_mb(server))
        if isinstance(server, FirnServer):
            _sizes(bench, name, server, cold)


def _write(bench: Run, server: Broker, topic: str, records: int, codec: str = "none") -> dict[str, Any]:
    return run(
        server, "produce", topic, "--records", records, "--codec", codec, "--linger-ms", 50, launcher=bench.cores.client
    )  # fmt: skip


def _await_archived(server: Broker, topic: str) -> None:
    """Until local disk holds nothing of what will be read."""
    if isinstance(server, FirnServer):
        wait_until("the archive", lambda: server.archive_status([topic])[0]["local_start"] >= _ARCHIVED, 180, 0.25)
    elif isinstance(server, KafkaServer):
        log = server.folder / "data" / f"{topic}-0"
        wait_until("the remote copy", lambda: min(int(file.stem) for file in log.glob("*.log")) >= _ARCHIVED, 180, 0.25)


def _read(bench: Run, name: str, server: Broker, topic: str, case: str) -> None:
    before = broker_cpu_s(server)
    done = run(server, "consume", topic, "--records", _ARCHIVED, launcher=bench.cores.client)
    bench.add(name, case, "mb_s", done["mb_s"])
    bench.add(name, case, "cpu_s_per_gb", (broker_cpu_s(server) - before) / (done["bytes"] / 1e9))


def _replay_beside_producer(bench: Run, name: str, server: Broker, cold: str) -> None:
    """The producer's times without anybody else, then while consumers read the archive without end."""
    topic = server.create_topic("paced", config={**_HOT, **KINDS[name].topic})
    paced = ("--rate", _RATE, "--seconds", _SECONDS, "--warmup-seconds", 3)
    idle = run(server, "produce", topic, *paced, launcher=bench.cores.client)
    bench.add(name, "idle", "p99_ms", idle["latency"]["p99_ms"])
    replay = ("--consumers", _REPLAYERS, "--records", _ARCHIVED, "--seconds", _SECONDS + 4)
    with ThreadPoolExecutor(1) as beside:
        reading = beside.submit(run, server, "consume", cold, *replay, launcher=bench.cores.client)
        busy = run(server, "produce", topic, *paced, launcher=bench.cores.client)
        bench.add(name, "replayed", "p99_ms", busy["latency"]["p99_ms"])
        bench.add(name, "replayed", "mb_s", reading.result()["mb_s"])


def _sizes(bench: Run, name: str, server: FirnServer, cold: str) -> None:
    """Bytes per record in the archive, and in batches that the producer compresses."""
    (status,) = server.archive_status([cold])
    bench.add(name, "archived", "bytes_per_record", status["archived_bytes"] / status["archived_end"])
    for codec in ("lz4", "zstd"):
        topic = server.create_topic(codec, config={**_HOT, **KINDS[name].topic})
        _write(bench, server, topic, _ARCHIVED // 4, codec)
        (status,) = server.archive_status([topic])
        bench.add(name, codec, "bytes_per_record", status["local_bytes"] / (_ARCHIVED // 4))
