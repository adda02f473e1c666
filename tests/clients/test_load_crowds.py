"""Crowds: ten thousand partitions, hundreds of members that join at once, readers that retention overtakes.

FIRN_LOAD_SCALE multiplies the numbers of partitions and members.
"""

import os
import random
import socket
import struct
import time
from collections import Counter

import pytest
from confluent_kafka import Consumer, KafkaException, Message, Producer

from conftest import StartServer
from harness.broker import Tier
from harness.firn import FirnServer
from harness.load import Load, number_of
from harness.pressure import MIB, Neighbour, connection, describe, memory_bytes, stays_healthy
from harness.process import wait_until
from harness.records import Draft, produce, row_of
from harness.requests import EARLIEST, LATEST, NONE, OFFSET_OUT_OF_RANGE, fetch_one, fetch_request, list_offset
from harness.wire import Wire, topic_id

pytestmark = pytest.mark.firn
SCALE = float(os.environ.get("FIRN_LOAD_SCALE") or 1)
MEMBERS = int(200 * SCALE)
PARTITION_BYTES = 40 << 10
"""What an open partition with some records may take, as docs/operations.md says."""


def log_start(server: FirnServer, topic: str) -> int:
    """The first offset that there is."""
    with Wire(server.host, server.port) as wire:
        return int(list_offset(wire, topic, EARLIEST).offset)


@pytest.mark.timeout(420)
def test_ten_thousand_partitions_are_written_read_and_open_again_after_a_kill(start_server: StartServer) -> None:
    server = start_server()
    topics, each = 10, int(1000 * SCALE)
    count = topics * each
    with Neighbour(server, patience_s=60):
        before = memory_bytes(server)
        began = time.monotonic()
        names = [server.create_topic("many", partitions=each) for _ in range(topics)]
        created_s = time.monotonic() - began
        write_one_each(server, names, each)
        grown = memory_bytes(server) - before
        assert read_one_each(server, names, each) == Counter(range(count))
    server.kill()
    began = time.monotonic()
    server.start()
    ready_s = time.monotonic() - began
    with Neighbour(server):
        assert read_one_each(server, names, each) == Counter(range(count))
        with Wire(server.host, server.port) as wire:
            for partition in range(0, each, 97):
                assert list_offset(wire, names[partition % topics], LATEST, partition=partition).offset == 1
    describe(partitions=count, created_s=created_s, ready_s=ready_s, bytes_each=grown // count)
    assert grown < count * PARTITION_BYTES + 64 * MIB, f"{grown // count} bytes for each partition"
    stays_healthy(server)


def numbered(index: int) -> bytes:
    """A value that occurs in no other."""
    return b"number %d;" % index


def write_one_each(server: FirnServer, names: list[str], each: int) -> None:
    """One numbered record in every partition."""
    failed: list[object] = []

    def delivered(error: object, _: Message) -> None:
        if error is not None:
            failed.append(error)

    producer = Producer({"bootstrap.servers": server.bootstrap, "linger.ms": 50, "message.timeout.ms": 120_000})
    for index in range(len(names) * each):
        producer.produce(names[index // each], value=numbered(index), partition=index % each, on_delivery=delivered)
        producer.poll(0)
    assert producer.flush(120) == 0
    assert not failed, failed[0]


def read_one_each(server: FirnServer, names: list[str], each: int) -> Counter[int]:
    """The numbers in all partitions, and how often each."""
    seen: Counter[int] = Counter()
    deadline = time.monotonic() + 120
    with Wire(server.host, server.port, timeout_s=60) as wire:
        for at, name in enumerate(names):
            left = dict.fromkeys(range(each), 0)
            ident = topic_id(wire, name)
            while left:
                assert time.monotonic() < deadline, f"{len(left)} partitions of {name} gave nothing"
                answer = wire.ask(fetch_request({ident: left}, max_bytes=50 * MIB, partition_max_bytes=4096))
                assert answer.error_code == NONE
                for part in answer.responses[0].partitions:
                    data = bytes(part.records or b"")
                    if data:
                        number = at * each + part.partition_index
                        assert data.count(numbered(number)) == 1
                        seen[number] += 1
                        del left[part.partition_index]
    return seen


@pytest.mark.timeout(300)
def test_a_storm_of_joins_ends_in_one_generation(start_server: StartServer) -> None:
    server = start_server({"group.initial.rebalance.delay.ms": "1000"})
    topic = server.create_topic("storm", partitions=MEMBERS)
    produce(server.bootstrap, topic, [Draft(value=b"%d" % part, partition=part) for part in range(MEMBERS)])
    with Neighbour(server, patience_s=60) as neighbour:
        began = time.monotonic()
        members = [storm_member(server, topic) for _ in range(MEMBERS)]
        seen: Counter[int] = Counter()
        settle_group(members, 1, seen)
        joined_s = time.monotonic() - began
        assert set(seen) == set(range(MEMBERS)), "some partitions were never read"
        neighbour.progress(5)
        began = time.monotonic()
        leaving, staying = members[::2], members[1::2]
        for member in leaving:
            member.close()
        settle_group(staying, 2, seen)
        describe(members=MEMBERS, joined_s=joined_s, half_left_s=time.monotonic() - began)
        neighbour.progress(5)
        for member in staying:
            member.close()
    stays_healthy(server)


def storm_member(server: FirnServer, topic: str) -> Consumer:
    """A member that joins at once."""
    member = Consumer(
        {"bootstrap.servers": server.bootstrap, "group.id": "storm", "auto.offset.reset": "earliest",
         "heartbeat.interval.ms": 1000, "session.timeout.ms": 30_000, "enable.auto.commit": False,
         "partition.assignment.strategy": "range", "log_level": 0}
    )  # fmt: skip
    member.subscribe([topic])
    return member


def settle_group(members: list[Consumer], share: int, seen: Counter[int]) -> None:
    """Polls until every member owns its share and nobody else has any of it; counts what was read."""
    deadline = time.monotonic() + 120
    while True:
        for member in members:
            message = member.poll(0)
            if message is not None:
                if message.error() is not None:
                    raise KafkaException(message.error())
                value = message.value()
                assert value is not None
                seen[int(value)] += 1
        owned = [[part.partition for part in member.assignment()] for member in members]
        flat = sorted(part for parts in owned for part in parts)
        if flat == list(range(MEMBERS)) and all(len(parts) == share for parts in owned) and len(seen) == MEMBERS:
            return
        assert time.monotonic() < deadline, f"{len(flat)} partitions owned, {len(set(flat))} different, {len(seen)} read"
        time.sleep(0.02)


@pytest.mark.parametrize("tier", ["hot", "cold"])
def test_a_reader_that_retention_overtakes_goes_on_at_the_new_start(start_server: StartServer, tier: Tier) -> None:
    server = start_server()
    config = {
        "retention.bytes": "20000",
        "segment.bytes": "16384",
        "segment.ms": "500",
        "remote.storage.enable": str(tier == "cold").lower(),
    }
    topic = server.create_topic("overtaken", tier=tier, config=config)
    load = Load(server.bootstrap, topic, 1, per_second=4000)
    reader = Consumer(
        {"bootstrap.servers": server.bootstrap, "group.id": "overtaken", "auto.offset.reset": "earliest",
         "enable.auto.commit": False, "queued.min.messages": 1, "queued.max.messages.kbytes": 1,
         "fetch.message.max.bytes": 2000}
    )  # fmt: skip
    reader.subscribe([topic])
    last, jumps = -1, 0
    for _ in range(3):
        last, jumps = read_on(reader, last, jumps, 100)
        wait_until("retention to overtake", lambda last=last: log_start(server, topic) > last + 1000, timeout_s=60)
        with Wire(server.host, server.port) as wire:
            assert fetch_one(wire, topic, last).error_code == OFFSET_OUT_OF_RANGE
    load.finish()
    with Wire(server.host, server.port) as wire:
        end = int(list_offset(wire, topic, LATEST).offset)
    while last < end - 1:
        last, jumps = read_on(reader, last, jumps, 1)
    reader.close()
    assert end == load.sent
    assert jumps >= 2, f"retention overtook the reader three times, it noticed {jumps}"
    del load
    stays_healthy(server, connections=None)


def read_on(reader: Consumer, last: int, jumps: int, count: int) -> tuple[int, int]:
    """Reads so many records: each is the one that was written at its offset, and offsets only grow."""
    deadline = time.monotonic() + 60
    while count:
        assert time.monotonic() < deadline, f"the reader stands still at {last}"
        message = reader.poll(0.2)
        if message is None:
            continue
        assert message.error() is None, message.error()
        row = row_of(message)
        assert row.offset > last and number_of(row) == row.offset
        jumps += row.offset > last + 1
        last, count = row.offset, count - 1
    return last, jumps


@pytest.mark.parametrize("tier", ["hot", "cold"])
def test_a_reply_under_way_outlives_the_deletion_of_its_records(start_server: StartServer, tier: Tier) -> None:
    server = start_server()
    limits = {"segment.bytes": str(2 * MIB)} if tier == "cold" else {}
    topic = server.create_topic("going", tier=tier, config=limits)
    value = random.Random(4).randbytes(60_000)
    drafts = [Draft(value=b"%d " % index + value) for index in range(200)]
    produce(server.bootstrap, topic, drafts, **{"batch.size": 200_000})
    if tier == "cold":
        server.settle(topic)
    with Wire(server.host, server.port) as wire:
        wanted = fetch_request(
            {topic_id(wire, topic): {0: 0}}, partition_max_bytes=8 * MIB, max_bytes=8 * MIB, max_wait_ms=5000
        )
    wanted.with_header(correlation_id=1, client_id="slow")
    slow = connection(server, receive_buffer=4096)
    slow.sendall(bytes(wanted.encode(header=True, framed=True)))
    (length,) = struct.unpack(">i", slow.recv(4))
    assert length > MIB
    admin = server.admin()
    admin.delete_topics([topic], operation_timeout=20)[topic].result(20)
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, MIB)
    body = bytearray()
    while len(body) < length:
        part = slow.recv(1 << 16)
        assert part, "the server cut a reply"
        body += part
    slow.close()
    whole = body.count(value)
    assert whole == sum(b"%d " % index + value in body for index in range(whole)) >= 15
    stays_healthy(server, connections=None)  # the admin client still has its own
