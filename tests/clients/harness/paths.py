"""Where the programs under test and the outside programs are.

`FIRN_BIN` names the server's binary (default: `debug/firn` in cargo's target folder); `FIRN_TEST_CACHE` the folder
that scripts/setup-tests.sh fills (default: `.cache` in the repository).
"""

import os
import random
import socket
from pathlib import Path

REPO = Path(__file__).resolve().parents[3]
CACHE = Path(os.environ.get("FIRN_TEST_CACHE") or REPO / ".cache")
VERSITYGW = CACHE / "bin" / "versitygw"
AZURITE = CACHE / "azurite" / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"
JARS = CACHE / "jars"
ICEBERG_JARS = CACHE / "iceberg-jars"
KAFKA_PYTHON = CACHE / "kafka-python"
RSKAFKA_TESTS = CACHE / "rskafka" / "tests-bin"

# Below Linux' range of ports for outgoing connections (32768 and up), so that a port stays ours while its server
# is down between a kill and the restart.
_PORTS = range(12_000, 32_000)


def firn_binary() -> Path:
    """The server's binary; fails with advice when it has not been built."""
    default = Path(os.environ.get("CARGO_TARGET_DIR") or REPO / "target") / "debug" / "firn"
    binary = Path(os.environ.get("FIRN_BIN") or default)
    if not binary.exists():
        raise FileNotFoundError(f"{binary} does not exist: run `cargo build --workspace` or set FIRN_BIN")
    return binary


def faulty_disk_binary() -> Path:
    """The program that mounts a disk with faults; it is built beside the server."""
    binary = firn_binary().parent / "faulty-disk"
    if not binary.exists():
        binary = Path(os.environ.get("CARGO_TARGET_DIR") or REPO / "target") / "debug" / "faulty-disk"
    if not binary.exists():
        raise FileNotFoundError(f"{binary} does not exist: run `cargo build --workspace`")
    return binary


_given: set[int] = set()
"""Ports that this process has given out: who got one may not listen on it yet."""


def free_port() -> int:
    """A TCP port of 127.0.0.1 that no process listens on; random, so that parallel runs rarely meet."""
    if len(_given) > len(_PORTS) // 2:
        _given.clear()
    for _ in range(200):
        port = random.SystemRandom().choice(_PORTS)
        if port in _given:
            continue
        with socket.socket() as sock:
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
            _given.add(port)
            return port
    raise RuntimeError("no free port found")
