"""`make bench-peers`: the chosen parts on both brokers, the table, the results file, and the page when all parts ran."""

import argparse
import os
import shutil
import sys
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path

from harness.paths import REPO
from peers import archiving, consume, crowds, history, latency, produce, recovery, report, store, tiered, tools
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
}


def main() -> int:
    """The status is 1 when a target is missed or something failed."""
    parser = argparse.ArgumentParser(prog="bench-peers", description=__doc__)
    parser.add_argument("parts", nargs="*", help=f"{', '.join(PARTS)}; all by default")
    parser.add_argument("--rounds", type=int, default=3, help="of the pinned runs; unpinned there is one")
    parser.add_argument("--folder", type=Path, default=REPO / "target", help="work there: its disk is measured")
    parser.add_argument("--pinned-only", action="store_true", help="leave out the unpinned round")
    parser.add_argument(
        "--history-gb", type=float, default=4.0, help="history beside which Firn is killed; takes 1.4 × on disk"
    )
    parser.add_argument("--page", action="store_true", help="write docs/benchmarks.md also when only some parts ran")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    if len(os.sched_getaffinity(0)) < 2:
        parser.error("two cores are needed: one for the broker, one for the client")
    parts = [name for name in PARTS if not options.parts or name in options.parts]
    options.folder.mkdir(parents=True, exist_ok=True)
    bench = Run(Path(tempfile.mkdtemp(prefix="bench-", dir=options.folder)), options.rounds, PINNED, options.history_gb)
    load, start = os.getloadavg(), time.monotonic()
    try:
        measure(bench, parts, options.rounds, pinned_only=options.pinned_only)
    finally:
        shutil.rmtree(bench.work, ignore_errors=True)
    seconds = time.monotonic() - start
    rows = chosen(parts, bench)
    report.print_table(rows, bench)
    now = datetime.now(timezone.utc)
    command = f'make bench-peers BENCH_ARGS="{" ".join(sys.argv[1:])}"' if sys.argv[1:] else "make bench-peers"
    facts = {"time": now.isoformat(), "command": command, "seconds": seconds, "load_before": load, "rounds": options.rounds}
    file = REPO / "bench" / "results" / f"peers-{now:%Y%m%d-%H%M%S}.json"
    report.keep(rows, bench, file, facts)
    print("\nseconds: " + "; ".join(f"{name} {taken:.0f}" for name, taken in bench.seconds.items()))
    print(f"in {seconds:.0f} s, load {load[0]:.1f} before; raw values: {file.relative_to(REPO)}")
    if options.page or parts == list(PARTS):
        report.write_page(rows, bench, command, seconds)
    return int(bool(bench.failures) or any(row.verdict(bench) in ("MISSED", "FAILED") for row in rows))


def measure(bench: Run, parts: list[str], rounds: int, *, pinned_only: bool) -> None:
    """Pinned first, then one round without."""
    for name in parts:
        for cores, count in ((PINNED, rounds),) if pinned_only else ((PINNED, rounds), (UNPINNED, 1)):
            print(f"bench-peers: {name}, {cores.name} …", file=sys.stderr, flush=True)
            bench.cores, bench.rounds, start = cores, count, time.monotonic()
            with beside_the_client(cores.client):
                bench.attempt(f"{name}, {cores.name}", lambda n=name: _MEASURES[n](bench))
            bench.seconds[f"{name}, {cores.name}"] = time.monotonic() - start
    bench.cores, bench.rounds = PINNED, rounds


if __name__ == "__main__":
    sys.exit(main())
