"""What the machine adds to a measurement, made the same for every broker: memory from its host, this process's own core."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PIECE_BYTES = 64 << 20
_SHARE = 0.6
_MOST_BYTES = 6 << 30
_TOUCH = "import sys; kept = [bytearray(int(sys.argv[1])) for _ in range(int(sys.argv[2]))]"


def touch_memory() -> None:
    """Fills and frees memory in a process of its own.

    A host that takes back its guests' idle memory makes the first touch of each page a fault of its own; whoever
    writes first would pay for it, be it a heap or the page cache.
    """
    count = min(_MOST_BYTES, int(_available_bytes() * _SHARE)) // _PIECE_BYTES
    subprocess.run([sys.executable, "-c", _TOUCH, str(_PIECE_BYTES), str(count)], check=True)  # noqa: S603


def _available_bytes() -> int:
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    kib = next(line.split()[1] for line in lines if line.startswith("MemAvailable"))
    return int(kib) * 1024


@contextmanager
def beside_the_client(launcher: tuple[str, ...]) -> Iterator[None]:
    """While the block runs, this process and what it starts by default stay on the client's core, if the client has one."""
    before = os.sched_getaffinity(0)
    if launcher:
        os.sched_setaffinity(0, {int(launcher[-1])})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
