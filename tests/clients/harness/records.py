"""Records that cover every corner of Kafka's format, and writing and reading them with librdkafka.

What was written and what is read back are both `Row`s, so a test compares them with `==`.
"""

import random
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from confluent_kafka import (
    OFFSET_BEGINNING,
    TIMESTAMP_CREATE_TIME,
    TIMESTAMP_LOG_APPEND_TIME,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")

Headers = tuple[tuple[str, bytes | None], ...]


@dataclass(frozen=True)
class Row:
    """One record as a consumer sees it. Timestamps are milliseconds since 1970."""

    partition: int
    offset: int
    timestamp_type: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers


@dataclass(frozen=True)
class Draft:
    """One record as a producer means it; `timestamp` None leaves it to the client."""

    key: bytes | None = None
    value: bytes | None = None
    headers: Headers = ()
    timestamp: int | None = None
    partition: int = 0


def corner_cases() -> list[Draft]:
    """Nulls, empties, duplicate and odd headers, odd timestamps, bytes that are not text."""
    return [
        Draft(key=b"k", value=b"v"),
        Draft(key=None, value=b"no key"),
        Draft(key=b"tombstone", value=None),
        Draft(key=None, value=None),
        Draft(key=b"", value=b""),
        Draft(key=b"\x00\xff\xfe", value=bytes(range(256))),
        Draft(key=b"h", value=b"one header", headers=(("trace", b"abc"),)),
        Draft(key=b"h", value=b"duplicates", headers=(("a", b"1"), ("b", b"2"), ("a", b"1"), ("a", b"3"))),
        Draft(key=b"h", value=b"empty and null", headers=(("empty", b""), ("null", None), ("", b"empty name"))),
        Draft(key=b"h", value=b"text", headers=(("größe-雪", "schnee ❄".encode()), ("binary", b"\x00\x80\xff"))),
        Draft(key=None, value=None, headers=(("only", b"headers"),)),
        Draft(key=b"t", value=b"the epoch itself", timestamp=1),
        Draft(key=b"t", value=b"long ago", timestamp=86_400_000),
        Draft(key=b"t", value=b"the year 2013", timestamp=1_357_034_400_123),
        Draft(key=b"t", value=b"just before the epoch", timestamp=-2),
        Draft(key=b"t", value=b"the year 1900", timestamp=-2_208_988_799_877),
        Draft(key=b"many", value=b"many headers", headers=tuple((f"h{i}", str(i).encode()) for i in range(100))),
    ]


def generated(count: int, seed: int, *, size: int = 200, partitions: int = 1) -> list[Draft]:
    """Records of varied shape and about `size` bytes; half of the value is text that compresses."""
    rng = random.Random(seed)
    base = 1_700_000_000_000
    drafts = []
    for index in range(count):
        length = rng.randint(0, 2 * size)
        value = (f'{{"index": {index}, "text": "'.encode() + b"snow " * length)[: length // 2] + rng.randbytes(length // 2)
        headers = tuple(
            (f"h{rng.randint(0, 3)}", rng.choice([None, b"", rng.randbytes(9)])) for _ in range(rng.randint(0, 3))
        )
        drafts.append(
            Draft(
                key=rng.choice([None, b"", f"key-{index % 17}".encode()]),
                value=rng.choice([value, value, value, None]),
                headers=headers,
                timestamp=base + index * 10 + rng.randint(-50, 50),
                partition=index % partitions,
            )
        )
    return drafts


def produce(bootstrap: str, topic: str, drafts: Sequence[Draft], **config: object) -> list[Row]:
    """Writes the records and returns them with the offsets and timestamps that the broker gave; fails on any error.

    Batches stay below the "cold" topics' segment size, because Kafka refuses a batch that is larger than a segment.
    """
    rows: list[Row | None] = [None] * len(drafts)
    errors: list[KafkaError] = []
    producer = Producer(
        {"bootstrap.servers": bootstrap, "linger.ms": 20, "acks": "all", "message.timeout.ms": 30_000,
         "batch.size": 12_000, "queue.buffering.max.messages": 1_000_000, **config}
    )  # fmt: skip
    for index, draft in enumerate(drafts):

        def delivered(error: KafkaError | None, message: Message, index: int = index, draft: Draft = draft) -> None:
            if error is not None:
                errors.append(error)
                return
            kind, timestamp = message.timestamp()
            rows[index] = Row(draft.partition, message.offset(), kind, timestamp, draft.key, draft.value, draft.headers)

        extra = {} if draft.timestamp is None else {"timestamp": draft.timestamp}
        producer.produce(
            topic, value=draft.value, key=draft.key, partition=draft.partition, headers=list(draft.headers) or None,
            on_delivery=delivered, **extra,
        )  # fmt: skip
        producer.poll(0)
    remaining = producer.flush(60)
    assert not errors, f"{len(errors)} records were refused, first: {errors[0]}"
    assert remaining == 0, f"{remaining} records were not acknowledged in time"
    return [row for row in rows if row is not None]


def row_of(message: Message) -> Row:
    """A consumed message as a row."""
    kind, timestamp = message.timestamp()
    headers: Headers = tuple(message.headers() or ())
    return Row(message.partition(), message.offset(), kind, timestamp, message.key(), message.value(), headers)


def consume(
    bootstrap: str,
    topic: str,
    *,
    partitions: int = 1,
    start: int = OFFSET_BEGINNING,
    limit: int | None = None,
    timeout_s: float = 60,
    **config: object,
) -> list[Row]:
    """Reads every partition from `start` to its end (or `limit` rows in all), checking checksums on the way.

    Rows come sorted by partition and offset, after a check that each partition's came in order.
    """
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": f"reader-of-{topic}", "enable.auto.commit": False,
         "enable.partition.eof": True, "check.crcs": True, "auto.offset.reset": "error",
         "fetch.error.backoff.ms": 50, **config}
    )  # fmt: skip
    rows: list[Row] = []
    last: dict[int, int] = {}
    open_partitions = set(range(partitions))
    deadline = time.monotonic() + timeout_s
    try:
        consumer.assign([TopicPartition(topic, partition, start) for partition in open_partitions])
        while open_partitions and (limit is None or len(rows) < limit):
            if time.monotonic() > deadline:
                raise TimeoutError(f"read {len(rows)} records of {topic} in {timeout_s} s, still open: {open_partitions}")
            for message in consumer.consume(500, timeout=0.2):
                error = message.error()
                if error is None:
                    row = row_of(message)
                    assert row.offset > last.get(row.partition, -1), f"offset {row.offset} after {last[row.partition]}"
                    last[row.partition] = row.offset
                    rows.append(row)
                elif error.code() == KafkaError._PARTITION_EOF:
                    open_partitions.discard(message.partition())
                elif not error.retriable():
                    raise KafkaException(error)
    finally:
        consumer.close()
    rows.sort(key=lambda row: (row.partition, row.offset))
    return rows if limit is None else rows[:limit]


def by_offset(rows: Iterable[Row]) -> list[Row]:
    """Sorted by partition and offset."""
    return sorted(rows, key=lambda row: (row.partition, row.offset))


def expect_same(written: Iterable[Row], read: Iterable[Row]) -> None:
    """Fails with the first difference, not with two pages of bytes."""
    expected, got = by_offset(written), by_offset(read)
    for want, have in zip(expected, got, strict=False):
        assert have == want, f"read {have}\nbut wrote {want}"
    assert len(got) == len(expected), f"read {len(got)} records, wrote {len(expected)}"


def as_append_time(rows: Iterable[Row], read: Sequence[Row]) -> list[Row]:
    """The rows with the timestamps that a log-append-time topic gave them, as far as the producer was not told."""
    times = {(row.partition, row.offset): row.timestamp for row in read}
    return [
        replace(row, timestamp_type=TIMESTAMP_LOG_APPEND_TIME, timestamp=times[row.partition, row.offset]) for row in rows
    ]


__all__ = [
    "CODECS", "TIMESTAMP_CREATE_TIME", "TIMESTAMP_LOG_APPEND_TIME", "Draft", "Headers", "Row", "as_append_time",
    "by_offset", "consume", "corner_cases", "expect_same", "generated", "produce", "row_of",
]  # fmt: skip
