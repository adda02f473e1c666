"""Other clients than librdkafka's Python face against three nodes: kcat and kafka-python, across a failover."""

from typing import Any

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from harness.cluster import Cluster
from harness.kcat import kcat
from harness.process import wait_until
from harness.records import consume, generated, produce


@pytest.mark.timeout(120)
def test_kcat_writes_and_reads_with_and_without_a_node(cluster: Cluster[Any]) -> None:
    topic = cluster.create_topic("kcat", partitions=3)
    written = []
    for turn in range(2):
        lines = [f"{turn}-{number}" for number in range(500)]
        kcat(
            cluster.bootstrap,
            "-P",
            "-t",
            topic,
            "-X",
            "acks=all",
            "-X",
            "enable.idempotence=true",
            stdin="\n".join(lines) + "\n",
        )
        written += lines
        read = kcat(cluster.bootstrap, "-C", "-t", topic, "-o", "beginning", "-e", "-q").splitlines()
        assert sorted(read) == sorted(written)

        def is_listed() -> bool:
            listed = kcat(cluster.bootstrap, "-L", "-t", topic)
            return listed.count("\n  broker ") == len(cluster.living) and listed.count("\n    partition ") == 3

        wait_until("kcat to list what lives", is_listed)  # a lost broker is named for a while
        if turn == 0:
            gone = cluster.leader(topic)
            gone.kill()
            cluster.await_isr_of(topic, *cluster.others(gone))
    cluster.start([gone])
    cluster.await_isr(topic, 3)


@pytest.mark.timeout(120)
def test_kafka_python_writes_and_reads_across_a_failover(cluster: Cluster[Any]) -> None:
    topic = cluster.create_topic("kafka-python")
    producer = KafkaProducer(
        bootstrap_servers=cluster.bootstrap.split(","), acks="all", enable_idempotence=True, retries=1000,
        retry_backoff_ms=50, reconnect_backoff_ms=20, reconnect_backoff_max_ms=200, request_timeout_ms=10_000,
    )  # fmt: skip
    consumer = KafkaConsumer(
        bootstrap_servers=cluster.bootstrap.split(","), auto_offset_reset="earliest", enable_auto_commit=False,
        consumer_timeout_ms=30_000, reconnect_backoff_max_ms=200,
    )  # fmt: skip
    consumer.assign([TopicPartition(topic, 0)])
    values = []
    for turn in range(2):
        sent = [producer.send(topic, b"%d-%d" % (turn, number)) for number in range(300)]
        if turn == 0:
            gone = cluster.leader(topic)
            gone.kill()
        offsets = [future.get(timeout=60).offset for future in sent]
        assert offsets == list(range(turn * 300, turn * 300 + 300))
        values += [b"%d-%d" % (turn, number) for number in range(300)]
        read = []
        for record in consumer:
            read.append((record.offset, record.value))
            if len(read) == 300:
                break
        assert read == list(zip(offsets, values[-300:], strict=True))
    producer.close()
    consumer.close()
    cluster.start([gone])
    cluster.await_isr(topic, 3)
    assert [row.value for row in consume(cluster.bootstrap, topic)] == values


@pytest.mark.timeout(120)
def test_a_consumer_of_a_rack_reads_from_its_replica(cluster: Cluster[Any]) -> None:
    """KIP-392: with `client.rack`, librdkafka is sent to the replica of its rack and reads everything there."""
    topic = cluster.create_topic("near")
    written = produce(cluster.bootstrap, topic, generated(500, seed=1))
    for node in cluster.nodes.values():
        assert consume(cluster.bootstrap, topic, **{"client.rack": node.rack}) == written
