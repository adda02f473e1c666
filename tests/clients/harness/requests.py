"""The few requests that tests send by hand, as plain functions over one connection."""

from typing import Any

from kafka.protocol.consumer import FetchRequest, ListOffsetsRequest, OffsetForLeaderEpochRequest
from kafka.protocol.producer import ProduceRequest

from harness.wire import Wire, topic_id

NONE = 0
OFFSET_OUT_OF_RANGE = 1
CORRUPT_MESSAGE = 2
UNKNOWN_TOPIC_OR_PARTITION = 3
NOT_LEADER_OR_FOLLOWER = 6
REQUEST_TIMED_OUT = 7
MESSAGE_TOO_LARGE = 10
RECORD_LIST_TOO_LARGE = 18
NOT_ENOUGH_REPLICAS = 19
NOT_ENOUGH_REPLICAS_AFTER_APPEND = 20
UNSUPPORTED_VERSION = 35
UNSUPPORTED_FOR_MESSAGE_FORMAT = 43
KAFKA_STORAGE_ERROR = 56
OFFSET_NOT_AVAILABLE = 78
INVALID_RECORD = 87
UNKNOWN_TOPIC_ID = 100

LATEST, EARLIEST, MAX_TIMESTAMP, EARLIEST_LOCAL, LATEST_TIERED = -1, -2, -3, -4, -5


def produce_raw(
    wire: Wire,
    topic: str,
    records: bytes,
    *,
    partition: int = 0,
    version: int = 11,
    acks: int = -1,
    timeout_ms: int = 10_000,
) -> Any:
    """Produces these bytes; returns the partition's answer (error_code, base_offset, ...)."""
    data = ProduceRequest.TopicProduceData
    parts = [data.PartitionProduceData(index=partition, records=records)]
    named = {"topic_id": topic_id(wire, topic)} if version >= 13 else {"name": topic}
    request = ProduceRequest[version](
        transactional_id=None, acks=acks, timeout_ms=timeout_ms, topic_data=[data(partition_data=parts, **named)]
    )
    answer = wire.ask(request)
    return answer.responses[0].partition_responses[0]


def list_offset(wire: Wire, topic: str, timestamp: int, *, partition: int = 0, version: int = 9, isolation: int = 0) -> Any:
    """ListOffsets for one partition; returns its answer (error_code, timestamp, offset, leader_epoch)."""
    topics = ListOffsetsRequest.ListOffsetsTopic
    parts = [topics.ListOffsetsPartition(partition_index=partition, current_leader_epoch=-1, timestamp=timestamp)]
    request = ListOffsetsRequest[version](
        replica_id=-1, isolation_level=isolation, topics=[topics(name=topic, partitions=parts)], timeout_ms=10_000
    )
    return wire.ask(request).topics[0].partitions[0]


def fetch_request(
    topics: dict[Any, dict[int, int]],
    *,
    version: int = 16,
    session: tuple[int, int] = (0, -1),
    forgotten: dict[Any, list[int]] | None = None,
    partition_max_bytes: int = 1 << 20,
    max_bytes: int = 50 << 20,
    min_bytes: int = 1,
    max_wait_ms: int = 500,
    isolation: int = 0,
    rack: str = "",
) -> Any:
    """A Fetch of {topic: {partition: offset}}; topics are ids from version 13 on, names before."""
    field = "topic_id" if version >= 13 else "topic"
    item = FetchRequest.FetchTopic
    wanted = [
        item(
            partitions=[
                item.FetchPartition(
                    partition=index, current_leader_epoch=-1, fetch_offset=offset, last_fetched_epoch=-1,
                    log_start_offset=-1, partition_max_bytes=partition_max_bytes,
                )
                for index, offset in offsets.items()
            ],
            **{field: topic},
        )
        for topic, offsets in topics.items()
    ]  # fmt: skip
    dropped = [FetchRequest.ForgottenTopic(partitions=parts, **{field: topic}) for topic, parts in (forgotten or {}).items()]
    return FetchRequest[version](
        replica_id=-1, max_wait_ms=max_wait_ms, min_bytes=min_bytes, max_bytes=max_bytes, isolation_level=isolation,
        session_id=session[0], session_epoch=session[1], topics=wanted, forgotten_topics_data=dropped, rack_id=rack,
    )  # fmt: skip


def fetch_one(wire: Wire, topic: str, offset: int, *, partition: int = 0, **options: Any) -> Any:
    """A full Fetch of one partition; returns the partition's answer (error_code, high_watermark, records, ...)."""
    answer = wire.ask(fetch_request({topic_id(wire, topic): {partition: offset}}, **options))
    assert answer.error_code == NONE, answer
    return answer.responses[0].partitions[0]


def end_of_epoch(wire: Wire, topic: str, epoch: int, *, partition: int = 0, version: int = 4) -> tuple[int, int]:
    """OffsetForLeaderEpoch: the largest epoch that is at most `epoch`, and where it ends."""
    topics = OffsetForLeaderEpochRequest.OffsetForLeaderTopic
    parts = [topics.OffsetForLeaderPartition(partition=partition, current_leader_epoch=-1, leader_epoch=epoch)]
    request = OffsetForLeaderEpochRequest[version](replica_id=-1, topics=[topics(topic=topic, partitions=parts)])
    answer = wire.ask(request).topics[0].partitions[0]
    assert answer.error_code == NONE, answer
    return answer.leader_epoch, answer.end_offset
