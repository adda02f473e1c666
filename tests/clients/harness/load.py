"""A producer that never stops, and the check that what it was promised is there exactly once."""

import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Self

from confluent_kafka import KafkaError, Message, Producer

from harness.process import wait_until
from harness.records import Row


class Load(threading.Thread):
    """An idempotent producer that numbers its records and notes which were acknowledged, and where.

    As a context manager it writes until the block ends: a test that fails leaves no writer behind.
    """

    def __init__(
        self, bootstrap: str, topic: str, partitions: int, *, per_second: int = 20_000, burst: int = 50, **config: object
    ) -> None:
        super().__init__(daemon=True)
        self.topic = topic
        self.partitions = partitions
        self.sent = 0
        self.acknowledged: dict[int, tuple[int, int]] = {}
        self.errors: list[KafkaError] = []
        self.longest_pause_s = 0.0
        """The longest time between two acknowledgements of one partition; a test may set it back to 0."""
        self._acknowledged_at: dict[int, float] = {}
        self._burst = burst
        """Records between two pauses: what is acknowledged is noticed so often."""
        self._pause_s = burst / per_second
        self._stopping = threading.Event()
        self._producer = Producer(
            {"bootstrap.servers": bootstrap, "enable.idempotence": True, "acks": "all", "linger.ms": 2,
             "batch.num.messages": 40, "batch.size": 6000, "message.timeout.ms": 120_000,
             "reconnect.backoff.ms": 10, "reconnect.backoff.max.ms": 100, "retry.backoff.ms": 20,
             "compression.type": "lz4", "queue.buffering.max.messages": 3000, "log_level": 0,
             "error_cb": self._failed, **config}
        )  # fmt: skip
        self.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.abandon()

    def _failed(self, error: KafkaError) -> None:
        if error.fatal():
            self.errors.append(error)

    def run(self) -> None:
        """Writes as fast as it may and the broker takes it."""
        while not self._stopping.is_set():
            number = self.sent

            def delivered(error: KafkaError | None, message: Message, number: int = number) -> None:
                if error is not None:
                    self.errors.append(error)
                else:
                    partition, now = message.partition(), time.monotonic()
                    # An answer for a repeated batch has no offset.
                    offset = message.offset()
                    self.acknowledged[number] = (partition, -1 if offset is None else offset)
                    self.longest_pause_s = max(self.longest_pause_s, now - self._acknowledged_at.get(partition, now))
                    self._acknowledged_at[partition] = now

            try:
                self._producer.produce(
                    self.topic, key=b"%d" % (number % 7), value=b"%d " % number + b"." * (number % 200),
                    partition=number % self.partitions, headers=[("n", b"%d" % number), ("n", None)],
                    on_delivery=delivered,
                )  # fmt: skip
                self.sent += 1
                self._producer.poll(0)
            except BufferError:
                self._producer.poll(0.02)
            if number % self._burst == 0:
                time.sleep(self._pause_s)

    def await_progress(self, timeout_s: float = 60) -> None:
        """Waits until every partition has acknowledged something that was not acknowledged before this call."""
        known = set(self.acknowledged)

        def progressed() -> bool:
            assert self.errors or self.acknowledged.keys() - known, "nothing new was acknowledged"
            fresh = {self.acknowledged[number][0] for number in self.acknowledged.keys() - known}
            return bool(self.errors) or len(fresh) == self.partitions

        wait_until("acknowledgements of every partition", progressed, timeout_s, 0.02)
        assert not self.errors, self.errors[0]

    def finish(self) -> None:
        """Stops writing and waits until everything is acknowledged."""
        self._stopping.set()
        self.join(30)
        assert self._producer.flush(90) == 0, "records were never acknowledged"
        assert not self.errors, self.errors[0]
        assert len(self.acknowledged) == self.sent

    def abandon(self) -> None:
        """Stops writing; what is not acknowledged is given up."""
        self._stopping.set()
        self.join(30)
        self._producer.purge()
        self._producer.flush(5)


def number_of(row: Row) -> int:
    """The number that the load wrote."""
    assert row.value is not None
    return int(row.value.split(b" ")[0])


def expect_all(load: Load, read: Sequence[Row], starts: Mapping[int, int] | None = None) -> None:
    """Every number exactly once, at the acknowledged place, in order, without a gap.

    `starts` are the partitions' first offsets where something was deleted: below them nothing may be left.
    """
    counts = Counter(number_of(row) for row in read)
    starts = starts or {}
    doubled = [number for number, count in counts.items() if count > 1]
    kept = {
        number: place for number, place in load.acknowledged.items() if place[1] < 0 or place[1] >= starts.get(place[0], 0)
    }
    lost = [number for number in kept if number not in counts]
    assert not doubled and not lost, f"doubled {doubled[:5]}, lost {lost[:5]} of {len(kept)}"
    places = {number_of(row): (row.partition, row.offset) for row in read}
    for number, (partition, offset) in kept.items():
        # A repeated batch may be acknowledged without its offset.
        assert offset < 0 or places[number] == (partition, offset), f"record {number} was acknowledged elsewhere"
    for partition in range(load.partitions):
        rows = [row for row in read if row.partition == partition]
        start = starts.get(partition, 0)
        assert [row.offset for row in rows] == list(range(start, start + len(rows))), f"partition {partition} has a gap"
        assert [number_of(row) for row in rows] == sorted(number_of(row) for row in rows), "the order was lost"
        assert all(row.headers == (("n", b"%d" % number_of(row)), ("n", None)) for row in rows)
