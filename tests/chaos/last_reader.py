"""The client that reads everything when all else has ended: every partition from its log start to its end.

On the topic that time deletes from, the log start may move on meanwhile; then it begins again.
"""

import sys
from collections.abc import Callable

from confluent_kafka import Consumer
from confluent_kafka.admin import AdminClient

from chaos.client import Client
from chaos.events import Whole
from chaos.history import now
from chaos.reading import READER, Reading, ask_bounds, ask_committed
from chaos.topics import GROUPS, TOPICS

PATIENCE_S = 120


class LastReader(Client):
    """Reads all partitions, one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.admin = AdminClient(self.config())
        self.consumer = Consumer(self.config(**READER))

    def run(self) -> int:
        """The exit status: 0 when everything was read."""
        for topic in TOPICS:
            for partition in range(topic.partitions):
                what = f"{topic.name}/{partition} could not be read to its end"
                if not self._persist(what, lambda until, place=(topic.name, partition): self._read(*place, until)):
                    return 1
        self.consumer.close()
        for group in GROUPS:
            consumer = Consumer(self.config(**{**READER, "group.id": group}))
            what = f"the offsets of group {group} were not told"
            if not self._persist(what, lambda _, consumer=consumer, group=group: ask_committed(self, consumer, group)):
                return 1
            consumer.close()
        return 0

    def _persist(self, what: str, done: Callable[[float], bool]) -> bool:
        until = now() + PATIENCE_S
        while not done(until):
            if now() > until:
                print(f"{what} in {PATIENCE_S} s", file=sys.stderr)
                return False
        return True

    def _read(self, topic: str, partition: int, until: float) -> bool:
        bounds = ask_bounds(self, self.admin, topic, partition)
        if bounds is None:
            return False
        start, end = bounds
        reading = Reading(self, self.consumer, topic, partition)
        reading.open(start, "last")
        while reading.next < end and not reading.refused and now() < until:
            reading.read(500, 0.2)
        if reading.next < end:
            return False
        self.history.note(Whole(now(), reading.session, start, end))
        return True


if __name__ == "__main__":
    sys.exit(LastReader().run())
