"""Three brokers, three replicas of everything, acks=all: loads, memory, then what goes wrong (`failover`, `replaced`)."""

from dataclasses import dataclass
from typing import Any

from clients import run
from peers import failover, replaced
from peers.brokers import KINDS, UNPINNED, AnyCluster, cluster_cpu_s, proportional_mb, resident_mb, running_three
from peers.figures import Run

PARTITIONS = 6
"""Each broker leads two."""
TOPIC = {"segment.bytes": str(128 << 20), "remote.storage.enable": "false"}
_BROKERS = ("kafka", "firn-replicated", "firn")
_TIERED = ("kafka-tiered", "firn-tiered")
_RECORD_BYTES = 1 << 10
_WARM_RECORDS = 200_000
_PACED = ("--rate", 5000, "--linger-ms", 5)
_PACED_WARM = (*_PACED, "--seconds", 5, "--warmup-seconds", 0)
_PACED_COUNTED = (*_PACED, "--seconds", 6, "--warmup-seconds", 2)


@dataclass(frozen=True)
class Case:
    """One load of records of 1 KiB."""

    name: str
    mb: int
    arguments: tuple[object, ...] = ("--linger-ms", 50)


_CASES = (
    Case("three-none", 300),
    Case("three-zstd", 300, ("--linger-ms", 50, "--codec", "zstd")),
    # Kafka's Java producer makes such batches by default.
    Case("three-none-16k", 40, ("--linger-ms", 5, "--batch-bytes", 16 << 10)),
)


def measure(bench: Run) -> None:
    """All brokers in turn; unpinned only the loads. Many leaders and the replaced broker in the first round only."""
    for number in range(bench.rounds):
        for name in _BROKERS:
            what = f"cluster, {bench.cores.name}, {name}, round {number + 1}"
            bench.attempt(what, lambda n=name, first=number == 0: _round(bench, n, first=first))
        for name in _TIERED if number == 0 and bench.cores is not UNPINNED else ():
            bench.attempt(f"cluster, replaced, {name}", lambda n=name: replaced.measure(bench, n))


def _round(bench: Run, name: str, *, first: bool) -> None:
    kind = KINDS[name]
    with running_three(kind, bench.cores, bench.work) as cluster:
        config = {**TOPIC, **kind.topic}
        warm = cluster.create_topic("warm", partitions=PARTITIONS, config=config)
        for codec in ("none", "zstd"):
            _write(bench, cluster, warm, "--records", _WARM_RECORDS, "--codec", codec)
        for case in _CASES:
            _case(bench, name, cluster, case, cluster.create_topic(case.name, partitions=PARTITIONS, config=config))
        paced = cluster.create_topic("paced", partitions=PARTITIONS, config=config)
        _write(bench, cluster, paced, *_PACED_WARM)
        figures = _write(bench, cluster, paced, *_PACED_COUNTED)["latency"]
        for what in ("p50_ms", "p99_ms", "p999_ms"):
            bench.add(name, "three-linger-5", what, figures[what])
        bench.add(name, "three-end", "resident_mb", sum(resident_mb(node) for node in cluster.living))
        bench.add(name, "three-end", "proportional_mb", sum(proportional_mb(node) for node in cluster.living))
        if bench.cores is not UNPINNED:
            failover.measure(bench, name, cluster, config)
            if first:
                failover.measure_many(bench, name, cluster, config)


def _case(bench: Run, name: str, cluster: AnyCluster, case: Case, topic: str) -> None:
    before = cluster_cpu_s(cluster)
    done = _write(bench, cluster, topic, "--records", case.mb * (1 << 20) // _RECORD_BYTES, *case.arguments)
    bench.add(name, case.name, "cpu_s_per_gb", (cluster_cpu_s(cluster) - before) / (done["bytes"] / 1e9))
    bench.add(name, case.name, "mb_s", done["mb_s"])


def _write(bench: Run, cluster: AnyCluster, topic: str, *arguments: object) -> dict[str, Any]:
    return run(
        cluster, "produce", topic, "--partitions", PARTITIONS, *arguments, launcher=bench.cores.client,
    )  # fmt: skip
