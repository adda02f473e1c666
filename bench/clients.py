"""librdkafka as a producer and as a consumer, set for throughput."""

import time

from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition

from harness.broker import Broker
from records import records

# Batches just below the 1,048,588 bytes that topics take by default (max.message.bytes).
BATCH_BYTES = 1 << 20
_PRODUCER = {
    "acks": "all",
    "enable.idempotence": True,
    "max.in.flight.requests.per.connection": 5,
    "linger.ms": 50,
    "batch.size": BATCH_BYTES,
    "message.max.bytes": BATCH_BYTES,
    "batch.num.messages": 1_000_000,
    "queue.buffering.max.messages": 1_000_000,
    "queue.buffering.max.kbytes": 65_536,
}
_CONSUMER = {
    "group.id": "bench",
    "enable.auto.commit": False,
    "fetch.message.max.bytes": 8 << 20,
    "fetch.max.bytes": 64 << 20,
    "fetch.wait.max.ms": 100,
    "queued.max.messages.kbytes": 131_072,
    "queued.min.messages": 1_000_000,
}
STALLED_S = 60


def produce(server: Broker, topic: str, count: int, codec: str = "none") -> None:
    """Writes `count` records into partition 0; returns when the last one is acknowledged."""
    failures: list[KafkaError] = []

    def delivered(error: KafkaError | None, _: Message) -> None:
        if error is not None:
            failures.append(error)

    producer = Producer(
        {"bootstrap.servers": server.bootstrap, **_PRODUCER, "compression.type": codec,
         "delivery.report.only.error": True, "on_delivery": delivered}
    )  # fmt: skip
    for part in records(count):
        waiting = part
        while waiting:
            taken = producer.produce_batch(topic, waiting, partition=0)
            # When the queue is full, the rest goes once acknowledgements have made room.
            waiting = [record for record in waiting if record.pop("_error", None)] if taken < len(waiting) else []
            producer.poll(0.02 if waiting else 0)
    left = producer.flush(STALLED_S)
    if failures or left:
        raise RuntimeError(f"{left} records were never acknowledged, {len(failures)} failed: {failures[:1]}")


def consume(server: Broker, topic: str, count: int) -> None:
    """Reads partition 0 from offset 0 until `count` records came; they must be the offsets 0, 1, 2, …"""
    consumer = Consumer({"bootstrap.servers": server.bootstrap, **_CONSUMER})
    consumer.assign([TopicPartition(topic, 0, 0)])
    read = 0
    last = time.monotonic()
    while read < count:
        messages = consumer.consume(10_000, timeout=0.1)
        if not messages:
            if time.monotonic() - last > STALLED_S:
                raise RuntimeError(f"nothing came for {STALLED_S} s after {read} of {count} records")
            continue
        last = time.monotonic()
        read += len(messages)
        error = messages[0].error() or messages[-1].error()
        if error is not None or messages[-1].offset() != read - 1:
            raise RuntimeError(f"expected offset {read - 1}, got {messages[-1].offset()}: {error}")
    consumer.close()
