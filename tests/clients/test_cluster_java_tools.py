"""Apache Kafka's tools for operating a cluster, against three nodes."""

import json
import re
from pathlib import Path
from typing import Any

from harness.broker import unique
from harness.cluster import Cluster
from harness.java import tool
from harness.process import wait_until
from harness.records import consume, expect_same, generated, produce


def server_args(cluster: Cluster[Any]) -> list[str]:
    """What every tool wants to know."""
    return ["--bootstrap-server", cluster.bootstrap]


def described(cluster: Cluster[Any], *only: str) -> dict[str, str]:
    """The partitions that `kafka-topics --describe` lists, with the rest of their lines."""
    out = tool("topics", *server_args(cluster), "--describe", *only)
    found = re.findall(r"Topic: (\S+)\s+Partition: (\d+)\s+(Leader: .*)", out)
    return {f"{topic}-{partition}": rest for topic, partition, rest in found}


def test_the_quorum_of_three_is_described(cluster: Cluster[Any]) -> None:
    status = tool("metadata-quorum", *server_args(cluster), "describe", "--status")
    facts = dict(re.findall(r"^(\w+):\s+(.*)$", status, re.MULTILINE))
    voters = json.loads(facts["CurrentVoters"])
    assert sorted(voter["id"] for voter in voters) == [1, 2, 3] and int(facts["LeaderId"]) in cluster.nodes, status
    assert all(len(voter["endpoints"]) == 1 for voter in voters), status

    def caught_up() -> bool:
        rows = tool("metadata-quorum", *server_args(cluster), "describe", "--replication").splitlines()[1:]
        parts = {int(cells[0]): (cells[3], cells[-1]) for cells in map(str.split, rows)}
        assert sorted(parts) == [1, 2, 3], rows
        assert sorted(part for _, part in parts.values()) == ["Follower", "Follower", "Leader"], rows
        return all(lag == "0" for lag, _ in parts.values())

    wait_until("all voters to hold the whole log", caught_up)


def test_partitions_move_and_keep_their_records(cluster: Cluster[Any], tmp_path: Path) -> None:
    topic = unique("moving")
    tool("topics", *server_args(cluster), "--create", "--topic", topic, "--replica-assignment", "1:2,2:3")
    written = produce(cluster.bootstrap, topic, generated(600, seed=5, partitions=2))
    topics = tmp_path / "topics.json"
    topics.write_text(json.dumps({"topics": [{"topic": topic}], "version": 1}))
    args = server_args(cluster)
    out = tool(
        "reassign-partitions", *args, "--topics-to-move-json-file", str(topics), "--broker-list", "1,2,3", "--generate"
    )
    assert '"replicas":[1,2]' in out and "Proposed partition reassignment configuration" in out, out
    wanted = [{"topic": topic, "partition": 0, "replicas": [3, 2]}, {"topic": topic, "partition": 1, "replicas": [1, 3]}]
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps({"version": 1, "partitions": wanted}))
    args = [*args, "--reassignment-json-file", str(plan)]
    assert f"Successfully started partition reassignments for {topic}-0,{topic}-1" in tool(
        "reassign-partitions", *args, "--execute", "--throttle", "50000000"
    )

    def moved() -> bool:
        out = tool("reassign-partitions", *args, "--verify")
        return all(f"Reassignment of partition {topic}-{index} is completed." in out for index in (0, 1))

    wait_until("the reassignment to be completed", moved, 60)
    throttled = [f"{side}.replication.throttled.replicas" for side in ("leader", "follower")]
    configs = tool("configs", *server_args(cluster), "--entity-type", "topics", "--entity-name", topic, "--describe")
    assert not any(name in configs for name in throttled), configs
    parts = cluster.parts(topic)
    assert (parts[0].replicas, parts[1].replicas) == ((3, 2), (1, 3))
    assert "No partition reassignments found." in tool("reassign-partitions", *server_args(cluster), "--list")
    expect_same(written, consume(cluster.bootstrap, topic, partitions=2))


def test_troubles_are_listed_while_a_node_is_down_and_leaders_return_after_it(cluster: Cluster[Any]) -> None:
    topic = cluster.create_topic("troubled", min_isr=2)
    strict = cluster.create_topic("strict", min_isr=3)
    alone = unique("alone")
    lost = cluster.nodes[2]
    tool("topics", *server_args(cluster), "--create", "--topic", alone, "--replica-assignment", str(lost.node_id))
    lost.kill()
    others = cluster.others(lost)
    cluster.await_isr_of(topic, *others, via=others)
    cluster.await_isr_of(strict, *others, via=others)
    places = [f"{topic}-0", f"{strict}-0", f"{alone}-0"]

    def listed(flag: str) -> list[bool]:
        lines = described(cluster, flag)
        return [place in lines for place in places]

    assert listed("--under-replicated-partitions")[:2] == [True, True]
    assert listed("--at-min-isr-partitions")[:2] == [True, False]
    assert listed("--under-min-isr-partitions")[:2] == [False, True]
    assert listed("--unavailable-partitions") == [False, False, True]
    lost.start()
    cluster.await_isr(topic, 3)
    cluster.await_isr(strict, 3)
    assert not set(places) & set(described(cluster, "--under-replicated-partitions"))
    out = tool("leader-election", *server_args(cluster), "--election-type", "preferred", "--all-topic-partitions")
    assert "Error" not in out, out
    for name in (topic, strict):
        part = cluster.await_parts("the preferred leader", name, lambda part: part.leader == part.replicas[0])[0]
        assert part.leader == part.replicas[0]
