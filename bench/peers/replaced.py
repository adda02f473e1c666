"""An empty broker takes the place of a dead one: until it is in sync, and how much of the topic it had to copy."""

import time

from clients import KEY_BYTES, run
from peers.brokers import KINDS, AnyCluster, disk_bytes, running_three
from peers.figures import Run
from peers.tiered import await_archived

_RECORD_BYTES = (1 << 10) + KEY_BYTES
_HOT_BYTES = 100_000_000
_SEGMENT_BYTES = 16 << 20
_CASE = "three-replaced"


def measure(bench: Run, name: str) -> None:
    """The topic's history is in the second tier, its last 100 MB are on local disks; a follower's disk is lost."""
    kind = KINDS[name]
    with running_three(kind, bench.cores, bench.work) as cluster:
        topic = cluster.create_topic("history", config={
            "segment.bytes": str(_SEGMENT_BYTES), "remote.storage.enable": "true",
            "local.retention.bytes": str(_HOT_BYTES), **kind.topic,
        })  # fmt: skip
        records = int((bench.replaced_gb * 1e9 + _HOT_BYTES) / _RECORD_BYTES)
        run(cluster, "produce", topic, "--records", records, "--linger-ms", 50, launcher=bench.cores.client)
        # Two segments: the one that is written, and that to which the last 100 MB reach back.
        hot = (_HOT_BYTES + 2 * _SEGMENT_BYTES) // _RECORD_BYTES
        await_archived(cluster.leader(topic), topic, records - hot)
        bench.add(name, _CASE, "in_sync_s", _replace(cluster, topic, bench, name))
        bench.add(name, _CASE, "written_mb", records * _RECORD_BYTES / 1e6)


def _replace(cluster: AnyCluster, topic: str, bench: Run, name: str) -> float:
    """Seconds from the start of the empty broker until it is in sync; notes what it has on its disk by then."""
    leader = cluster.leader(topic)
    lost, *_ = cluster.others(leader)
    lost.kill()
    rest = cluster.others(lost)
    cluster.await_isr_of(topic, *rest, via=rest)
    lost.wipe()
    start = time.monotonic()
    lost.spawn()
    cluster.await_isr(topic, len(cluster.nodes), via=rest, timeout_s=300)
    taken_s = time.monotonic() - start
    bench.add(name, _CASE, "copied_mb", disk_bytes(lost, topic) / 1e6)
    return taken_s
