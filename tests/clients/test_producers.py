"""Producers: idempotence, acknowledgements, topics that come into being by themselves, ids that go stale."""

import time

import pytest
from confluent_kafka import Consumer, KafkaError
from kafka.protocol.metadata import MetadataRequest
from kafka.protocol.producer import InitProducerIdRequest, ProduceRequest

from conftest import AnyServer, StartServer
from harness import requests
from harness.batches import batch
from harness.broker import unique
from harness.process import wait_until
from harness.records import Draft, consume, expect_same, generated, produce
from harness.requests import produce_raw
from harness.wire import Wire, topic_id

COORDINATOR_LOAD_IN_PROGRESS = 14
DUPLICATE_SEQUENCE = 46
OUT_OF_ORDER_SEQUENCE = 45
INVALID_PRODUCER_EPOCH = 47


def new_producer_id(wire: Wire) -> tuple[int, int]:
    """Id and epoch for an idempotent producer; a server that has just started may ask for patience."""

    def ask() -> tuple[int, int] | None:
        answer = wire.ask(request)
        if answer.error_code == COORDINATOR_LOAD_IN_PROGRESS:
            return None
        assert answer.error_code == requests.NONE, answer
        return answer.producer_id, answer.producer_epoch

    request = InitProducerIdRequest[4](
        transactional_id=None, transaction_timeout_ms=60_000, producer_id=-1, producer_epoch=-1
    )
    return wait_until("a producer id", ask)


@pytest.mark.parametrize("acks", ["0", "1", "all"])
def test_every_level_of_acknowledgement(server: AnyServer, acks: str) -> None:
    topic = server.create_topic(f"acks-{acks}", partitions=2)
    drafts = generated(500, seed=1, partitions=2)
    produce(server.bootstrap, topic, drafts, acks=acks)
    read: list[object] = []

    def all_there() -> bool:
        read[:] = consume(server.bootstrap, topic, partitions=2)
        return len(read) == 500

    wait_until("all records", all_there)
    assert [row.value for row in read] == [d.value for p in range(2) for d in drafts if d.partition == p]


def test_an_idempotent_producer_keeps_order_and_count(server: AnyServer) -> None:
    topic = server.create_topic("idempotent", partitions=3)
    config = {"enable.idempotence": True, "max.in.flight.requests.per.connection": 5, "batch.num.messages": 10}
    drafts = generated(3000, seed=2, partitions=3)
    written = produce(server.bootstrap, topic, drafts, **{**config, "linger.ms": 1})
    expect_same(written, consume(server.bootstrap, topic, partitions=3))
    for partition in range(3):
        assert [row.offset for row in written if row.partition == partition] == list(range(1000))


def test_a_repeated_batch_is_stored_once(server: AnyServer) -> None:
    topic = server.create_topic("repeat")
    now = int(time.time() * 1000)  # producers are forgotten by the time of their last record
    with Wire(server.host, server.port) as wire:
        producer_id, epoch = new_producer_id(wire)

        def send(sequence: int, epoch: int = epoch, producer_id: int = producer_id) -> tuple[int, int]:
            two = batch([(b"k", b"a"), (b"k", b"b")], producer=(producer_id, epoch, sequence), timestamp=now)
            answer = produce_raw(wire, topic, two)
            return answer.error_code, answer.base_offset

        assert send(0) == (requests.NONE, 0)
        assert send(2) == (requests.NONE, 2)
        assert send(2) == (requests.NONE, 2), "a repeated batch is answered with its first offset"
        assert send(0) == (requests.NONE, 0)
        assert send(8)[0] == OUT_OF_ORDER_SEQUENCE
        for sequence in (4, 6, 8, 10, 12):
            assert send(sequence) == (requests.NONE, sequence)
        assert send(0)[0] in (DUPLICATE_SEQUENCE, OUT_OF_ORDER_SEQUENCE), "only five batches are remembered"
        assert send(14, epoch=epoch + 1)[0] == OUT_OF_ORDER_SEQUENCE, "a new epoch begins at sequence 0"
        assert send(0, epoch=epoch + 1) == (requests.NONE, 14)
        assert send(16, epoch=epoch)[0] == INVALID_PRODUCER_EPOCH
    server.restart()
    with Wire(server.host, server.port) as wire:
        server.await_leaders(server.admin(), topic, 1)
        again = batch([(b"k", b"a"), (b"k", b"b")], producer=(producer_id, epoch + 1, 0), timestamp=now)
        answer = produce_raw(wire, topic, again)
        assert (answer.error_code, answer.base_offset) == (requests.NONE, 14), "also after a restart"
    assert len(consume(server.bootstrap, topic)) == 16


def test_producer_ids_are_never_given_twice(server: AnyServer) -> None:
    with Wire(server.host, server.port) as wire:
        before = [new_producer_id(wire)[0] for _ in range(20)]
    server.restart()

    with Wire(server.host, server.port) as wire:
        after = [new_producer_id(wire)[0] for _ in range(20)]
    assert len(set(before + after)) == 40


def test_every_announced_version_of_produce_is_understood(server: AnyServer) -> None:
    topic = server.create_topic("produce-versions")
    with Wire(server.host, server.port) as wire:
        for index, version in enumerate(range(3, 14)):
            answer = produce_raw(wire, topic, batch([(b"k", b"%d" % version)]), version=version)
            assert (answer.error_code, answer.base_offset) == (requests.NONE, index), f"version {version}"
    assert [row.value for row in consume(server.bootstrap, topic)] == [b"%d" % version for version in range(3, 14)]


def test_pipelined_requests_are_answered_in_order(server: AnyServer) -> None:
    topic = server.create_topic("pipeline")
    data = ProduceRequest.TopicProduceData
    with Wire(server.host, server.port) as wire:
        sent = []
        for index in range(50):
            parts = [data.PartitionProduceData(index=0, records=batch([(b"k", b"%d" % index)]))]
            request = ProduceRequest[9](
                transactional_id=None, acks=-1, timeout_ms=10_000, topic_data=[data(name=topic, partition_data=parts)]
            )
            wire.send(request)
            sent.append(request)
        offsets = [wire.receive(request).responses[0].partition_responses[0].base_offset for request in sent]
    assert offsets == list(range(50))


def test_an_unknown_partition_is_an_error(server: AnyServer) -> None:
    topic = server.create_topic("unknown-partition")
    with Wire(server.host, server.port) as wire:
        assert produce_raw(wire, topic, batch(), partition=9).error_code == requests.UNKNOWN_TOPIC_OR_PARTITION
        assert requests.fetch_one(wire, topic, 0, partition=9).error_code == requests.UNKNOWN_TOPIC_OR_PARTITION
        assert requests.list_offset(wire, topic, -1, partition=9).error_code == requests.UNKNOWN_TOPIC_OR_PARTITION


def test_topics_come_into_being_when_written_to(server: AnyServer) -> None:
    topic = unique("auto")
    written = produce(server.bootstrap, topic, [Draft(value=b"hello")])
    expect_same(written, consume(server.bootstrap, topic))
    reader = Consumer({"bootstrap.servers": server.bootstrap, "group.id": "x", "allow.auto.create.topics": False})
    absent = unique("not-created")
    metadata = reader.list_topics(timeout=20)
    assert topic in metadata.topics and absent not in metadata.topics
    reader.close()


@pytest.mark.firn
def test_one_request_creates_a_hundred_topics_at_most(start_server: StartServer) -> None:
    server = start_server({})
    names = [unique(f"many-{number:03}") for number in range(150)]
    wanted = [MetadataRequest.MetadataRequestTopic(name=name) for name in names]
    with Wire(server.host, server.port, timeout_s=60) as wire:
        for existing in (100, 150):
            answer = wire.ask(MetadataRequest[12](topics=wanted, allow_auto_topic_creation=True))
            codes = [topic.error_code for topic in answer.topics]
            assert codes == [0] * existing + [requests.UNKNOWN_TOPIC_OR_PARTITION] * (150 - existing), codes


def test_topics_do_not_come_into_being_when_that_is_off(start_server: StartServer) -> None:
    server = start_server({"auto.create.topics.enable": "false"})
    with Wire(server.host, server.port) as wire:
        wanted = MetadataRequest.MetadataRequestTopic(name=unique("never"))
        answer = wire.ask(MetadataRequest[12](topics=[wanted], allow_auto_topic_creation=True))
        assert answer.topics[0].error_code == requests.UNKNOWN_TOPIC_OR_PARTITION
        everything = wire.ask(MetadataRequest[12](topics=None, allow_auto_topic_creation=True))
        assert wanted.name not in [topic.name for topic in everything.topics]
    topic = server.create_topic("explicit")
    expect_same(produce(server.bootstrap, topic, [Draft(value=b"y")]), consume(server.bootstrap, topic))


@pytest.mark.parametrize("tier", ["hot", "cold"])
def test_a_recreated_topic_shares_nothing_with_its_predecessor(server: AnyServer, tier: str) -> None:
    admin, topic = server.admin(), server.create_topic(f"again-{tier}", tier=tier)
    produce(server.bootstrap, topic, generated(300, seed=3), **{"batch.num.messages": 20})
    if tier == "cold":
        server.settle(topic)
    with Wire(server.host, server.port) as wire:
        stale = topic_id(wire, topic)
        admin.delete_topics([topic], operation_timeout=20)[topic].result(20)
        wait_until("the topic to go", lambda: topic not in admin.list_topics(timeout=20).topics)
        server.create_topic(name=topic, tier=tier)
        fresh = topic_id(wire, topic)
        assert fresh != stale
        answer = wire.ask(requests.fetch_request({stale: {0: 0}}, max_wait_ms=1))
        codes = {answer.error_code} | {part.error_code for item in answer.responses for part in item.partitions}
        assert requests.UNKNOWN_TOPIC_ID in codes, answer
        data = ProduceRequest.TopicProduceData
        parts = [data.PartitionProduceData(index=0, records=batch())]
        request = ProduceRequest[13](
            transactional_id=None, acks=-1, timeout_ms=5000, topic_data=[data(topic_id=stale, partition_data=parts)]
        )
        refused = wire.ask(request).responses[0].partition_responses[0]
        assert refused.error_code == requests.UNKNOWN_TOPIC_ID, refused
    written = produce(server.bootstrap, topic, generated(50, seed=4), **{"batch.num.messages": 20})
    assert written[0].offset == 0
    if tier == "cold":
        server.settle(topic)
    expect_same(written, consume(server.bootstrap, topic))


def test_deleting_a_topic_ends_its_consumers_politely(server: AnyServer) -> None:
    admin, topic = server.admin(), server.create_topic("vanishing")
    produce(server.bootstrap, topic, [Draft(value=b"x")])
    consumer = Consumer(
        {"bootstrap.servers": server.bootstrap, "group.id": unique("g"), "auto.offset.reset": "earliest",
         "allow.auto.create.topics": False, "topic.metadata.refresh.interval.ms": 500,
         "topic.metadata.propagation.max.ms": 500}
    )  # fmt: skip
    consumer.subscribe([topic])
    wait_until("the record", lambda: (message := consumer.poll(0.2)) is not None and message.error() is None)
    admin.delete_topics([topic], operation_timeout=20)[topic].result(20)

    def told() -> bool:
        message = consumer.poll(0.2)
        return (
            message is not None
            and message.error() is not None
            and (message.error().code() == KafkaError.UNKNOWN_TOPIC_OR_PART)
        )

    wait_until("the consumer to be told", told)
    consumer.close()
