"""What Firn adds: history settles as Parquet, local copies go, retention and deletion reach into the archive."""

import json
import time
from fnmatch import fnmatch
from io import BytesIO
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from confluent_kafka import TopicPartition

from harness import requests
from harness.batches import batch
from harness.firn import FirnServer
from harness.parquet_rows import duckdb_rows, pyarrow_rows
from harness.process import wait_until
from harness.records import CODECS, Draft, consume, corner_cases, expect_same, generated, produce
from harness.requests import list_offset, produce_raw
from harness.sql import value
from harness.stores import folder_store
from harness.wire import Wire

pytestmark = pytest.mark.firn
SETTINGS = {"firn.sweep.interval.ms": "200", "firn.sweep.grace.ms": "500"}
SMALL = {"batch.num.messages": 25}


@pytest.mark.parametrize("codec", CODECS)
def test_outside_readers_see_what_consumers_see(server: FirnServer, codec: str) -> None:
    topic = server.create_topic(f"outside-{codec}", tier="cold", partitions=2)
    drafts = corner_cases() + generated(800, seed=1, partitions=2)
    written = produce(server.bootstrap, topic, drafts, **{"compression.type": codec, **SMALL})
    server.settle(topic)
    expect_same(written, consume(server.bootstrap, topic, partitions=2))
    files = server.archived_files(topic)
    assert len(files) > 4
    expect_same(written, pyarrow_rows(files))
    expect_same(written, duckdb_rows(files))


def test_stamped_and_missing_times_look_the_same_from_outside(server: FirnServer) -> None:
    topic = server.create_topic("outside-times", tier="cold", config={"message.timestamp.type": "LogAppendTime"})
    produce(server.bootstrap, topic, generated(200, seed=2), **SMALL)
    server.settle(topic)
    expect_same(consume(server.bootstrap, topic), pyarrow_rows(server.archived_files(topic)))


def test_the_offsets_of_both_tiers_are_in_order_and_told(server: FirnServer) -> None:
    topic = server.create_topic("told", tier="cold", config={"segment.ms": "3600000", "local.retention.ms": "-1"})
    produce(server.bootstrap, topic, generated(1000, seed=3), **SMALL)
    server.wait_archived(topic, share=0.7)

    def steady() -> dict[str, object]:
        (row,) = server.archive_status([topic])
        assert row["backlog_bytes"] == 0 and row["local_start"] == row["archived_end"], row
        return row

    row = wait_until("no backlog", steady)
    assert 0 == row["log_start"] < row["local_start"] <= row["archived_end"] <= row["last_stable"]
    assert row["last_stable"] == row["high_watermark"] == row["log_end"] == 1000
    assert row["local_bytes"] < 20_000 < row["archived_bytes"] and row["last_error"] is None
    with Wire(server.host, server.port) as wire:
        assert list_offset(wire, topic, requests.EARLIEST).offset == 0
        assert list_offset(wire, topic, requests.EARLIEST_LOCAL).offset == row["local_start"]
        assert list_offset(wire, topic, requests.LATEST_TIERED).offset == row["archived_end"] - 1
        hot = server.create_topic("told-hot")
        produce(server.bootstrap, hot, [Draft(value=b"x")])
        assert list_offset(wire, hot, requests.EARLIEST_LOCAL).offset == 0
        assert list_offset(wire, hot, requests.LATEST_TIERED).offset == -1


def test_deleting_more_than_is_archived_keeps_the_offsets_in_order(server: FirnServer) -> None:
    topic = server.create_topic("told-deleted", tier="cold", config={"segment.ms": "3600000", "local.retention.ms": "-1"})
    produce(server.bootstrap, topic, generated(1000, seed=3), **SMALL)
    server.wait_archived(topic, share=0.7)
    admin, part = server.admin(), TopicPartition(topic, 0, 999)
    assert admin.delete_records([part])[part].result(20).low_watermark == 999
    (row,) = server.archive_status([topic])
    assert row["log_start"] == row["local_start"] == row["archived_end"] == 999
    produce(server.bootstrap, topic, generated(1000, seed=4), **SMALL)
    server.wait_archived(topic, share=0.7)
    assert [record.offset for record in consume(server.bootstrap, topic)] == list(range(999, 2000))


def test_the_command_shows_status_and_objects(server: FirnServer) -> None:
    topic = server.create_topic("shown", tier="cold")
    produce(server.bootstrap, topic, generated(300, seed=4), **SMALL)
    server.settle(topic)
    shown = json.loads(server.cli("archive", "status", "--json", "--admin", server.admin_address).stdout)
    rows = shown["partitions"] if isinstance(shown, dict) else shown
    (row,) = [row for row in rows if row["topic"] == topic]
    assert (row["log_start"], row["archived_end"], row["log_end"]) == (0, 300, 300)
    assert any(str(file).endswith(row["manifest"]) for file in server.store.objects(".manifest")), row
    table = server.cli("archive", "status", "--admin", server.admin_address).stdout.decode()
    assert topic in table
    listing = server.cli("archive", "list", topic, "--admin", server.admin_address).stdout.decode()
    files = server.archived_files(topic)
    assert listing.count(".parquet") == len(files) > 0, listing
    assert "300" in server.cli("inspect", str(files[-1])).stdout.decode()


def test_a_changed_page_of_an_object_is_found_in_every_mode(server: FirnServer, tmp_path: Path) -> None:
    topic = server.create_topic("flipped-object", tier="cold")
    produce(server.bootstrap, topic, generated(300, seed=4), **SMALL)
    server.settle(topic)
    whole = server.archived_files(topic)[0].read_bytes()
    copy = tmp_path / "copy.parquet"
    footer = int.from_bytes(whole[-8:-4], "little")
    # The page indexes lie before the footer, behind the pages.
    metadata = pq.ParquetFile(BytesIO(whole)).metadata
    columns = [metadata.row_group(0).column(index) for index in range(metadata.num_columns)]
    end = max(column.data_page_offset + column.total_compressed_size for column in columns)
    assert 4 < end < len(whole) - footer
    for mode in ([], ["--json"], ["--records"]):
        copy.write_bytes(whole)
        server.cli("inspect", *mode, str(copy))
        for position in range(4, end, end // 8):
            copy.write_bytes(whole[:position] + bytes([whole[position] ^ 8]) + whole[position + 1 :])
            run = server.cli("inspect", *mode, str(copy), check=False)
            assert run.returncode == 1 and b"chunk 0 (offsets" in run.stderr, (mode, position, run)


def test_consumers_cross_the_seam_while_records_arrive(server: FirnServer) -> None:
    topic = server.create_topic("seam", tier="cold", partitions=2)
    written = []
    for round_number in range(6):
        written += produce(server.bootstrap, topic, generated(400, seed=round_number, partitions=2), **SMALL)
        expect_same(written, consume(server.bootstrap, topic, partitions=2))
    server.settle(topic)
    expect_same(written, consume(server.bootstrap, topic, partitions=2))


def test_a_topic_may_stay_out_of_the_archive(server: FirnServer) -> None:
    topic = server.create_topic("local-only", tier="cold", config={"remote.storage.enable": "false"})
    written = produce(server.bootstrap, topic, generated(400, seed=5), **SMALL)
    other = server.create_topic("archived-meanwhile", tier="cold")
    produce(server.bootstrap, other, generated(400, seed=5), **SMALL)
    server.settle(other)
    (row,) = server.archive_status([topic])
    assert (row["archived_end"], row["local_start"]) == (0, 0)
    assert not [file for file in server.store.objects() if topic in str(file)]
    expect_same(written, consume(server.bootstrap, topic))


def test_total_retention_by_size_reaches_into_the_archive(server: FirnServer) -> None:
    topic = server.create_topic("retention-size", tier="cold")
    written = produce(server.bootstrap, topic, generated(1500, seed=6), **SMALL)
    server.settle(topic)
    before = len(server.archived_files(topic))
    alter(server, topic, "retention.bytes", "100000")

    def expired() -> int:
        (row,) = server.archive_status([topic])
        assert row["log_start"] > 0, row
        return int(row["log_start"])

    wait_until("the oldest segments to expire", expired)
    wait_until("their objects to go", lambda: len(data_objects(server, topic)) < before)
    start = expired()
    expect_same(written[start:], consume(server.bootstrap, topic))
    with Wire(server.host, server.port) as wire:
        assert list_offset(wire, topic, requests.EARLIEST).offset == start
        assert requests.fetch_one(wire, topic, 0).error_code == requests.OFFSET_OUT_OF_RANGE


def test_total_retention_by_time_reaches_into_the_archive(server: FirnServer) -> None:
    topic = server.create_topic("retention-time", tier="cold")
    produce(server.bootstrap, topic, [Draft(value=b"old" * 50, timestamp=1_600_000_000_000)] * 600, **SMALL)
    server.settle(topic)
    recent = produce(server.bootstrap, topic, [Draft(value=b"new" * 50)] * 100, **SMALL)
    server.settle(topic)
    alter(server, topic, "retention.ms", "86400000")
    # The segment that holds both old and new records stays, as in Kafka.
    wait_until("the old segments to expire", lambda: server.archive_status([topic])[0]["log_start"] >= 500)
    read = consume(server.bootstrap, topic)
    assert read[-100:] == recent and len(read) <= 200


def test_local_copies_go_when_total_retention_has_nothing_to_do(server: FirnServer) -> None:
    """What may leave the disk only after a checkpoint, or a day later, goes without any new record."""
    topic = server.create_topic("local-retention", tier="cold", config={"retention.bytes": "100000000"})
    written = produce(server.bootstrap, topic, generated(300, seed=11), **SMALL)
    server.settle(topic)
    expect_same(written, consume(server.bootstrap, topic))


def test_the_longest_topic_names_settle_in_the_archive(server: FirnServer) -> None:
    topics = [server.create_topic(tier="cold", name="n" * length) for length in (233, 249)]
    for topic in topics:
        written = produce(server.bootstrap, topic, generated(50, seed=14), **SMALL)
        server.settle(topic, 30)
        expect_same(written, consume(server.bootstrap, topic))
    admin = server.admin()
    for removed in admin.delete_topics(topics, operation_timeout=20).values():
        removed.result(20)
    wait_until("their objects to go", lambda: not data_objects(server, "n" * 232))


@pytest.mark.parametrize("archived", ["true", "false"])
def test_retention_reaches_the_open_segment(server: FirnServer, archived: str) -> None:
    topic = server.create_topic("retention-open", config={"retention.ms": "1000", "remote.storage.enable": archived})
    produce(server.bootstrap, topic, [Draft(value=b"short-lived")] * 3)
    with Wire(server.host, server.port) as wire:

        def expired() -> None:
            assert list_offset(wire, topic, requests.EARLIEST).offset == 3

        wait_until("all records to expire", lambda: expired() is None, 30)
        assert requests.fetch_one(wire, topic, 0).error_code == requests.OFFSET_OUT_OF_RANGE


def test_local_retention_reaches_the_open_segment(server: FirnServer) -> None:
    topic = server.create_topic("local-open", config={"local.retention.ms": "500"})
    written = produce(server.bootstrap, topic, generated(3, seed=12))
    server.settle(topic, 30)
    expect_same(written, consume(server.bootstrap, topic))


def test_a_record_from_the_future_keeps_no_archived_copies_on_the_disk(server: FirnServer) -> None:
    topic = server.create_topic("future", tier="cold", config={"local.retention.bytes": "-1"})
    ahead = Draft(value=b"ahead", timestamp=int((time.time() + 3000) * 1000))
    written = produce(server.bootstrap, topic, [ahead, *generated(300, seed=13)], **SMALL)
    server.settle(topic, 30)
    expect_same(written, consume(server.bootstrap, topic))


def test_deleting_records_and_topics_empties_the_bucket(server: FirnServer) -> None:
    topic = server.create_topic("emptied", tier="cold", partitions=2)
    produce(server.bootstrap, topic, generated(1000, seed=7, partitions=2), **SMALL)
    server.settle(topic)
    admin = server.admin()
    part = TopicPartition(topic, 0, -1)
    assert admin.delete_records([part])[part].result(20).low_watermark == 500
    wait_until("deleted records' objects to go", lambda: not data_objects(server, topic, "0"))
    assert data_objects(server, topic, "1")
    assert len(consume(server.bootstrap, topic, partitions=2)) == 500
    admin.delete_topics([topic], operation_timeout=20)[topic].result(20)
    wait_until("a deleted topic's objects to go", lambda: not data_objects(server, topic))
    wait_until("its local files to go", lambda: not [f for f in server.data_dir.rglob("*") if topic in str(f)])


def test_every_record_is_in_the_archive_alone(server: FirnServer) -> None:
    """Nothing of a settled topic is left in local segments: the reader cannot have been served from there."""
    topic = server.create_topic("alone", tier="cold")
    marker = b"unmistakable-marker-of-this-test"
    written = produce(server.bootstrap, topic, [Draft(value=marker)] * 500, **SMALL)
    server.settle(topic)
    left = [file for file in server.data_dir.rglob("*.log") if marker in file.read_bytes()]
    assert not [file for file in left if topic in str(file)], left
    server.restart()
    expect_same(written, consume(server.bootstrap, topic))


def test_the_admin_port_tells_health_and_numbers(server: FirnServer) -> None:
    assert server.http("/health").startswith("healthy")
    assert server.http("/ready").startswith("ready")
    metrics = server.http("/metrics")
    assert metrics.count("# TYPE") > 10
    for word in ("archive", "request", "object"):
        assert word in metrics, f"no metric about {word}"


def test_the_process_ends_cleanly_and_quickly(server: FirnServer) -> None:
    topic = server.create_topic("ending", tier="cold")
    written = produce(server.bootstrap, topic, generated(300, seed=8), **SMALL)
    server.stop(timeout_s=10)
    server.start()
    expect_same(written, consume(server.bootstrap, topic))


def test_a_store_of_another_cluster_is_not_touched(server: FirnServer) -> None:
    """Two clusters in one bucket keep apart: their names begin with the cluster's id."""
    neighbour = FirnServer(server.folder.parent / "neighbour", folder_store(server.store.folder or server.folder))
    neighbour.start()
    try:
        topic = neighbour.create_topic("neighbour", tier="cold", name="neighbours-topic")
        mine = server.create_topic("mine", tier="cold", name="neighbours-topic")
        theirs = produce(neighbour.bootstrap, topic, generated(200, seed=9), **SMALL)
        ours = produce(server.bootstrap, mine, generated(200, seed=10), **SMALL)
        neighbour.settle(topic)
        server.settle(mine)
        admin = server.admin()
        admin.delete_topics([mine], operation_timeout=20)[mine].result(20)
        expect_same(theirs, consume(neighbour.bootstrap, topic))
        assert len(ours) == 200
    finally:
        neighbour.close()


def data_objects(server: FirnServer, topic: str, partition: str = "*") -> list[object]:
    """All data objects that lie under the topic's name, named by a manifest or not; of one partition, if it is named."""
    pattern = f"*/{topic}-*/{partition}/data/*"
    return [file for file in server.store.objects(".parquet") if fnmatch(str(file), pattern)]


def alter(server: FirnServer, topic: str, name: str, value: str) -> None:
    """Sets one setting of a topic."""
    from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

    entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    admin = server.admin()
    admin.incremental_alter_configs([resource])[resource].result(20)


def test_archived_segments_leave_the_disk_long_before_the_next_retention_check(tmp_path: Path) -> None:
    """What closed since the last checkpoint waits for the next one: it goes when that is written."""
    idle = FirnServer(tmp_path / "server", folder_store(tmp_path / "store"), {"log.retention.check.interval.ms": "300000"})
    try:
        idle.start()
        topic = idle.create_topic("evicted", tier="cold", config={"segment.ms": "3600000"})
        written = produce(idle.bootstrap, topic, generated(1000, seed=11), **SMALL)

        def evicted() -> None:
            (row,) = idle.archive_status([topic])
            assert 0 < row["archived_end"] == row["local_start"] and row["backlog_bytes"] == 0, row

        wait_until("archived segments to leave the disk", lambda: evicted() is None, 60)
        expect_same(written, consume(idle.bootstrap, topic))
    finally:
        idle.close()


def test_records_from_before_1970_are_found_by_time_in_both_tiers(server: FirnServer) -> None:
    topic = server.create_topic("before-1970", tier="cold")
    times = [-2_208_988_799_877, -86_400_000, -2, -1, 0, 1]
    early = f"""SELECT count(*) AS n FROM "{topic}" WHERE "timestamp" < TIMESTAMP '1970-01-01T00:00:00Z'"""
    with Wire(server.host, server.port) as wire:
        for timestamp in times:
            answer = produce_raw(wire, topic, batch([(b"k", b"%d" % timestamp)], timestamp=timestamp))
            assert answer.error_code == requests.NONE, answer
        for settled in (False, True):
            if settled:
                server.settle(topic)
            assert [list_offset(wire, topic, timestamp).offset for timestamp in (0, 1, 2)] == [4, 5, -1]
            assert list_offset(wire, topic, requests.MAX_TIMESTAMP).offset == 5
            rows = consume(server.bootstrap, topic)
            assert [(row.timestamp, row.value) for row in rows] == [(time, b"%d" % time) for time in times]
            assert value(server, early) == 3


def test_a_time_before_1970_says_nothing_of_a_records_age(server: FirnServer) -> None:
    topic = server.create_topic("aged", tier="cold", config={"retention.ms": "86400000"})
    other = server.create_topic("old", tier="cold", config={"retention.ms": "86400000"})
    with Wire(server.host, server.port) as wire:
        for name, timestamp in ((topic, -86_400_000), (other, 1)):
            assert produce_raw(wire, name, batch(timestamp=timestamp)).error_code == requests.NONE
        server.settle(topic)
        wait_until("retention to look", lambda: list_offset(wire, other, requests.EARLIEST).offset == 1)
        point = list_offset(wire, topic, requests.MAX_TIMESTAMP)
        assert (point.offset, list_offset(wire, topic, requests.EARLIEST).offset) == (0, 0)
