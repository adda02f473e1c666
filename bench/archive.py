"""Rows of the archive alone: `cargo bench` of cold-tier, one thread, CPU time."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from measure import Row, median

REPO = Path(__file__).resolve().parents[1]


def measured(results: Path) -> dict[str, Any]:
    """Runs the benchmark and gives its figures; its own output goes to a log beside the results."""
    figures_file, log = results / "archive.json", results / "archive.log"
    env = {**os.environ, "FIRN_BENCH_JSON": str(figures_file), "FIRN_BENCH_CODEC": "zstd"}
    command = ["cargo", "bench", "--quiet", "--workspace", "--bench", "archive"]
    results.mkdir(exist_ok=True)
    with log.open("w") as out:
        subprocess.run(command, cwd=REPO, env=env, stdout=out, stderr=subprocess.STDOUT, check=True)  # noqa: S603
    return json.loads(figures_file.read_text(encoding="utf-8"))


def rows(results: Path) -> list[Row]:
    """The table's lines of it."""
    figures = measured(results)
    zstd = figures["zstd"]
    stored = zstd["object_bytes"] / figures["segment_bytes"]

    def rate(name: str, key: str, at_least: float | None = None, note: str = "") -> Row:
        return Row(name, median(zstd[key]), "MB/s/core", at_least=at_least, note=note, raw={"rounds": zstd[key]})

    return [
        rate("archive, verified, to a folder", "archive_to_folder_mb_s", 250, f"1 KiB, zstd-1, stored {stored:.3f} of raw"),
        rate("  the same without the store", "archive_without_store_mb_s"),
        rate("chunk → Kafka batches", "chunk_to_batches_mb_s", 1000),
        rate("  the whole cold path", "cold_path_mb_s", note="fetch, decode, cache, slice"),
    ]
