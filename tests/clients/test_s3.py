"""The core again with a real S3 server as the store, credentials by the chain, and stores that must be refused."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition

from harness.firn import FirnServer
from harness.parquet_rows import pyarrow_rows
from harness.process import wait_until
from harness.records import CODECS, consume, corner_cases, expect_same, generated, produce
from harness.stores import Store, VersityGw, environment_credentials, profile_credentials, s3_store
from harness.weak_store import Flaw, WeakStore

pytestmark = pytest.mark.firn
SMALL = {"batch.num.messages": 25}


@pytest.fixture(scope="module", params=["environment", "profile"])
def s3_server(request: pytest.FixtureRequest, work_dir: Path, versitygw: VersityGw) -> Iterator[FirnServer]:
    """A server whose archive is on VersityGW."""
    folder = work_dir / f"server-{request.param}"
    folder.mkdir()
    credentials = environment_credentials() if request.param == "environment" else profile_credentials(folder)
    settings = {"firn.sweep.interval.ms": "200", "firn.sweep.grace.ms": "500"}
    server = FirnServer(folder, versitygw.store(credentials=credentials), settings)
    server.start()
    yield server
    server.close()


def test_records_come_back_from_s3(s3_server: FirnServer) -> None:
    for codec in CODECS:
        topic = s3_server.create_topic(f"s3-{codec}", tier="cold", partitions=2)
        drafts = corner_cases() + generated(500, seed=1, partitions=2)
        written = produce(s3_server.bootstrap, topic, drafts, **{"compression.type": codec, **SMALL})
        s3_server.settle(topic)
        expect_same(written, consume(s3_server.bootstrap, topic, partitions=2))
        expect_same(written, pyarrow_rows(s3_server.archived_files(topic)))


def test_large_segments_are_uploaded_in_parts(s3_server: FirnServer) -> None:
    topic = s3_server.create_topic("s3-large", tier="cold", config={"segment.bytes": str(48 << 20), "segment.ms": "1500"})
    drafts = generated(40_000, seed=2, size=900)
    written = produce(s3_server.bootstrap, topic, drafts, **{"batch.size": 500_000, "linger.ms": 50})
    s3_server.settle(topic, timeout_s=120)
    expect_same(written, consume(s3_server.bootstrap, topic))


def test_offsets_survive_a_restart_and_a_kill(s3_server: FirnServer) -> None:
    topic = s3_server.create_topic("s3-restart", tier="cold")
    written = produce(s3_server.bootstrap, topic, generated(500, seed=3), **SMALL)
    s3_server.restart()
    written += produce(s3_server.bootstrap, topic, generated(500, seed=4), **SMALL)
    s3_server.kill()
    s3_server.start()
    s3_server.settle(topic)
    expect_same(written, consume(s3_server.bootstrap, topic))
    part = TopicPartition(topic, 0, 250)
    admin = s3_server.admin()
    assert admin.delete_records([part])[part].result(20).low_watermark == 250
    expect_same(written[250:], consume(s3_server.bootstrap, topic))
    admin.delete_topics([topic], operation_timeout=20)[topic].result(20)
    wait_until("the objects to go", lambda: not [f for f in s3_server.store.objects() if f"/{topic}-" in str(f)])


def refusal(server: FirnServer) -> str:
    """What a server that must not start says when it ends."""
    process = server.spawn()
    status = wait_until("the server to give up", lambda: process.exit_status is not None and (process.exit_status,), 60)
    assert status[0] > 0, f"status {status[0]}\n{process.output()}"
    assert "panicked" not in process.output()
    return process.output()


@pytest.mark.parametrize(
    ("flaw", "words"),
    [
        (Flaw.NO_CONDITIONAL_PUT, ("onditional PUT", "If-None-Match")),
        (Flaw.NO_RANGES, ("range",)),
        (Flaw.STALE_LISTING, ("listing",)),
        (Flaw.STALE_READS, ("read",)),
    ],
)
def test_a_store_that_breaks_its_promise_is_refused_by_name_and_reason(
    tmp_path: Path, flaw: Flaw, words: tuple[str, ...]
) -> None:
    weak = WeakStore(flaw)
    try:
        store = s3_store(weak.endpoint)
        said = refusal(FirnServer(tmp_path, store))
    finally:
        weak.close()
    assert store.url in said, said
    assert any(word in said for word in words), said


def test_the_stand_in_is_accepted_when_it_keeps_its_promises(tmp_path: Path) -> None:
    """So that the refusals above are about the flaw and not about the stand-in."""
    weak = WeakStore(Flaw.NONE)
    server = FirnServer(tmp_path, s3_store(weak.endpoint))
    try:
        server.start()
        topic = server.create_topic("stand-in", tier="cold")
        written = produce(server.bootstrap, topic, generated(200, seed=5), **SMALL)
        server.settle(topic)
        expect_same(written, consume(server.bootstrap, topic))
    finally:
        server.close()
        weak.close()


def test_wrong_credentials_are_refused_by_name(tmp_path: Path, versitygw: VersityGw) -> None:
    wrong = {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "nothing"}
    store = versitygw.store(credentials=wrong)
    settings = {"firn.object.store.timeout.ms": "3000"}
    assert store.url in refusal(FirnServer(tmp_path, store, settings))


def test_a_store_that_cannot_be_reached_is_named(tmp_path: Path) -> None:
    store: Store = s3_store("http://127.0.0.1:9")
    settings = {"firn.object.store.timeout.ms": "2000"}
    assert store.url in refusal(FirnServer(tmp_path, store, settings))
