"""Real Apache Kafka nodes as one cluster: the cluster tests are checked against it (FIRN_PEER=kafka)."""

from collections.abc import Mapping
from pathlib import Path

from harness.cluster import RACKS, REPLICATED, Cluster, Node
from harness.kafka_peer import KafkaServer
from harness.namespaces import Network
from harness.paths import free_port


class KafkaNode(KafkaServer, Node):
    """A voter of the quorum that is a broker, too."""

    def __init__(
        self, folder: Path, node_id: int, settings: Mapping[str, str] | None = None, host: str = "127.0.0.1"
    ) -> None:
        super().__init__(folder, {**REPLICATED, **(settings or {})})
        self.node_id = node_id
        self.rack = RACKS[(node_id - 1) % len(RACKS)]
        self.bootstrap = f"{host}:{free_port()}"
        self.controller = f"{host}:{free_port()}"
        self.voters = ""

    def _properties(self) -> str:
        lines = {
            "node.id": str(self.node_id),
            "broker.rack": self.rack,
            "controller.quorum.voters": self.voters,
            "listeners": f"PLAINTEXT://{self.bootstrap},CONTROLLER://{self.controller}",
            "advertised.listeners": f"PLAINTEXT://{self.bootstrap}",
            "replica.selector.class": "org.apache.kafka.common.replica.RackAwareReplicaSelector",
            "transaction.state.log.replication.factor": "3",
        }
        # The last of two lines with one name counts.
        return super()._properties() + "".join(f"{name}={value}\n" for name, value in lines.items())


def kafka_cluster(
    folder: Path, size: int = 3, settings: Mapping[str, str] | None = None, network: Network | None = None
) -> Cluster[KafkaNode]:
    """A cluster of Kafka nodes, not yet started."""
    nodes = [
        KafkaNode(folder / f"node{number}", number, settings, network.address(number) if network else "127.0.0.1")
        for number in range(1, size + 1)
    ]
    for node in nodes:
        node.voters = ",".join(f"{other.node_id}@{other.controller}" for other in nodes)
        if network is not None:
            node.launcher = network.launcher(node.node_id)
    return Cluster(nodes, network)
