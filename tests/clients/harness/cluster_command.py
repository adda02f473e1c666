"""`firn cluster`, asked of a node or of one of several."""

import json
from typing import Any

from harness.cluster import Cluster, FirnNode
from harness.firn import FirnServer


def ask(at: FirnServer | Cluster[FirnNode], *args: str, expect: int = 0) -> str:
    """Runs `firn cluster` and returns what it prints; the exit status must be as expected."""
    node = at.living[0] if isinstance(at, Cluster) else at
    run = node.cli("cluster", *args, "--bootstrap", at.bootstrap, check=False)
    printed = run.stdout.decode() + run.stderr.decode()
    assert run.returncode == expect, (args, run.returncode, printed)
    return printed


def as_json(at: FirnServer | Cluster[FirnNode], *args: str, expect: int = 0) -> Any:
    """The same with --json."""
    return json.JSONDecoder().raw_decode(ask(at, *args, "--json", expect=expect))[0]
