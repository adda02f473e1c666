"""What a run says of itself, for a person: progress, the faults, what was checked, what was broken."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from chaos.checker import Kind, Violation

if TYPE_CHECKING:
    from chaos.run import Outcome

SHOWN = 5


def progress(passed_s: float, duration_s: float, injected: Counter[str], history: Path) -> str:
    """One line."""
    size = sum(path.stat().st_size for path in history.glob("*.jsonl"))
    return f"{passed_s:5.0f} of {duration_s:g} s: {sum(injected.values())} faults, {size / 1e6:.1f} MB of history"


def table(title: str, rows: Mapping[str, int]) -> str:
    """Names and numbers."""
    width = max([len(name) for name in rows] + [len(title)])
    lines = [f"  {name:<{width}}  {count:>9,}" for name, count in rows.items()]
    return "\n".join([title, *lines])


def told(outcome: Outcome) -> str:
    """All of it."""
    parts = []
    if outcome.injected:
        parts.append(table("faults injected", dict(sorted(outcome.injected.items()))))
    if outcome.store_calls:
        parts.append(table("calls to the store that failed", dict(sorted(outcome.store_calls.items()))))
    if outcome.verdict is not None:
        parts.append(table("checked", outcome.verdict.checked))
        parts += _violations(outcome.verdict.violations)
    parts += [f"FAILED: {failure}" for failure in outcome.failures]
    if outcome.duration_s:
        parts.append("every promise was kept" if outcome.good else f"NOT GOOD; the history is in {outcome.folder}")
        cluster = f" CLUSTER={outcome.cluster}" if outcome.cluster else ""
        parts.append(f"again: make chaos DURATION={outcome.duration_s:g} SEED={outcome.seed}{cluster}")
    return "\n\n".join(parts)


def _violations(violations: tuple[Violation, ...]) -> list[str]:
    parts = []
    for kind in Kind:
        own = [violation.text for violation in violations if violation.kind is kind]
        if own:
            more = f"\n  … and {len(own) - SHOWN} more" if len(own) > SHOWN else ""
            parts.append(f"BROKEN, {len(own)} times: {kind.value}\n  " + "\n  ".join(own[:SHOWN]) + more)
    return parts
