"""A second opinion: Kafka's own ProducerPerformance and EndToEndLatency, clients in Java, against both brokers."""

import re
from typing import Any

from harness.broker import Broker
from harness.java import tool
from harness.paths import CACHE
from peers.brokers import KINDS, broker_cpu_s, running
from peers.figures import Run

_TOPIC = {"segment.bytes": str(128 << 20), "remote.storage.enable": "false"}
_BROKERS = ("kafka", "firn", "firn-replicated")
_JAVA: dict[str, Any] = {"jvm": ("-Xmx1g", "-XX:+UseSerialGC"), "jars": CACHE / "peer-jars"}
_RECORD_BYTES = 1024
_FULL_SPEED_RECORDS, _WARM_RECORDS = 600_000, 200_000
_PACED_RECORDS_S, _PACED_S, _PACED_WARM_S = 5000, 6, 4
_ROUND_TRIPS = 5000


def measure(bench: Run) -> None:
    """Once, pinned only; this process is on the client's core, and so are the tools."""
    if bench.cores.name != "pinned":
        return
    for name in _BROKERS:
        bench.attempt(f"tools, {name}", lambda n=name: _round(bench, n))


def _round(bench: Run, name: str) -> None:
    kind = KINDS[name]
    with running(kind, bench.cores, bench.work) as server:
        topic = server.create_topic("tools", config={**_TOPIC, **kind.topic})
        before = broker_cpu_s(server)
        full = _producer(server, topic, _FULL_SPEED_RECORDS, _WARM_RECORDS, -1, "batch.size=500000")
        used = broker_cpu_s(server) - before
        bench.add(name, "java-full-speed", "mb_s", _number(full, r"([\d.]+) MB/sec") * (1 << 20) / 1e6)
        bench.add(name, "java-full-speed", "cpu_s_per_gb", used / (_FULL_SPEED_RECORDS * _RECORD_BYTES / 1e9))
        records, warm = _PACED_RECORDS_S * (_PACED_S + _PACED_WARM_S), _PACED_RECORDS_S * _PACED_WARM_S
        paced = _producer(server, topic, records, warm, _PACED_RECORDS_S)
        bench.add(name, "java-paced", "p99_ms", _number(paced, r"([\d.]+) ms 99th"))
        trips = tool("end-to-end-latency", server.bootstrap, topic, str(_ROUND_TRIPS), "all", str(_RECORD_BYTES), **_JAVA)
        bench.add(name, "java-end-to-end", "mean_ms", _number(trips, r"Avg latency: ([\d.]+) ms"))


def _producer(server: Broker, topic: str, records: int, warm: int, per_second: int, *properties: str) -> str:
    """The tool's last line; what it sends first does not count there."""
    output = tool(
        "producer-perf-test", "--bootstrap-server", server.bootstrap, "--topic", topic, "--num-records", str(records),
        "--warmup-records", str(warm), "--record-size", str(_RECORD_BYTES), "--throughput", str(per_second),
        "--command-property", "acks=all", "linger.ms=5", *properties, **_JAVA,
    )  # fmt: skip
    return output.strip().splitlines()[-1]


def _number(text: str, pattern: str) -> float:
    found = re.search(pattern, text)
    if found is None:
        raise ValueError(f"no {pattern} in {text!r}")
    return float(found.group(1))
