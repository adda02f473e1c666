"""The AdminClient of librdkafka: topics, settings, partitions, records, groups, the cluster."""

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ConfigSource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourceType,
)
from kafka.protocol.admin import CreatePartitionsRequest

from conftest import AnyServer
from harness import requests
from harness.batches import batch
from harness.broker import unique
from harness.process import wait_until
from harness.records import Draft, consume, expect_same, generated, produce
from harness.requests import list_offset
from harness.wire import Wire

both_tiers = pytest.mark.parametrize("tier", ["hot", "cold"])


def code_of(error: KafkaException) -> int:
    """The error code inside librdkafka's exception."""
    return error.args[0].code()


def configs(admin: AdminClient, topic: str) -> dict[str, ConfigEntry]:
    """All settings of a topic."""
    resource = ConfigResource(ResourceType.TOPIC, topic)
    return admin.describe_configs([resource])[resource].result(20)


def alter(admin: AdminClient, topic: str, *changes: tuple[str, str | None, AlterConfigOpType]) -> None:
    """Incremental changes of a topic's settings."""
    entries = [ConfigEntry(name, value, incremental_operation=kind) for name, value, kind in changes]
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)
    admin.incremental_alter_configs([resource])[resource].result(20)


def test_topics_are_created_described_and_deleted(server: AnyServer) -> None:
    admin = server.admin()
    topic = server.create_topic("crud", partitions=5)
    assert len(admin.list_topics(timeout=20).topics[topic].partitions) == 5
    with pytest.raises(KafkaException) as exists:
        admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(20)
    assert code_of(exists.value) == KafkaError.TOPIC_ALREADY_EXISTS
    admin.delete_topics([topic], operation_timeout=20)[topic].result(20)
    wait_until("the topic to go", lambda: topic not in admin.list_topics(timeout=20).topics)
    with pytest.raises(KafkaException) as gone:
        admin.delete_topics([topic])[topic].result(20)
    assert code_of(gone.value) == KafkaError.UNKNOWN_TOPIC_OR_PART


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("", KafkaError.TOPIC_EXCEPTION),
        (".", KafkaError.TOPIC_EXCEPTION),
        ("..", KafkaError.TOPIC_EXCEPTION),
        ("a" * 250, KafkaError.TOPIC_EXCEPTION),
        ("snow/ice", KafkaError.TOPIC_EXCEPTION),
        ("schnee-❄", KafkaError.TOPIC_EXCEPTION),
    ],
)
def test_invalid_topic_names_are_refused(server: AnyServer, name: str, code: int) -> None:
    admin = server.admin()
    with pytest.raises(KafkaException) as refused:
        admin.create_topics([NewTopic(name, 1, 1)])[name].result(20)
    assert code_of(refused.value) in (code, KafkaError._INVALID_ARG)


def test_names_that_differ_only_by_dot_and_underscore_collide(server: AnyServer) -> None:
    admin = server.admin()
    stem = unique("collide").replace("-", "_")
    server.create_topic(name=f"{stem}_x")
    with pytest.raises(KafkaException) as refused:
        admin.create_topics([NewTopic(f"{stem}.x", 1, 1)])[f"{stem}.x"].result(20)
    assert code_of(refused.value) == KafkaError.TOPIC_EXCEPTION


@pytest.mark.parametrize(
    ("setting", "value"),
    [("retention.ms", "soon"), ("no.such.setting", "1"), ("cleanup.policy", "shred"), ("segment.bytes", "-1"),
     ("compression.type", "rar"), ("message.timestamp.type", "Sundial")],
)  # fmt: skip
def test_invalid_settings_are_refused(server: AnyServer, setting: str, value: str) -> None:
    admin, topic = server.admin(), unique("bad-setting")
    with pytest.raises(KafkaException) as refused:
        admin.create_topics([NewTopic(topic, 1, 1, config={setting: value})])[topic].result(20)
    assert code_of(refused.value) == KafkaError.INVALID_CONFIG
    assert setting in refused.value.args[0].str()
    good = server.create_topic("good-setting")
    with pytest.raises(KafkaException) as unchanged:
        alter(admin, good, (setting, value, AlterConfigOpType.SET))
    assert code_of(unchanged.value) == KafkaError.INVALID_CONFIG


def test_partition_and_replica_counts_are_checked(server: AnyServer) -> None:
    admin = server.admin()
    for partitions, replicas, code in [(0, 1, KafkaError.INVALID_PARTITIONS), (1, 3, KafkaError.INVALID_REPLICATION_FACTOR)]:
        topic = unique("counts")
        with pytest.raises(KafkaException) as refused:
            admin.create_topics([NewTopic(topic, partitions, replicas)])[topic].result(20)
        assert code_of(refused.value) == code
    validated = unique("dry-run")
    admin.create_topics([NewTopic(validated, 2, 1)], validate_only=True)[validated].result(20)
    assert validated not in admin.list_topics(timeout=20).topics


def test_settings_show_their_source_and_change_one_by_one(server: AnyServer) -> None:
    admin = server.admin()
    topic = server.create_topic("settings", config={"retention.ms": "123456789"})
    found = configs(admin, topic)
    assert (found["retention.ms"].value, found["retention.ms"].source) == (
        "123456789", ConfigSource.DYNAMIC_TOPIC_CONFIG.value,
    )  # fmt: skip
    assert found["max.message.bytes"].is_default
    expected = {
        "cleanup.policy", "segment.bytes", "compression.type", "min.insync.replicas", "message.timestamp.type",
        "retention.bytes", "local.retention.ms", "local.retention.bytes", "remote.storage.enable",
    }  # fmt: skip
    assert expected <= set(found)

    alter(
        admin,
        topic,
        ("max.message.bytes", "2000000", AlterConfigOpType.SET),
        ("retention.ms", None, AlterConfigOpType.DELETE),
    )
    wait_until("the change to show", lambda: configs(admin, topic)["max.message.bytes"].value == "2000000")
    found = configs(admin, topic)
    assert found["max.message.bytes"].source == ConfigSource.DYNAMIC_TOPIC_CONFIG.value
    assert found["retention.ms"].source != ConfigSource.DYNAMIC_TOPIC_CONFIG.value


def test_only_list_settings_grow_and_shrink(server: AnyServer) -> None:
    admin, topic = server.admin(), server.create_topic("lists")
    alter(admin, topic, ("cleanup.policy", "delete", AlterConfigOpType.APPEND))
    assert configs(admin, topic)["cleanup.policy"].value == "delete"
    with pytest.raises(KafkaException) as refused:
        alter(admin, topic, ("retention.ms", "5", AlterConfigOpType.APPEND))
    assert code_of(refused.value) == KafkaError.INVALID_CONFIG


@pytest.mark.firn
def test_numbers_of_brokers_do_not_grow_and_topics_keep_their_own_settings(server: AnyServer) -> None:
    admin = server.admin()
    topic = server.create_topic("own", config={"max.message.bytes": "5000000"})
    broker = str(next(iter(admin.list_topics(timeout=20).brokers)))
    for kind in (AlterConfigOpType.APPEND, AlterConfigOpType.SUBTRACT):
        entry = ConfigEntry("min.insync.replicas", "2", incremental_operation=kind)
        resource = ConfigResource(ResourceType.BROKER, broker, incremental_configs=[entry])
        with pytest.raises(KafkaException) as refused:
            admin.incremental_alter_configs([resource])[resource].result(20)
        assert code_of(refused.value) == KafkaError.INVALID_CONFIG
        assert f"Config value {kind.name.lower()} is not allowed" in str(refused.value)
    with Wire(server.host, server.port) as wire:
        written = requests.produce_raw(wire, topic, batch([(b"k", b"v" * 2_000_000)]))
    assert written.error_code == requests.NONE


def test_compaction_is_refused_until_it_works(server: AnyServer) -> None:
    admin, topic = server.admin(), server.create_topic("compaction")
    with pytest.raises(KafkaException) as refused:
        alter(admin, topic, ("cleanup.policy", "compact", AlterConfigOpType.SET))
    assert code_of(refused.value) == KafkaError.INVALID_CONFIG
    assert configs(admin, topic)["cleanup.policy"].value == "delete"


def test_changed_limits_take_effect(server: AnyServer) -> None:
    admin, topic = server.admin(), server.create_topic("limits", config={"max.message.bytes": "1000"})
    with pytest.raises(AssertionError, match="MSG_SIZE_TOO_LARGE"):
        produce(server.bootstrap, topic, [Draft(value=bytes(range(256)) * 8)])
    alter(admin, topic, ("max.message.bytes", "100000", AlterConfigOpType.SET))
    wait_until("the change to show", lambda: configs(admin, topic)["max.message.bytes"].value == "100000")

    def accepted() -> bool:
        produce(server.bootstrap, topic, [Draft(value=bytes(range(256)) * 8)])
        return True

    wait_until("the larger limit to hold", accepted, timeout_s=10)


def test_the_whole_set_of_settings_can_be_replaced(server: AnyServer) -> None:
    admin, topic = server.admin(), server.create_topic("replace", config={"retention.ms": "60000"})
    resource = ConfigResource(ResourceType.TOPIC, topic, set_config={"max.message.bytes": "77777"})
    admin.alter_configs([resource])[resource].result(20)
    wait_until("the new set", lambda: configs(admin, topic)["max.message.bytes"].value == "77777")
    assert configs(admin, topic)["retention.ms"].source != ConfigSource.DYNAMIC_TOPIC_CONFIG.value


def test_settings_of_an_unknown_topic_are_an_error(server: AnyServer) -> None:
    with pytest.raises(KafkaException) as unknown:
        configs(server.admin(), unique("nowhere"))
    assert code_of(unknown.value) == KafkaError.UNKNOWN_TOPIC_OR_PART


def test_broker_settings_are_listed(server: AnyServer) -> None:
    admin = server.admin()
    (broker,) = admin.list_topics(timeout=20).brokers.values()
    resource = ConfigResource(ResourceType.BROKER, str(broker.id))
    found = admin.describe_configs([resource])[resource].result(20)
    assert {"num.partitions", "auto.create.topics.enable", "log.retention.ms"} <= set(found)


@both_tiers
def test_partitions_are_added(server: AnyServer, tier: str) -> None:
    admin, topic = server.admin(), server.create_topic("grow", partitions=1, tier=tier)
    written = produce(server.bootstrap, topic, generated(200, seed=1), **{"batch.num.messages": 30})
    admin.create_partitions([NewPartitions(topic, 3)])[topic].result(20)
    wait_until("three partitions", lambda: len(admin.list_topics(topic, timeout=20).topics[topic].partitions) == 3)
    server.await_leaders(admin, topic, 3)
    written += produce(server.bootstrap, topic, generated(100, seed=2, partitions=3), **{"batch.num.messages": 30})
    if tier == "cold":
        server.settle(topic)
    expect_same(written, consume(server.bootstrap, topic, partitions=3))
    for count in (3, 2):
        with pytest.raises(KafkaException) as refused:
            admin.create_partitions([NewPartitions(topic, count)])[topic].result(20)
        assert code_of(refused.value) == KafkaError.INVALID_PARTITIONS


@both_tiers
def test_records_are_deleted_up_to_an_offset(server: AnyServer, tier: str) -> None:
    admin, topic = server.admin(), server.create_topic("delete-records", tier=tier)
    written = produce(server.bootstrap, topic, generated(500, seed=3), **{"batch.num.messages": 20})
    if tier == "cold":
        server.settle(topic)
    for before in (137, 400):
        part = TopicPartition(topic, 0, before)
        assert admin.delete_records([part])[part].result(20).low_watermark == before
        read = consume(server.bootstrap, topic)
        expect_same(written[before:], read)
        with Wire(server.host, server.port) as wire:
            assert list_offset(wire, topic, requests.EARLIEST).offset == before
            assert requests.fetch_one(wire, topic, before - 1).error_code == requests.OFFSET_OUT_OF_RANGE
    beyond = TopicPartition(topic, 0, 501)
    with pytest.raises(KafkaException) as refused:
        admin.delete_records([beyond])[beyond].result(20)
    assert code_of(refused.value) == KafkaError.OFFSET_OUT_OF_RANGE
    everything = TopicPartition(topic, 0, -1)
    assert admin.delete_records([everything])[everything].result(20).low_watermark == 500
    assert consume(server.bootstrap, topic) == []
    server.restart()
    assert consume(server.bootstrap, topic) == []
    more = produce(server.bootstrap, topic, generated(10, seed=4))
    assert more[0].offset == 500
    expect_same(more, consume(server.bootstrap, topic))


def test_groups_are_listed_described_and_deleted(server: AnyServer) -> None:
    admin, topic, group = server.admin(), server.create_topic("described", partitions=2), unique("group")
    produce(server.bootstrap, topic, generated(20, seed=6, partitions=2))
    consumer = Consumer(
        {"bootstrap.servers": server.bootstrap, "group.id": group, "client.id": "the-client",
         "auto.offset.reset": "earliest", "partition.assignment.strategy": "range"}
    )  # fmt: skip
    consumer.subscribe([topic])

    def stable() -> bool:
        consumer.poll(0.1)
        described = admin.describe_consumer_groups([group])[group].result(20)
        return described.state.name == "STABLE" and bool(consumer.assignment())

    wait_until("a stable group", stable)
    described = admin.describe_consumer_groups([group])[group].result(20)
    (member,) = described.members
    assert (member.client_id, described.partition_assignor) == ("the-client", "range")
    assert sorted(part.partition for part in member.assignment.topic_partitions) == [0, 1]
    listed = admin.list_consumer_groups().result(20)
    assert group in {entry.group_id for entry in listed.valid}
    with pytest.raises(KafkaException) as busy:
        admin.delete_consumer_groups([group])[group].result(20)
    assert code_of(busy.value) == KafkaError.NON_EMPTY_GROUP
    consumer.close()
    wait_until(
        "an empty group",
        lambda: admin.describe_consumer_groups([group])[group].result(20).state.name == "EMPTY",
    )
    admin.delete_consumer_groups([group])[group].result(20)
    assert group not in {entry.group_id for entry in admin.list_consumer_groups().result(20).valid}
    with pytest.raises(KafkaException) as unknown:
        admin.delete_consumer_groups([group])[group].result(20)
    assert code_of(unknown.value) == KafkaError.GROUP_ID_NOT_FOUND


def test_the_cluster_describes_itself(server: AnyServer) -> None:
    admin = server.admin()
    cluster = admin.describe_cluster().result(20)
    assert [f"{node.host}:{node.port}" for node in cluster.nodes] == [server.bootstrap]
    assert cluster.controller is not None and len(cluster.cluster_id) == 22
    topic = server.create_topic("described-topic", partitions=2)
    from confluent_kafka import TopicCollection

    described = admin.describe_topics(TopicCollection([topic]))[topic].result(20)
    assert [part.id for part in described.partitions] == [0, 1]
    assert all(len(part.isr) == 1 and part.leader is not None for part in described.partitions)
    assert not described.is_internal and str(described.topic_id) not in ("", "AAAAAAAAAAAAAAAAAAAAAA")


@both_tiers
def test_offsets_are_listed_by_the_admin_client(server: AnyServer, tier: str) -> None:
    admin, topic = server.admin(), server.create_topic("list-offsets", tier=tier)
    base = 1_600_000_000_000
    drafts = [Draft(value=b"x" * 100, timestamp=base + number) for number in range(300)]
    produce(server.bootstrap, topic, drafts, **{"batch.num.messages": 20})
    if tier == "cold":
        server.settle(topic)
    part = TopicPartition(topic, 0)

    def offset(spec: OffsetSpec) -> int:
        return admin.list_offsets({part: spec})[part].result(20).offset

    assert offset(OffsetSpec.earliest()) == 0
    assert offset(OffsetSpec.latest()) == 300
    assert offset(OffsetSpec.max_timestamp()) == 299
    assert offset(OffsetSpec.for_timestamp(base + 123)) == 123


def test_a_topic_that_is_named_twice_does_not_grow(server: AnyServer) -> None:
    topic, other = server.create_topic("twice"), server.create_topic("once")
    grown = CreatePartitionsRequest.CreatePartitionsTopic
    wanted = [grown(name=name, count=count, assignments=None) for name, count in [(topic, 2), (other, 2), (topic, 3)]]
    with Wire(server.host, server.port, timeout_s=20) as wire:
        answer = wire.ask(CreatePartitionsRequest[3](topics=wanted, timeout_ms=20_000, validate_only=False))
    codes = {result.name: result.error_code for result in answer.results}
    assert codes == {topic: KafkaError.INVALID_REQUEST, other: 0} and len(answer.results) == 2, answer
    topics = server.admin().list_topics(timeout=20).topics
    assert (len(topics[topic].partitions), len(topics[other].partitions)) == (1, 2)
