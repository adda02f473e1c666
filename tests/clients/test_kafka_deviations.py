"""Unusual requests, and the answers of Apache Kafka to them; FIRN_PEER=kafka shows that they are Kafka's."""

import gzip
import random
import struct
import time
import uuid
import zlib
from typing import Any

import lz4.block
import lz4.frame
import pytest
import snappy
import zstandard
from confluent_kafka import KafkaException, Producer

from conftest import PEER, AnyServer
from differential.messages import load
from differential.sides import Side, Values
from harness import requests
from harness.batches import GZIP, LZ4, SNAPPY, ZSTD, batch, headers_of, record, varint
from harness.broker import unique
from harness.java import tool
from harness.requests import fetch_one, list_offset, produce_raw
from harness.wire import Wire

SETTINGS = {
    "offsets.topic.num.partitions": "1",
    "offsets.topic.replication.factor": "1",
    # Without effect, and taken.
    "num.network.threads": "2",
}
INVALID_REQUEST = 42
TOPIC, BROKER = 2, 4


@pytest.fixture(scope="module")
def side(server: AnyServer) -> Side:
    """Requests in the newest versions, by Kafka's own definitions."""
    return Side(PEER, server, load())


def named(side: Side, *topics: Values) -> dict[str, Values]:
    """The answer of Metadata about topics, by name."""
    answer = side.must("Metadata", 12, {"Topics": list(topics), "AllowAutoTopicCreation": False})
    return {topic["Name"]: topic for topic in answer["Topics"]}


def test_a_topic_that_is_named_with_the_id_of_another_is_not_deleted(server: AnyServer, side: Side) -> None:
    one, other = server.create_topic("one"), server.create_topic("other")
    ids = {name: topic["TopicId"] for name, topic in named(side, {"Name": one}, {"Name": other}).items()}

    def deleted(*topics: Values) -> list[int]:
        answer = side.must("DeleteTopics", 6, {"Topics": list(topics), "TimeoutMs": 10_000})
        return [topic["ErrorCode"] for topic in answer["Responses"]]

    assert deleted({"Name": one, "TopicId": ids[other]}) == [INVALID_REQUEST]
    assert deleted({"Name": one, "TopicId": ids[one]}) == [INVALID_REQUEST]
    assert deleted({"Name": one}, {"Name": None, "TopicId": ids[one]}) == [INVALID_REQUEST]
    assert deleted({"Name": None}) == [INVALID_REQUEST]
    assert {topic["ErrorCode"] for topic in named(side, {"Name": one}, {"Name": other}).values()} == {0}
    asked = named(side, {"Name": one, "TopicId": ids[other]})
    assert list(asked) == [other], "the id decides who is asked for"
    twice = [{"Name": name, "TopicId": ids[other]} for name in (one, other)]
    answer = side.must("Metadata", 12, {"Topics": twice, "AllowAutoTopicCreation": False})
    assert [topic["Name"] for topic in answer["Topics"]] == [other], "under two names, an id is answered once"
    assert deleted({"Name": None, "TopicId": ids[one]}) == [0]


@pytest.mark.firn
def test_a_voter_with_the_directory_of_another_is_none(server: AnyServer, side: Side) -> None:
    known = side.must("Metadata", 12, {"Topics": []})
    voter = {"ClusterId": known["ClusterId"], "VoterId": known["ControllerId"]}
    invalid_request, voter_not_found = 42, 127
    assert side.must("RemoveRaftVoter", 0, voter)["ErrorCode"] == invalid_request, "it is the only voter"
    elsewhere = voter | {"VoterDirectoryId": uuid.UUID(int=5)}
    assert side.must("RemoveRaftVoter", 0, elsewhere)["ErrorCode"] == voter_not_found


def test_all_operations_are_the_bits_of_kafkas_codes(server: AnyServer, side: Side) -> None:
    codes = {"read": 3, "write": 4, "create": 5, "delete": 6, "alter": 7, "describe": 8, "cluster action": 9,
             "describe configs": 10, "alter configs": 11, "idempotent write": 12}  # fmt: skip

    def bits(*operations: str) -> int:
        return sum(1 << codes[operation] for operation in operations)

    configs = ("describe configs", "alter configs")
    of_cluster = bits("create", "alter", "describe", "cluster action", "idempotent write", *configs)
    of_topic = bits("read", "write", "create", "delete", "alter", "describe", *configs)
    topic = server.create_topic("operations")
    wanted = {"IncludeClusterAuthorizedOperations": True, "IncludeTopicAuthorizedOperations": True}
    answer = side.must("Metadata", 10, {"Topics": [{"Name": topic}], **wanted})
    assert answer["ClusterAuthorizedOperations"] == of_cluster
    assert answer["Topics"][0]["TopicAuthorizedOperations"] == of_topic
    assert side.must("DescribeCluster", 2, wanted)["ClusterAuthorizedOperations"] == of_cluster
    side.await_groups()
    group = unique("group")
    side.join_and_sync(group)
    described = side.must("DescribeGroups", 5, {"Groups": [group], "IncludeAuthorizedOperations": True})
    assert described["Groups"][0]["AuthorizedOperations"] == bits("read", "delete", "describe", *configs)


def settings(side: Side, kind: int, name: str, keys: list[str] | None = None) -> dict[str, Values]:
    """The settings of a resource from DescribeConfigs, by name."""
    resource = {"ResourceType": kind, "ResourceName": name, "ConfigurationKeys": keys}
    (result,) = side.must("DescribeConfigs", 4, {"Resources": [resource], "IncludeDocumentation": True})["Results"]
    assert result["ErrorCode"] == 0, result
    return {one["Name"]: one for one in result["Configs"]}


def test_an_empty_list_of_names_describes_every_setting(server: AnyServer, side: Side) -> None:
    topic = server.create_topic("described")
    every = settings(side, TOPIC, topic)
    assert len(every) > 20 and settings(side, TOPIC, topic, []) == every
    assert list(settings(side, TOPIC, topic, ["retention.ms"])) == ["retention.ms"]


def test_settings_are_described_in_their_normal_form(server: AnyServer, side: Side) -> None:
    typed = {"retention.ms": " 604800000 ", "unclean.leader.election.enable": "TRUE", "compression.type": " gzip ",
             "cleanup.policy": " delete "}  # fmt: skip
    topic = server.create_topic("normal", config=typed)
    told = settings(side, TOPIC, topic)
    assert {name: told[name]["Value"] for name in typed} == {
        "retention.ms": "604800000", "unclean.leader.election.enable": "true", "compression.type": "gzip",
        "cleanup.policy": "delete",
    }  # fmt: skip
    with Wire(server.host, server.port) as wire:
        assert produce_raw(wire, topic, batch()).error_code == requests.NONE
        ((_, attributes, _, _),) = headers_of(fetch_one(wire, topic, 0).records)
    assert attributes & 7 == GZIP, "a value with spaces counts as well"


def test_a_batch_that_grows_when_it_is_stored_is_held_to_the_largest_message(server: AnyServer, side: Side) -> None:
    config = {"max.message.bytes": "2000", "compression.type": "uncompressed"}
    topic = server.create_topic("grows", config=config)
    payload = gzip.compress(record(0, None, b"a" * 40_000))
    small = batch(payload=payload, attributes=GZIP, count=1, last_offset_delta=0)
    assert len(small) < 2000
    with Wire(server.host, server.port) as wire:
        assert produce_raw(wire, topic, small).error_code == requests.MESSAGE_TOO_LARGE
        assert list_offset(wire, topic, requests.LATEST).offset == 0
        assert produce_raw(wire, topic, batch()).error_code == requests.NONE


def _packed(raw: bytes) -> dict[str, tuple[int, bytes, bool]]:
    """Ways to pack records: codec, bytes, and whether Kafka takes them."""

    def framed(**how: Any) -> bytes:
        return lz4.frame.compress(raw, **{"block_linked": False, "store_size": False} | how)

    half = len(raw) // 2
    skippable = struct.pack("<II", 0x184D2A50, 4) + b"skip"
    old_lz4 = lz4.block.compress(raw, store_size=False)
    return {
        "lz4": (LZ4, framed(), True),
        "lz4 with checksums": (LZ4, framed(content_checksum=True, block_checksum=True), True),
        "lz4 with size": (LZ4, framed(store_size=True), True),
        "lz4 in large blocks": (LZ4, framed(block_size=lz4.frame.BLOCKSIZE_MAX4MB), True),
        "lz4 and more": (LZ4, framed() + b"garbage!", True),
        "lz4 with linked blocks": (LZ4, framed(block_linked=True), False),
        "lz4 without end mark": (LZ4, framed()[:-4], False),
        "lz4 after a skippable frame": (LZ4, skippable + framed(), False),
        "lz4 of the old format": (LZ4, struct.pack("<II", 0x184C2102, len(old_lz4)) + old_lz4, False),
        "gzip": (GZIP, gzip.compress(raw), True),
        "gzip in two members": (GZIP, gzip.compress(raw[:half]) + gzip.compress(raw[half:]), True),
        "gzip cut off": (GZIP, gzip.compress(raw)[:-8], False),
        "zlib for gzip": (GZIP, zlib.compress(raw), False),
        "snappy": (SNAPPY, xerial(raw), True),
        "snappy without a frame": (SNAPPY, snappy.compress(raw), True),
        "snappy in another frame": (SNAPPY, snappy.StreamCompressor().compress(raw), False),
        "zstd": (ZSTD, zstandard.compress(raw), True),
        "zstd in two frames": (ZSTD, zstandard.compress(raw[:half]) + zstandard.compress(raw[half:]), True),
        "zstd after a skippable frame": (ZSTD, skippable + zstandard.compress(raw), True),
        "zstd and more": (ZSTD, zstandard.compress(raw) + b"garbage!", False),
        "zstd cut off": (ZSTD, zstandard.compress(raw)[:-3], False),
        "zstd with a large window": (ZSTD, zstd_of_window(raw, 28), False),
    }


def xerial(raw: bytes) -> bytes:
    """Snappy as Java's stream writes it."""
    blocks = [snappy.compress(raw[at : at + 32768]) for at in range(0, len(raw), 32768)]
    head = b"\x82SNAPPY\x00" + struct.pack(">ii", 1, 1)
    return head + b"".join(struct.pack(">i", len(block)) + block for block in blocks)


def zstd_of_window(raw: bytes, window_log: int) -> bytes:
    """A frame whose decoder needs that much memory."""
    parameters = zstandard.ZstdCompressionParameters(
        window_log=window_log, hash_log=6, chain_log=6, search_log=1, min_match=3, strategy=1, write_content_size=False
    )
    stream = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    return stream.compress(raw) + stream.flush()


def test_what_a_codec_may_look_like_is_what_javas_readers_can_read(server: AnyServer) -> None:
    values = random.Random(1)
    raw = b"".join(record(index, None, bytes(values.choices(b"abcdefgh", k=40_000))) for index in range(4))
    topic = server.create_topic("packed")
    taken = {}
    with Wire(server.host, server.port) as wire:
        for name, (codec, packed, _) in _packed(raw).items():
            one = batch([(None, None)] * 4, payload=packed, attributes=codec)
            taken[name] = produce_raw(wire, topic, one).error_code == requests.NONE
        end = list_offset(wire, topic, requests.LATEST).offset
    assert taken == {name: is_taken for name, (_, _, is_taken) in _packed(raw).items()}
    assert end == 4 * sum(taken.values())


def test_the_metadata_of_offsets_is_counted_in_utf16_units(server: AnyServer, side: Side) -> None:
    topic = server.create_topic("commits")
    side.await_groups()

    def commit(text: str) -> int:
        part = {"PartitionIndex": 0, "CommittedOffset": 1, "CommittedMetadata": text}
        wanted = {"GroupId": "utf16", "Topics": [{"Name": topic, "Partitions": [part]}]}
        answer = side.must("OffsetCommit", 8, wanted)
        return int(answer["Topics"][0]["Partitions"][0]["ErrorCode"])

    too_large = 12
    assert [commit("a" * 4096), commit("ä" * 4096), commit("😀" * 2048)] == [0, 0, 0]
    assert [commit("a" * 4097), commit("😀" * 2049)] == [too_large, too_large]


def test_a_group_stays_when_its_last_offset_goes_and_can_be_deleted(server: AnyServer, side: Side) -> None:
    topic = server.create_topic("last")
    side.await_groups()
    part = {"PartitionIndex": 0, "CommittedOffset": 1, "CommittedMetadata": ""}
    commit = {"GroupId": "emptied", "Topics": [{"Name": topic, "Partitions": [part]}]}
    answer = side.must("OffsetCommit", 8, commit)
    assert answer["Topics"][0]["Partitions"][0]["ErrorCode"] == 0
    one = {"GroupId": "emptied", "Topics": [{"Name": topic, "Partitions": [{"PartitionIndex": 0}]}]}
    assert side.must("OffsetDelete", 0, one)["Topics"][0]["Partitions"][0]["ErrorCode"] == 0
    listed = side.must("ListGroups", 4, {"StatesFilter": []})["Groups"]
    assert {"emptied": "Empty"}.items() <= {group["GroupId"]: group["GroupState"] for group in listed}.items()
    deleted = side.must("DeleteGroups", 2, {"GroupsNames": ["emptied"]})["Results"]
    assert [group["ErrorCode"] for group in deleted] == [0]


def test_a_setting_that_cannot_be_is_an_invalid_request_where_it_is_a_brokers(server: AnyServer, side: Side) -> None:
    topic = server.create_topic("invalid")

    def alter(kind: int, resource: str, name: str, value: str) -> int:
        config = {"Name": name, "ConfigOperation": 0, "Value": value}
        values = {"Resources": [{"ResourceType": kind, "ResourceName": resource, "Configs": [config]}]}
        return int(side.must("IncrementalAlterConfigs", 1, values)["Responses"][0]["ErrorCode"])

    invalid_config = 40
    assert alter(TOPIC, topic, "retention.ms", "soon") == invalid_config
    assert alter(BROKER, "", "log.retention.ms", "soon") == INVALID_REQUEST
    assert alter(TOPIC, topic, "cleanup.policy", "delete,delete") == 0
    told = side.until(
        "DescribeConfigs", 4, {"Resources": [{"ResourceType": TOPIC, "ResourceName": topic, "ConfigurationKeys": None}]},
        lambda answer: answer["Results"][0]["ErrorCode"] == 0,
    )["Results"][0]["Configs"]  # fmt: skip
    assert {"cleanup.policy": "delete"}.items() <= {one["Name"]: one["Value"] for one in told}.items()


def test_every_record_with_a_wrong_time_is_named(server: AnyServer, side: Side) -> None:
    topic = server.create_topic("times", config={"message.timestamp.before.max.ms": "1000"})
    now = int(time.time() * 1000)

    def produced(ages: list[int]) -> Values:
        records = [late(index, -age) for index, age in enumerate(ages)]
        one = batch([(None, None)] * len(ages), payload=b"".join(records), timestamp=now)
        wanted = {"Name": topic, "PartitionData": [{"Index": 0, "Records": one}]}
        answer = side.must("Produce", 9, {"Acks": -1, "TimeoutMs": 10_000, "TopicData": [wanted]})
        return answer["Responses"][0]["PartitionResponses"][0]

    invalid_timestamp = 32
    refused = produced([0, 10**9, 0, 10**9])
    assert refused["ErrorCode"] == invalid_timestamp
    assert refused["ErrorMessage"] == "One or more records have been rejected due to invalid timestamp"
    errors = refused["RecordErrors"]
    assert [one["BatchIndex"] for one in errors] == [1, 3]
    assert f"Timestamp {now - 10**9} of message with offset 3 is out of range." in errors[1]["BatchIndexErrorMessage"]
    assert produced([0, 0])["ErrorCode"] == 0


def late(index: int, delta_ms: int) -> bytes:
    """A record whose timestamp is that of its batch and so many milliseconds."""
    body = b"\x00" + varint(delta_ms) + varint(index) + varint(-1) + varint(1) + b"v" + varint(0)
    return varint(len(body)) + body


def test_the_largest_time_of_records_without_times_is_that_of_the_first(server: AnyServer) -> None:
    topic = server.create_topic("timeless")
    with Wire(server.host, server.port) as wire:
        assert list_offset(wire, topic, requests.MAX_TIMESTAMP).offset == -1
        assert produce_raw(wire, topic, batch([(b"k", b"v")] * 2, timestamp=-1)).error_code == requests.NONE
        found = list_offset(wire, topic, requests.MAX_TIMESTAMP)
    assert (found.offset, found.timestamp) == (0, -1)


def test_the_metadata_log_is_no_topic_and_none_can_be_made_of_its_name(server: AnyServer, side: Side) -> None:
    name = "__cluster_metadata"
    topic = {"Name": name, "NumPartitions": 1, "ReplicationFactor": 1}
    answer = side.must("CreateTopics", 7, {"Topics": [topic], "timeoutMs": 10_000})
    assert answer["Topics"][0]["ErrorCode"] == INVALID_REQUEST
    for creates in (True, False):
        answer = side.must("Metadata", 12, {"Topics": [{"Name": name}], "AllowAutoTopicCreation": creates})
        assert answer["Topics"][0]["ErrorCode"] == requests.UNKNOWN_TOPIC_OR_PARTITION


def test_the_earliest_offset_has_the_epoch_of_its_record(server: AnyServer, side: Side) -> None:
    topic = server.create_topic("epochs")
    with Wire(server.host, server.port) as wire:
        assert produce_raw(wire, topic, batch()).error_code == requests.NONE
    server.restart()
    side.disconnect()
    deadline = time.monotonic() + 30
    with Wire(server.host, server.port) as wire:
        while produce_raw(wire, topic, batch()).error_code != requests.NONE:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        stored = fetch_one(wire, topic, 0).records
        first = int.from_bytes(stored[12:16], "big")
        earliest, latest = (list_offset(wire, topic, point) for point in (requests.EARLIEST, requests.LATEST))
    assert (earliest.offset, earliest.leader_epoch) == (0, first)
    assert latest.leader_epoch > first, "a restart begins an epoch"


@pytest.mark.firn
def test_a_transactional_producer_is_refused_at_once_with_the_reason(server: AnyServer) -> None:
    producer = Producer({"bootstrap.servers": server.bootstrap, "transactional.id": "t"})
    begun = time.monotonic()
    with pytest.raises(KafkaException) as failed:
        producer.init_transactions(100)
    error = failed.value.args[0]
    assert error.fatal() and "transactions are not supported" in error.str(), error
    assert time.monotonic() - begun < 50
    topic = server.create_topic("java")
    output = tool(
        "producer-perf-test", "--topic", topic, "--num-records", "1", "--record-size", "1", "--throughput", "-1",
        "--transactional-id", "t", "--command-property", f"bootstrap.servers={server.bootstrap}", check=False,
    )  # fmt: skip
    assert "transactions are not supported" in output, output


# Kafka's topic settings that have no effect in Firn, or have had none.
_TAKEN = {
    "compression.gzip.level": "9",
    "compression.lz4.level": "17",
    "compression.zstd.level": "-5",
    "delete.retention.ms": "1000",
    "file.delete.delay.ms": "1000",
    "flush.messages": "10",
    "flush.ms": "1000",
    "max.compaction.lag.ms": "86400000",
    "min.cleanable.dirty.ratio": "0.1",
    "min.compaction.lag.ms": "1000",
    "preallocate": "true",
    "remote.log.delete.on.disable": "false",
    "segment.index.bytes": "1048576",
}


def test_every_topic_setting_of_kafka_is_taken_and_described(server: AnyServer, side: Side) -> None:
    name = unique("taken")
    configs = [{"Name": setting, "Value": value} for setting, value in _TAKEN.items()]
    topic = {"Name": name, "NumPartitions": 1, "ReplicationFactor": 1, "Configs": configs}
    answer = side.must("CreateTopics", 7, {"Topics": [topic], "timeoutMs": 10_000})
    assert answer["Topics"][0]["ErrorCode"] == 0, answer
    told = side.until(
        "DescribeConfigs", 4, {"Resources": [{"ResourceType": TOPIC, "ResourceName": name, "ConfigurationKeys": None}]},
        lambda answer: answer["Results"][0]["ErrorCode"] == 0,
    )["Results"][0]["Configs"]  # fmt: skip
    assert _TAKEN.items() <= {one["Name"]: one["Value"] for one in told}.items()
    server.await_leaders(server.admin(), name, 1)
    with Wire(server.host, server.port) as wire:
        assert produce_raw(wire, name, batch()).error_code == requests.NONE


@pytest.mark.firn
def test_settings_without_effect_say_so_and_those_that_promise_too_much_are_refused(server: AnyServer, side: Side) -> None:
    topic = server.create_topic("documented")
    told = settings(side, TOPIC, topic)
    assert all("no effect" in told[name]["Documentation"] for name in _TAKEN)

    def alter(name: str, value: str, kind: int = BROKER, resource: str = "") -> int:
        config = {"Name": name, "ConfigOperation": 0, "Value": value}
        values = {"Resources": [{"ResourceType": kind, "ResourceName": resource, "Configs": [config]}]}
        return int(side.must("IncrementalAlterConfigs", 1, values)["Responses"][0]["ErrorCode"])

    invalid_config = 40
    assert alter("num.io.threads", "16") == 0
    assert settings(side, BROKER, "", ["num.io.threads"])["num.io.threads"]["Value"] == "16"
    assert alter("ssl.keystore.location", "/secret.jks") == INVALID_REQUEST
    assert alter("num.io.threads", "many") == INVALID_REQUEST
    assert alter("cleanup.policy", "compact", TOPIC, topic) == invalid_config
    broker = str(side.must("Metadata", 12, {"Topics": []})["ControllerId"])
    every = settings(side, BROKER, broker)
    assert "no effect" in every["num.network.threads"]["Documentation"]
    assert "only this value" in every["ssl.keystore.location"]["Documentation"]
