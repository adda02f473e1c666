"""The archive's code alone, one thread: `cargo bench` of cold-tier, whose records are the client's; see bench/archive.py."""

import archive
from harness.paths import REPO
from peers.figures import Run


def measure(bench: Run) -> None:
    """Once; it counts CPU time by itself and needs no core of its own."""
    if bench.cores.name != "pinned":
        return
    for rate in archive.measured(REPO / "bench" / "results")["zstd"]["archive_to_folder_mb_s"]:
        bench.add("firn", "archive-alone", "mb_s", rate)
