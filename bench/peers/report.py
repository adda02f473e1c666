"""The table on the terminal, the raw results as JSON, and the generated half of docs/benchmarks.md."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.paths import REPO
from peers import plots
from peers.brokers import KAFKA_JVM, KINDS
from peers.figures import Run
from peers.rows import Row

PAGE = REPO / "docs" / "benchmarks.md"
_BEGIN, _END = "<!-- bench-peers: begin -->", "<!-- bench-peers: end -->"


def shown(value: float | None) -> str:
    """A figure with three digits that mean something."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def cells(row: Row, bench: Run) -> list[str]:
    """What, the figure beside it, Firn's, unit, ratio, target, met, and which of the brokers."""
    names = [name.removeprefix("unpinned/").split("/")[0] for name in (row.firn, row.other) if name]
    return [row.title, shown(bench.median(row.other)), shown(bench.median(row.firn)), row.unit,
            shown(row.ratio(bench)), row.target, row.verdict(bench), " / ".join(names)]  # fmt: skip


HEAD = ["figure", "beside it", "Firn", "unit", "ratio", "target", "met", "compared"]


def print_table(rows: Iterable[Row], bench: Run) -> None:
    """In columns."""
    lines = [HEAD, *(cells(row, bench) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def keep(rows: Iterable[Row], bench: Run, file: Path, facts: dict[str, Any]) -> None:
    """All values of all rounds, and what the table made of them."""
    table = [{**asdict(row), "ratio": row.ratio(bench), "verdict": row.verdict(bench)} for row in rows]
    measured = {"seconds_of": bench.seconds, "failures": bench.failures, "values": dict(bench.values), "rows": table}
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps({**facts, **measured}, indent=1, ensure_ascii=False), encoding="utf-8")


def load(files: Iterable[Path], bench: Run) -> list[dict[str, Any]]:
    """Adds the values of earlier runs, such as of single parts; the facts about each."""
    runs = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    for run in runs:
        for name, values in run["values"].items():
            bench.values[name] += values
        bench.failures |= run["failures"]
        bench.seconds |= run["seconds_of"]
    return runs


def write_page(rows: Iterable[Row], bench: Run, runs: Iterable[dict[str, Any]]) -> None:
    """Replaces what the last run wrote; the rest of the page is written by hand."""
    lines = [_BEGIN, "", *(_described(run) for run in runs), ""]
    lines += ["Seconds of each part: " + "; ".join(f"{name} {taken:.0f}" for name, taken in bench.seconds.items()) + ".", ""]
    lines += ["| " + " | ".join(HEAD) + " |", "|---" * len(HEAD) + "|"]
    lines += ["| " + " | ".join(cells(row, bench)).replace("MISSED", "**MISSED**") + " |" for row in rows]
    lines += [
        "",
        *(f"![{name.removesuffix('.svg')}](benchmarks/{name})\n" for name in plots.draw(bench, PAGE.with_suffix(""))),
    ]
    lines += ["", "Compared are:", ""]
    lines += [f"- `{kind.name}`: {kind.what}" for kind in KINDS.values()]
    lines += ["", f"Kafka's JVM: `{' '.join(KAFKA_JVM)}`."]
    lines += ["", *(f"- FAILED: {name}" for name in bench.failures), _END]
    page = PAGE.read_text(encoding="utf-8")
    if _BEGIN not in page:
        page += f"\n{_BEGIN}\n{_END}\n"
    before, rest = page.split(_BEGIN, 1)
    PAGE.write_text(before + "\n".join(lines) + rest.split(_END, 1)[1], encoding="utf-8")


def _described(run: dict[str, Any]) -> str:
    """What ran when and where."""
    return (
        f"- `{run['command']}`: rounds: {run['rounds']}, minutes: {run['seconds'] / 60:.0f}, load "
        f"{run['load_before'][0]:.1f} before, {run['time'][:16]} UTC, on {run['machine']}"
    )
