"""After SIGKILL: from the start of the process until every partition acknowledges records again."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from clients import run
from harness.broker import Broker
from peers.brokers import KINDS, resident_mb, running
from peers.figures import Run

_TOPIC = {"segment.bytes": str(128 << 20), "remote.storage.enable": "false"}
_BROKERS = ("kafka", "firn")
_CALL_RECORDS = 16


@dataclass(frozen=True)
class Case:
    """What lies on disk when the broker is killed."""

    partitions: int
    segments: int
    """Of each partition. If several, segments close after a millisecond, so that every wave of records begins new ones."""
    records: int
    """Of 1 KiB, in all segments and partitions together."""

    @property
    def name(self) -> str:
        """Of its figures."""
        return f"{self.partitions}x{self.segments}"

    @property
    def topic(self) -> dict[str, str]:
        """Settings."""
        return {**_TOPIC, "segment.ms": "1"} if self.segments > 1 else _TOPIC


_CASES = (Case(100, 1, 200_000), Case(1000, 10, 160_000))


def measure(bench: Run) -> None:
    """Both brokers in turn, pinned only; the many partitions once, because Kafka takes minutes to write and recover them."""
    if bench.cores.name != "pinned":
        return
    for number in range(bench.rounds):
        for case in _CASES if number == 0 else _CASES[:1]:
            for name in _BROKERS:
                what = f"recovery, {case.name}, {name}, round {number + 1}"
                bench.attempt(what, lambda n=name, c=case: _round(bench, n, c))


def _round(bench: Run, name: str, case: Case) -> None:
    kind = KINDS[name]
    with running(kind, bench.cores, bench.work) as server:
        start = time.monotonic()
        topic = server.create_topic("killed", partitions=case.partitions, config={**case.topic, **kind.topic})
        bench.add(name, case.name, "create_s", time.monotonic() - start)
        for _ in range(case.segments):
            _write(bench, server, topic, case, case.records // case.segments)
        bench.add(name, case.name, "resident_mb", resident_mb(server))
        killed_and_back(bench, server, name, case.name, lambda: _write(bench, server, topic, case, case.partitions, 1))


def killed_and_back(bench: Run, server: Broker, name: str, case: str, acknowledge: Callable[[], object]) -> None:
    """Kills and starts it; the times until it listens and until `acknowledge` is through."""
    server.kill()
    killed = time.monotonic()
    server.start()
    bench.add(name, case, "listening_s", time.monotonic() - killed)
    acknowledge()
    bench.add(name, case, "acknowledging_s", time.monotonic() - killed)


def _write(bench: Run, server: Broker, topic: str, case: Case, records: int, call_records: int = _CALL_RECORDS) -> None:
    run(
        server, "produce", topic, "--records", records, "--partitions", case.partitions, "--call-records", call_records,
        launcher=bench.cores.client,
    )  # fmt: skip
