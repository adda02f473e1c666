"""Apache Kafka's tools for operating a cluster, against one node."""

import re

from conftest import AnyServer
from harness.java import tool


def server_args(server: AnyServer) -> list[str]:
    """What every tool wants to know."""
    return ["--bootstrap-server", server.bootstrap]


def test_the_metadata_quorum_is_described(server: AnyServer) -> None:
    status = tool("metadata-quorum", *server_args(server), "describe", "--status")
    facts = dict(re.findall(r"^(\w+):\s+(.*)$", status, re.MULTILINE))
    cluster = tool("cluster", "cluster-id", *server_args(server))
    assert facts["ClusterId"] in cluster, (status, cluster)
    assert int(facts["LeaderEpoch"]) > 0 and int(facts["HighWatermark"]) > 0, status
    assert facts["MaxFollowerLag"] == "0" and facts["CurrentObservers"] == "[]", status
    assert re.search(rf'"id": {facts["LeaderId"]}\b', facts["CurrentVoters"]), status
    rows = tool("metadata-quorum", *server_args(server), "describe", "--replication").splitlines()
    assert rows[0].split() == [
        "NodeId", "DirectoryId", "LogEndOffset", "Lag", "LastFetchTimestamp", "LastCaughtUpTimestamp", "Status",
    ]  # fmt: skip
    cells = rows[1].split()
    assert cells[0] == facts["LeaderId"] and int(cells[2]) >= int(facts["HighWatermark"]), rows
    assert (cells[3], cells[-1]) == ("0", "Leader"), rows


def test_only_a_registered_broker_can_be_unregistered(server: AnyServer) -> None:
    out = tool("cluster", "unregister", *server_args(server), "--id", "77", check=False)
    assert "BrokerIdNotRegistered" in out, out
    endpoints = tool("cluster", "list-endpoints", *server_args(server))
    assert re.search(r"127\.0\.0\.1\s+\d+\s+\S+\s+unfenced\s+broker", endpoints), endpoints


def test_leaders_that_are_right_are_left_alone(server: AnyServer) -> None:
    topic = server.create_topic("elect", partitions=2)
    args = [*server_args(server), "--election-type", "preferred"]
    out = tool("leader-election", *args, "--topic", topic, "--partition", "1")
    assert f"Valid replica already elected for partitions {topic}-1" in out, out
    out = tool("leader-election", *args, "--topic", "nowhere", "--partition", "0", check=False)
    assert "Error completing leader election (PREFERRED) for partition: nowhere-0" in out, out
    assert "UnknownTopicOrPartition" in out, out
    tool("leader-election", *args, "--all-topic-partitions")
