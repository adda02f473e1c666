"""Every record comes back as it was written: all codecs, both tiers, all corners of the format (librdkafka)."""

import random

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer

from conftest import AnyServer
from harness import requests
from harness.batches import batch, headers_of
from harness.broker import Tier
from harness.records import (
    CODECS,
    TIMESTAMP_LOG_APPEND_TIME,
    Draft,
    as_append_time,
    consume,
    corner_cases,
    expect_same,
    generated,
    produce,
)
from harness.wire import Wire

TIERS: tuple[Tier, ...] = ("hot", "cold")
both_tiers = pytest.mark.parametrize("tier", TIERS)


@both_tiers
@pytest.mark.parametrize("codec", CODECS)
def test_records_come_back_as_written(server: AnyServer, tier: Tier, codec: str) -> None:
    topic = server.create_topic(f"codec-{codec}-{tier}", tier=tier, partitions=2)
    drafts = corner_cases() + generated(1500, seed=CODECS.index(codec), partitions=2)
    written = produce(server.bootstrap, topic, drafts, **{"compression.type": codec, "batch.num.messages": 100})
    if tier == "cold":
        server.settle(topic)
    expect_same(written, consume(server.bootstrap, topic, partitions=2))


@pytest.mark.parametrize("codec", CODECS)
def test_hot_batches_keep_the_codec_of_the_producer(server: AnyServer, codec: str) -> None:
    topic = server.create_topic(f"kept-{codec}")
    produce(server.bootstrap, topic, [Draft(value=b"snow " * 500)] * 50, **{"compression.type": codec})
    with Wire(server.host, server.port) as wire:
        fetched = requests.fetch_one(wire, topic, 0)
    found = headers_of(fetched.records)
    assert sum(count for _, _, count, _ in found) == 50
    assert {attributes & 7 for _, attributes, _, _ in found} == {CODECS.index(codec)}


@both_tiers
def test_a_broker_that_stamps_records_says_so(server: AnyServer, tier: Tier) -> None:
    topic = server.create_topic(f"append-time-{tier}", tier=tier, config={"message.timestamp.type": "LogAppendTime"})
    drafts = corner_cases() + generated(300, seed=7)
    written = produce(server.bootstrap, topic, drafts, **{"batch.num.messages": 50, "compression.type": "lz4"})
    if tier == "cold":
        server.settle(topic)
    read = consume(server.bootstrap, topic)
    expect_same(as_append_time(written, read), read)
    assert {row.timestamp_type for row in read} == {TIMESTAMP_LOG_APPEND_TIME}
    assert min(row.timestamp for row in read) > 1_700_000_000_000
    assert [row.timestamp for row in read] == sorted(row.timestamp for row in read)


@both_tiers
def test_large_records_survive(server: AnyServer, tier: Tier) -> None:
    limit = 3 << 20
    config = {"max.message.bytes": str(limit), "segment.bytes": str(limit + 1000)}
    topic = server.create_topic(f"large-{tier}", tier=tier, config=config)
    rng = random.Random(3)
    drafts = [Draft(key=b"big", value=rng.randbytes(size)) for size in (1, 1_000_000, limit - 500, 17, 2_000_000)]
    drafts.append(Draft(value=b"x" * (limit - 500)))
    written = produce(server.bootstrap, topic, drafts, **{"message.max.bytes": 2 * limit, "batch.num.messages": 1})
    if tier == "cold":
        server.settle(topic)
    # A fetch that asks for less than one record must still make progress.
    small = {"fetch.message.max.bytes": 1000, "fetch.max.bytes": 5000, "message.max.bytes": 1000}
    expect_same(written, consume(server.bootstrap, topic, **small))


def test_a_record_larger_than_the_topic_allows_is_refused(server: AnyServer) -> None:
    topic = server.create_topic("too-large", config={"max.message.bytes": "20000"})
    errors: list[KafkaError] = []
    producer = Producer({"bootstrap.servers": server.bootstrap, "message.max.bytes": 10_000_000})
    producer.produce(topic, value=random.Random(1).randbytes(30_000), on_delivery=lambda error, _: errors.append(error))
    producer.flush(20)
    assert [error.code() for error in errors] == [KafkaError.MSG_SIZE_TOO_LARGE]
    written = produce(server.bootstrap, topic, [Draft(value=b"fits")])
    assert written[0].offset == 0
    expect_same(written, consume(server.bootstrap, topic))


def test_a_batch_larger_than_a_segment_is_refused(server: AnyServer) -> None:
    topic = server.create_topic("over-segment", config={"max.message.bytes": "4000000", "segment.bytes": "1048576"})
    with Wire(server.host, server.port) as wire:
        answer = requests.produce_raw(wire, topic, batch([(b"k", b"x" * 1_100_000)]))
        assert answer.error_code == requests.RECORD_LIST_TOO_LARGE, answer
        assert requests.produce_raw(wire, topic, batch([(b"k", b"x" * 900_000)])).error_code == requests.NONE


@both_tiers
def test_a_record_without_a_timestamp_keeps_none(server: AnyServer, tier: Tier) -> None:
    topic = server.create_topic(f"no-timestamp-{tier}", tier=tier)
    with Wire(server.host, server.port) as wire:
        answer = requests.produce_raw(wire, topic, batch([(b"k", b"no time")], timestamp=-1))
    assert answer.error_code == requests.NONE, answer
    if tier == "cold":
        server.settle(topic)
    (row,) = consume(server.bootstrap, topic)
    assert (row.value, row.timestamp) == (b"no time", -1)


@pytest.mark.parametrize("codec", ["gzip", "zstd", "uncompressed"])
def test_a_topic_may_choose_the_codec_itself(server: AnyServer, codec: str) -> None:
    topic = server.create_topic(f"recompress-{codec}", config={"compression.type": codec})
    written = produce(server.bootstrap, topic, [Draft(value=b"snow " * 99, key=b"k")] * 40, **{"compression.type": "lz4"})
    with Wire(server.host, server.port) as wire:
        found = headers_of(requests.fetch_one(wire, topic, 0).records)
    wanted = {"uncompressed": 0, "gzip": 1, "zstd": 4}[codec]
    assert {attributes & 7 for _, attributes, _, _ in found} == {wanted}
    expect_same(written, consume(server.bootstrap, topic))


@both_tiers
def test_everything_is_still_there_after_a_restart(server: AnyServer, tier: Tier) -> None:
    topic = server.create_topic(f"restart-{tier}", tier=tier, partitions=3)
    first = produce(server.bootstrap, topic, generated(900, seed=11, partitions=3), **{"batch.num.messages": 50})
    if tier == "cold":
        server.settle(topic)
    server.restart()
    second = produce(server.bootstrap, topic, generated(300, seed=12, partitions=3), **{"batch.num.messages": 50})
    read = consume(server.bootstrap, topic, partitions=3)
    expect_same(first + second, read)
    for partition in range(3):
        assert [row.offset for row in read if row.partition == partition] == list(range(400))


def test_reading_past_the_end_waits_for_more(server: AnyServer) -> None:
    topic = server.create_topic("tail")
    written = produce(server.bootstrap, topic, [Draft(value=b"a")])
    with pytest.raises(KafkaException) as refused:
        consume(server.bootstrap, topic, start=5)
    assert refused.value.args[0].code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE)
    assert consume(server.bootstrap, topic, start=1) == []
    expect_same(written, consume(server.bootstrap, topic, start=0))
