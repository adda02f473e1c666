"""`firn cluster` against one node: how it stands, and what is said when something is wrong."""

import pytest

from harness.cluster_command import as_json, ask
from harness.firn import FirnServer

pytestmark = pytest.mark.firn


def test_status_shows_brokers_quorum_and_partitions(server: FirnServer) -> None:
    server.create_topic("status", partitions=3)
    status = as_json(server, "status")
    broker = status["brokers"][0]
    assert status["controller"] == broker["id"] == status["quorum"]["leader"]
    assert f"{broker['host']}:{broker['port']}" == server.bootstrap and not broker["is_fenced"]
    assert broker["leads"] == broker["replicas"] == status["partitions"]["all"] >= 3
    assert [voter["id"] for voter in status["quorum"]["voters"]] == [broker["id"]]
    assert status["quorum"]["high_watermark"] > 0 and status["partitions"]["under_replicated"] == 0
    shown = ask(server, "status")
    assert status["cluster_id"] in shown and "0 under-replicated" in shown and "alive" in shown


def test_check_is_content_with_a_healthy_node_and_names_what_is_wrong(server: FirnServer) -> None:
    report = as_json(server, "check")
    assert report["healthy"] and report["findings"] == [], report
    assert "no problems: 1 broker" in ask(server, "check", "--admin", server.admin_address)
    name = server.create_topic("impossible", config={"min.insync.replicas": "2"})
    report = as_json(server, "check", expect=1)
    (finding,) = report["findings"]
    assert not report["healthy"] and finding["severity"] == "problem" and finding["where"] == [name], report
    assert "never succeed" in finding["what"] and "firn topic alter" in finding["advice"], report
    shown = ask(server, "check", expect=1)
    assert shown.splitlines()[0].startswith("PROBLEM: ") and shown.endswith("firn: the cluster has 1 problem\n"), shown


def test_an_admin_port_that_does_not_answer_is_a_problem(server: FirnServer) -> None:
    report = as_json(server, "check", "--admin", "127.0.0.1:1", expect=1)
    assert any("127.0.0.1:1 tells nothing of the archive" in finding["what"] for finding in report["findings"]), report


def test_voters_and_unregister(server: FirnServer) -> None:
    assert "1 voter, none may be lost without stopping changes" in ask(server, "voters", "list")
    assert "does not follow the metadata log" in ask(server, "voters", "add", "77", expect=1)
    assert "is not registered" in ask(server, "unregister", "77", expect=1)
    node = as_json(server, "status")["controller"]
    assert "only a broker that is stopped can be unregistered" in ask(server, "unregister", str(node), expect=1)


def test_a_lonely_broker_has_nothing_to_move_and_nowhere_to_go(server: FirnServer) -> None:
    topic = server.create_topic("lonely")
    assert "0 partitions would change, nothing was changed" in ask(server, "rebalance", "--dry-run")
    node = as_json(server, "status")["controller"]
    assert "only 0 brokers could keep them" in ask(server, "decommission", str(node), expect=1)
    assert "2 replicas need 2 brokers" in ask(server, "reassign", topic, "--replication-factor", "2", expect=1)
    assert "0 reassignments under way" in ask(server, "reassign", "--list")
    assert "is not registered" in ask(server, "reassign", topic, "--replicas", f"{node},77", expect=1)


def test_elect_finds_nothing_to_do(server: FirnServer) -> None:
    topic = server.create_topic("elect")
    assert "no partition needs an election" in ask(server, "elect")
    assert "0 elections would be asked for; nothing was changed" in ask(server, "elect", "--topic", topic, "--dry-run")
    assert f'did you mean "{topic}"?' in ask(server, "elect", "--topic", topic + "x", expect=1)
