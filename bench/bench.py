"""`make bench`: rates and ratios of this build on this machine, as one table; see docs/benchmarks.md.

The server comes from FIRN_BIN (default: the release build). Raw figures go to bench/results/.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

BENCH = Path(__file__).resolve().parent
REPO = BENCH.parent
sys.path.insert(0, str(REPO / "tests" / "clients"))
os.environ.setdefault(
    "FIRN_BIN", str(Path(os.environ.get("CARGO_TARGET_DIR") or REPO / "target").absolute() / "release" / "firn")
)

import analysis  # noqa: E402

import archive  # noqa: E402
import consume  # noqa: E402
import produce  # noqa: E402
from measure import Row  # noqa: E402


def main() -> int:
    """Runs the chosen parts; the status is 1 when a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", help="archive, produce, consume, sql; all by default")
    parser.add_argument("--records", type=int, default=1 << 20, help="records of 1 KiB per round (default: 1,048,576)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=REPO / "target", help="work there: its disk is measured")
    options = parser.parse_args()
    results = BENCH / "results"
    results.mkdir(exist_ok=True)
    options.folder.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=options.folder))
    parts: dict[str, Callable[[], list[Row]]] = {
        "archive": lambda: archive.rows(results),
        "produce": lambda: produce.rows(folder, options.records // 2, options.rounds),
        "consume": lambda: consume.rows(folder, options.records, options.rounds),
        "sql": lambda: analysis.rows(folder, options.records * 3 // 2, options.rounds),
    }
    if unknown := set(options.parts) - set(parts):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    rows: list[Row] = []
    load_before = os.getloadavg()
    start = time.monotonic()
    try:
        for name, run in parts.items():
            if not options.parts or name in options.parts:
                print(f"bench: {name} …", file=sys.stderr, flush=True)
                rows += run()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print_table(rows)
    print(f"\nin {time.monotonic() - start:.0f} s, load {load_before[0]:.1f} before; {machine()}")
    keep(results, rows, load_before)
    return int(any(row.holds is False for row in rows))


def print_table(rows: list[Row]) -> None:
    """Name, figure, target, verdict, note."""
    verdicts = {True: "yes", False: "MISSED", None: ""}
    print(f"\n{'':<40} {'figure':>8} {'':<10} {'target':<8} {'met':<7} note")
    for row in rows:
        figure = f"{row.figure:.0f}" if row.figure >= 100 else f"{row.figure:.2f}"
        print(f"{row.name:<40} {figure:>8} {row.unit:<10} {row.target:<8} {verdicts[row.holds]:<7} {row.note}".rstrip())


def machine() -> str:
    """What this ran on."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "?")
    return f"{os.cpu_count()} × {model}, Linux {platform.release()}, commit {commit()}"


def commit() -> str:
    """The version of the code; `+` when it was changed since."""
    run = subprocess.run(["git", "describe", "--always", "--dirty=+"], cwd=REPO, capture_output=True, text=True)  # noqa: S607
    return run.stdout.strip() or "unknown"


def keep(results: Path, rows: list[Row], load: tuple[float, float, float]) -> None:
    """Writes everything to a file of its own."""
    now = datetime.now(timezone.utc)
    content = {"time": now.isoformat(), "machine": machine(), "load": load, "rows": [row.as_json() for row in rows]}
    (results / f"{now:%Y%m%d-%H%M%S}.json").write_text(json.dumps(content, indent=1), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
