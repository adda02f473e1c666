"""Acknowledgements at a fixed rate, and the way from a producer to a consumer."""

from clients import run
from harness.broker import Broker
from peers.brokers import KINDS, UNPINNED, running
from peers.figures import Run

RATE = 5000
_SECONDS = 6
_WARM_SECONDS = 5
_TOPIC = {"segment.bytes": str(128 << 20), "remote.storage.enable": "false"}
_BROKERS = ("kafka", "firn", "firn-replicated", "kafka-flush")
_PERCENTILES = ("p50_ms", "p99_ms", "p999_ms")


def measure(bench: Run) -> None:
    """All brokers in turn, unpinned two of them; each first handles some seconds of the same load."""
    for number in range(bench.rounds):
        for name in _brokers(bench, number):
            bench.attempt(f"latency, {bench.cores.name}, {name}, round {number + 1}", lambda n=name: _round(bench, n))


def _brokers(bench: Run, number: int) -> tuple[str, ...]:
    """Kafka that flushes is measured once, pinned."""
    if bench.cores is UNPINNED:
        return ("kafka", "firn")
    return _BROKERS if number == 0 else _BROKERS[:-1]


def _round(bench: Run, name: str) -> None:
    kind = KINDS[name]
    with running(kind, bench.cores, bench.work) as server:
        topic = server.create_topic("paced", config={**_TOPIC, **kind.topic})
        run(server, "produce", topic, "--records", 200_000, launcher=bench.cores.client)
        _paced(bench, server, topic, 5, _WARM_SECONDS, warm_s=0)
        for linger_ms in (5,) if name == "kafka-flush" else (5, 0):
            figures = _paced(bench, server, topic, linger_ms, _SECONDS, warm_s=2)
            for what in _PERCENTILES:
                bench.add(name, f"linger-{linger_ms}", what, figures[what])
        if name == "kafka-flush":
            return  # it cannot keep up without linger: it would wait for seconds
        topic = server.create_topic("end-to-end", config={**_TOPIC, **kind.topic})
        done = run(
            server, "end-to-end", topic, "--rate", 1000, "--seconds", 6, "--linger-ms", 0, launcher=bench.cores.client
        )
        for what in _PERCENTILES:
            bench.add(name, "end-to-end", what, done["latency"][what])


def _paced(bench: Run, server: Broker, topic: str, linger_ms: int, seconds: int, warm_s: int) -> dict[str, float]:
    done = run(
        server, "produce", topic, "--rate", RATE, "--seconds", seconds, "--linger-ms", linger_ms,
        "--warmup-seconds", warm_s, launcher=bench.cores.client,
    )  # fmt: skip
    return done["latency"]
