"""Somebody else is in the bucket: deletes from it, puts things into it, takes it away, shares it."""

import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition

from harness import requests
from harness.broker import unique
from harness.bucket import await_health, await_trouble, expect_no_orphan, status_sentences, topic_objects
from harness.firn import FirnServer
from harness.process import wait_until
from harness.records import Row, consume, expect_same, generated, produce
from harness.stores import VersityGw
from harness.wire import Wire

pytestmark = pytest.mark.firn
SMALL = {"batch.num.messages": 25}
STORAGE_ERROR = 56
SETTINGS = {
    "firn.object.store.timeout.ms": "1000",
    "firn.archive.retry.max.ms": "500",
    "firn.cold.fetch.timeout.ms": "1000",
    "firn.sweep.interval.ms": "200",
    "firn.sweep.grace.ms": "1000",
}


def settled(server: FirnServer, prefix: str, seed: int, count: int = 800) -> tuple[str, list[Row]]:
    """A topic whose records are in the archive alone, in several objects."""
    topic = server.create_topic(prefix, tier="cold")
    written = produce(server.bootstrap, topic, generated(count, seed=seed), **SMALL)
    server.settle(topic)
    assert len(server.archived_files(topic)) >= 4
    expect_no_orphan(server, topic)
    return topic, written


@contextmanager
def taken_away(file: Path, shelter: Path) -> Iterator[None]:
    """The object is not in the bucket while the block runs."""
    hidden = shelter / unique("hidden")
    # The gateway keeps an object's metadata with its file.
    file.rename(hidden)
    try:
        yield
    finally:
        file.parent.mkdir(parents=True, exist_ok=True)
        hidden.rename(file)


def fetch_code(server: FirnServer, topic: str, offset: int) -> int | None:
    """The error of a cold read; None when it brought records."""
    with Wire(server.host, server.port) as wire:
        answer = requests.fetch_one(wire, topic, offset, max_wait_ms=2000)
        return None if answer.records else int(answer.error_code)


def test_a_missing_object_is_named_and_the_rest_stays_readable(proxied: FirnServer, work_dir: Path) -> None:
    topic, written = settled(proxied, "missing-object", 1)
    files = proxied.archived_files(topic)
    victim = files[len(files) // 2]
    base, following = (int(part) for part in victim.name.split("-")[:2])
    proxied.restart()  # forgets what it has cached
    with taken_away(victim, work_dir):
        assert fetch_code(proxied, topic, base + 1) == STORAGE_ERROR
        trouble = await_trouble(proxied, topic, (victim.name, "found nothing"), "read")
        assert trouble["offset"] == base + 1
        (said,) = status_sentences(proxied, topic)
        assert f"reading the archive fails at offset {base + 1}" in said and victim.name in said
        for _ in range(20):
            fetch_code(proxied, topic, base + 1)
        lines = [line for line in proxied.log_text().splitlines() if victim.name in line and "WARN" in line]
        assert 1 <= len(lines) <= 3 and f"offset={base + 1}" in lines[0], lines
        below = consume(proxied.bootstrap, topic, limit=base)
        expect_same([row for row in written if row.offset < base], below)
        above = consume(proxied.bootstrap, topic, start=following)
        expect_same([row for row in written if row.offset >= following], above)
        more = produce(proxied.bootstrap, topic, generated(200, seed=2), **SMALL)
        proxied.settle(topic)
    expect_same(written + more, consume(proxied.bootstrap, topic))
    await_health(proxied, topic)
    expect_no_orphan(proxied, topic)


def test_a_missing_manifest_stops_archiving_and_eviction_until_it_is_back(proxied: FirnServer, work_dir: Path) -> None:
    topic, written = settled(proxied, "missing-manifest", 3)
    (manifest,) = [file for file in topic_objects(proxied, topic) if file.suffix == ".manifest"]
    proxied.restart()
    with taken_away(manifest, work_dir):
        written += produce(proxied.bootstrap, topic, generated(200, seed=4), **SMALL)
        await_trouble(proxied, topic, (manifest.name, "found nothing"))
        assert fetch_code(proxied, topic, 0) == STORAGE_ERROR
        await_trouble(proxied, topic, (manifest.name,), "read")
        (row,) = proxied.archive_status([topic])
        assert row["archived_end"] == row["local_start"] == 800 and row["log_end"] == 1000, row
        expect_same(written[800:], consume(proxied.bootstrap, topic, start=800))
    proxied.settle(topic)
    expect_same(written, consume(proxied.bootstrap, topic))
    await_health(proxied, topic)
    expect_no_orphan(proxied, topic)


def test_a_bucket_that_vanishes_and_comes_back_loses_nothing(
    proxied: FirnServer, versitygw: VersityGw, work_dir: Path
) -> None:
    topic, written = settled(proxied, "vanished", 5)
    bucket = versitygw.store().folder
    assert bucket is not None
    proxied.restart()
    with taken_away(bucket, work_dir):
        written += produce(proxied.bootstrap, topic, generated(200, seed=6), **SMALL)
        await_trouble(proxied, topic, ("NoSuchBucket",))
        assert fetch_code(proxied, topic, 0) == STORAGE_ERROR
        expect_same(written[800:], consume(proxied.bootstrap, topic, start=800))
        # A topic that is deleted now still has its objects to be removed when the bucket is back.
        proxied.create_topic("unlucky")
    proxied.settle(topic)
    expect_same(written, consume(proxied.bootstrap, topic))
    await_health(proxied, topic)
    expect_no_orphan(proxied, topic)


def test_objects_of_others_stay_and_our_own_orphans_go(proxied: FirnServer) -> None:
    topic, written = settled(proxied, "foreign", 7)
    files = proxied.archived_files(topic)
    data = files[0].parent
    manifest = data.parent / "manifest"
    cluster = data.parents[3]
    ours = re.sub(r"-[0-9a-f-]{36}\.parquet$", f"-{uuid.uuid4()}.parquet", files[0].name)
    foreign = [
        data / "notes.txt", data / "0.parquet", data / f"{files[0].name}.bak", data / f"copy-of-{files[0].name}",
        data / "2024" / files[0].name, data.parent / "README", data.parents[1] / "owner.json",
        manifest / "latest.manifest", cluster / "topics" / "notes.txt", cluster.parent / "somebody" / files[0].name,
    ]  # fmt: skip
    for file in foreign:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"theirs")
    shutil.copy(files[0], data / ours)  # by name ours, and named by no manifest
    written += produce(proxied.bootstrap, topic, generated(100, seed=8), **SMALL)
    proxied.settle(topic)
    wait_until("our orphan to be swept", lambda: not (data / ours).exists())
    assert all(file.exists() for file in foreign)
    assert all(file.exists() for file in proxied.archived_files(topic))
    expect_same(written, consume(proxied.bootstrap, topic))
    admin = proxied.admin()
    admin.delete_topics([topic], operation_timeout=20)[topic].result(20)

    def only_foreign() -> bool:
        lying = {file for file in topic_objects(proxied, topic)}
        assert lying <= set(foreign), lying - set(foreign)
        return True

    wait_until("our objects to go with their topic", only_foreign)
    wait_until("the removal to be over", lambda: "removed the archive of a deleted topic" in proxied.log_text())
    assert [file.read_bytes() for file in foreign] == [b"theirs"] * len(foreign)


def test_two_clusters_in_one_bucket_do_not_touch_one_another(proxied: FirnServer, versitygw: VersityGw) -> None:
    folder = proxied.folder.parent / "neighbour"
    folder.mkdir()
    neighbour = FirnServer(folder, versitygw.store(), SETTINGS)
    neighbour.start()
    try:
        name = unique("same-name")
        written = {}
        for server, seed in ((proxied, 9), (neighbour, 10)):
            server.create_topic(tier="cold", name=name)
            written[server] = produce(server.bootstrap, name, generated(600, seed=seed), **SMALL)
            server.settle(name)
        part = TopicPartition(name, 0, 300)
        admin = proxied.admin()
        assert admin.delete_records([part])[part].result(20).low_watermark == 300
        wait_until("deleted records' objects to go", lambda: min_base(proxied, name) > 0)
        expect_same(written[neighbour], consume(neighbour.bootstrap, name))
        admin.delete_topics([name], operation_timeout=20)[name].result(20)
        neighbours = {file for file in neighbour.archived_files(name)}

        def only_the_neighbours() -> bool:
            data = {file for file in topic_objects(neighbour, name) if file.suffix == ".parquet"}
            assert data == neighbours
            return True

        wait_until("one cluster's objects to go, and no other", only_the_neighbours)
        expect_no_orphan(neighbour, name)
        neighbour.restart()
        expect_same(written[neighbour], consume(neighbour.bootstrap, name))
    finally:
        neighbour.close()


def min_base(server: FirnServer, topic: str) -> int:
    """The first offset of the topic's oldest object in the bucket."""
    named = server.archived_files(topic)
    cluster = named[0].parents[4]
    return min(
        int(f.name.split("-")[0]) for f in topic_objects(server, topic) if f.suffix == ".parquet" and cluster in f.parents
    )
