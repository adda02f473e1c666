"""A minute of faults under clients, of one server and of three nodes: every promise is kept.

`make chaos DURATION=…` runs the same for longer.
"""

import os
import random
import shutil
import tempfile
from pathlib import Path

import pytest

from chaos.report import told
from chaos.run import Run

SECONDS = float(os.environ.get("FIRN_CHAOS_SECONDS") or 60)
SEED = int(os.environ.get("FIRN_SEED") or random.SystemRandom().randrange(1 << 32))


pytestmark = pytest.mark.skipif(os.environ.get("FIRN_PEER") == "kafka", reason="about both tiers of Firn")


def run_and_judge(cluster: int) -> None:
    """A run in a folder that is kept when a promise was broken."""
    folder = Path(tempfile.mkdtemp(prefix="firn-chaos-"))
    outcome = Run(SEED, SECONDS, folder, cluster=cluster).run()
    print(told(outcome))
    assert outcome.good, f"a promise was broken, the history is in {folder}"
    assert outcome.verdict is not None
    checked = outcome.verdict.checked
    for what in ("records acknowledged", "rows read", "readings in groups", "commits acknowledged", "deletions of records",
                 "lives of topics"):  # fmt: skip
        assert checked[what] > 0, f"nothing was checked of: {what}"
    shutil.rmtree(folder)


@pytest.mark.timeout(1200)
def test_clients_see_every_promise_kept_under_faults() -> None:
    run_and_judge(cluster=0)


@pytest.mark.timeout(1200)
def test_clients_of_three_nodes_see_every_promise_kept_under_faults() -> None:
    run_and_judge(cluster=3)
