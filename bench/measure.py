"""Clocks and arithmetic: times of the wall, CPU times of processes, the disk's own speed, medians."""

import statistics
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

MB = 1_000_000


@dataclass
class Row:
    """One line of the table. A figure without a target is for information."""

    name: str
    figure: float
    unit: str
    at_least: float | None = None
    at_most: float | None = None
    note: str = ""
    raw: dict[str, object] = field(default_factory=dict)
    """What the figure was computed from."""

    @property
    def target(self) -> str:
        """The target in words."""
        if self.at_least is not None:
            return f">= {self.at_least:g}"
        return f"<= {self.at_most:g}" if self.at_most is not None else ""

    @property
    def holds(self) -> bool | None:
        """Whether the target is met; None when there is none."""
        if self.at_least is not None:
            return self.figure >= self.at_least
        return self.figure <= self.at_most if self.at_most is not None else None

    def as_json(self) -> dict[str, object]:
        """Everything, for the results file."""
        return {**asdict(self), "holds": self.holds}


@dataclass
class Span:
    """How long something took."""

    wall_s: float = 0.0


@contextmanager
def timed() -> Iterator[Span]:
    """Times its block."""
    span = Span()
    start = time.perf_counter()
    yield span
    span.wall_s = time.perf_counter() - start


def cpu_s(pid: int) -> float:
    """CPU seconds, user and system, that all threads of a process have used so far; exact, not in ticks of /proc."""
    # What clock_getcpuclockid(3) computes: the process's own clock, by the scheduler's count (2).
    return time.clock_gettime(~pid << 3 | 2)


def dd(source: Path, target: Path) -> float:
    """Seconds that `dd conv=fdatasync` takes to put the bytes of `source` on the disk of `target`."""
    command = ["dd", f"if={source}", f"of={target}", "bs=1M", "conv=fdatasync", "status=none"]
    start = time.perf_counter()
    subprocess.run(command, check=True)  # noqa: S603, S607
    return time.perf_counter() - start


def median(values: Sequence[float]) -> float:
    """The middle one."""
    return statistics.median(values)
