"""What readers outside of groups do: ask for bounds and committed offsets, read on from an offset; all of it noted."""

import contextlib
import time
from collections import defaultdict
from collections.abc import Iterable

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from chaos.client import Client
from chaos.events import NOWHERE, Bounds, Fetched, Opened, OutOfRange, Read, Record, Row, text_of
from chaos.history import now
from chaos.topics import KEPT

READER = {
    "group.id": "readers", "enable.auto.commit": False, "enable.partition.eof": True, "check.crcs": True,
    "auto.offset.reset": "error", "fetch.error.backoff.ms": 50, "fetch.wait.max.ms": 100,
}  # fmt: skip
SMALL_FETCHES = {"fetch.message.max.bytes": 1500, "queued.min.messages": 1}
ASK_S = 5.0
BOUNDS = (OffsetSpec.earliest(), OffsetSpec.latest())


def row_of(message: Message) -> Row:
    """A consumed message as the history holds it."""
    headers = tuple((name, text_of(content)) for name, content in message.headers() or ())
    record = Record(message.timestamp()[1], text_of(message.key()), text_of(message.value()), headers)
    epoch = message.leader_epoch()
    return Row(message.offset(), record, NOWHERE if epoch is None else epoch)


def rows_by_partition(messages: Iterable[Message]) -> dict[int, list[Row]]:
    """The rows of messages without an error, by partition, in the order in which they came."""
    rows: dict[int, list[Row]] = defaultdict(list)
    for message in messages:
        if message.error() is None:
            rows[message.partition()].append(row_of(message))
    return rows


def ask_bounds(client: Client, admin: AdminClient, topic: str, partition: int) -> tuple[int, int] | None:
    """Asks for log start and high watermark and notes the answer; None when there was none."""
    part = TopicPartition(topic, partition)
    asked = now()
    try:
        asking = [admin.list_offsets({part: wanted}, request_timeout=ASK_S)[part] for wanted in BOUNDS]
        start, end = [question.result(2 * ASK_S) for question in asking]
    except KafkaException as error:
        client.trouble(error.args[0])
        if error.args[0].code() == KafkaError.FENCED_LEADER_EPOCH:
            # After a new term librdkafka's admin client goes on asking in the old one, until somebody looks at the metadata.
            with contextlib.suppress(KafkaException):
                admin.list_topics(topic, timeout=ASK_S)
        return None
    if start.leader_epoch is None or end.leader_epoch is None:
        # A connection on which librdkafka got no ApiVersions in time speaks versions that do not tell who answers.
        return None
    told = (start.offset, end.offset, start.leader_epoch, end.leader_epoch)
    client.history.note(Bounds(now(), asked, round(time.time() * 1000), topic, partition, *told))
    return start.offset, end.offset


def ask_committed(client: Client, consumer: Consumer, group: str) -> bool:
    """Asks for a group's offsets of all partitions and notes them; whether there was a whole answer."""
    wanted = [TopicPartition(KEPT.name, partition) for partition in range(KEPT.partitions)]
    asked = now()
    try:
        answers = consumer.committed(wanted, timeout=ASK_S)
    except KafkaException as error:
        client.trouble(error.args[0])
        return False
    for answer in answers:
        if answer.error is not None:
            client.trouble(answer.error)
            return False
        offset = max(answer.offset, NOWHERE)
        client.history.note(Fetched(now(), asked, client.name, group, KEPT.name, answer.partition, offset))
    return True


class Reading:
    """One session of one reader."""

    def __init__(self, client: Client, consumer: Consumer, topic: str, partition: int) -> None:
        self.client, self.consumer, self.topic, self.partition = client, consumer, topic, partition
        self.session = ""
        self.next = 0
        self.rows = 0
        self.ended = False
        """At the end of the log, or out of range."""
        self.refused = False
        """Out of range."""

    def open(self, offset: int, why: str) -> None:
        """Goes to the offset."""
        self.session = self.client.next_session()
        self.next = offset
        self.client.history.note(Opened(now(), self.session, self.topic, self.partition, offset, why))
        self.consumer.assign([TopicPartition(self.topic, self.partition, offset)])

    def read(self, count: int, timeout_s: float) -> None:
        """Reads on, up to so many rows, and notes them."""
        messages = self.consumer.consume(count, timeout_s)
        rows = rows_by_partition(messages).get(self.partition, [])
        if rows:
            self.client.history.note(Read(now(), self.session, tuple(rows)))
            self.next = rows[-1].offset + 1
            self.rows += len(rows)
        for message in messages:
            if not self._is_stale(message):
                self._look_at(message.error())

    def _is_stale(self, message: Message) -> bool:
        """Whether it belongs to a session before: its end may still be on its way when the next one is assigned."""
        if (message.topic(), message.partition()) not in ((self.topic, self.partition), (None, -1)):
            return True
        error = message.error()
        is_refusal = error is not None and error.code() == KafkaError._AUTO_OFFSET_RESET
        return is_refusal and message.offset() is not None and message.offset() not in (self.next, -1001)

    def _look_at(self, error: KafkaError | None) -> None:
        if error is None:
            return
        if error.code() == KafkaError._PARTITION_EOF:
            self.ended = True
        elif error.code() == KafkaError._AUTO_OFFSET_RESET and "out of range" in error.str().lower():
            self.client.history.note(OutOfRange(now(), self.session, self.next))
            self.ended = self.refused = True
        else:
            self.client.trouble(error)
