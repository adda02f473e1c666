"""`firn cluster` against three nodes: what it says while one is down, and what it moves."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from conftest import StartCluster
from harness.cluster import Cluster, FirnNode, joining_node
from harness.cluster_command import as_json, ask
from harness.process import wait_until
from harness.records import consume, expect_same, generated, produce

pytestmark = pytest.mark.firn


def all_of(findings: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Findings, and what follows from them."""
    for finding in findings:
        yield finding
        yield from all_of(finding.get("consequences", []))


def problems(cluster: Cluster[FirnNode]) -> list[str]:
    """What `check` calls a problem."""
    run = cluster.living[0].cli("cluster", "check", "--bootstrap", cluster.bootstrap, "--json", check=False)
    report = json.loads(run.stdout)
    found = [finding["what"] for finding in all_of(report["findings"]) if finding["severity"] == "problem"]
    assert run.returncode == (1 if found else 0) and report["healthy"] == (not found), report
    return found


def test_check_names_a_lost_node_and_is_content_when_it_is_back(cluster: Cluster[FirnNode]) -> None:
    topic = cluster.create_topic("checked", partitions=3)
    wait_until("a healthy cluster", lambda: problems(cluster) == [])
    lost = cluster.nodes[3]
    lost.kill()
    cluster.await_isr_of(topic, *cluster.others(lost), via=cluster.others(lost))
    found = problems(cluster)
    said = cluster.living[0].cli("cluster", "check", "--bootstrap", cluster.bootstrap, check=False).stdout.decode()
    assert said.count("PROBLEM") == 1 and said.startswith("PROBLEM: broker 3") and "  therefore 1 of 3 voters" in said, said
    assert any("1 of 3 voters of the metadata quorum is lost (node 3)" in what for what in found), found
    assert any(f"broker 3 ({lost.bootstrap}, rack c) is down" in what for what in found), found
    assert any("fewer copies than wanted" in what for what in found), found
    status = as_json(cluster, "status")
    assert {line["id"]: line["is_fenced"] for line in status["brokers"]} == {1: False, 2: False, 3: True}
    assert status["partitions"]["under_replicated"] >= 3 and status["partitions"]["without_leader"] == 0
    lost.start()
    cluster.await_isr(topic, 3)
    wait_until("a healthy cluster again", lambda: problems(cluster) == [])
    ask(cluster, "elect")
    cluster.await_parts("the preferred leader", topic, lambda part: part.leader == part.replicas[0])


def test_replicas_are_added_and_taken_away(cluster: Cluster[FirnNode]) -> None:
    topic = cluster.create_topic("resized", partitions=2, replicas=1, min_isr=1)
    written = produce(cluster.bootstrap, topic, generated(300, seed=8, partitions=2))
    planned = as_json(cluster, "reassign", topic, "--replication-factor", "3", "--dry-run")
    assert [len(move["to"]) for move in planned] == [3, 3] and len(cluster.part(topic).replicas) == 1
    ask(cluster, "reassign", topic, "--replication-factor", "3")
    cluster.await_isr(topic, 3)
    ask(cluster, "reassign", topic, "--replicas", "2,1", "--partition", "1")
    assert cluster.part(topic, 1).replicas == (2, 1)
    expect_same(written, consume(cluster.bootstrap, topic, partitions=2))


def test_a_fourth_node_takes_its_share_gets_a_vote_and_leaves(start_cluster: StartCluster, tmp_path: Any) -> None:
    cluster = start_cluster()
    topic = cluster.create_topic("shared", partitions=6)
    written = produce(cluster.bootstrap, topic, generated(600, seed=9, partitions=6))
    fourth = joining_node(cluster, tmp_path / "joining", 4)
    fourth.start()

    def serves() -> bool:
        return any(line["id"] == 4 and not line["is_fenced"] for line in as_json(cluster, "status")["brokers"])

    wait_until("node 4 to serve", serves)
    ask(cluster, "rebalance")
    kept = [index for index, part in cluster.parts(topic).items() if 4 in part.replicas]
    assert kept, cluster.parts(topic)
    cluster.await_isr(topic, 3)
    ask(cluster, "voters", "add", "4")
    assert sorted(voter["id"] for voter in as_json(cluster, "voters", "list")["voters"]) == [1, 2, 3, 4]
    assert "stop it, then `firn cluster unregister 4`" in ask(cluster, "decommission", "4")
    assert all(4 not in part.replicas for part in cluster.parts(topic).values())
    assert sorted(voter["id"] for voter in as_json(cluster, "voters", "list")["voters"]) == [1, 2, 3]
    fourth.stop()
    wait_until("node 4 to be missed", lambda: any("broker 4" in what for what in problems(cluster)))
    ask(cluster, "unregister", "4")
    wait_until("a healthy cluster of three", lambda: problems(cluster) == [])
    assert as_json(cluster, "voters", "list")["learners"] == []
    expect_same(written, consume(cluster.bootstrap, topic, partitions=6))
