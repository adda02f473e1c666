"""Producing as fast as the broker acknowledges: MB/s, and CPU seconds of the broker per GB."""

from dataclasses import dataclass

from clients import run
from harness.broker import Broker
from peers.brokers import KINDS, UNPINNED, broker_cpu_s, running
from peers.figures import Run

_MB = 1 << 20
_TOPIC = {"segment.bytes": str(128 << 20), "remote.storage.enable": "false"}
_WARM_RECORDS = 300_000


@dataclass(frozen=True)
class Case:
    """One load."""

    name: str
    codec: str = "none"
    value_bytes: int = 1024
    partitions: int = 1
    producers: int = 1
    mb: int = 400


_ALL = (
    Case("1k-none"),
    Case("1k-lz4", codec="lz4"),
    Case("1k-zstd", codec="zstd"),
    Case("1k-200p", partitions=200),
    Case("100b-none", value_bytes=100, mb=200),
    Case("1k-20p", partitions=20),
    Case("100b-lz4", codec="lz4", value_bytes=100, mb=200),
    Case("100b-zstd", codec="zstd", value_bytes=100, mb=200),
    Case("50-producers", partitions=20, producers=50),
)
_ONE = _ALL[:1]
_LOADS = {"kafka": _ALL, "firn-replicated": _ALL, "firn": _ALL, "kafka-flush": _ONE}


def measure(bench: Run) -> None:
    """All brokers in turn, so many rounds; a warm-up of the same kind before each."""
    for number in range(bench.rounds):
        for name, cases in _LOADS.items():
            if bench.cores is UNPINNED:
                cases = _ALL[:3] if name != "kafka-flush" else _ONE
            bench.attempt(
                f"produce, {bench.cores.name}, {name}, round {number + 1}", lambda n=name, c=cases: _round(bench, n, c)
            )


def _round(bench: Run, name: str, cases: tuple[Case, ...]) -> None:
    kind = KINDS[name]
    with running(kind, bench.cores, bench.work) as server:
        warm = server.create_topic("warm", config={**_TOPIC, **kind.topic})
        for codec in ("none", "lz4", "zstd"):
            run(server, "produce", warm, "--records", _WARM_RECORDS, "--codec", codec, launcher=bench.cores.client)
        for case in cases:
            _case(bench, name, server, case)


def _case(bench: Run, name: str, server: Broker, case: Case) -> None:
    topic = server.create_topic(case.name, partitions=case.partitions, config={**_TOPIC, **KINDS[name].topic})
    before = broker_cpu_s(server)
    done = run(
        server, "produce", topic, "--records", case.mb * _MB // case.value_bytes, "--codec", case.codec,
        "--value-bytes", case.value_bytes, "--partitions", case.partitions, "--producers", case.producers,
        "--linger-ms", 50, "--queue-kib", 65_536 if case.producers == 1 else 4_096, launcher=bench.cores.client,
    )  # fmt: skip
    used = broker_cpu_s(server) - before
    bench.add(name, case.name, "cpu_s_per_gb", used / (done["bytes"] / 1e9))
    bench.add(name, case.name, "mb_s", done["mb_s"])
    bench.add(name, case.name, "client_cpu_s_per_gb", done["client_cpu_s_per_gb"])
