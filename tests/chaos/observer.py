"""A client that asks for every partition's bounds and every group's offsets, and moves log starts by DeleteRecords."""

import sys

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from chaos.client import Client
from chaos.events import DeleteAsked, Deleted
from chaos.history import now
from chaos.reading import ASK_S, READER, ask_bounds, ask_committed
from chaos.topics import GROUPS, TOPICS

PAUSE_S = 0.3
DELETE_EVERY_S = 3.0


class Observer(Client):
    """Asks in rounds."""

    def __init__(self) -> None:
        super().__init__()
        self.groups = {group: Consumer(self.config(**{**READER, "group.id": group})) for group in GROUPS}
        self.admin = AdminClient(self.config())

    def run(self) -> int:
        """Asks until told to stop."""
        deleted_at = now()
        while not self.stopping:
            deletes = now() - deleted_at > DELETE_EVERY_S
            self._round(deletes=deletes)
            # A round that took long without deleting is followed by one that deletes.
            if deletes:
                deleted_at = now()
            self.rest(PAUSE_S)
        for consumer in self.groups.values():
            consumer.close()
        return 0

    def _round(self, *, deletes: bool) -> None:
        for topic in TOPICS:
            for partition in range(topic.partitions):
                bounds = None if self.stopping else ask_bounds(self, self.admin, topic.name, partition)
                if bounds is not None and topic.trimmed and deletes:
                    self._delete(topic.name, partition, *bounds)
        for group in self.groups:
            if not self.stopping:
                ask_committed(self, self.groups[group], group)

    def _delete(self, topic: str, partition: int, start: int, end: int) -> None:
        before = self.rng.randint(start, start + (end - start) // 2)
        self.history.note(DeleteAsked(now(), topic, partition, before))
        part = TopicPartition(topic, partition, before)
        try:
            answer = self.admin.delete_records([part], request_timeout=ASK_S)[part].result(2 * ASK_S)
        except KafkaException as error:
            self.trouble(error.args[0])
            return
        self.history.note(Deleted(now(), topic, partition, before, answer.low_watermark))


if __name__ == "__main__":
    sys.exit(Observer().run())
