"""Apache Kafka's own command-line tools. A JVM takes a second or two to start, so each test uses as few as it can."""

import json
import re
from pathlib import Path

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition

from conftest import AnyServer
from harness.broker import unique
from harness.firn import FirnServer
from harness.java import tool
from harness.records import CODECS, Draft, consume, corner_cases, expect_same, generated, produce

both_tiers = pytest.mark.parametrize("tier", ["hot", "cold"])


def server_args(server: AnyServer) -> list[str]:
    """What every tool wants to know."""
    return ["--bootstrap-server", server.bootstrap]


def test_topic_command(server: AnyServer) -> None:
    topic = unique("java-topic")
    args = server_args(server)
    tool("topics", *args, "--create", "--topic", topic, "--partitions", "3", "--config", "retention.ms=7200000")
    described = tool("topics", *args, "--describe", "--topic", topic)
    assert re.search(rf"Topic: {topic}\s+TopicId: \S{{22}}\s+PartitionCount: 3\s+ReplicationFactor: 1", described), described
    assert "retention.ms=7200000" in described and len(re.findall(r"Partition: \d", described)) == 3
    tool("topics", *args, "--alter", "--topic", topic, "--partitions", "5")
    assert topic in tool("topics", *args, "--list").split()
    assert len(server.admin().list_topics(topic, timeout=20).topics[topic].partitions) == 5
    tool("topics", *args, "--delete", "--topic", topic)
    assert topic not in server.admin().list_topics(timeout=20).topics


@both_tiers
def test_console_producer_and_consumer(server: AnyServer, tier: str) -> None:
    topic = server.create_topic(f"console-{tier}", tier=tier)
    lines = [f"a:1,b:2\tkey{number}\tvalue {number} " + "x" * (number % 90) for number in range(1500)]
    tool(
        "console-producer", *server_args(server), "--topic", topic, "--compression-codec", "gzip",
        "--batch-size", "8000",
        "--reader-property", "parse.key=true", "--reader-property", "parse.headers=true",
        stdin=("\n".join(lines) + "\n").encode(),
    )  # fmt: skip
    if tier == "cold":
        server.settle(topic)
    read = tool(
        "console-consumer", *server_args(server), "--topic", topic, "--partition", "0", "--offset", "0",
        "--max-messages", str(len(lines)), "--formatter-property", "print.key=true",
        "--formatter-property", "print.headers=true", "--formatter-property", "print.offset=true",
        "--command-property", "check.crcs=true", "--timeout-ms", "30000",
    )  # fmt: skip
    assert read.splitlines() == [f"Offset:{number}\t{line}" for number, line in enumerate(lines)]


@both_tiers
def test_records_of_librdkafka_are_read_by_java(server: AnyServer, tier: str) -> None:
    topic = server.create_topic(f"java-reads-{tier}", tier=tier)
    drafts = [
        draft for draft in corner_cases() if draft.value is not None and draft.value.isascii() and b"\x00" not in draft.value
    ]
    for codec in CODECS:
        produce(server.bootstrap, topic, drafts, **{"compression.type": codec})
    if tier == "cold":
        server.settle(topic)
    read = tool(
        "console-consumer", *server_args(server), "--topic", topic, "--from-beginning", "--max-messages",
        str(len(drafts) * len(CODECS)), "--formatter-property", "print.timestamp=true", "--timeout-ms", "30000",
        "--formatter-property", "print.value=true", "--formatter-property", "print.key=false",
    )  # fmt: skip
    values = [line.split("\t", 1)[1].encode() for line in read.splitlines()]
    assert values == [draft.value for draft in drafts] * len(CODECS)


@both_tiers
def test_producer_performance_with_idempotence(server: AnyServer, tier: str) -> None:
    topic = server.create_topic(f"perf-{tier}", tier=tier, partitions=3)
    out = tool(
        "producer-perf-test", "--topic", topic, "--num-records", "20000", "--record-size", "100", "--throughput", "-1",
        "--command-property", f"bootstrap.servers={server.bootstrap}", "acks=all", "enable.idempotence=true",
        "compression.type=lz4", "batch.size=10000",
    )  # fmt: skip
    assert "20000 records sent" in out
    if tier == "cold":
        server.settle(topic)
    rows = consume(server.bootstrap, topic, partitions=3)
    assert len(rows) == 20_000 and {len(row.value or b"") for row in rows} == {100}
    for partition in range(3):
        offsets = [row.offset for row in rows if row.partition == partition]
        assert offsets == list(range(len(offsets)))


@both_tiers
def test_get_offset_shell_and_delete_records(server: AnyServer, tier: str, tmp_path: Path) -> None:
    topic = server.create_topic(f"shell-{tier}", tier=tier)
    base = 1_600_000_000_000
    drafts = [Draft(value=b"x" * 120, timestamp=base + (number if number != 77 else 5000)) for number in range(400)]
    produce(server.bootstrap, topic, drafts, **{"batch.num.messages": 20})
    if tier == "cold":
        server.settle(topic)

    def at(time: str) -> str:
        out = tool("get-offsets", *server_args(server), "--topic", topic, "--time", time)
        return out.strip().removeprefix(f"{topic}:0:")

    assert at("-1") == "400"
    assert at("-2") == "0"
    assert at("-3") == "77"
    assert at("earliest-local") == ("400" if server.tiered and tier == "cold" else "0")
    if server.tiered:
        # The tool leaves out partitions without an answer: nothing is archived of the hot one.
        assert at("-5") == ("399" if tier == "cold" else ""), "the latest tiered offset is the last archived record's"
    assert at(str(base + 300)) == "77", "the first record at or after that time, though 300 is nearer"
    file = tmp_path / "delete.json"
    file.write_text(json.dumps({"partitions": [{"topic": topic, "partition": 0, "offset": 150}], "version": 1}))
    out = tool("delete-records", *server_args(server), "--offset-json-file", str(file))
    assert "low_watermark: 150" in out
    assert at("-2") == "150"
    assert [row.offset for row in consume(server.bootstrap, topic)] == list(range(150, 400))


def test_config_command(server: AnyServer) -> None:
    topic = server.create_topic("java-config")
    entity = [*server_args(server), "--entity-type", "topics", "--entity-name", topic]
    tool("configs", *entity, "--alter", "--add-config", "max.message.bytes=123456,segment.ms=7000,cleanup.policy=[delete]")
    described = tool("configs", *entity, "--describe", "--all")
    assert re.search(r"max\.message\.bytes=123456 sensitive=false synonyms=\{DYNAMIC_TOPIC_CONFIG:", described), described
    assert "cleanup.policy=delete" in described and "segment.ms=7000" in described
    tool("configs", *entity, "--alter", "--delete-config", "max.message.bytes")
    assert "max.message.bytes" not in tool("configs", *entity, "--describe")


def test_consumer_group_command(server: AnyServer) -> None:
    topic, group = server.create_topic("java-group", partitions=2), unique("java-group")
    produce(server.bootstrap, topic, generated(100, seed=1, partitions=2))
    committed = [TopicPartition(topic, 0, 20), TopicPartition(topic, 1, 50)]
    admin = server.admin()
    admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(group, committed)])[group].result(20)
    args = [*server_args(server), "--group", group]
    described = tool("consumer-groups", *args, "--describe")
    lines = {match[0]: match[1:] for match in re.findall(rf"{topic}\s+(\d)\s+(\d+)\s+(\d+)\s+(\d+)", described)}
    assert lines == {"0": ("20", "50", "30"), "1": ("50", "50", "0")}, described
    assert group in tool("consumer-groups", *server_args(server), "--list").split()
    tool("consumer-groups", *args, "--reset-offsets", "--to-earliest", "--topic", topic, "--execute")
    listed = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])[group].result(20)
    assert sorted(part.offset for part in listed.topic_partitions) == [0, 0]
    tool("consumer-groups", *args, "--delete")


def test_log_dirs_command(server: AnyServer) -> None:
    topic = server.create_topic("java-log-dirs", partitions=2)
    produce(server.bootstrap, topic, generated(100, seed=2, partitions=2))
    out = tool("log-dirs", *server_args(server), "--describe", "--topic-list", topic)
    found = json.loads(out[out.index("{") :])
    sizes = {part["partition"]: part["size"] for part in found["brokers"][0]["logDirs"][0]["partitions"]}
    assert sorted(sizes) == [f"{topic}-0", f"{topic}-1"] and all(size > 1000 for size in sizes.values()), found


@pytest.mark.firn
def test_dump_log_segments_reads_our_segment_files(server: FirnServer) -> None:
    topic = server.create_topic("dump", config={"segment.bytes": "20000", "remote.storage.enable": "false"})
    written = []
    for codec in CODECS:
        written += produce(server.bootstrap, topic, generated(100, seed=3), **{"compression.type": codec})
    files = segment_files(server, topic)
    assert len(files) > 1, files
    out = tool("dump-log", "--files", ",".join(map(str, files)), "--deep-iteration", "--print-data-log")
    assert "isvalid: false" not in out and "Found timestamp mismatch" not in out
    offsets = [int(offset) for offset in re.findall(r"^\| offset: (\d+)", out, re.MULTILINE)]
    assert sorted(offsets) == list(range(500))
    keys = re.findall(r"keySize: (-?\d+) valueSize: (-?\d+)", out)
    sizes = sorted(
        (len(row.key) if row.key is not None else -1, len(row.value) if row.value is not None else -1) for row in written
    )
    assert sorted((int(key), int(value)) for key, value in keys) == sizes
    expect_same(written, consume(server.bootstrap, topic))


def segment_files(server: FirnServer, topic: str) -> list[Path]:
    """The `.log` files of a topic with one partition: those whose folder names the topic or its id."""
    from confluent_kafka import TopicCollection

    admin = server.admin()
    described = admin.describe_topics(TopicCollection([topic]))[topic].result(20)
    names = (topic, str(described.topic_id))
    return sorted(
        file for file in server.data_dir.rglob("*.log") if any(name in part for part in file.parts for name in names)
    )
