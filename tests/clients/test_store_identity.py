"""The object store is the cluster's, or a node does not use it: another one, an empty one, an unshared one, a moved one."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import requests
from harness.bucket import await_trouble, topic_objects
from harness.cluster import Cluster, FirnNode, firn_cluster
from harness.cluster_command import ask
from harness.cluster_requests import set_topic
from harness.cluster_tiers import settle
from harness.firn import FirnServer
from harness.paths import firn_binary, free_port
from harness.process import Process, clean_environment, wait_until
from harness.records import Row, consume, expect_same, generated, produce
from harness.stores import Store, folder_store
from harness.wire import Wire

pytestmark = pytest.mark.firn
SETTINGS = {"firn.sweep.interval.ms": "200", "firn.sweep.grace.ms": "1000"}
TINY = {"segment.bytes": "16384", "segment.ms": "300"}
SMALL = {"batch.num.messages": 25}


@pytest.fixture
def node(tmp_path: Path) -> Iterator[FirnServer]:
    """A cluster of one, not yet started."""
    server = FirnServer(tmp_path / "node", folder_store(tmp_path / "store"), SETTINGS)
    server.folder.mkdir()
    yield server
    server.close()


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Cluster[FirnNode]]:
    """A cluster of three, not yet started."""
    cluster = firn_cluster(tmp_path, settings=SETTINGS)
    yield cluster
    for one in cluster.nodes.values():
        one.close()


def refused(server: FirnServer, *args: str) -> str:
    """Starts a server that must end by itself with a failure; returns what it says."""
    env = {"NO_COLOR": "1", **server.store.env}
    process = Process([*server.args, *args], server.folder / "refused.log", env)
    try:
        assert process.wait(60) != 0, process.output()
    finally:
        process.kill()
    return process.output()


def start_accepting(server: FirnServer) -> None:
    """Starts a server that is told to accept its store, this once."""
    server.env["FIRN_ACCEPT_OBJECT_STORE"] = "true"
    server.start()
    del server.env["FIRN_ACCEPT_OBJECT_STORE"]


def archive(server: FirnServer, topic: str, seed: int, count: int = 400) -> list[Row]:
    """Records that afterwards are in the archive and nowhere else."""
    written = produce(server.bootstrap, topic, generated(count, seed=seed), **SMALL)
    server.settle(topic)
    return written


def identity(store: Store) -> Path:
    """The object that holds the store's identity."""
    (found,) = store.objects("store-identity.json")
    return found


def copied(store: Store, folder: Path) -> Store:
    """A copy of all objects in another folder."""
    assert store.folder is not None
    shutil.copytree(store.folder, folder)
    return folder_store(folder)


@pytest.mark.parametrize("place", ["--peers", "--join"])
def test_nodes_of_a_cluster_need_a_store_that_is_named(tmp_path: Path, place: str) -> None:
    internal = f"127.0.0.1:{free_port()}"
    others = {"--peers": f"1@{internal},2@127.0.0.1:{free_port()}", "--join": f"127.0.0.1:{free_port()}"}[place]
    command = [
        str(firn_binary()), "server", "--data-dir", str(tmp_path / "data"), "--listen", f"127.0.0.1:{free_port()}",
        "--admin", f"127.0.0.1:{free_port()}", "--node-id", "1", "--internal", internal, place, others,
    ]  # fmt: skip
    run = subprocess.run(  # noqa: S603 - the command under test
        command, capture_output=True, timeout=30, check=False, env=clean_environment()
    )
    assert run.returncode != 0
    assert "the nodes of a cluster share one object store" in run.stderr.decode()
    assert "--object-store" in run.stderr.decode()


@pytest.mark.timeout(180)
def test_nodes_that_each_have_a_folder_of_their_own_do_not_become_a_cluster(
    nodes: Cluster[FirnNode], tmp_path: Path
) -> None:
    for number, node in nodes.nodes.items():
        node.store = folder_store(tmp_path / f"own-{number}")
        node.spawn()
    wait_until("two of three nodes to refuse their stores", lambda: len(nodes.living) == 1, 60)
    for node in nodes.nodes.values():
        if node not in nodes.living:
            assert "the cluster's object store has" in node.log_text(), node.tail()
    (left,) = nodes.living
    for node in nodes.nodes.values():
        node.store = left.store
    nodes.start(nodes.others(left))
    topic = nodes.create_topic("shared", tier="cold", config=TINY)
    written = produce(nodes.bootstrap, topic, generated(400, seed=1), **SMALL)
    settle(nodes, topic)
    lost = nodes.leader(topic)
    lost.kill()
    lost.wipe()
    nodes.start([lost])
    nodes.await_isr(topic, 3)
    for node in nodes.nodes.values():
        expect_same(written, consume(node.bootstrap, topic))


def test_an_empty_store_and_another_clusters_are_refused_at_a_restart(node: FirnServer, tmp_path: Path) -> None:
    node.start()
    topic = node.create_topic("kept", tier="cold", config=TINY)
    written = archive(node, topic, seed=2)
    node.stop()
    right, known = node.store, identity(node.store).read_text()
    node.store = folder_store(tmp_path / "empty")
    assert "does not hold this cluster's archive: it has no identity" in refused(node)
    assert not node.store.objects(), "nothing is left in a store that is refused"
    other = FirnServer(tmp_path / "other", folder_store(tmp_path / "theirs"), SETTINGS)
    other.folder.mkdir()
    other.start()
    other.stop()
    node.store = other.store
    assert "does not hold this cluster's archive" in refused(node)
    node.store = right
    assert identity(right).read_text() == known
    node.start()
    expect_same(written, consume(node.bootstrap, topic))


def test_a_moved_store_is_accepted_with_its_identity_or_by_the_option(node: FirnServer, tmp_path: Path) -> None:
    node.start()
    topic = node.create_topic("moved", tier="cold", config=TINY)
    written = archive(node, topic, seed=3)
    node.stop()
    stale = copied(node.store, tmp_path / "stale")
    node.start()
    written += archive(node, topic, seed=4)
    node.stop()
    whole = copied(node.store, tmp_path / "whole")
    anonymous = copied(node.store, tmp_path / "anonymous")
    identity(anonymous).unlink()

    node.store = whole
    node.start()
    expect_same(written, consume(node.bootstrap, topic))
    node.stop()
    node.store = stale
    said = refused(node)
    assert "which the archive's ledger names" in said and "--accept-object-store" in said
    node.store = anonymous
    assert "--accept-object-store" in refused(node)
    start_accepting(node)
    expect_same(written, consume(node.bootstrap, topic))
    node.stop()
    assert identity(anonymous).read_text() == identity(whole).read_text()
    node.start()
    expect_same(written, consume(node.bootstrap, topic))


def test_a_store_with_another_identity_becomes_the_clusters_by_the_option(node: FirnServer, tmp_path: Path) -> None:
    node.start()
    node.stop()
    other = copied(node.store, tmp_path / "other")
    text = identity(other).read_text()
    known = text.split('"store_id":"')[1][:36]
    replaced = "00000000-0000-4000-8000-000000000001"
    identity(other).write_text(text.replace(known, replaced))
    right, node.store = node.store, other
    assert f"has the identity {replaced}, the cluster's object store has {known}" in refused(node)
    start_accepting(node)
    node.stop()
    node.start()
    node.stop()
    node.store = right
    assert f"has the identity {known}, the cluster's object store has {replaced}" in refused(node)


@pytest.mark.timeout(180)
def test_a_replica_evicts_nothing_while_its_store_is_another_one(nodes: Cluster[FirnNode], tmp_path: Path) -> None:
    """A copy of the store that lacks objects, which no check of a start notices."""
    nodes.start()
    keep = {**TINY, "local.retention.bytes": "-1", "local.retention.ms": "-1"}
    topic = nodes.create_topic("copied", tier="cold", config=keep)
    nodes.await_isr(topic, 3)
    written = produce(nodes.bootstrap, topic, generated(400, seed=5), **SMALL)

    def all_archived() -> bool:
        rows = [row for node in nodes.nodes.values() for row in node.archive_status([topic])]
        assert all(row["archived_end"] == row["log_end"] == 400 for row in rows), rows
        return True

    wait_until("everything to be archived", all_archived)
    leader = nodes.leader(topic)
    follower = nodes.others(leader)[0]
    follower.kill()
    right, follower.store = follower.store, copied(follower.store, tmp_path / "copy")
    for file in topic_objects(follower, topic):
        if file.suffix == ".parquet":
            file.unlink()
    nodes.start([follower])
    nodes.await_isr(topic, 3)
    set_topic(leader, topic, local_retention_bytes="1", local_retention_ms="1")
    assert ".parquet" in await_trouble(follower, topic, ["found nothing"], "evict")["error"]
    assert follower.archive_status([topic])[0]["local_start"] == 0
    follower.kill()
    follower.store = right
    nodes.start([follower])
    settle(nodes, topic)
    expect_same(written, consume(nodes.bootstrap, topic))


def recover_older(node: FirnServer, tmp_path: Path, topic: str) -> list[Row]:
    """Metadata of before most of the records were archived and evicted, recovered as documented; returns all records."""
    written = archive(node, topic, seed=6)
    node.stop()
    shutil.copytree(node.data_dir / "metadata", tmp_path / "yesterday")
    node.start()
    written += archive(node, topic, seed=7, count=800)
    written += produce(node.bootstrap, topic, generated(20, seed=8))
    node.stop()
    shutil.rmtree(node.data_dir / "metadata")
    shutil.copytree(tmp_path / "yesterday", node.data_dir / "metadata")
    node.cli("cluster", "recover-metadata", "--data-dir", str(node.data_dir), "--node-id", "1", "--yes")
    return written


def test_metadata_from_an_older_copy_find_the_newer_archive(node: FirnServer, tmp_path: Path) -> None:
    node.start()
    topic = node.create_topic("yesterday", tier="cold", config=TINY)
    written = recover_older(node, tmp_path, topic)
    node.start()

    def adopted() -> bool:
        (row,) = node.archive_status([topic])
        assert row["archived_end"] >= row["local_start"], row
        return True

    wait_until("the newest manifest to be adopted", adopted)
    expect_same(written, consume(node.bootstrap, topic))
    written += archive(node, topic, seed=9)
    expect_same(written, consume(node.bootstrap, topic))


def test_offsets_that_neither_tier_has_are_an_error_and_not_silence(node: FirnServer, tmp_path: Path) -> None:
    node.start()
    topic = node.create_topic("hole", tier="cold", config=TINY)
    recover_older(node, tmp_path, topic)
    manifests = [file for file in topic_objects(node, topic) if file.suffix == ".manifest"]
    newest = max(manifests)
    newest.rename(tmp_path / newest.name)
    start_accepting(node)
    (row,) = wait_until("the status", lambda: node.archive_status([topic]))
    hole = row["archived_end"]
    assert hole < row["local_start"], row
    with Wire(node.host, node.port) as wire:
        answer = requests.fetch_one(wire, topic, hole)
        assert answer.error_code == requests.KAFKA_STORAGE_ERROR, answer
        found = requests.list_offset(wire, topic, 1 << 42)
        assert found.error_code == requests.KAFKA_STORAGE_ERROR, found
    assert f"offset {hole} is missing" in await_trouble(node, topic, ["is missing"], "read")["error"]
    assert "is missing" in ask(node, "check", "--admin", node.admin_address, expect=1)


def test_disks_from_an_older_copy_delete_nothing_that_the_bucket_has_more(node: FirnServer, tmp_path: Path) -> None:
    node.start()
    topic = node.create_topic("restored", tier="cold", config=TINY)
    archive(node, topic, seed=10)
    node.stop()
    shutil.copytree(node.data_dir, tmp_path / "snapshot")
    node.start()
    archive(node, topic, seed=11, count=800)
    node.stop()
    newer = {file for file in topic_objects(node, topic) if not {"iceberg", "table-state"} & set(file.parts)}
    shutil.rmtree(node.data_dir)
    shutil.copytree(tmp_path / "snapshot", node.data_dir)
    node.start()
    await_trouble(node, topic, ["newer than the ledger"], "sweep")
    await_trouble(node, topic, ["another history"], "sweep")
    for seed in range(12, 16):
        archive(node, topic, seed=seed, count=400)
    assert node.archive_status([topic])[0]["archived_end"] == 2000, "the ledger has passed the other history"
    await_trouble(node, topic, ["another history"], "sweep")
    node.stop()
    node.start()
    await_trouble(node, topic, ["another history"], "sweep")
    kept = set(topic_objects(node, topic))
    lost = {file for file in newer if file not in kept and file.suffix == ".parquet"}
    assert not lost, f"deleted objects of the other history: {lost}"


def test_a_lost_manifest_concerns_its_partition_alone(node: FirnServer) -> None:
    node.start()
    lost, kept = (node.create_topic(name, tier="cold", config=TINY) for name in ("lost", "kept"))
    was_lost, written = archive(node, lost, seed=6), archive(node, kept, seed=7)
    node.stop()
    manifests = [one for one in node.store.objects("manifest") if f"/{lost}-" in str(one)]
    aside = node.folder / "aside"
    aside.mkdir()
    for manifest in manifests:
        shutil.move(manifest, aside / manifest.name)
    node.start()
    assert "the object store lacks manifests that the archive's ledger names" in node.log_text()
    expect_same(written, consume(node.bootstrap, kept))
    written += archive(node, kept, seed=8)
    expect_same(written, consume(node.bootstrap, kept))
    for manifest in manifests:
        shutil.move(aside / manifest.name, manifest)
    expect_same(was_lost, consume(node.bootstrap, lost))
