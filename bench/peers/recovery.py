"""After SIGKILL: from the start of the process until every partition acknowledges records again."""

import time

from clients import run
from peers.brokers import KINDS, running
from peers.figures import Run

_TOPIC = {"segment.bytes": str(128 << 20), "remote.storage.enable": "false"}
_BROKERS = ("kafka", "firn")
_PARTITIONS = 100
_RECORDS = 400_000
_PROBE_RECORDS = 64 * _PARTITIONS


def measure(bench: Run) -> None:
    """Both brokers in turn, pinned only."""
    if bench.cores.name != "pinned":
        return
    for number in range(bench.rounds):
        for name in _BROKERS:
            bench.attempt(f"recovery, {name}, round {number + 1}", lambda n=name: _round(bench, n))


def _round(bench: Run, name: str) -> None:
    kind = KINDS[name]
    with running(kind, bench.cores, bench.work) as server:
        topic = server.create_topic("killed", partitions=_PARTITIONS, config={**_TOPIC, **kind.topic})
        everywhere = ("--partitions", _PARTITIONS)
        run(server, "produce", topic, "--records", _RECORDS, *everywhere, launcher=bench.cores.client)
        server.kill()
        killed = time.monotonic()
        server.start()
        bench.add(name, "100-partitions", "listening_s", time.monotonic() - killed)
        run(server, "produce", topic, "--records", _PROBE_RECORDS, *everywhere, launcher=bench.cores.client)
        bench.add(name, "100-partitions", "acknowledging_s", time.monotonic() - killed)
