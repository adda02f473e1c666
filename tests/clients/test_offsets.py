"""Offsets, times, fetch limits and fetch sessions, asked by hand in both tiers."""

import pytest

from conftest import AnyServer
from harness import requests
from harness.batches import headers_of
from harness.broker import Tier
from harness.records import Draft, consume, expect_same, generated, produce
from harness.requests import fetch_one, fetch_request, list_offset
from harness.wire import Wire, topic_id

both_tiers = pytest.mark.parametrize("tier", ["hot", "cold"])
BASE = 1_600_000_000_000


def filled(server: AnyServer, tier: Tier, count: int = 600, batch: int = 25) -> str:
    """A topic with `count` records, a second apart except that record 100 comes from the far future."""
    topic = server.create_topic(f"offsets-{tier}", tier=tier)
    drafts = [
        Draft(value=b"%d" % number + b"." * 150, timestamp=BASE + (number if number != 100 else 9000) * 1000)
        for number in range(count)
    ]
    produce(server.bootstrap, topic, drafts, **{"batch.num.messages": batch})
    if tier == "cold":
        server.settle(topic)
    return topic


@both_tiers
def test_offsets_by_time(server: AnyServer, tier: Tier) -> None:
    topic = filled(server, tier)
    with Wire(server.host, server.port) as wire:

        def at(timestamp: int) -> tuple[int, int]:
            answer = list_offset(wire, topic, timestamp)
            assert answer.error_code == requests.NONE, answer
            return answer.offset, answer.timestamp

        assert at(0) == (0, BASE)
        assert at(BASE + 50_000) == (50, BASE + 50_000)
        assert at(BASE + 50_001) == (51, BASE + 51_000)
        assert at(BASE + 99_500) == (100, BASE + 9_000_000), "the first record at or after a time wins, not the nearest"
        assert at(BASE + 100_000) == (100, BASE + 9_000_000)
        assert at(BASE + 8_999_000) == (100, BASE + 9_000_000)
        assert at(BASE + 9_000_001) == (-1, -1)


@both_tiers
def test_special_offsets(server: AnyServer, tier: Tier) -> None:
    topic = filled(server, tier)
    with Wire(server.host, server.port) as wire:
        assert list_offset(wire, topic, requests.EARLIEST).offset == 0
        assert list_offset(wire, topic, requests.LATEST).offset == 600
        assert list_offset(wire, topic, requests.LATEST, isolation=1).offset == 600
        latest = list_offset(wire, topic, requests.MAX_TIMESTAMP)
        assert (latest.offset, latest.timestamp) == (100, BASE + 9_000_000)
        for version in range(1, 12):
            assert list_offset(wire, topic, requests.LATEST, version=version).offset == 600
        empty = server.create_topic("empty")
        assert list_offset(wire, empty, requests.EARLIEST).offset == 0
        assert list_offset(wire, empty, requests.LATEST).offset == 0
        assert list_offset(wire, empty, requests.MAX_TIMESTAMP).offset == -1
        assert list_offset(wire, empty, BASE).offset == -1


@both_tiers
def test_every_offset_can_be_read_on_its_own(server: AnyServer, tier: Tier) -> None:
    topic = filled(server, tier, count=120, batch=25)
    with Wire(server.host, server.port) as wire:
        for offset in range(120):
            answer = fetch_one(wire, topic, offset, partition_max_bytes=1)
            assert answer.error_code == requests.NONE
            found = headers_of(answer.records)
            assert found, f"nothing at offset {offset}: a limit must not stop the first batch"
            base, _, count, _ = found[0]
            assert base <= offset < base + count, f"asked for {offset}, got {found}"


@both_tiers
@pytest.mark.parametrize("start", [0, 1, 13, 24, 25, 99, 599])
def test_a_consumer_may_start_inside_a_batch(server: AnyServer, tier: Tier, start: int, filled_once: dict[str, str]) -> None:
    if tier not in filled_once:
        filled_once[tier] = filled(server, tier)
    read = consume(server.bootstrap, filled_once[tier], start=start)
    assert [row.offset for row in read] == list(range(start, 600))


@pytest.fixture(scope="module")
def filled_once() -> dict[str, str]:
    """Topics that several cases of a test share."""
    return {}


@both_tiers
def test_tiny_fetch_limits_still_make_progress(server: AnyServer, tier: Tier) -> None:
    topic = server.create_topic(f"tiny-{tier}", tier=tier, partitions=3)
    written = produce(server.bootstrap, topic, generated(600, seed=5, partitions=3), **{"batch.num.messages": 20})
    if tier == "cold":
        server.settle(topic)
    limits = {"fetch.message.max.bytes": 500, "fetch.max.bytes": 1024, "message.max.bytes": 1000, "fetch.wait.max.ms": 50}
    expect_same(written, consume(server.bootstrap, topic, partitions=3, **limits))


@both_tiers
def test_offsets_outside_the_log_are_refused(server: AnyServer, tier: Tier) -> None:
    topic = filled(server, tier)
    with Wire(server.host, server.port) as wire:
        at_end = fetch_one(wire, topic, 600, max_wait_ms=1)
        assert (at_end.error_code, at_end.high_watermark, len(at_end.records or b"")) == (requests.NONE, 600, 0)
        assert fetch_one(wire, topic, 601).error_code == requests.OFFSET_OUT_OF_RANGE
        assert fetch_one(wire, topic, 1 << 62).error_code == requests.OFFSET_OUT_OF_RANGE
        assert fetch_one(wire, topic, -1).error_code == requests.OFFSET_OUT_OF_RANGE


def test_a_long_poll_ends_when_data_arrives_or_time_is_up(server: AnyServer) -> None:
    topic = server.create_topic("long-poll")
    with Wire(server.host, server.port) as wire:
        waiting = fetch_request({topic_id(wire, topic): {0: 0}}, max_wait_ms=15_000, min_bytes=1)
        wire.send(waiting)
        produce(server.bootstrap, topic, [Draft(value=b"wake up")], **{"linger.ms": 0})
        answer = wire.receive(waiting)
        assert headers_of(answer.responses[0].partitions[0].records)[0][2] == 1
        nothing = wire.ask(fetch_request({topic_id(wire, topic): {0: 1}}, max_wait_ms=300, min_bytes=1))
        assert not nothing.responses[0].partitions[0].records


def test_an_incremental_session_sends_only_what_changed(server: AnyServer) -> None:
    count = 40
    topic = server.create_topic("session", partitions=count)
    with Wire(server.host, server.port) as wire:
        uuid = topic_id(wire, topic)
        full = wire.ask(fetch_request({uuid: dict.fromkeys(range(count), 0)}, session=(0, 0), max_wait_ms=1))
        assert full.error_code == requests.NONE and full.session_id > 0
        assert len(full.responses[0].partitions) == count
        session = full.session_id
        quiet = wire.ask(fetch_request({}, session=(session, 1), max_wait_ms=1))
        assert (quiet.error_code, list(quiet.responses)) == (requests.NONE, [])
        produce(server.bootstrap, topic, [Draft(value=b"x", partition=7), Draft(value=b"y", partition=33)])
        changed = wire.ask(fetch_request({}, session=(session, 2), max_wait_ms=2000))
        assert sorted(part.partition_index for part in changed.responses[0].partitions) in ([7, 33], [7], [33])
        # Partition 7 moves on, 33 leaves the session: nothing is new then.
        moved = wire.ask(fetch_request({uuid: {7: 1}}, session=(session, 3), forgotten={uuid: [33]}, max_wait_ms=1))
        assert [part for item in moved.responses for part in item.partitions if part.records] == []
        wrong_epoch = wire.ask(fetch_request({}, session=(session, 99), max_wait_ms=1))
        assert wrong_epoch.error_code == 71, "INVALID_FETCH_SESSION_EPOCH"
        unknown = wire.ask(fetch_request({}, session=(123_456_789, 1), max_wait_ms=1))
        assert unknown.error_code == 70, "FETCH_SESSION_ID_NOT_FOUND"


@both_tiers
def test_one_fetch_serves_many_partitions_within_its_limit(server: AnyServer, tier: Tier) -> None:
    count = 8
    topic = server.create_topic(f"many-{tier}", partitions=count, tier=tier)
    produce(server.bootstrap, topic, generated(1600, seed=9, partitions=count), **{"batch.num.messages": 20})
    if tier == "cold":
        server.settle(topic)
    with Wire(server.host, server.port) as wire:
        wanted = {topic_id(wire, topic): dict.fromkeys(range(count), 0)}
        everything = wire.ask(fetch_request(wanted, max_wait_ms=5000, min_bytes=1))
        parts = everything.responses[0].partitions
        assert {part.error_code for part in parts} == {requests.NONE}
        assert any(part.records for part in parts)
        limited = wire.ask(fetch_request(wanted, max_bytes=30_000, max_wait_ms=5000))
        assert sum(len(part.records or b"") for part in limited.responses[0].partitions) <= 60_000
    read = consume(server.bootstrap, topic, partitions=count)
    assert len(read) == 1600


def test_every_announced_version_of_fetch_answers(server: AnyServer) -> None:
    topic = filled(server, "hot", count=50)
    with Wire(server.host, server.port) as wire:
        for version in range(4, 19):
            key = topic_id(wire, topic) if version >= 13 else topic
            answer = wire.ask(fetch_request({key: {0: 10}}, version=version))
            part = answer.responses[0].partitions[0]
            assert part.error_code == requests.NONE, f"version {version}: {part}"
            assert headers_of(part.records)[0][0] == 0, "batches are never cut at the front"
