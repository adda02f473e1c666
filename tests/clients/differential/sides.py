"""One server under comparison: single requests, and the topics and groups that the requests are about."""

import itertools
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from differential.messages import Message, decode_response, encode_request
from harness import batches
from harness.broker import Broker
from harness.kafka_peer import KafkaServer
from harness.wire import Closed, Wire

SILENCE_S = 20.0
"""A server that has not answered by then does not answer."""

Values = dict[str, Any]

T0 = 1_600_000_000_000
"""Timestamp of the first record."""


class Side:
    """One server, one connection. The two sides get the same calls in the same order."""

    def __init__(self, name: str, server: Broker, messages: Mapping[str, Message]) -> None:
        self.name, self.server, self.messages = name, server, messages
        self._wire: Wire | None = None
        self._correlation = itertools.count(1)
        self.topic_ids: dict[str, uuid.UUID] = {}
        self.taken: dict[str, int] = {}
        self.cluster_id, self.broker_id = "", -1
        self.has_transactions = isinstance(server, KafkaServer)

    def ask(self, api: str, version: int, values: Values, timeout_s: float = SILENCE_S) -> Values | str:
        """The answer, or "closed" or "silence" when there is none."""
        request, response = self.messages[f"{api}Request"], self.messages[f"{api}Response"]
        wire, correlation_id = self._connected(timeout_s), next(self._correlation)
        try:
            wire.send_frame(encode_request(request, version, values, correlation_id))
            frame = wire.read_frame()
        except Closed:
            self.disconnect()
            return "closed"
        except TimeoutError:
            self.disconnect()
            return "silence"
        answered, body = decode_response(response, version, frame)
        assert answered == correlation_id, f"{self.name}: {api} was answered for request {answered}"
        return body

    def must(self, api: str, version: int, values: Values) -> Values:
        """An answer that only prepares; there has to be one."""
        answer = self.ask(api, version, values)
        assert isinstance(answer, dict), f"{self.name}: {api} {version} {values}: {answer}"
        return answer

    def until(self, api: str, version: int, values: Values, is_done: Callable[[Values], bool]) -> Values:
        """Asks again until the answer is as it should be."""
        deadline = time.monotonic() + 30
        while True:
            answer = self.must(api, version, values)
            if is_done(answer):
                return answer
            assert time.monotonic() < deadline, f"{self.name}: {api} still answers {answer}"
            time.sleep(0.05)

    def _connected(self, timeout_s: float) -> Wire:
        if self._wire is None:
            self._wire = Wire(self.server.host, self.server.port, timeout_s)
        self._wire.set_timeout(timeout_s)
        return self._wire

    def disconnect(self) -> None:
        """Closes the connection; the next request opens another."""
        if self._wire is not None:
            self._wire.close()
            self._wire = None

    def create_topics(self, topics: Mapping[str, int]) -> None:
        """Creates topics with so many partitions, and waits until all of them are led."""
        wanted = [{"Name": name, "NumPartitions": count, "ReplicationFactor": 1} for name, count in topics.items()]
        answer = self.must("CreateTopics", 7, {"Topics": wanted})
        assert all(topic["ErrorCode"] == 0 for topic in answer["Topics"]), answer
        self.topic_ids |= {topic["Name"]: topic["TopicId"] for topic in answer["Topics"]}
        named = [{"Name": name} for name in topics]

        def is_led(answer: Values) -> bool:
            parts = [part for topic in answer["Topics"] for part in topic["Partitions"]]
            return len(parts) == sum(topics.values()) and all(part["LeaderId"] >= 0 for part in parts)

        self.until("Metadata", 12, {"Topics": named, "AllowAutoTopicCreation": False}, is_led)

        def has_log(answer: Values) -> bool:
            return all(part["ErrorCode"] == 0 for topic in answer["Topics"] for part in topic["Partitions"])

        lists = [
            {"Name": name, "Partitions": [{"PartitionIndex": index, "Timestamp": -1} for index in range(count)]}
            for name, count in topics.items()
        ]
        self.until("ListOffsets", 8, {"ReplicaId": -1, "Topics": lists}, has_log)

    def produce(self, topic: str, partition: int, records: bytes) -> None:
        """Stores one batch."""
        parts = [{"Index": partition, "Records": records}]
        values = {"Acks": -1, "TimeoutMs": 10_000, "TopicData": [{"Name": topic, "PartitionData": parts}]}
        answer = self.must("Produce", 9, values)
        assert answer["Responses"][0]["PartitionResponses"][0]["ErrorCode"] == 0, answer

    def topic_id(self, name: str) -> uuid.UUID:
        """The id of a topic that was created here."""
        return self.topic_ids[name]

    def next_of(self, pool: str) -> int:
        """Numbers from 0, for what only one request may use."""
        self.taken[pool] = self.taken.get(pool, -1) + 1
        return self.taken[pool]

    def own_topic(self) -> str:
        """A topic that no other request touches."""
        name = f"own-{self.next_of('topic')}"
        if name not in self.topic_ids:
            first = self.taken["topic"]
            self.create_topics({f"own-{number}": 1 for number in range(first, first + OWN_TOPICS)})
        return name

    def own_group(self, api: str) -> str:
        """A group id that no other request uses."""
        return f"group-{api}-{self.next_of('group')}"

    def await_coordinator(self, key_type: int) -> None:
        """Waits until there is a coordinator: of groups (0) or of transactions (1)."""

        def is_found(answer: Values) -> bool:
            return all(one["ErrorCode"] == 0 for one in answer["Coordinators"])

        self.until("FindCoordinator", 4, {"KeyType": key_type, "CoordinatorKeys": ["any"]}, is_found)

    def await_groups(self) -> None:
        """Waits until groups have a coordinator that has loaded its only partition."""
        self.await_coordinator(0)

        def is_loaded(answer: Values) -> bool:
            return answer["Groups"][0]["ErrorCode"] == 0

        self.until("OffsetFetch", 8, {"Groups": [{"GroupId": "any", "Topics": []}]}, is_loaded)

    def join(self, group: str, instance: str | None = None) -> tuple[str, int]:
        """Makes the only member of a group; its id and generation."""
        protocol = {"Name": "range", "Metadata": b"metadata"}
        joining = {"GroupId": group, "SessionTimeoutMs": 60_000, "RebalanceTimeoutMs": 60_000, "MemberId": ""}
        joining |= {"ProtocolType": "test", "Protocols": [protocol], "GroupInstanceId": instance}
        version = 3 if instance is None else 5
        joined = self.must("JoinGroup", version, joining)
        assert joined["ErrorCode"] == 0, f"{self.name}: {joined}"
        return joined["MemberId"], joined["GenerationId"]

    def join_and_sync(self, group: str, instance: str | None = None) -> tuple[str, int]:
        """As `join`, with the assignment."""
        member, generation = self.join(group, instance)
        assigned = [{"MemberId": member, "Assignment": b"assignment"}]
        syncing = {"GroupId": group, "GenerationId": generation, "MemberId": member, "Assignments": assigned}
        synced = self.must("SyncGroup", 3, syncing | {"GroupInstanceId": instance})
        assert synced["ErrorCode"] == 0, synced
        return member, generation

    def commit(self, group: str, topic: str, partition: int, offset: int) -> None:
        """Commits an offset without a membership."""
        part = {"PartitionIndex": partition, "CommittedOffset": offset, "CommittedMetadata": "text"}
        topics = [{"Name": topic, "Partitions": [part]}]
        answer = self.must("OffsetCommit", 8, {"GroupId": group, "Topics": topics})
        assert answer["Topics"][0]["Partitions"][0]["ErrorCode"] == 0, answer


def batch(count: int = 3, timestamp: int = T0, producer: tuple[int, int, int] = (-1, -1, -1)) -> bytes:
    """A batch of so many records."""
    return batches.batch([(b"key", b"value %d" % index) for index in range(count)], timestamp=timestamp, producer=producer)


OWN_TOPICS = 60
"""So many are created at a time."""
OWN_PARTITIONS = 200


def seed(side: Side) -> None:
    """The same topics, records and groups on either side."""
    cluster = side.must("Metadata", 12, {"Topics": []})
    side.cluster_id, side.broker_id = cluster["ClusterId"], cluster["ControllerId"]
    topics = {"alpha": 3, "beta": 1, "changed": 1, "tmp.with-dots_": 1, "parts": OWN_PARTITIONS}
    side.create_topics(topics)
    for number in range(3):
        side.produce("alpha", 0, batch(3, T0 + 1000 * number))
    asking = {"TransactionalId": None, "TransactionTimeoutMs": 60_000}
    producer = side.until("InitProducerId", 4, asking, lambda answer: answer["ErrorCode"] == 0)
    side.produce("alpha", 2, batch(2, T0, (producer["ProducerId"], 0, 0)))
    side.produce("beta", 0, batch(1))
    side.await_groups()
    if side.has_transactions:
        side.await_coordinator(1)
    side.commit("committed", "alpha", 0, 2)
    side.commit("committed", "beta", 0, 1)
    side.join_and_sync("joined")


def on_both(sides: list[Side], work: Callable[[Side], None]) -> None:
    """Does the same on all sides at the same time."""
    failures: list[BaseException] = []

    def run(side: Side) -> None:
        try:
            work(side)
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=run, args=(side,), name=side.name) for side in sides]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
