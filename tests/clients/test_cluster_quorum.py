"""What a node tells of its cluster when no majority of the voters is left: nothing that only a majority can know."""

import json
import urllib.error
import urllib.request
from typing import Any

import pytest

from harness.cluster import Cluster, FirnNode
from harness.cluster_command import as_json, ask
from harness.process import wait_until

pytestmark = pytest.mark.firn


def gauges(node: FirnNode) -> dict[str, str]:
    """The metrics of a node that say how its cluster is, as they are written."""
    lines = [line.rpartition(" ") for line in node.http("/metrics").splitlines() if not line.startswith("#")]
    return {name: value for name, _, value in lines if name.startswith(("firn_brokers", "firn_metadata_has"))}


def readiness(node: FirnNode) -> tuple[int, str]:
    """Status and text of `/ready`."""
    try:
        with urllib.request.urlopen(f"http://{node.admin_address}/ready", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read().decode()


def check(node: FirnNode) -> list[str]:
    """The problems that `firn cluster check` finds, asked of this node only."""
    run = node.cli("cluster", "check", "--bootstrap", node.bootstrap, "--json", check=False)
    report: dict[str, Any] = json.loads(run.stdout)
    return [finding["what"] for finding in report["findings"] if finding["severity"] == "problem"]


def test_a_metadata_leader_that_lost_its_majority_says_so(cluster: Cluster[FirnNode]) -> None:
    cluster.create_topic("orders", partitions=3)
    survivor = cluster.nodes[as_json(cluster, "status")["quorum"]["leader"]]
    wait_until("three active brokers", lambda: gauges(survivor)['firn_brokers{state="active"}'] == "3")
    assert gauges(survivor)["firn_metadata_has_quorum"] == "1" and readiness(survivor)[0] == 200
    cluster.kill(cluster.others(survivor))

    wait_until("the loss to be told", lambda: gauges(survivor)["firn_metadata_has_quorum"] == "0")
    told = gauges(survivor)
    assert told["firn_metadata_has_leader"] == "0", told
    assert {value for name, value in told.items() if name.startswith("firn_brokers{")} == {"NaN"}, told
    found = check(survivor)
    assert any("has no leader that reaches a majority" in what for what in found), found
    lost = [node.node_id for node in cluster.others(survivor)]
    assert any(f"{lost[0]}, {lost[1]} do not answer" in what for what in found), found
    status = as_json(survivor, "status")
    assert status["quorum"]["leader"] == -1, status
    assert {line["id"]: line["is_fenced"] for line in status["brokers"]} == {
        survivor.node_id: False, lost[0]: True, lost[1]: True,
    }  # fmt: skip
    assert "without a leader that reaches a majority" in ask(survivor, "status")
    # The process is well: nobody must restart it for that.
    assert "without a quorum" in survivor.http("/health")
    wait_until("it to take no traffic", lambda: readiness(survivor)[0] == 503)
    assert "no majority" in readiness(survivor)[1]

    cluster.start(cluster.others(survivor))
    wait_until("a quorum again", lambda: gauges(survivor)["firn_metadata_has_quorum"] == "1")
    wait_until("traffic again", lambda: readiness(survivor)[0] == 200)
