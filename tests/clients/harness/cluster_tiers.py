"""Both tiers of a cluster: what each replica has on its disk, what the archive has, and waiting until they agree."""

import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from harness.cluster import Cluster, FirnNode
from harness.firn import FirnServer
from harness.process import wait_until


def replica_status(node: FirnServer, topic: str, partition: int = 0) -> dict[str, Any]:
    """What one node says of its replica: offsets, bytes per tier, troubles."""
    rows = [row for row in node.archive_status([topic]) if row["partition"] == partition]
    assert rows, f"{topic}-{partition} is not on this node"
    return rows[0]


def settle(cluster: Cluster[FirnNode], topic: str, *, replicas: bool = True, timeout_s: float = 60) -> None:
    """Waits until every record is in the archive and gone from the leader's disk, and from every replica's if asked for."""

    def settled() -> bool:
        for index, part in cluster.parts(topic).items():
            holders = [cluster.nodes[node] for node in (part.replicas if replicas else (part.leader,))]
            for node in holders:
                row = replica_status(node, topic, index)
                end = row["log_end"]
                assert row["archived_end"] == row["high_watermark"] == row["local_start"] == end, (node.node_id, row)
        return True

    wait_until(f"{topic} to settle in the archive", settled, timeout_s, 0.1)


@dataclass(frozen=True)
class Archived:
    """One object as the archive names it."""

    base: int
    next: int
    epoch: int
    file: Path


def archived(node: FirnServer, topic: str, partition: int = 0) -> list[Archived]:
    """The objects that the archive names for a partition, as one node tells, oldest first."""
    (listed,) = json.loads(node.http(f"/v1/archive/objects?topic={topic}&partition={partition}"))
    files = {file.name: file for file in node.store.objects(".parquet")}
    return [
        Archived(row["base_offset"], row["next_offset"], row["leader_epoch"], files[row["object"].rsplit("/", 1)[-1]])
        for row in listed["objects"]
    ]


def expect_contiguous(objects: list[Archived], start: int = 0) -> None:
    """Neither a gap nor an overlap, and epochs that never fall."""
    if objects:
        assert objects[0].base == start, f"the archive begins at {objects[0].base}, not at {start}"
    for one, other in pairwise(objects):
        assert one.next == other.base, f"[{one.base}, {one.next}) is followed by [{other.base}, {other.next})"
        assert one.epoch <= other.epoch, f"epoch {one.epoch} is followed by {other.epoch}"


def disk_bytes(node: FirnNode) -> int:
    """What the logs of the topics take on a node's disk."""
    return sum(file.stat().st_size for file in (node.data_dir / "topics").rglob("*") if file.is_file())
