"""A member of a group: reads `kept`, commits what it has read, and resumes where the group had come to.

It commits without first asking whether it still belongs to the group, as a member that was paused for long does.
"""

import sys

from confluent_kafka import Consumer, KafkaException, TopicPartition

from chaos.client import Client
from chaos.events import NOWHERE, CommitAsked, Committed, Fetched, Opened, Read
from chaos.history import now
from chaos.reading import ASK_S, rows_by_partition
from chaos.topics import GROUPS, KEPT

COMMIT_EVERY_S = 0.4


class Member(Client):
    """One member. A reading begins when a partition is given to it and ends when it is taken."""

    def __init__(self) -> None:
        super().__init__("group")
        self.group: str = self.args.group
        self.cooperative = GROUPS[self.group].startswith("cooperative")
        self.sessions: dict[int, str] = {}
        self.reached: dict[int, int] = {}
        self.commits = 0
        self.consumer = Consumer(self.config(**{
            "group.id": self.group, "partition.assignment.strategy": GROUPS[self.group], "enable.auto.commit": False,
            "auto.offset.reset": "earliest", "session.timeout.ms": 3000, "heartbeat.interval.ms": 300,
            "max.poll.interval.ms": 30_000, "fetch.wait.max.ms": 100, "fetch.error.backoff.ms": 50, "check.crcs": True,
        }))  # fmt: skip

    def run(self) -> int:
        """Reads and commits until told to stop."""
        self.consumer.subscribe([KEPT.name], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost)
        committed_at = now()
        while not self.stopping:
            messages = self.consumer.consume(100, 0.1)
            for partition, rows in rows_by_partition(messages).items():
                if partition in self.sessions:
                    self.history.note(Read(now(), self.sessions[partition], tuple(rows)))
                    self.reached[partition] = rows[-1].offset + 1
            for message in messages:
                if message.error() is not None:
                    self.trouble(message.error())
            if now() - committed_at > COMMIT_EVERY_S:
                self._commit(list(self.reached))
                committed_at = now()
        self.consumer.close()
        return 0

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        committed = self._ask([part.partition for part in partitions])
        for part in partitions:
            session = self.next_session()
            known = committed.get(part.partition)
            # A group that never committed begins at the log start, which stays 0 in this topic.
            offset = NOWHERE if known is None else max(known, 0)
            self.sessions[part.partition] = session
            self.history.note(Opened(now(), session, KEPT.name, part.partition, offset, "resume", self.group))
        if self.cooperative:
            consumer.incremental_assign(partitions)
        else:
            consumer.assign(partitions)

    def _ask(self, partitions: list[int]) -> dict[int, int]:
        """The committed offsets as the group tells them; those that it did not tell are missing."""
        asked = now()
        wanted = [TopicPartition(KEPT.name, partition) for partition in partitions]
        try:
            answers = self.consumer.committed(wanted, timeout=ASK_S) if wanted else []
        except KafkaException as error:
            self.trouble(error.args[0])
            return {}
        told = {}
        for answer in answers:
            if answer.error is None:
                told[answer.partition] = max(answer.offset, NOWHERE)
                fetched = Fetched(
                    now(), asked, self.name, self.group, KEPT.name, answer.partition, max(answer.offset, NOWHERE)
                )
                self.history.note(fetched)
        return told

    def _revoked(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._commit([part.partition for part in partitions if part.partition in self.reached])
        self._drop(consumer, partitions)

    def _lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._drop(consumer, partitions)

    def _drop(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        for part in partitions:
            self.sessions.pop(part.partition, None)
            self.reached.pop(part.partition, None)
        if self.cooperative:
            consumer.incremental_unassign(partitions)
        else:
            consumer.unassign()

    def _commit(self, partitions: list[int]) -> None:
        """Commits how far the partitions were read; without an answer the outcome is unknown."""
        if not partitions:
            return
        names = {}
        for partition in partitions:
            self.commits += 1
            names[partition] = f"{self.name}!{self.commits}"
            asked = CommitAsked(now(), names[partition], self.group, KEPT.name, partition, self.reached[partition])
            self.history.note(asked)
        wanted = [TopicPartition(KEPT.name, partition, self.reached[partition]) for partition in partitions]
        try:
            answers = self.consumer.commit(offsets=wanted, asynchronous=False)
        except KafkaException as error:
            self.trouble(error.args[0])
            return
        for answer in answers or []:
            if answer.error is None:
                self.history.note(Committed(now(), names[answer.partition]))
            else:
                self.trouble(answer.error)


if __name__ == "__main__":
    sys.exit(Member().run())
