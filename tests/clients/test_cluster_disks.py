"""A disk of one node fails, fills up or stalls: another in-sync replica leads within a second, nothing is lost, all is told.

The session timeout and the patience of leaders are those of the defaults, so that no timer explains what happens.
"""

import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import new_cluster
from harness.cluster import Cluster, FirnNode
from harness.cluster_command import ask
from harness.firn import FirnServer
from harness.load import Load, expect_all
from harness.loop_disk import LoopDisk
from harness.loop_disk import why_not as why_no_disk
from harness.process import wait_until
from harness.records import consume
from harness.replicas import expect_replicas
from harness.syscall_faults import SyscallFault
from harness.syscall_faults import why_not as why_no_strace

pytestmark = pytest.mark.firn

PATIENT = {"broker.session.timeout.ms": "9000", "replica.lag.time.max.ms": "30000"}
FLUSHER = "hot-flusher"
GOAL_S = 5
"""The goal is a second on a quiet machine (here 0.1 to 0.4 s); this only tells what was noticed from a timeout."""

no_strace, no_disk = why_no_strace(), why_no_disk()
needs_strace = pytest.mark.skipif(no_strace is not None, reason=no_strace or "")
needs_disks = pytest.mark.skipif(no_disk is not None, reason=no_disk or "")


def health(node: FirnServer) -> str:
    """What /health says, whatever its status."""
    try:
        with urllib.request.urlopen(f"http://{node.admin_address}/health", timeout=5) as answer:
            return f"200 {answer.read().decode()}"
    except urllib.error.HTTPError as error:
        return f"{error.code} {error.read().decode()}"


def expect_told(cluster: Cluster[FirnNode], sick: FirnNode, fault: str) -> None:
    """Health, metrics and the cluster's check name the fault."""
    wait_until("health to tell", lambda: health(sick).startswith("503 ") and fault in health(sick))
    wait_until("a metric to tell", lambda: f'firn_disk_impaired{{fault="{fault}"}} 1' in sick.http("/metrics"))

    def found() -> bool:
        said = ask(cluster, "check", expect=1)
        about = {"failed": "has failed", "full": "is full", "slow": "has not returned"}[fault]
        assert f"disk of broker {sick.node_id} {about}" in said, said
        assert f"broker {sick.node_id} (" not in said, f"it is not down:\n{said}"
        return True

    wait_until("the check to tell", found)


def expect_handed_over(cluster: Cluster[FirnNode], load: Load, sick: FirnNode, what: str) -> None:
    """Producers go on, with the two others in sync."""
    load.await_progress()
    cluster.await_isr_of(load.topic, *cluster.others(sick), via=cluster.others(sick))
    load.await_progress()
    print(f"{what} of node {sick.node_id}: {load.longest_pause_s * 1000:.0f} ms without an acknowledgement")
    assert load.longest_pause_s < GOAL_S, f"no acknowledgement for {load.longest_pause_s:.1f} s"
    load.longest_pause_s = 0


def finish(cluster: Cluster[FirnNode], load: Load) -> None:
    """Every record exactly once, in every replica."""
    load.finish()
    read = consume(cluster.bootstrap, load.topic, partitions=load.partitions)
    expect_all(load, read)
    expect_replicas(cluster, load.topic, read, partitions=load.partitions)


@needs_strace
@pytest.mark.timeout(240)
def test_a_node_whose_disk_stalls_or_fails_hands_over_at_once(tmp_path: Path) -> None:
    cluster = new_cluster(tmp_path / "cluster", {**PATIENT, "firn.disk.stall.ms": "1000"})
    try:
        cluster.start()
        topic = cluster.create_topic("disks")
        with Load(cluster.bootstrap, topic, 1, per_second=2000) as load:
            load.await_progress()
            load.longest_pause_s = 0
            leader = cluster.leader(topic)
            assert leader.process is not None
            trace = tmp_path / "slow.log"
            with SyscallFault(leader.process.pid, "fdatasync", "delay_enter=6s", "1", trace, thread=FLUSHER):
                expect_handed_over(cluster, load, leader, "the stalled flush")
                expect_told(cluster, leader, "slow")
                cluster.await_isr(topic, 3)
            wait_until("health to be well", lambda: health(leader).startswith("200 "))
            load.longest_pause_s = 0

            for kind in ("leader", "follower"):
                sick = cluster.leader(topic) if kind == "leader" else cluster.others(cluster.leader(topic))[0]
                assert sick.process is not None
                trace = tmp_path / f"{kind}.log"
                with SyscallFault(sick.process.pid, "fdatasync", "EIO", "1+", trace, thread=FLUSHER):
                    expect_handed_over(cluster, load, sick, f"the failed disk of the {kind}")
                    expect_told(cluster, sick, "failed")
                sick.kill()
                cluster.start([sick])
                cluster.await_isr(topic, 3)
                load.longest_pause_s = 0
            finish(cluster, load)
        cluster.expect_healthy_logs()
    finally:
        cluster.close()


@pytest.fixture
def disks(tmp_path: Path) -> Iterator[tuple[Cluster[FirnNode], dict[int, LoopDisk]]]:
    """Three nodes, each on a disk of its own."""
    cluster = new_cluster(tmp_path / "cluster", {**PATIENT, "firn.journal.bytes": str(8 << 20)})
    made: dict[int, LoopDisk] = {}
    try:
        for node_id, node in cluster.nodes.items():
            made[node_id] = LoopDisk(node.folder / "disk.img", node.data_dir, size_mb=128)
        cluster.start()
        yield cluster, made
        cluster.expect_healthy_logs()
    finally:
        cluster.close()
        for disk in made.values():
            disk.close()


@needs_disks
@pytest.mark.timeout(240)
def test_a_node_whose_disk_is_full_hands_over_and_takes_part_again_by_itself(
    disks: tuple[Cluster[FirnNode], dict[int, LoopDisk]],
) -> None:
    cluster, own = disks
    topic = cluster.create_topic("full")
    # A client that is connected to the full broker alone must still find the new leader.
    with Load(cluster.leader(topic).bootstrap, topic, 1, per_second=2000) as load:
        load.await_progress()
        for kind in ("leader", "follower"):
            load.longest_pause_s = 0
            sick = cluster.leader(topic) if kind == "leader" else cluster.others(cluster.leader(topic))[0]
            own[sick.node_id].fill()
            wait_until("the disk to be full", lambda sick=sick: "disk is full" in sick.log_text())
            expect_handed_over(cluster, load, sick, f"the full disk of the {kind}")
            expect_told(cluster, sick, "full")
            own[sick.node_id].free()
            cluster.await_isr(topic, 3)
            wait_until("health to be well", lambda sick=sick: health(sick).startswith("200 "))
        finish(cluster, load)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("task", ["isr", "liveness", "kafka-listener", "raft"])
def test_a_task_that_panics_ends_the_process(tmp_path: Path, task: str) -> None:
    server = FirnServer(tmp_path)
    server.env = {"FIRN_TEST_PANIC_IN": task}
    process = server.spawn()
    try:
        assert process.wait(30) == 70
        (line,) = [line for line in process.output().splitlines() if "a task of the broker has ended" in line]
        assert task in line and "panic" in line, line
    finally:
        server.close()
