"""The metadata version: held while nodes are replaced, changed by Apache Kafka's tool and by Firn's own command."""

import re
from typing import Any

import pytest

from harness.cluster import Cluster, FirnNode
from harness.cluster_command import as_json, ask
from harness.java import tool
from harness.process import wait_until

pytestmark = pytest.mark.firn

FEATURE = "firn.metadata.version"


def features(cluster: Cluster[FirnNode], *args: str, check: bool = True) -> str:
    """What `kafka-features` says."""
    return tool("features", "--bootstrap-server", cluster.bootstrap, *args, check=check)


def described(cluster: Cluster[FirnNode]) -> tuple[int, int, int]:
    """The lowest and highest version that is supported, and the one that counts, as `kafka-features describe` tells them."""
    out = features(cluster, "describe")
    line = re.search(
        rf"Feature: {re.escape(FEATURE)}\s+SupportedMinVersion: (\d+)\s+SupportedMaxVersion: (\d+)\s+"
        r"FinalizedVersionLevel: (\d+)\s+Epoch: \d+",
        out,
    )
    assert line, out
    least, most, current = map(int, line.groups())
    return least, most, current


def command(cluster: Cluster[FirnNode], *args: str, expect: int = 0) -> str:
    """`firn cluster metadata-version …`."""
    return ask(cluster, "metadata-version", *args, expect=expect)


def shown(cluster: Cluster[FirnNode]) -> Any:
    """What it shows."""
    return as_json(cluster, "metadata-version", "show")


def known(cluster: Cluster[FirnNode]) -> list[int | None]:
    """The newest version that each broker knows."""
    return [broker["max"] for broker in shown(cluster)["brokers"]]


@pytest.mark.timeout(240)
def test_kafka_features_describes_lowers_and_raises_it(cluster: Cluster[FirnNode]) -> None:
    least, most, current = described(cluster)
    assert (least, current) == (1, most) and most >= 2
    lower = ("downgrade", "--feature", f"{FEATURE}=1")
    out = features(cluster, "upgrade", "--feature", f"{FEATURE}=1", check=False)
    assert f"Could not upgrade {FEATURE} to 1." in out and "this is a downgrade" in out, out
    assert f"{FEATURE} can be downgraded to 1." in features(cluster, *lower, "--dry-run")
    assert described(cluster)[2] == most, "a dry run changes nothing"
    assert f"{FEATURE} was downgraded to 1." in features(cluster, *lower)
    wait_until("all nodes to tell version 1", lambda: described(cluster) == (1, most, 1))
    out = features(cluster, "upgrade", "--feature", f"{FEATURE}={most + 1}", check=False)
    assert "knows 1 to" in out and described(cluster)[2] == 1, out
    assert f"{FEATURE} can be upgraded to {most}." in features(
        cluster, "upgrade", "--feature", f"{FEATURE}={most}", "--dry-run"
    )
    assert described(cluster)[2] == 1, "a dry run changes nothing"
    assert f"{FEATURE} was upgraded to {most}." in features(cluster, "upgrade", "--feature", f"{FEATURE}={most}")
    wait_until("all nodes to tell it", lambda: described(cluster) == (1, most, most))


def test_features_of_kafka_are_refused(cluster: Cluster[FirnNode]) -> None:
    _, _, before = described(cluster)
    for feature in ("metadata.version=25", "group.version=1"):
        out = features(cluster, "upgrade", "--feature", feature, check=False)
        assert "there is no feature" in out, out
    out = features(cluster, "disable", "--feature", FEATURE, check=False)
    assert "can be" not in out and "was" not in out.splitlines()[0], out
    assert described(cluster)[2] == before


@pytest.mark.timeout(240)
def test_it_is_held_over_restarts_and_raised_when_all_know_it(cluster: Cluster[FirnNode]) -> None:
    newest = shown(cluster)["newest_known_by_all"]
    assert "can go from" in command(cluster, "lower", "--to", "1", "--dry-run")
    assert shown(cluster)["metadata_version"] == newest
    assert f"the metadata version is 1, it was {newest}" in command(cluster, "lower", "--to", "1")
    for node in cluster.nodes.values():
        node.stop()
        node.start()
        wait_until("all brokers to tell what they know", lambda: known(cluster) == [newest] * 3)
        assert shown(cluster)["metadata_version"] == 1, "a newer build does not raise it by itself"
    assert f"metadata version 1, can be raised to {newest}" in command(cluster, "show")
    assert "nothing was changed" in command(cluster, "raise", "--dry-run")
    refused = command(cluster, "raise", "--to", str(newest + 1), expect=1)
    assert f"knows 1 to {newest}" in refused, refused
    assert f"the metadata version is {newest}, it was 1" in command(cluster, "raise")
    assert f"the cluster is at metadata version {newest}" in command(cluster, "raise")
    cluster.kill()
    cluster.start()
    wait_until("the version of before", lambda: shown(cluster)["metadata_version"] == newest)
