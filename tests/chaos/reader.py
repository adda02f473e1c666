"""A client that reads from everywhere: the log start, the middle of batches, the seam of the tiers, by time, the tail.

It also asks for what was deleted, and lags behind the retention of a topic on purpose.
"""

import sys
import time

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from chaos.client import Client
from chaos.events import NOWHERE, AtTime
from chaos.history import now
from chaos.reading import ASK_S, READER, SMALL_FETCHES, Reading, ask_bounds
from chaos.topics import BRIEF, TOPICS
from harness import requests
from harness.wire import Closed, Wire

MANY = 2500
FEW = 250
PATIENCE_S = 2.5
LAG_S = 6.0


class Reader(Client):
    """One reading after the other, each of a partition and from a place that chance chooses."""

    def __init__(self) -> None:
        super().__init__()
        self.admin = AdminClient(self.config())
        self.consumers = [Consumer(self.config(**READER, **more)) for more in ({}, SMALL_FETCHES)]

    def run(self) -> int:
        """Reads until told to stop."""
        while not self.stopping:
            topic = self.rng.choice(TOPICS)
            partition = self.rng.randrange(topic.partitions)
            consumer = self.rng.choice(self.consumers)
            bounds = ask_bounds(self, self.admin, topic.name, partition)
            if bounds is None:
                self.rest(0.2)
                continue
            if topic is BRIEF and self.rng.random() < 0.3:
                self._lag(partition, bounds[0])
                continue
            why = self.rng.choice(("start", "middle", "middle", "seam", "seam", "time", "time", "tail", "behind"))
            offset = self._offset(why, consumer, topic.name, partition, bounds)
            if offset is not None:
                self._read(Reading(self, consumer, topic.name, partition), offset, why)
        for consumer in self.consumers:
            consumer.close()
        return 0

    def _offset(self, why: str, consumer: Consumer, topic: str, partition: int, bounds: tuple[int, int]) -> int | None:
        """Where to begin; None when there is no such place now."""
        start, end = bounds
        if why == "start":
            return start
        if why == "middle":
            return self.rng.randint(start, end)
        if why == "tail":
            return max(start, end - self.rng.randint(0, 60))
        if why == "behind":
            return max(0, start - self.rng.randint(1, 40)) if start else None
        if why == "seam":
            seam = self._seam(topic, partition)
            return None if seam is None else min(max(start, seam - self.rng.randint(-3, 25)), end)
        return self._by_time(consumer, topic, partition)

    def _seam(self, topic: str, partition: int) -> int | None:
        """The first offset on the local disk, if the server that was chosen leads the partition."""
        host, port = self.rng.choice(self.args.bootstrap.split(",")).rsplit(":", 1)
        try:
            with Wire(host, int(port), timeout_s=ASK_S) as wire:
                answer = requests.list_offset(wire, topic, requests.EARLIEST_LOCAL, partition=partition)
        except (OSError, Closed):
            return None
        return answer.offset if answer.error_code == requests.NONE else None

    def _by_time(self, consumer: Consumer, topic: str, partition: int) -> int | None:
        asked, wanted = now(), round(time.time() * 1000) - self.rng.choice((-1000, 200, 2000, 8000, 30_000, 120_000))
        try:
            (answer,) = consumer.offsets_for_times([TopicPartition(topic, partition, wanted)], timeout=ASK_S)
        except KafkaException as error:
            self.trouble(error.args[0])
            return None
        if answer.error is not None:
            self.trouble(answer.error)
            return None
        offset = answer.offset if answer.offset >= 0 else NOWHERE
        self.history.note(AtTime(now(), asked, topic, partition, wanted, offset))
        return None if offset == NOWHERE else offset

    def _read(self, reading: Reading, offset: int, why: str) -> None:
        reading.open(offset, why)
        limit = MANY if why == "start" else FEW
        until = now() + PATIENCE_S
        while not self.stopping and not reading.ended and reading.rows < limit and now() < until:
            reading.read(200, 0.1)

    def _lag(self, partition: int, start: int) -> None:
        """Reads a little at a time, so slowly that the log start comes after."""
        reading = Reading(self, self.consumers[1], BRIEF.name, partition)
        reading.open(start, "lag")
        until = now() + BRIEF.retention_ms / 1000 + LAG_S
        while not self.stopping and not reading.ended and now() < until:
            reading.read(3, 0.1)
            self.rest(0.4)


if __name__ == "__main__":
    sys.exit(Reader().run())
