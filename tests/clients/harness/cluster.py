"""Several nodes that form one cluster, what is done to them, and waiting until the cluster has come to some state.

Waiting always goes by what a living node answers to a client (Metadata, ListOffsets), never by time.
"""

import abc
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from confluent_kafka.admin import AdminClient
from kafka.protocol.metadata import FindCoordinatorRequest, MetadataRequest

from harness import requests
from harness.broker import Broker, Tier, unique
from harness.firn import FirnServer
from harness.namespaces import Network
from harness.paths import free_port
from harness.process import Process, wait_until
from harness.stores import Store, folder_store
from harness.wire import Closed, Wire

RACKS = ("a", "b", "c", "d", "e")
REPLICATED: dict[str, str] = {
    "default.replication.factor": "3",
    "offsets.topic.replication.factor": "3",
    "offsets.topic.num.partitions": "4",
    # A quarter of the defaults: what waits for these is meant to happen within a test.
    "broker.session.timeout.ms": "2500",
    "replica.lag.time.max.ms": "3000",
}
NO_NODE = -1


class Node(Broker):
    """One member of a cluster, whatever kind of server it is."""

    node_id: int
    rack: str

    @property
    @abc.abstractmethod
    def data_dir(self) -> Path:
        """The folder that is its disk."""

    @abc.abstractmethod
    def spawn(self) -> Process:
        """Starts the process without waiting for anything."""

    @abc.abstractmethod
    def close(self) -> None:
        """Ends it for good."""

    @abc.abstractmethod
    def tail(self, lines: int = 40) -> str:
        """The last lines of the log."""

    def wipe(self) -> None:
        """The disk of a node that does not run is lost: nothing of it is left but its name and its addresses."""
        assert self.process is None, "end the node first"
        shutil.rmtree(self.data_dir)


class FirnNode(FirnServer, Node):
    """`firn server` as a voter of a cluster. All its ports stay the same for its life."""

    def __init__(
        self,
        folder: Path,
        node_id: int,
        store: Store | None = None,
        settings: Mapping[str, str] | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__(folder, store, {**REPLICATED, **(settings or {})}, host)
        self.node_id = node_id
        self.rack = RACKS[(node_id - 1) % len(RACKS)]
        self.internal = f"{host}:{free_port()}"
        self.membership: list[str] = []
        """How it finds the others: `--peers …` or `--join …`."""

    @property
    def args(self) -> list[str]:
        """The command line."""
        place = ["--node-id", str(self.node_id), "--rack", self.rack, "--internal", self.internal]
        return [*super().args, *place, *self.membership]

    def start(self) -> None:
        """Starts it and waits for `/ready`."""
        process = self.spawn()
        if not self._becomes_ready(process):
            raise RuntimeError(f"node {self.node_id} did not become ready\n{self.tail()}")


@dataclass(frozen=True)
class Part:
    """A partition as a node tells it to clients."""

    leader: int
    epoch: int
    replicas: tuple[int, ...]
    isr: frozenset[int]
    offline: frozenset[int]
    error: int


AnyNode = TypeVar("AnyNode", bound=Node)


class Cluster(Generic[AnyNode]):
    """Nodes by their ids, from 1 on."""

    def __init__(self, nodes: Iterable[AnyNode], network: Network | None = None) -> None:
        self.nodes: dict[int, AnyNode] = {node.node_id: node for node in nodes}
        self.network = network

    @property
    def bootstrap(self) -> str:
        """All addresses, as clients take them."""
        return ",".join(node.bootstrap for node in self.nodes.values())

    @property
    def living(self) -> list[AnyNode]:
        """The nodes whose processes run."""
        return [node for node in self.nodes.values() if node.alive()]

    def others(self, *nodes: Node) -> list[AnyNode]:
        """All nodes but these."""
        return [node for node in self.nodes.values() if node not in nodes]

    def start(self, nodes: Sequence[AnyNode] | None = None) -> None:
        """Starts these nodes, or all, at the same time, and waits until each is ready."""
        each(nodes if nodes is not None else list(self.nodes.values()), lambda node: node.start())

    def kill(self, nodes: Sequence[AnyNode] | None = None) -> None:
        """SIGKILL for these nodes, or all, as nearly at once as can be."""
        chosen = nodes if nodes is not None else list(self.nodes.values())
        each(chosen, lambda node: node.kill())

    def stop(self) -> None:
        """SIGTERM for all; they have to end well."""
        each(self.living, lambda node: node.stop())

    def close(self) -> None:
        """Ends everything for good."""
        for node in self.nodes.values():
            node.close()
        if self.network is not None:
            self.network.close()

    def tail(self, lines: int = 40) -> str:
        """The ends of all logs."""
        return "\n".join(f"=== node {node.node_id}\n{node.tail(lines)}" for node in self.nodes.values())

    def expect_healthy_logs(self) -> None:
        """No node has panicked in any of its runs."""
        for node in self.nodes.values():
            assert "panicked" not in node.tail(100_000), node.tail(200)

    def admin(self) -> AdminClient:
        """A new admin client that knows all nodes."""
        return AdminClient({"bootstrap.servers": self.bootstrap, "socket.timeout.ms": 20_000, "log_level": 0})

    def create_topic(
        self,
        prefix: str = "topic",
        *,
        partitions: int = 1,
        tier: Tier = "hot",
        replicas: int = 3,
        min_isr: int = 2,
        config: Mapping[str, str] | None = None,
        name: str | None = None,
    ) -> str:
        """Creates a topic and waits until every living node knows its leaders and all replicas are in sync."""
        # Records of long ago stay: what a test expires, it says.
        wanted = {"min.insync.replicas": str(min_isr), "retention.ms": "-1", **(config or {})}
        topic = name or unique(prefix)
        self.living[0].create_topic(name=topic, partitions=partitions, tier=tier, replicas=replicas, config=wanted)
        self.await_isr(topic, replicas)
        return topic

    def parts(self, topic: str, via: Node | None = None) -> dict[int, Part]:
        """The topic's partitions as one node tells them."""
        node = via or self.living[0]
        wanted = MetadataRequest.MetadataRequestTopic(name=topic)
        with Wire(node.host, node.port, timeout_s=5) as wire:
            answer = wire.ask(MetadataRequest[12](topics=[wanted], allow_auto_topic_creation=False))
        return {
            part.partition_index: Part(
                part.leader_id, part.leader_epoch, tuple(part.replica_nodes), frozenset(part.isr_nodes),
                frozenset(part.offline_replicas), part.error_code,
            )
            for part in answer.topics[0].partitions
        }  # fmt: skip

    def part(self, topic: str, partition: int = 0, via: Node | None = None) -> Part:
        """One partition as one node tells it."""
        found = self.parts(topic, via).get(partition)
        assert found is not None, f"{topic}-{partition} is not known"
        return found

    def await_parts(
        self,
        what: str,
        topic: str,
        wanted: Callable[[Part], bool],
        via: Sequence[Node] | None = None,
        timeout_s: float = 30,
    ) -> dict[int, Part]:
        """Waits until each of these nodes (all living ones) tells every partition of the topic to be as wanted."""

        def seen() -> dict[int, Part]:
            parts: dict[int, Part] = {}
            for node in via or self.living:
                try:
                    parts = self.parts(topic, node)
                except (OSError, Closed) as error:
                    raise AssertionError(f"node {node.node_id} does not answer: {error}") from error
                assert parts, f"node {node.node_id} does not know {topic}"
                wrong = {index: part for index, part in parts.items() if not wanted(part)}
                assert not wrong, f"node {node.node_id}: {wrong}"
            return parts

        return wait_until(f"{topic}: {what}", seen, timeout_s)

    def await_isr(self, topic: str, count: int, via: Sequence[Node] | None = None, timeout_s: float = 30) -> dict[int, Part]:
        """Waits until all partitions have a leader and so many replicas in sync."""
        return self.await_parts(
            f"{count} replicas in sync",
            topic,
            lambda part: part.leader != NO_NODE and len(part.isr) == count,
            via,
            timeout_s,
        )

    def await_isr_of(self, topic: str, *nodes: Node, via: Sequence[Node] | None = None, timeout_s: float = 30) -> None:
        """Waits until exactly these nodes are in sync, in all partitions."""
        ids = frozenset(node.node_id for node in nodes)
        self.await_parts(f"{sorted(ids)} in sync", topic, lambda part: part.isr == ids, via, timeout_s)

    def leader(self, topic: str, partition: int = 0, *, unlike: Node | None = None, timeout_s: float = 30) -> AnyNode:
        """Waits until a partition has a leader, other than `unlike`, and all living nodes but that one agree on it."""
        asked = [node for node in self.living if node is not unlike]

        def agreed() -> AnyNode | None:
            try:
                told = {self.part(topic, partition, node).leader for node in asked}
            except (OSError, Closed):
                return None
            (leader,) = told if len(told) == 1 else (NO_NODE,)
            return None if leader == NO_NODE or (unlike and leader == unlike.node_id) else self.nodes[leader]

        return wait_until(f"a leader of {topic}-{partition}", agreed, timeout_s, 0.01)

    def coordinator(self, group: str, *, unlike: Node | None = None) -> AnyNode:
        """Waits until a group has a coordinator, other than `unlike`, by what a living node tells."""

        def found() -> AnyNode | None:
            node = next(node for node in self.living if node is not unlike)
            with Wire(node.host, node.port) as wire:
                answer = wire.ask(FindCoordinatorRequest[4](key_type=0, coordinator_keys=[group]))
            (one,) = answer.coordinators
            told = self.nodes.get(one.node_id) if one.error_code == requests.NONE else None
            return None if told is unlike else told

        return wait_until(f"a coordinator of group {group}", found)

    def end_offset(self, topic: str, partition: int = 0) -> int:
        """The high watermark as the leader tells it, once it tells one."""

        def told() -> tuple[int] | None:
            leader = self.leader(topic, partition)
            with Wire(leader.host, leader.port) as wire:
                answer = requests.list_offset(wire, topic, requests.LATEST, partition=partition)
            return (answer.offset,) if answer.error_code == requests.NONE else None

        return wait_until(f"the end of {topic}-{partition}", told)[0]


def each(nodes: Sequence[AnyNode], act: Callable[[AnyNode], None]) -> None:
    """Does something to all nodes at the same time; the first failure is raised when all are done."""
    if nodes:
        with ThreadPoolExecutor(len(nodes)) as pool:
            list(pool.map(act, nodes))


def firn_cluster(
    folder: Path,
    size: int = 3,
    settings: Mapping[str, str] | None = None,
    store: Store | None = None,
    network: Network | None = None,
) -> Cluster[FirnNode]:
    """A cluster of Firn nodes with one object store, not yet started."""
    shared = store or folder_store(folder / "store")
    nodes = [
        FirnNode(folder / f"node{number}", number, shared, settings, network.address(number) if network else "127.0.0.1")
        for number in range(1, size + 1)
    ]
    peers = ",".join(f"{node.node_id}@{node.internal}" for node in nodes)
    for node in nodes:
        node.membership = ["--peers", peers]
        if network is not None:
            node.launcher = network.launcher(node.node_id)
    return Cluster(nodes, network)


def joining_node(
    cluster: Cluster[FirnNode], folder: Path, node_id: int, settings: Mapping[str, str] | None = None
) -> FirnNode:
    """One more node that joins the cluster, not yet started; part of the cluster from now on."""
    host = next(iter(cluster.nodes.values()))
    node = FirnNode(folder / f"node{node_id}", node_id, host.store, settings)
    node.membership = ["--join", host.internal]
    cluster.nodes[node_id] = node
    return node
