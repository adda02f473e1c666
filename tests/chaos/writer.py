"""A client that writes without pause: every value once, acks=all, idempotent.

It waits for every acknowledgement as long as the run lasts. A producer that gives up on a record whose outcome is unknown
goes on under its next epoch, and sends again what was in flight behind that record; no broker can know those again.
"""

import sys
import time

from confluent_kafka import KafkaError, Message, Producer

from chaos.client import Client
from chaos.events import NOWHERE, Acked, Failed, Record, Sent, text_of
from chaos.history import now
from chaos.topics import TOPICS

PER_SECOND = 110
PATIENCE_MS = 3_600_000
"""Longer than a fault lasts."""
FLUSH_S = 120
CODECS = ("none", "lz4", "zstd", "gzip", "snappy")


class Writer(Client):
    """Writes bursts to one partition after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.codec = self.rng.choice(CODECS)
        self.number = 0
        self.failure: KafkaError | None = None
        self.producer = Producer(self.config(**{
            "enable.idempotence": True, "acks": "all", "linger.ms": 5, "batch.num.messages": 50, "batch.size": 12_000,
            "message.timeout.ms": PATIENCE_MS, "compression.type": self.codec, "error_cb": self._failed,
            "queue.buffering.max.messages": 2000, "enable.gapless.guarantee": True,
        }))  # fmt: skip

    def _failed(self, error: KafkaError) -> None:
        self.trouble(error)
        if error.fatal():
            self.failure = error

    def run(self) -> int:
        """Writes until told to stop; the process's exit status."""
        places = [(topic.name, partition) for topic in TOPICS for partition in range(topic.partitions)]
        while not self.stopping and self.failure is None:
            topic, partition = self.rng.choice(places)
            count = self.rng.choice((1, 1, 3, 10, 30))
            for _ in range(count):
                self._send(topic, partition)
            self._poll_for(count / PER_SECOND)
        if self.failure is not None:
            print(f"{self.name}: the producer cannot go on: {self.failure}", file=sys.stderr)
            return 1
        left = self.producer.flush(FLUSH_S)
        if left:
            print(f"{self.name}: {left} records were not acknowledged {FLUSH_S} s after the last fault", file=sys.stderr)
            return 1
        return 0

    def _poll_for(self, seconds: float) -> None:
        until = now() + seconds
        while not self.stopping and (left := until - now()) > 0:
            self.producer.poll(min(left, 0.05))

    def _send(self, topic: str, partition: int) -> None:
        producer, number = self.name, self.number
        self.number += 1
        key = self.rng.choice((None, b"", f"key-{number % 5}".encode()))
        size = self.rng.choice((0, 20, 60, 150, 150, 300, 2500 if number % 20 == 0 else 80))
        value = f"{producer}/{number} ".encode() + (b"%d snow " % number * (size // 8 + 1))[:size]
        headers = [("n", b"%d" % number), ("", None), ("n", self.rng.choice((b"", b"\xff\x00", b"h")))]
        headers = headers[: self.rng.randint(0, 3)]
        stamp = round(time.time() * 1000) - self.rng.choice((0, 0, 0, self.rng.randint(0, 800)))
        told = tuple((name, text_of(content)) for name, content in headers)
        record = Record(stamp, text_of(key), text_of(value), told)
        self.history.note(Sent(now(), producer, number, topic, partition, record))

        def delivered(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                self.trouble(error)
                self.history.note(Failed(now(), producer, number, error.name()))
            else:
                offset = message.offset()
                told = NOWHERE if offset is None or offset < 0 else offset
                self.history.note(Acked(now(), producer, number, topic, partition, told))

        while not self.failure:
            try:
                self.producer.produce(
                    topic, value, key, partition, on_delivery=delivered, timestamp=stamp, headers=headers or None
                )
                return
            except BufferError:
                self.producer.poll(0.1)


if __name__ == "__main__":
    sys.exit(Writer().run())
