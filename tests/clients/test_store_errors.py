"""The object store answers with errors, loses answers, cuts bodies and garbles bytes, operation by operation.

Each case ends in the same records, a status that was plain meanwhile and is clear again, and a bucket without orphans.
"""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from harness import requests
from harness.bucket import await_health, await_trouble, expect_no_orphan, status_sentences, topic_objects
from harness.firn import FirnServer
from harness.parquet_rows import pyarrow_rows
from harness.process import wait_until
from harness.proxy import Alternating, Bursts, Chosen, Fault, FaultProxy, Request
from harness.records import Draft, Row, consume, expect_same, generated, produce
from harness.stores import VersityGw
from harness.wire import Wire

pytestmark = pytest.mark.firn
SMALL = {"batch.num.messages": 25}
PART_BYTES = 5 << 20
SETTINGS = {
    "firn.object.store.timeout.ms": "1000",
    "firn.archive.retry.max.ms": "500",
    "firn.archive.part.bytes": str(PART_BYTES),
    "firn.cold.fetch.timeout.ms": "500",
    "firn.cold.cache.bytes": str(16 << 20),
    "firn.sweep.interval.ms": "200",
    "firn.sweep.grace.ms": "1000",
}
PARTITIONS = 2


def of_data(request: Request) -> bool:
    """Uploads of data objects."""
    return request.is_write and request.is_data


def of_manifests(request: Request) -> bool:
    """Uploads of manifests."""
    return request.is_write and request.is_manifest


@dataclass(frozen=True)
class Case:
    """A rule, and how the status names the trouble; no words where retries inside one call cover it."""

    rule: Callable[[], Chosen | Alternating | Bursts]
    words: tuple[str, ...] = ()
    activity: str = "archive"


CASES = {
    "bursts of SlowDown with Retry-After": Case(lambda: Bursts(Fault.SLOW_DOWN, 2.5, 0.4), ("503", "SlowDown")),
    "data written, then 500": Case(lambda: Alternating(of_data, Fault.ERROR_AFTER)),
    "every manifest written, then 500": Case(lambda: Chosen(of_manifests, Fault.ERROR_AFTER), ("put", "500")),
    "deleted, then 500": Case(lambda: Chosen(lambda r: r.is_delete, Fault.ERROR_AFTER), ("delete", "500"), "sweep"),
    "listed, then 500": Case(lambda: Chosen(lambda r: r.is_list, Fault.ERROR_AFTER), ("list", "500"), "sweep"),
    "answers to uploads lost": Case(lambda: Alternating(of_data, Fault.LOST_ANSWER)),
    "all answers to manifests lost": Case(lambda: Chosen(of_manifests, Fault.LOST_ANSWER), ("put", ".manifest")),
    "answers to deletions lost": Case(lambda: Chosen(lambda r: r.is_delete, Fault.LOST_ANSWER), ("delete",), "sweep"),
    "answers to listings lost": Case(lambda: Chosen(lambda r: r.is_list, Fault.LOST_ANSWER), ("list",), "sweep"),
    "uploads cut now and then": Case(lambda: Alternating(of_data, Fault.CUT_REQUEST)),
    "all uploads cut": Case(lambda: Chosen(of_data, Fault.CUT_REQUEST), ("put", ".parquet")),
    "listings cut": Case(lambda: Chosen(lambda r: r.is_list, Fault.SHORT), ("list",), "sweep"),
    "listings garbled": Case(lambda: Alternating(lambda r: r.is_list, Fault.WRONG_BYTES)),
    "uploads garbled on their way": Case(lambda: Chosen(of_data, Fault.WRONG_REQUEST), ("put", ".parquet")),
}


@pytest.mark.parametrize("name", CASES)
def test_each_operation_may_fail_and_nothing_is_lost_doubled_or_left_over(
    proxied: FirnServer, proxy: FaultProxy, name: str
) -> None:
    case = CASES[name]
    topic = proxied.create_topic("errors", tier="cold", partitions=PARTITIONS)
    rule = case.rule()
    with proxy.failing(rule):
        written = produce(proxied.bootstrap, topic, generated(400, seed=len(name), partitions=PARTITIONS), **SMALL)
        wait_until("the fault to strike", lambda: rule.struck >= 3)
        if case.words:
            trouble = await_trouble(proxied, topic, case.words, case.activity)
            said = wait_until("the command to say so", lambda: status_sentences(proxied, topic))
            assert any(trouble["error"][:30] in line for line in said), said
        expect_same(written, consume_patiently(proxied, topic, len(written)))
    proxied.settle(topic)
    expect_same(written, consume(proxied.bootstrap, topic, partitions=PARTITIONS))
    expect_same(written, pyarrow_rows(proxied.archived_files(topic)))
    expect_no_orphan(proxied, topic)
    await_health(proxied, topic)
    assert not status_sentences(proxied, topic)


def consume_patiently(server: FirnServer, topic: str, count: int) -> list[Row]:
    """All records, from wherever they are, while the store fails for writers."""
    rows = consume(server.bootstrap, topic, partitions=PARTITIONS, timeout_s=30)
    assert len(rows) == count
    return rows


def large_drafts(seed: int) -> list[Draft]:
    """Twelve megabytes that no codec makes smaller."""
    rng = random.Random(seed)
    return [Draft(value=rng.randbytes(600_000)) for _ in range(20)]


LARGE = {"segment.bytes": str(64 << 20), "segment.ms": "300"}

PART_CASES = {
    "completed, then 500": (lambda: Alternating(lambda r: r.is_complete, Fault.ERROR_AFTER), ()),
    "all completed, then 500": (lambda: Chosen(lambda r: r.is_complete, Fault.ERROR_AFTER, 4), ()),
    "answers to completions lost": (lambda: Chosen(lambda r: r.is_complete, Fault.LOST_ANSWER, 4), ()),
    "parts cut": (lambda: Chosen(lambda r: "partNumber=2" in r.target, Fault.CUT_REQUEST, 8), ("put_part",)),
    "read back garbled": (lambda: Chosen(lambda r: r.is_read and r.is_data, Fault.WRONG_BYTES), (".parquet",)),
}


@pytest.mark.parametrize("name", PART_CASES)
def test_an_upload_in_parts_may_fail_at_any_step(
    proxied: FirnServer, proxy: FaultProxy, versitygw: VersityGw, name: str
) -> None:
    rule_of, words = PART_CASES[name]
    topic = proxied.create_topic("parts", tier="cold", config=LARGE)
    rule = rule_of()
    with proxy.failing(rule):
        written = produce(proxied.bootstrap, topic, large_drafts(len(name)), **{"batch.size": 1_000_000})
        wait_until("the fault to strike", lambda: rule.struck >= 1)
        if words:
            await_trouble(proxied, topic, words)
            (row,) = proxied.archive_status([topic])
            assert row["local_start"] == 0, "what is not verified must not leave the disk"
        else:
            proxied.settle(topic)
    proxied.settle(topic)
    expect_same(written, consume(proxied.bootstrap, topic))
    expect_no_orphan(proxied, topic)
    await_health(proxied, topic)
    left = [file for file in (versitygw.store().folder or versitygw.folder).rglob("*") if ".sgwtmp" in str(file)]
    assert not [file for file in left if file.is_file() and topic in str(file)], "parts were left behind"


def test_a_garbled_manifest_is_never_believed(proxied: FirnServer, proxy: FaultProxy) -> None:
    topic = proxied.create_topic("garbled", tier="cold")
    written = produce(proxied.bootstrap, topic, generated(300, seed=5), **SMALL)
    proxied.settle(topic)
    for fault, words in ((Fault.WRONG_BYTES, ("damaged", ".manifest")), (Fault.SHORT, (".manifest",))):
        proxied.restart()  # forgets the manifests that it has read
        with proxy.failing(Chosen(lambda r: r.is_read and r.is_manifest, fault)), Wire(proxied.host, proxied.port) as wire:
            wait_until("an error", lambda wire=wire: cold_error(wire, topic))
            trouble = await_trouble(proxied, topic, words, "read")
            assert trouble["offset"] == 0
        expect_same(written, consume(proxied.bootstrap, topic))
        await_health(proxied, topic)
    expect_no_orphan(proxied, topic)


def cold_error(wire: Wire, topic: str) -> int:
    """The error code of a cold read that must not bring records."""
    answer = requests.fetch_one(wire, topic, 0, max_wait_ms=200)
    assert not answer.records
    return int(answer.error_code)


def test_a_listing_that_names_others_objects_harms_them_not(proxied: FirnServer, proxy: FaultProxy) -> None:
    """The sweep and the removal of a deleted topic's archive touch nothing outside the folder that they asked for."""
    bystander = proxied.create_topic("bystander", tier="cold")
    kept = produce(proxied.bootstrap, bystander, generated(300, seed=6), **SMALL)
    proxied.settle(bystander)
    victim = proxied.create_topic("victim", tier="cold")
    produce(proxied.bootstrap, victim, generated(300, seed=7), **SMALL)
    proxied.settle(victim)
    expect_no_orphan(proxied, bystander)
    objects = {file.name for file in topic_objects(proxied, bystander)}
    keys = [re.sub(r".*/firn-archive/", "", str(file)) for file in topic_objects(proxied, bystander)]

    def rewrite(body: bytes) -> bytes:
        """Every key of the listing is one of the bystander's."""
        names = iter(keys * (1 + body.count(b"<Key>")))
        return re.sub(rb"<Key>[^<]*</Key>", lambda _: f"<Key>{next(names)}</Key>".encode(), body)

    proxy.rewrite = rewrite
    rule = Chosen(lambda r: r.is_list, Fault.REWRITTEN)
    with proxy.failing(rule):
        produce(proxied.bootstrap, victim, generated(100, seed=8), **SMALL)
        await_trouble(proxied, victim, ("the listing names", "not in that folder"), "sweep")
        admin = proxied.admin()
        admin.delete_topics([victim], operation_timeout=20)[victim].result(20)
        struck = rule.struck
        wait_until("removals over wrong names", lambda: rule.struck >= struck + 3)
        assert {file.name for file in topic_objects(proxied, bystander)} == objects
    wait_until("the right objects to go", lambda: not topic_objects(proxied, victim))
    assert {file.name for file in topic_objects(proxied, bystander)} == objects
    expect_same(kept, consume(proxied.bootstrap, bystander))
