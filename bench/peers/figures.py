"""What was measured: lists of values by name, one value per round, and the parts that failed."""

import sys
import traceback
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from measure import median
from peers.brokers import Cores


@dataclass
class Run:
    """Everything that a part needs and gives. A figure's name is `broker/case/what`, after `unpinned/` where that holds."""

    work: Path
    rounds: int
    cores: Cores
    history_gb: float = 4.0
    """The long history that a broker is killed beside."""
    replaced_gb: float = 1.0
    """The archived history of a topic of which an empty broker replaces a replica."""
    values: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    failures: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    """How long each part took."""

    def add(self, broker: str, case: str, what: str, value: float) -> None:
        """One more round's value."""
        prefix = "" if self.cores.name == "pinned" else f"{self.cores.name}/"
        self.values[f"{prefix}{broker}/{case}/{what}"].append(value)

    def median(self, name: str) -> float | None:
        """None when there is no value."""
        return median(self.values[name]) if self.values.get(name) else None

    def attempt(self, name: str, measure: Callable[[], None]) -> None:
        """Runs it; a failure is kept and shown, and the rest goes on."""
        try:
            measure()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this case's result
            self.failures[name] = f"{type(error).__name__}: {error}"
            print(f"bench-peers: {name} FAILED", file=sys.stderr)
            traceback.print_exc()
