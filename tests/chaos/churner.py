"""A client whose topic comes and goes: made, filled, read, committed to, deleted, and made again under the same name.

Each life of the topic has to hold its own records and its own committed offsets, whole, and nothing of the life before. A
broker that is cut off may answer for the life before until it learns better, so an answer counts as wrong when it stays
wrong. A deletion or creation without an answer may still be carried out later; the next life has another name then.
"""

import sys
import time
from collections.abc import Callable
from typing import Any

from confluent_kafka import OFFSET_INVALID, Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from chaos.client import Client
from chaos.events import Life
from chaos.history import now
from chaos.reading import ASK_S, READER
from chaos.topics import PASSING

PATIENCE_S = 120
"""Longer than faults follow each other without a pause."""
RECORDS = 60
READ_FOR_S = 5.0
GROUP = "passers"


class Wrong(Exception):
    """A promise is broken, or seems to be."""


class Churner(Client):
    """Leads one topic after the other through its life."""

    def __init__(self) -> None:
        super().__init__()
        quiet = {"error_cb": lambda _: None}
        self.admin = AdminClient(self.config(**quiet))
        self.consumer = Consumer(self.config(**{**READER, **quiet, "group.id": GROUP}))
        self.quiet = quiet
        self.names = 0
        self.lives = 0
        self.doubted = False
        """Whether a request for the topic got no answer."""

    @property
    def topic(self) -> str:
        """The name of the topic at present."""
        return f"{PASSING.name}-{self.names}"

    def run(self) -> int:
        """Until told to stop; the exit status."""
        while not self.stopping:
            try:
                self._live()
            except Wrong as wrong:
                if not self.stopping:
                    print(f"{self.topic}, life {self.lives}: {wrong}", file=sys.stderr)
                    return 1
        self.consumer.close()
        return 0

    def _live(self) -> None:
        self.lives += 1
        partitions = [TopicPartition(self.topic, partition) for partition in range(PASSING.partitions)]
        new = NewTopic(self.topic, PASSING.partitions, config=PASSING.config)
        created = self._persist("the topic could not be made", lambda: self._ask(self.admin.create_topics, new, "EXISTS"))
        self._persist("a new topic has committed offsets", lambda: self._expect_committed(partitions, OFFSET_INVALID))
        acked = self._produce()
        ends = [TopicPartition(part.topic, part.partition, max(acked[part.partition], default=0)) for part in partitions]
        self._persist("offsets could not be committed", lambda: self._commit(ends))
        self.rest(self.rng.uniform(0.0, 3.0))
        for part in partitions:
            self._persist(
                "records are missing or of another life", lambda part=part: self._read(part, acked[part.partition])
            )
        self._persist("committed offsets changed", lambda: [self._expect_committed([end], end.offset) for end in ends])
        deleted = self._persist(
            "the topic could not be deleted", lambda: self._ask(self.admin.delete_topics, self.topic, "UNKNOWN_TOPIC")
        )
        self.history.note(Life(now(), self.topic, self.lives, sum(map(len, acked.values()))))
        if not (created and deleted):
            self.names += 1

    def _persist(self, what: str, attempt: Callable[[], Any]) -> Any:
        """Tries until it succeeds; gives up when asked to stop."""
        until = now() + PATIENCE_S
        while True:
            try:
                return attempt()
            except (Wrong, KafkaException) as error:
                if self.stopping or now() > until:
                    raise Wrong(f"{what} for {PATIENCE_S} s: {error}") from error
                time.sleep(0.1)

    def _ask(self, ask: Callable[..., dict], what: NewTopic | str, done_before: str) -> bool:
        """Whether the first answer was that it is done; an earlier try may have done it without an answer."""
        (answer,) = ask([what], operation_timeout=ASK_S, request_timeout=2 * ASK_S).values()
        try:
            answer.result()
        except KafkaException as error:
            if done_before not in error.args[0].name():
                self.doubted = True
                raise
        doubted, self.doubted = self.doubted, False
        return not doubted

    def _produce(self) -> dict[int, dict[int, str]]:
        """The values that were acknowledged, by partition and offset."""
        acked: dict[int, dict[int, str]] = {partition: {} for partition in range(PASSING.partitions)}
        producer = Producer(self.config(**{
            **self.quiet, "enable.idempotence": True, "acks": "all", "linger.ms": 5, "batch.num.messages": 10,
            "message.timeout.ms": PATIENCE_S * 1000,
        }))  # fmt: skip
        for number in range(RECORDS):
            partition, value = number % PASSING.partitions, f"{self.name}/{self.lives}/{number}"

            def delivered(error: KafkaError | None, message, partition: int = partition, value: str = value) -> None:
                if error is None and message.offset() is not None and message.offset() >= 0:
                    acked[partition][message.offset() + 1] = value

            producer.produce(self.topic, value, partition=partition, on_delivery=delivered)
            producer.poll(0.02)
        until = now() + PATIENCE_S
        while producer.flush(0.2) and now() < until and not self.stopping:
            pass
        if len(producer):
            raise Wrong(f"{len(producer)} records were not acknowledged")
        return acked

    def _expect_committed(self, partitions: list[TopicPartition], offset: int) -> None:
        for answer in self.consumer.committed(partitions, timeout=ASK_S):
            if answer.error is not None:
                raise KafkaException(answer.error)
            if answer.offset != offset:
                raise Wrong(f"partition {answer.partition} has {answer.offset}, not {offset}")

    def _commit(self, ends: list[TopicPartition]) -> None:
        for answer in self.consumer.commit(offsets=ends, asynchronous=False) or []:
            if answer.error is not None:
                raise KafkaException(answer.error)
        for end in ends:
            self._expect_committed([end], end.offset)

    def _read(self, part: TopicPartition, acked: dict[int, str]) -> None:
        """Reads the partition from its beginning.

        It has this life's records and no others, one at every offset, each once, and all that were acknowledged.
        """
        self.consumer.assign([TopicPartition(part.topic, part.partition, 0)])
        values: list[str] = []
        until = now() + READ_FOR_S
        try:
            while len(values) < max(acked, default=0) and now() < until:
                for message in self.consumer.consume(100, 0.1):
                    if message.error() is not None or (message.topic(), message.partition()) != (part.topic, part.partition):
                        continue
                    if message.offset() != len(values):
                        raise Wrong(f"{part}: offset {message.offset()} came after {len(values)} records")
                    values.append((message.value() or b"").decode())
        finally:
            self.consumer.unassign()
        strange = [value for value in values if not value.startswith(f"{self.name}/{self.lives}/")]
        if strange:
            raise Wrong(f"{part}: {strange[0]} is of another life")
        if len(set(values)) < len(values):
            raise Wrong(f"{part}: a record stands at two offsets")
        for next_offset, value in acked.items():
            if values[next_offset - 1 : next_offset] != [value]:
                raise Wrong(f"{part}: {value} is not at {next_offset - 1}; {len(values)} records were read")


if __name__ == "__main__":
    sys.exit(Churner().run())
