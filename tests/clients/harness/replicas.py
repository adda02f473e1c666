"""What one replica has of a partition, read from that replica and from no other."""

import time
from collections.abc import Sequence

from confluent_kafka import TIMESTAMP_CREATE_TIME, TIMESTAMP_LOG_APPEND_TIME
from kafka.record import MemoryRecords

from harness import requests
from harness.cluster import Cluster, Node
from harness.records import Row, expect_same
from harness.wire import Wire, topic_id

# What a replica answers while it learns of the leader, or waits for the object store.
_NOT_YET = {
    requests.NONE, requests.UNKNOWN_TOPIC_OR_PARTITION, requests.UNKNOWN_TOPIC_ID, requests.NOT_LEADER_OR_FOLLOWER,
    requests.OFFSET_NOT_AVAILABLE, requests.OFFSET_OUT_OF_RANGE, requests.KAFKA_STORAGE_ERROR,
}  # fmt: skip


def rows_of(records: bytes, partition: int, start: int) -> list[Row]:
    """The records of fetched batches from `start` on."""
    rows: list[Row] = []
    batches = MemoryRecords(records)
    while (batch := batches.next_batch()) is not None:
        assert batch.validate_crc(), f"a batch of {batch.base_offset} has a wrong checksum"
        for record in batch:
            if record.offset >= start:
                kind = TIMESTAMP_LOG_APPEND_TIME if record.timestamp_type == 1 else TIMESTAMP_CREATE_TIME
                headers = tuple(record.headers or ())
                rows.append(Row(partition, record.offset, kind, record.timestamp, record.key, record.value, headers))
    return rows


def read_replica(
    node: Node, topic: str, end: int, *, partition: int = 0, start: int = 0, timeout_s: float = 60
) -> list[Row]:
    """Everything from `start` up to `end` by Fetch requests to this node alone, as a consumer of its rack would."""
    rows: list[Row] = []
    offset, told = start, requests.NONE
    deadline = time.monotonic() + timeout_s
    with Wire(node.host, node.port) as wire:
        identity = topic_id(wire, topic)
        while offset < end:
            assert time.monotonic() < deadline, f"node {node.node_id} has {topic} only up to {offset} of {end}: error {told}"
            request = requests.fetch_request({identity: {partition: offset}}, max_wait_ms=200, rack=node.rack)
            answer = wire.ask(request)
            assert answer.error_code in _NOT_YET, answer
            part = answer.responses[0].partitions[0] if answer.responses else None
            told = part.error_code if part is not None else answer.error_code
            assert told in _NOT_YET, f"node {node.node_id} answers error {told} at {offset}"
            if part is not None and told == requests.NONE and part.records:
                rows += rows_of(part.records, partition, offset)
                offset = rows[-1].offset + 1 if rows else offset
            elif told != requests.NONE:
                time.sleep(0.02)
    return [row for row in rows if row.offset < end]


def expect_replicas(cluster: Cluster, topic: str, written: Sequence[Row], *, partitions: int = 1, start: int = 0) -> None:
    """Every replica of every partition has exactly these records from `start` on."""
    for index, part in cluster.parts(topic).items():
        assert index < partitions
        own = [row for row in written if row.partition == index]
        if own:
            for node_id in part.replicas:
                read = read_replica(cluster.nodes[node_id], topic, own[-1].offset + 1, partition=index, start=start)
                expect_same(own, read)
