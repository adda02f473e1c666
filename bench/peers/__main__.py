"""`make bench-peers`: the chosen parts on both brokers, the table, the results file, and the page when all parts ran."""

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from bench import machine
from harness.paths import REPO
from peers import archiving, cluster, consume, crowds, history, latency, produce, recovery, report, store, tiered, tools
from peers.brokers import PINNED, UNPINNED
from peers.figures import Run
from peers.host import beside_the_client
from peers.rows import PARTS, chosen

_MEASURES = {
    "produce": produce.measure,
    "latency": latency.measure,
    "consume": consume.measure,
    "tiered": tiered.measure,
    "store": store.measure,
    "archive": archiving.measure,
    "recovery": recovery.measure,
    "history": history.measure,
    "crowds": crowds.measure,
    "tools": tools.measure,
    "cluster": cluster.measure,
}


def main() -> int:
    """The status is 1 when a target is missed or something failed."""
    options = _options()
    options.folder.mkdir(parents=True, exist_ok=True)
    bench = Run(
        Path(tempfile.mkdtemp(prefix="bench-", dir=options.folder)),
        options.rounds,
        PINNED,
        options.history_gb,
        options.replaced_gb,
    )
    parts = [name for name in PARTS if not options.parts or name in options.parts]
    try:
        if options.files:
            runs = report.load(options.files, bench)
            parts = [name for name in PARTS if any(name in run["parts"] for run in runs)]
        else:
            runs = [_run(bench, parts, options)]
    finally:
        shutil.rmtree(bench.work, ignore_errors=True)
    rows = chosen(parts, bench)
    report.print_table(rows, bench)
    print("\nseconds: " + "; ".join(f"{name} {taken:.0f}" for name, taken in bench.seconds.items()))
    print(f"in {sum(run['seconds'] for run in runs):.0f} s, load {runs[0]['load_before'][0]:.1f} before")
    if options.page or parts == list(PARTS):
        report.write_page(rows, bench, runs)
    return int(bool(bench.failures) or any(row.verdict(bench) in ("MISSED", "FAILED") for row in rows))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench-peers", description=__doc__)
    parser.add_argument("parts", nargs="*", help=f"{', '.join(PARTS)}; all by default")
    parser.add_argument("--rounds", type=int, default=3, help="of the pinned runs; unpinned there is one")
    parser.add_argument("--folder", type=Path, default=REPO / "target", help="work there: its disk is measured")
    parser.add_argument("--pinned-only", action="store_true", help="leave out the unpinned round")
    parser.add_argument(
        "--history-gb", type=float, default=4.0, help="history beside which Firn is killed; takes 1.4 × on disk"
    )
    parser.add_argument(
        "--replaced-gb", type=float, default=1.0, help="archived history beside which one of three is replaced"
    )
    parser.add_argument("--page", action="store_true", help="write docs/benchmarks.md also when only some parts ran")
    parser.add_argument(
        "--from", dest="files", type=Path, nargs="+", help="measure nothing: the table of these results files"
    )
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    if len(os.sched_getaffinity(0)) < 2:
        parser.error("two cores are needed: one for the broker, one for the client")
    return options


def _run(bench: Run, parts: list[str], options: argparse.Namespace) -> dict[str, Any]:
    """Measures; what is there is kept after each part. Facts about the run."""
    now, load, start = datetime.now(timezone.utc), os.getloadavg(), time.monotonic()
    arguments = [*options.parts, f"--rounds {options.rounds}", f"--history-gb {options.history_gb:g}"]
    arguments += ["--pinned-only"] if options.pinned_only else []
    arguments += [f"--replaced-gb {options.replaced_gb:g}"] if "cluster" in parts else []
    command = f'make bench-peers BENCH_ARGS="{" ".join(arguments)}"'
    facts: dict[str, Any] = {"time": now.isoformat(), "command": command, "machine": machine(), "load_before": load}
    file = REPO / "bench" / "results" / f"peers-{now:%Y%m%d-%H%M%S}.json"

    def keep(done: list[str]) -> None:
        facts.update(parts=done, rounds=options.rounds, seconds=time.monotonic() - start)
        report.keep(chosen(done, bench), bench, file, facts)

    measure(bench, parts, options.rounds, keep, pinned_only=options.pinned_only)
    print(f"raw values: {file.relative_to(REPO)}")
    return facts


def measure(bench: Run, parts: list[str], rounds: int, keep: Callable[[list[str]], None], *, pinned_only: bool) -> None:
    """Pinned first, then one round without."""
    for number, name in enumerate(parts):
        for cores, count in ((PINNED, rounds),) if pinned_only else ((PINNED, rounds), (UNPINNED, 1)):
            print(f"bench-peers: {name}, {cores.name} …", file=sys.stderr, flush=True)
            bench.cores, bench.rounds, start = cores, count, time.monotonic()
            with beside_the_client(cores.client):
                bench.attempt(f"{name}, {cores.name}", lambda n=name: _MEASURES[n](bench))
            bench.seconds[f"{name}, {cores.name}"] = time.monotonic() - start
        keep(parts[: number + 1])


if __name__ == "__main__":
    sys.exit(main())
