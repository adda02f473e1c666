"""Many idle connections, and many partitions: what they cost in memory, in time, and to a producer beside them."""

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

from clients import CLIENT, run
from harness.broker import Broker
from peers.brokers import KINDS, resident_mb, running
from peers.figures import Run

_TOPIC = {"segment.bytes": str(128 << 20), "remote.storage.enable": "false"}
_CONNECTIONS = 5000
_PACED = ("--rate", 5000, "--seconds", 6)
_TOPICS, _PARTITIONS = 10, 1000


def measure(bench: Run) -> None:
    """Once, pinned only. Kafka's memory and time for 1,000 partitions come from the part recovery; it gets no 10,000."""
    if bench.cores.name != "pinned":
        return
    for name in ("kafka", "firn-replicated"):
        bench.attempt(f"crowds, connections, {name}", lambda n=name: _connections(bench, n))
    bench.attempt("crowds, partitions, firn", lambda: _partitions(bench, "firn"))


def _connections(bench: Run, name: str) -> None:
    kind = KINDS[name]
    with running(kind, bench.cores, bench.work) as server:
        topic = server.create_topic("paced", config={**_TOPIC, **kind.topic})
        run(server, "produce", topic, *_PACED, launcher=bench.cores.client)
        _paced(bench, server, name, topic, "alone")
        before = resident_mb(server)
        with _idle(bench, server):
            bench.add(name, "idle-connections", "kb_each", (resident_mb(server) - before) * 1e3 / _CONNECTIONS)
            _paced(bench, server, name, topic, "idle-connections")


@contextmanager
def _idle(bench: Run, server: Broker) -> Iterator[None]:
    """Connections that have asked once and then stay open."""
    line = [*bench.cores.client, CLIENT, "idle", "--bootstrap", server.bootstrap, "--connections", str(_CONNECTIONS)]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as client:  # noqa: S603
        try:
            assert client.stdout is not None
            opened = json.loads(client.stdout.readline() or '{"open": 0}')["open"]
            if opened != _CONNECTIONS:
                raise RuntimeError(f"{opened} of {_CONNECTIONS} connections opened")
            yield
        finally:
            client.terminate()


def _paced(bench: Run, server: Broker, name: str, topic: str, case: str) -> None:
    done = run(server, "produce", topic, *_PACED, launcher=bench.cores.client)
    bench.add(name, case, "p99_ms", done["latency"]["p99_ms"])


def _partitions(bench: Run, name: str) -> None:
    kind = KINDS[name]
    with running(kind, bench.cores, bench.work) as server:
        before, start = resident_mb(server), time.monotonic()
        for _ in range(_TOPICS):
            topic = server.create_topic("many", partitions=_PARTITIONS, config={**_TOPIC, **kind.topic})
        bench.add(name, "10000-partitions", "create_s", time.monotonic() - start)
        run(server, "produce", topic, "--records", 64_000, "--partitions", _PARTITIONS, launcher=bench.cores.client)
        bench.add(name, "10000-partitions", "resident_mb", resident_mb(server))
        bench.add(name, "10000-partitions", "kb_each", (resident_mb(server) - before) * 1e3 / (_TOPICS * _PARTITIONS))
