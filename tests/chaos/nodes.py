"""The cluster of a run, and what is done to its nodes and to the links between them.

One node is hit at a time, and a disk is lost only when everything has its replicas again: acknowledged records are
promised to survive the loss of any one node, not of two. Links are cut whenever their track says so.
"""

import time
from pathlib import Path

from chaos.disk import ChaosDisk
from chaos.schedule import Step
from chaos.server import SETTINGS, Note, hit, panics_of, start_beside
from chaos.store import ChaosStore
from chaos.topics import TOPICS, TopicPlan
from harness.cluster import Cluster, FirnNode, firn_cluster
from harness.cluster_requests import await_voters
from harness.cluster_tiers import settle
from harness.namespaces import Network, why_not
from harness.process import wait_until

WHOLE_S = 90
NODE_SETTINGS = {
    **SETTINGS,
    # Also for the offsets of groups.
    "min.insync.replicas": "2",
}


class ChaosCluster:
    """Nodes in namespaces of their own where the machine allows it, else on loopback with links that are never cut."""

    def __init__(self, folder: Path, size: int) -> None:
        self.network = None if why_not() else Network(range(1, size + 1))
        self.tracks = ("nodes", "links", "store", "clients") if self.network else ("nodes", "store", "clients")
        self.store = ChaosStore(folder, self.network.host if self.network else "127.0.0.1")
        self.cluster: Cluster[FirnNode] = firn_cluster(folder, size, NODE_SETTINGS, self.store.store, self.network)
        self.disks = {node.node_id: ChaosDisk(node.data_dir) for node in self.cluster.nodes.values()}

    @property
    def bootstrap(self) -> str:
        """Where clients connect."""
        return self.cluster.bootstrap

    def begin(self) -> None:
        """Starts all nodes for the first time."""
        self.cluster.start()

    def create_topic(self, topic: TopicPlan) -> None:
        """Makes a topic of the run."""
        self.cluster.create_topic(name=topic.name, partitions=topic.partitions, config=topic.config)

    def start(self) -> None:
        """Starts all nodes again."""
        for node in self.cluster.nodes.values():
            node.spawn()
        self.wait_healthy()

    def inject(self, step: Step, victim: int, note: Note) -> str:
        """Does to nodes or links what a step says; returns how it ended."""
        nodes = list(self.cluster.nodes.values())
        node = nodes[victim % len(nodes)]
        if step.track == "links":
            other = nodes[(victim % len(nodes) + 1 + victim // 7 % (len(nodes) - 1)) % len(nodes)]
            return self._break_links(step, node.node_id, other.node_id, note)
        if step.fault == "kill all":
            self.cluster.kill()
            time.sleep(step.lasts_s)
            for each in nodes:
                each.spawn()
            for each in nodes:
                self._await_start(each)
            return "all nodes run again"
        if step.fault == "lose a disk":
            self._await_whole()
            note(step.fault, f"node {node.node_id}")
            node.kill()
            self.disks[node.node_id].wipe()
            time.sleep(step.lasts_s)
            self._start(node)
            return "running again on an empty disk"
        note(step.fault, f"node {node.node_id}")
        hit(node, self.disks[node.node_id], step, lambda: self._start(node))
        return f"running again after {step.fault}"

    def _start(self, node: FirnNode) -> None:
        start_beside(self.store, node)

    def _await_start(self, node: FirnNode) -> None:
        wait_until(f"node {node.node_id} to be ready", node.ready, 60)

    def _break_links(self, step: Step, node: int, other: int, note: Note) -> str:
        assert self.network is not None
        note(step.fault, f"node {node}" if step.fault == "isolate" else f"nodes {node} and {other}")
        if step.fault == "isolate":
            self.network.isolate(node)
        elif step.fault == "cut one way":
            self.network.cut(node, other)
        elif step.fault == "cut both ways":
            self.network.cut_both(node, other)
        else:
            self.network.leak(15)
        time.sleep(step.lasts_s)
        self.network.heal()
        return "links are whole"

    def _await_whole(self) -> None:
        """Waits until every partition has all its replicas in sync, and every node its vote."""
        for topic in (*(plan.name for plan in TOPICS), "__consumer_offsets"):
            self.cluster.await_isr(topic, min(3, len(self.cluster.nodes)), timeout_s=WHOLE_S)
        await_voters(self.cluster, WHOLE_S)

    def terminate(self) -> None:
        """SIGTERM for all, at the same time."""
        for node in self.cluster.nodes.values():
            assert node.alive(), f"a node ended by itself\n{node.tail()}"
        self.cluster.stop()

    def panics(self) -> list[str]:
        """Lines of the logs that tell of a panic."""
        return [f"node {node.node_id}: {line}" for node in self.cluster.nodes.values() for line in panics_of(node)]

    def settle(self, topic: str, timeout_s: float = 150) -> None:
        """Waits until a topic can only be read from the archive, at every replica."""
        settle(self.cluster, topic, timeout_s=timeout_s)

    def wait_healthy(self) -> None:
        """Waits until all nodes are ready and everything has all its replicas."""
        if self.network is not None:
            self.network.heal()
        for node in self.cluster.nodes.values():
            self._await_start(node)
        self._await_whole()

    def close(self) -> None:
        """Ends everything."""
        self.cluster.close()
        for disk in self.disks.values():
            disk.close()
        self.store.close()
