"""The client that every broker is measured with: bench/client, a process of its own on librdkafka."""

import json
import subprocess
from collections.abc import Sequence
from typing import Any

from harness.broker import Broker
from harness.cluster import Cluster
from harness.paths import CACHE

CLIENT = CACHE / "bin" / "firn-bench-client"
KEY_BYTES = 8
VALUE_BYTES = 1024
# Batches just below the 1,048,588 bytes that topics take by default (max.message.bytes).
_THROUGHPUT = ["--linger-ms", "50", "--batch-bytes", str(1_000_000)]


def size_bytes(count: int, value_bytes: int = VALUE_BYTES) -> int:
    """Bytes of keys and values of so many records."""
    return count * (KEY_BYTES + value_bytes)


def run(
    server: Broker | Cluster[Any],
    command: str,
    topic: str,
    *args: object,
    launcher: Sequence[str] = (),
    timeout_s: float = 900,
) -> dict[str, Any]:
    """Runs one sub-command of the client to its end, as `launcher` starts it; its figures."""
    line = [*launcher, str(CLIENT), command, "--bootstrap", server.bootstrap, "--topic", topic, *map(str, args)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=timeout_s, check=False)  # noqa: S603
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(line)}: {done.stderr[-2000:]}")
    return json.loads(done.stdout)


def produce(server: Broker, topic: str, count: int, codec: str = "none") -> dict[str, Any]:
    """Writes `count` records into partition 0, acks=all; ends when the last one is acknowledged."""
    return run(server, "produce", topic, "--records", count, "--codec", codec, *_THROUGHPUT)


def consume(server: Broker, topic: str, count: int) -> dict[str, Any]:
    """Reads `count` records of partition 0 from offset 0; they must be the offsets 0, 1, 2, …"""
    return run(server, "consume", topic, "--records", count)
