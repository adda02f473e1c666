"""Requests that no rule makes: contradictions, records of all kinds, settings."""

import gzip
import struct
from collections.abc import Iterator
from typing import Any

from differential.mutations import NO_SUCH_ID, Mutation, edited, replaced
from differential.sides import T0, Side, Values, batch
from harness import batches

Extra = tuple[str, int | None, str, Mutation]

_RECORDS = ("TopicData", "PartitionData", "Records")


def extras() -> Iterator[Extra]:
    """API, version (None: the newest), label, and what to change in the scene."""
    yield from _records()
    yield from _names_and_ids()
    yield from _offsets()
    yield from _configs()
    yield from _topics()
    yield from _groups()
    yield "FindCoordinator", 3, "transaction", replaced(("KeyType",), 1)
    yield "ListGroups", None, "all states", replaced(("StatesFilter",), ["Stable", "Empty", "nonsense"])
    yield "DescribeLogDirs", None, "partition twice", replaced(("Topics",), [{"Topic": "alpha", "Partitions": [0, 0]}])
    yield "ElectLeaders", None, "unclean", replaced(("ElectionType",), 1)
    yield "DescribeTopicPartitions", None, "limit 1", replaced(("ResponsePartitionLimit",), 1)


def _records() -> Iterator[Extra]:
    one = [(b"k", b"v")]
    plain = batches.record(0, b"k", b"v")
    kinds: dict[str, bytes] = {
        "two batches": batch(1) + batch(1),
        "wrong checksum": batches.batch(one, crc=1),
        "magic 0": batches.message_v1(b"v", 0),
        "magic 1": batches.message_v1(b"v", 1),
        "magic 3": batches.batch(one, magic=3),
        "control": batches.batch(one, attributes=0x20),
        "log append time": batches.batch(one, attributes=0x08),
        "unused attribute": batches.batch(one, attributes=0x80),
        "codec 7": batches.batch(one, attributes=7),
        "codec of nothing": batches.batch(one, attributes=1),
        "transactional": batches.batch(one, attributes=0x10, producer=(5, 0, 0)),
        "transactional without producer": batches.batch(one, attributes=0x10),
        "unknown producer": batches.batch(one, producer=(4711, 0, 0)),
        "unknown producer in the middle": batches.batch(one, producer=(4712, 0, 5)),
        "producer without epoch": batches.batch(one, producer=(4713, -1, 0)),
        "producer without sequence": batches.batch(one, producer=(4714, 0, -1)),
        "negative producer": batches.batch(one, producer=(-2, 0, 0)),
        "no records": batches.batch([], payload=b"", count=0, last_offset_delta=-1),
        "no records, last 0": batches.batch([], payload=b"", count=0, last_offset_delta=0),
        "negative count": batches.batch(one, count=-1),
        "count too large": batches.batch(one, count=2, last_offset_delta=1),
        "count too small": batches.batch(one * 2, count=1, last_offset_delta=0),
        "last offset too large": batches.batch(one, last_offset_delta=3),
        "gap": batches.batch(payload=plain + batches.record(2, b"k", b"v"), count=2, last_offset_delta=1),
        "bytes behind": batches.batch(payload=plain + b"xx", count=1, last_offset_delta=0),
        "null key and value": batches.batch([(None, None)]),
        "header without value": _headers([(b"h", None)]),
        "header without name": _headers([(b"", b"v")]),
        "header twice": _headers([(b"h", b"1"), (b"h", b"2")]),
        "header not text": _headers([(b"\xff\xfe", b"v")]),
        "gzip": batches.batch(payload=gzip.compress(plain), attributes=1, count=1, last_offset_delta=0),
        "timestamp -1": batches.batch(one, timestamp=-1),
        "timestamp -2": batches.batch(one, timestamp=-2),
        "before 1970": batches.batch(one, timestamp=-86_400_000_000),
        "smallest timestamp": batches.batch(one, timestamp=-(1 << 63)),
        "timestamp 0": batches.batch(one, timestamp=0),
        "in a thousand years": batches.batch(one, timestamp=T0 + 1000 * 365 * 86_400_000),
        "largest timestamp": batches.batch(one, timestamp=(1 << 63) - 1),
        "cut off": batch(1)[:-3],
        "only a header": batch(1)[:61],
        "shorter than a header": batch(1)[:30],
        "too large": batches.batch([(None, b"v" * 1_100_000)]),
        "base offset 100": struct.pack(">q", 100) + batch(1)[8:],
    }
    for label, records in kinds.items():
        yield "Produce", None, label, replaced(_RECORDS, records)
        yield "Produce", 3, label, replaced(_RECORDS, records)


def _headers(headers: list[tuple[bytes, bytes | None]]) -> bytes:
    return batches.batch(payload=batches.record(0, b"k", b"v", headers), count=1, last_offset_delta=0)


def _both_identities(name: str, other: str, field: str = "Topics") -> Mutation:
    def mutate(side: Side, values: Values) -> Values:
        return values | {field: [{"Name": name, "TopicId": side.topic_id(other)}]}

    return mutate


def _names_and_ids() -> Iterator[Extra]:
    for label, other in (("agree", "alpha"), ("contradict", "beta")):
        for version in (10, 12, 13):
            yield "Metadata", version, f"name and id {label}", _both_identities("alpha", other)
        yield "DeleteTopics", None, f"name and id {label}", _both_identities("alpha", other)
    yield "DeleteTopics", None, "unknown name and id", replaced(("Topics",), [{"Name": "no-such", "TopicId": NO_SUCH_ID}])
    yield "DeleteTopics", None, "neither name nor id", replaced(("Topics",), [{"Name": None}])
    yield "DeleteTopics", None, "by id", _by_own_id
    yield "DeleteTopics", None, "by unknown id", replaced(("Topics",), [{"Name": None, "TopicId": NO_SUCH_ID}])
    yield "DeleteTopics", None, "by name and by id", _by_name_and_id
    yield "Metadata", None, "by id", _identified
    yield "Metadata", None, "neither name nor id", replaced(("Topics",), [{"Name": None}])
    yield "Metadata", None, "by name and another by id", _named_and_identified


def _identified(side: Side, values: Values) -> Values:
    return values | {"Topics": [{"Name": None, "TopicId": side.topic_id("beta")}]}


def _by_own_id(side: Side, values: Values) -> Values:
    return values | {"Topics": [{"Name": None, "TopicId": side.topic_id(values["Topics"][0]["Name"])}]}


def _by_name_and_id(side: Side, values: Values) -> Values:
    name = values["Topics"][0]["Name"]
    return values | {"Topics": [{"Name": name}, {"Name": None, "TopicId": side.topic_id(name)}]}


def _named_and_identified(side: Side, values: Values) -> Values:
    return values | {"Topics": [{"Name": "alpha"}, {"Name": None, "TopicId": side.topic_id("beta")}]}


def _offsets() -> Iterator[Extra]:
    at = ("Topics", "Partitions", "Timestamp")
    for version in (1, 6, 11):
        for timestamp in (-7, -6, -5, -4, -3, -2, -1, 0, T0, T0 + 1, T0 + 2000, T0 + 2001):
            yield "ListOffsets", version, f"timestamp {timestamp}", replaced(at, timestamp)
        for name, partition in (("alpha", 1), ("beta", 0)):
            for timestamp in (-6, -5, -4, -3, -2, -1):
                topics = [{"Name": name, "Partitions": [{"PartitionIndex": partition, "Timestamp": timestamp}]}]
                yield "ListOffsets", version, f"{name}-{partition} timestamp {timestamp}", replaced(("Topics",), topics)
    metadata = ("Topics", "Partitions", "CommittedMetadata")
    for label, text in (("4096 a", "a" * 4096), ("4097 a", "a" * 4097), ("4096 ä", "ä" * 4096), ("2049 emoji", "😀" * 2049)):
        yield "OffsetCommit", None, f"metadata {label}", replaced(metadata, text)
    yield "OffsetFetch", None, "all topics", replaced(("Groups",), [{"GroupId": "committed", "Topics": None}])
    yield "OffsetFetch", 9, "all topics", replaced(("Groups",), [{"GroupId": "committed", "Topics": None}])
    yield "OffsetFetch", 7, "all topics", replaced(("Topics",), None)
    yield "Fetch", None, "at the end", replaced(("Topics", "Partitions", "FetchOffset"), 9)
    yield "Fetch", None, "beyond the end", replaced(("Topics", "Partitions", "FetchOffset"), 10)
    yield "Fetch", None, "new session", replaced(("SessionEpoch",), 0)
    yield "Fetch", None, "unknown session", lambda side, values: values | {"SessionId": 4711, "SessionEpoch": 3}


# Values that Kafka takes in another form, and some that it does not take.
_VALUES: dict[str, tuple[str | None, ...]] = {
    "retention.ms": (" 604800000 ", "+5", "5.0", "0x10", "-1", "-2", "", None, "x", "9223372036854775808", "1_000"),
    "preallocate": ("TRUE", " false ", "yes", "1", ""),
    "cleanup.policy": ("delete", " delete ", "delete,delete", "DELETE", "", "nonsense"),
    "min.cleanable.dirty.ratio": ("0.1", "1", "1.5", "-0.1", " .25 ", "NaN", "1e-1"),
    "compression.type": ("gzip", "GZIP", " gzip ", "none", "uncompressed", "nonsense"),
    "compression.gzip.level": ("9", "0", "-1", "10"),
    "compression.lz4.level": ("1", "17", "0", "18"),
    "compression.zstd.level": ("22", "-131072", "-131073", "23", "0"),
    "message.timestamp.type": ("LogAppendTime", "logappendtime", " CreateTime ", ""),
    "max.message.bytes": ("0", "-1", "2147483647", "2147483648"),
    "min.insync.replicas": ("0", "1", "9"),
    "segment.bytes": ("1048576", "2147483647"),
    "leader.replication.throttled.replicas": ("*", "0:0", "0:0,1:0", "nonsense", "", " * ", "none"),
    "no.such.setting": ("1",),
}


def _configs() -> Iterator[Extra]:
    yield "DescribeConfigs", None, "no names", replaced(("Resources", "ConfigurationKeys"), [])
    yield "DescribeConfigs", None, "all, documented", _everything
    yield "DescribeConfigs", None, "broker", _broker
    yield "DescribeConfigs", None, "unknown name", replaced(("Resources", "ConfigurationKeys"), ["no.such", "retention.ms"])
    for kind, name in (
        (2, ""),
        (2, "bad name!"),
        (4, "x"),
        (4, "4711"),
        (8, "x"),
        (16, "g"),
        (32, "g"),
        (0, "x"),
        (99, "x"),
    ):
        resource = [{"ResourceType": kind, "ResourceName": name, "ConfigurationKeys": None}]
        yield "DescribeConfigs", None, f"resource {kind} {name!r}", replaced(("Resources",), resource)
        config = [{"ResourceType": kind, "ResourceName": name, "Configs": []}]
        yield "IncrementalAlterConfigs", None, f"resource {kind} {name!r}", replaced(("Resources",), config)
        yield "AlterConfigs", None, f"resource {kind} {name!r}", replaced(("Resources",), config)
    for name, values in _VALUES.items():
        for value in values:
            yield "CreateTopics", None, f"{name}={value!r}", _topic_with(name, value)
    yield "CreateTopics", None, "a setting twice", edited(("Topics", "Configs"), lambda configs: configs * 2)
    for operation in (1, 2, 3):
        for name, value in (("cleanup.policy", "delete"), ("retention.ms", "5"), ("retention.ms", None), ("no.such", "1")):
            config = [{"Name": name, "ConfigOperation": operation, "Value": value}]
            label = f"operation {operation} {name}={value!r}"
            yield "IncrementalAlterConfigs", None, label, replaced(("Resources", "Configs"), config)


def _everything(side: Side, values: Values) -> Values:
    resource = {"ResourceType": 2, "ResourceName": "alpha", "ConfigurationKeys": None}
    return values | {"Resources": [resource], "IncludeSynonyms": True}


def _broker(side: Side, values: Values) -> Values:
    resource = {"ResourceType": 4, "ResourceName": str(side.broker_id), "ConfigurationKeys": None}
    return values | {"Resources": [resource]}


def _topic_with(name: str, value: str | None) -> Mutation:
    def mutate(side: Side, values: Values) -> Values:
        topic = values["Topics"][0] | {"Configs": [{"Name": name, "Value": value}]}
        return values | {"Topics": [topic], "validateOnly": True}

    return mutate


def _assigned(*assignment: tuple[int, list[int]]) -> Mutation:
    def mutate(side: Side, values: Values) -> Values:
        brokers = {0: side.broker_id}
        parts: list[Any] = [
            {"PartitionIndex": index, "BrokerIds": [brokers.get(broker, broker) for broker in of]}
            for index, of in assignment
        ]
        topic = values["Topics"][0] | {"NumPartitions": -1, "ReplicationFactor": -1, "Assignments": parts}
        return values | {"Topics": [topic]}

    return mutate


def _topics() -> Iterator[Extra]:
    for name in ("alpha", "tmp_with-dots.", "x" * 249, "x" * 250, "ümlaut", "__transaction_state", "__share_group_state"):
        yield "CreateTopics", None, f"name {name[:20]} ({len(name)})", replaced(("Topics", "Name"), name)
    for name in ("tmp_with-dots.", "__cluster_metadata"):
        yield "Metadata", None, f"creates {name}", lambda side, values, name=name: values | {
            "Topics": [{"Name": name}], "AllowAutoTopicCreation": True}  # fmt: skip
    yield "CreateTopics", None, "assigned", _assigned((0, [0]))
    yield "CreateTopics", None, "assigned with a gap", _assigned((0, [0]), (2, [0]))
    yield "CreateTopics", None, "partition twice", _assigned((0, [0]), (0, [0]))
    yield "CreateTopics", None, "broker twice", _assigned((0, [0, 0]))
    yield "CreateTopics", None, "unknown broker", _assigned((0, [4711]))
    yield "CreateTopics", None, "negative broker", _assigned((0, [-1]))
    yield "CreateTopics", None, "no brokers", _assigned((0, []))
    for count in (2, 1, 0):
        assigned = [{"BrokerIds": []}] * count
        yield "CreatePartitions", None, f"{count} assignments without brokers", replaced(("Topics", "Assignments"), assigned)


def _groups() -> Iterator[Extra]:
    yield "JoinGroup", None, "protocol twice", edited(("Protocols",), lambda protocols: protocols * 2)
    yield "JoinGroup", 3, "other protocol type", lambda side, values: values | {"GroupId": "joined", "ProtocolType": "other"}
    yield "JoinGroup", None, "static", replaced(("GroupInstanceId",), "instance")
    yield "LeaveGroup", None, "unknown instance", replaced(("Members",), [{"MemberId": "", "GroupInstanceId": "no-such"}])
    yield "LeaveGroup", None, "wrong member of instance", _wrong_member
    yield "Heartbeat", None, "wrong member of instance", _wrong_heartbeat
    yield "DeleteGroups", None, "with a member", replaced(("GroupsNames",), ["joined"])
    yield "DescribeGroups", None, "unknown", replaced(("Groups",), ["no-such"])
    yield "DescribeGroups", 5, "unknown", replaced(("Groups",), ["no-such"])
    yield "OffsetDelete", None, "with a member", replaced(("GroupId",), "joined")
    yield "OffsetCommit", None, "of a group with a member", replaced(("GroupId",), "joined")


def _wrong_member(side: Side, values: Values) -> Values:
    group = side.own_group("static")
    side.join_and_sync(group, "instance")
    return values | {"GroupId": group, "Members": [{"MemberId": "wrong", "GroupInstanceId": "instance"}]}


def _wrong_heartbeat(side: Side, values: Values) -> Values:
    group = side.own_group("static")
    _, generation = side.join_and_sync(group, "instance")
    changed = {"GroupId": group, "GenerationId": generation, "MemberId": "wrong", "GroupInstanceId": "instance"}
    return values | changed
