"""History in the second tier: writing it, replaying it, its size, and what replaying it does to producers and to memory."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from clients import run
from harness.broker import Broker
from harness.firn import FirnServer
from harness.kafka_peer import KafkaServer
from harness.process import wait_until
from peers.brokers import KINDS, broker_cpu_s, forget_peak, peak_resident_mb, resident_mb, running
from peers.figures import Run

_SEGMENT = str(128 << 20)
HOT = {"segment.bytes": _SEGMENT, "remote.storage.enable": "false"}
COLD = {
    "segment.bytes": _SEGMENT,
    "remote.storage.enable": "true",
    "local.retention.bytes": "1",
    "local.retention.ms": "100",
}
WRITTEN = 1 << 20
CLOSED = 1_000_000
"""Records that the archive must have: eight segments. The newest one is open and stays on local disk in both."""
ARCHIVED = 800_000
"""Of which so many are read."""
_WARM_WRITTEN, _WARM = 300_000, 200_000
_BROKERS = ("kafka-tiered", "firn-tiered")
_RATE = 5000
_SECONDS = 6
_WARM_SECONDS = 2
_CROWD = 50
_EIGHT = ("--consumers", 8, "--records", ARCHIVED // 4)


def measure(bench: Run) -> None:
    """Both brokers in turn, pinned only; many readers in the first round only."""
    if bench.cores.name != "pinned":
        return
    for number in range(bench.rounds):
        for name in _BROKERS:
            bench.attempt(
                f"tiered, {name}, round {number + 1}", lambda n=name, first=number == 0: _round(bench, n, first=first)
            )


def _round(bench: Run, name: str, *, first: bool) -> None:
    kind = KINDS[name]
    with running(kind, bench.cores, bench.work) as server:
        hot = server.create_topic("hot", config={**HOT, **kind.topic})
        write(bench, server, hot, ARCHIVED)
        _warm(bench, name, server, hot)
        read(bench, name, server, hot, "tier-hot")
        cold = server.create_topic("cold", config={**COLD, **kind.topic})
        _archive(bench, name, server, cold, "produce-archive", WRITTEN, CLOSED)
        read(bench, name, server, cold, "tier-cold")
        _replay_beside_producer(bench, name, server, cold, (4, 8) if first else (4,))
        bench.add(name, "tiers-end", "resident_mb", resident_mb(server))
        if first:
            read(bench, name, server, cold, "tier-cold-8-same", *_EIGHT, "--from", "same")
            read(bench, name, server, cold, "tier-cold-8-spread", *_EIGHT, "--from", "spread")
            _crowd(bench, name, server, cold)
        if isinstance(server, FirnServer):
            _sizes(bench, name, server, cold)


def _warm(bench: Run, name: str, server: Broker, hot: str) -> None:
    """The first archiving and reading since the start, from a topic of its own, so that no cache helps what follows."""
    cold = server.create_topic("warm", config={**COLD, **KINDS[name].topic})
    _archive(bench, name, server, cold, "first-produce-archive", _WARM_WRITTEN, _WARM)
    read(bench, name, server, cold, "first-cold", "--records", _WARM)
    run(server, "consume", hot, "--records", _WARM, launcher=bench.cores.client)


def _archive(bench: Run, name: str, server: Broker, topic: str, case: str, records: int, awaited: int) -> None:
    """Writes, and waits until so many are archived; CPU per GB of all that was written."""
    before = broker_cpu_s(server)
    written = write(bench, server, topic, records)
    await_archived(server, topic, awaited)
    bench.add(name, case, "cpu_s_per_gb", (broker_cpu_s(server) - before) / (written["bytes"] / 1e9))


def write(bench: Run, server: Broker, topic: str, records: int, *args: object) -> dict[str, Any]:
    """As fast as it goes, to partition 0."""
    return run(server, "produce", topic, "--records", records, "--linger-ms", 50, *args, launcher=bench.cores.client)


def await_archived(server: Broker, topic: str, records: int = CLOSED) -> None:
    """Until local disk holds nothing of these, which will be read."""
    if isinstance(server, FirnServer):
        wait_until("the archive", lambda: server.archive_status([topic])[0]["local_start"] >= records, 180, 0.25)
    elif isinstance(server, KafkaServer):
        log = server.folder / "data" / f"{topic}-0"
        wait_until("the remote copy", lambda: min(int(file.stem) for file in log.glob("*.log")) >= records, 180, 0.25)


def read(bench: Run, name: str, server: Broker, topic: str, case: str, *args: object) -> dict[str, Any]:
    """Reads what is archived, or as `args` say; keeps the rate and the broker's CPU time."""
    before = broker_cpu_s(server)
    done = run(server, "consume", topic, *(args or ("--records", ARCHIVED)), launcher=bench.cores.client)
    bench.add(name, case, "mb_s", done["mb_s"])
    bench.add(name, case, "cpu_s_per_gb", (broker_cpu_s(server) - before) / (done["bytes"] / 1e9))
    bench.add(name, case, "client_cpu_s_per_gb", done["client_cpu_s_per_gb"])
    return done


def _replay_beside_producer(bench: Run, name: str, server: Broker, cold: str, readers: tuple[int, ...]) -> None:
    """The producer's times without anybody else, then while so many consumers read the archive without end."""
    topic = server.create_topic("paced", config={**HOT, **KINDS[name].topic})
    paced = ("--rate", _RATE, "--seconds", _SECONDS, "--warmup-seconds", _WARM_SECONDS)
    idle = run(server, "produce", topic, *paced, launcher=bench.cores.client)
    bench.add(name, "idle", "p99_ms", idle["latency"]["p99_ms"])
    for replayers in readers:
        replay = ("--consumers", replayers, "--records", ARCHIVED, "--seconds", _WARM_SECONDS + _SECONDS + 1)
        with ThreadPoolExecutor(1) as beside:
            reading = beside.submit(run, server, "consume", cold, *replay, launcher=bench.cores.client)
            busy = run(server, "produce", topic, *paced, launcher=bench.cores.client)
            bench.add(name, f"replayed-{replayers}", "p99_ms", busy["latency"]["p99_ms"])
            bench.add(name, f"replayed-{replayers}", "mb_s", reading.result()["mb_s"])


def _crowd(bench: Run, name: str, server: Broker, cold: str) -> None:
    """The most memory that the broker has while many read the archive from different offsets."""
    forget_peak(server)
    crowd = ("--consumers", _CROWD, "--records", ARCHIVED // 4, "--from", "spread", "--seconds", _SECONDS)
    bench.add(name, "crowd", "mb_s", run(server, "consume", cold, *crowd, launcher=bench.cores.client)["mb_s"])
    bench.add(name, "crowd", "resident_mb", peak_resident_mb(server))


def _sizes(bench: Run, name: str, server: FirnServer, cold: str) -> None:
    """Bytes per record in the archive, and in batches that the producer compresses."""
    (status,) = server.archive_status([cold])
    bench.add(name, "archived", "bytes_per_record", status["archived_bytes"] / status["archived_end"])
    for codec in ("lz4", "zstd"):
        for case, size in ((codec, ()), (f"{codec}-16k", ("--batch-bytes", 16 << 10))):
            topic = server.create_topic(case, config={**HOT, **KINDS[name].topic})
            write(bench, server, topic, ARCHIVED // 4, "--codec", codec, *size)
            (status,) = server.archive_status([topic])
            bench.add(name, case, "bytes_per_record", status["local_bytes"] / (ARCHIVED // 4))
