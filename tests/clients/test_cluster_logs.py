"""What nodes write into their logs when many partitions change leaders: a line for all of them, not one for each."""

import re
from pathlib import Path

import pytest

from harness.cluster import Cluster, FirnNode, Node
from harness.process import wait_until

pytestmark = pytest.mark.firn

PARTITIONS = 60


class Logs:
    """What all nodes have logged since this was made, also those that were ended and started meanwhile."""

    def __init__(self, cluster: Cluster[FirnNode]) -> None:
        self.files = {node.node_id: node.folder / "server.log" for node in cluster.nodes.values()}
        self.begin = {number: path.stat().st_size for number, path in self.files.items()}

    def lines(self, node: Node, text: str = "") -> list[str]:
        """The lines of one node with that text in them."""
        written = self.new_text(self.files[node.node_id], self.begin[node.node_id])
        return [line for line in written.splitlines() if text in line]

    @staticmethod
    def new_text(path: Path, begin: int) -> str:
        """What was written behind a position."""
        with path.open("rb") as file:
            file.seek(begin)
            return file.read().decode(errors="replace")


@pytest.mark.timeout(240)
def test_a_node_that_stops_and_one_that_is_killed_are_told_in_a_few_lines(cluster: Cluster[FirnNode]) -> None:
    topic = cluster.create_topic("many", partitions=PARTITIONS)
    leaving = cluster.nodes[2]
    led = [index for index, part in cluster.parts(topic).items() if part.leader == leaving.node_id]
    assert len(led) == PARTITIONS // 3

    logs = Logs(cluster)
    leaving.stop()
    cluster.await_isr_of(topic, *cluster.others(leaving), via=cluster.others(leaving))
    (handed_over,) = logs.lines(leaving, "has handed over what it led")
    assert re.search(r"\d+ partitions have a new leader \((\S+-\d+, ){3}…\)", handed_over), handed_over
    stopped = wait_until(
        "the controller tells of it",
        lambda: [n for n in cluster.living if logs.lines(n, "a broker has stopped: it led nothing")],
    )
    assert len(stopped) == 1
    for node in cluster.living:
        assert not logs.lines(node, " WARN "), logs.lines(node, " WARN ")
        # Leaders, ISRs, fetches: a few lines of each, whatever happens to 60 partitions.
        assert len(logs.lines(node, f"{topic}-")) <= 12, logs.lines(node, f"{topic}-")

    leaving.start()
    cluster.await_isr(topic, 3)
    (serves,) = logs.lines(leaving, "this broker may lead")
    assert " INFO " in serves
    for node in cluster.living:
        assert len(logs.lines(node, f"{topic}-")) <= 24, logs.lines(node, f"{topic}-")

    logs = Logs(cluster)
    killed = cluster.nodes[1]
    count = len([part for part in cluster.parts(topic).values() if part.leader == killed.node_id])
    assert count >= PARTITIONS // 3
    killed.kill()
    cluster.await_isr_of(topic, *cluster.others(killed), via=cluster.others(killed))
    lost = [line for node in cluster.living for line in logs.lines(node, "a broker was lost")]
    assert len(lost) == 1 and " WARN " in lost[0], lost
    found = re.search(r"a broker was lost: (\d+) partitions have a new leader \((\S+-\d+, ){3}…\)", lost[0])
    assert found and int(found.group(1)) >= count, lost
    for node in cluster.living:
        assert len(logs.lines(node, f"{topic}-")) <= 12, logs.lines(node, f"{topic}-")
    killed.start()
    cluster.await_isr(topic, 3)
