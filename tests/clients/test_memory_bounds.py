"""A broker within a memory limit under the worst requests of every API, beside a client that must not notice.

The limit is a memory cgroup of 1 GiB; where none can be made, a limit on what the process may map in addition (RLIMIT_DATA).
"""

import resource
import secrets
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from kafka.protocol.consumer import (
    HeartbeatRequest,
    JoinGroupRequest,
    OffsetCommitRequest,
    SyncGroupRequest,
)
from kafka.protocol.metadata import FindCoordinatorRequest

from conftest import StartServer
from harness.firn import FirnServer
from harness.pressure import (
    MIB,
    MemoryGroup,
    Neighbour,
    connection,
    describe,
    is_closed,
    memory_bytes,
    metric,
    stays_healthy,
)
from harness.process import wait_until
from harness.requests import fetch_request
from harness.sql import ask
from harness.wire import Wire, api_versions, header, topic_id
from harness.worst_requests import Encoder, Names, Shape, Table, request_tables, shapes

pytestmark = pytest.mark.firn
LIMIT_BYTES = 1 << 30
# What docs/operations.md adds up for these is well below the limit.
SETTINGS = {
    "firn.request.memory.bytes": str(64 * MIB),
    "firn.reply.memory.bytes": str(128 * MIB),
    "firn.cold.cache.bytes": str(64 * MIB),
    "socket.request.max.bytes": str(16 * MIB),
}
CONNECTIONS = 3
ANSWER_WITHIN_S = 30
WIDE_PARTITIONS = 200
GROUP = "heavy"
MEMBER_BYTES = 300_000
NONE = 0
OK = 200


@contextmanager
def memory_limit(server: FirnServer) -> Iterator[str]:
    """Keeps the server's process within the limit; names the means."""
    assert server.process is not None
    group = MemoryGroup.create(f"firn-{secrets.token_hex(4)}", LIMIT_BYTES)
    if group is None:
        # It counts what is mapped, touched or not: stacks and the allocator's reserve are there from the start.
        limit = memory_bytes(server, "VmData") + LIMIT_BYTES - memory_bytes(server)
        resource.prlimit(server.process.pid, resource.RLIMIT_DATA, (limit, limit))
        yield "RLIMIT_DATA"
        return
    try:
        group.add(server.process.pid)
        yield "memory cgroup"
    finally:
        server.kill()
        group.remove()


def with_state(server: FirnServer) -> Names:
    """A wide topic, and a group with a heavy member and heavy offsets: what answers grow with."""
    topic = server.create_topic("wide", partitions=WIDE_PARTITIONS)
    scratch = server.create_topic("scratch")
    with Wire(server.host, server.port) as wire:
        find = FindCoordinatorRequest[4](key_type=0, coordinator_keys=[GROUP])
        wait_until("a coordinator", lambda: wire.ask(find).coordinators[0].error_code == NONE)
        _commit(wire, topic)
        _join(wire)
        names = {
            "Name": topic, "Topic": topic, "TopicName": topic, "Topics": topic, "TopicNames": scratch,
            "ResourceName": topic, "GroupId": GROUP, "Groups": GROUP, "GroupsNames": GROUP, "CoordinatorKeys": GROUP,
            "Key": GROUP, "ProtocolType": "consumer", "Protocols": "range",
        }  # fmt: skip
        numbers = {
            "ResourceType": 2, "SessionTimeoutMs": 1000, "RebalanceTimeoutMs": 1000, "MaxWaitMs": 100, "MinBytes": 1,
            "PartitionMaxBytes": MIB, "TimeoutMs": 1000, "timeoutMs": 1000, "Acks": -1, "ResponsePartitionLimit": 2000,
            "Timestamp": -1, "SessionEpoch": -1, "GenerationId": -1, "GenerationIdOrMemberEpoch": -1,
            "RetentionTimeMs": -1, "ElectionType": 0, "ReplicaId": -1, "BrokerId": 99, "VoterId": 99,
        }  # fmt: skip
        return Names(names, numbers, topic_id(wire, topic).bytes)


def _commit(wire: Wire, topic: str, group: str = GROUP) -> None:
    item = OffsetCommitRequest.OffsetCommitRequestTopic
    parts = [
        item.OffsetCommitRequestPartition(
            partition_index=index, committed_offset=0, committed_leader_epoch=-1, committed_metadata="m" * 4000
        )
        for index in range(WIDE_PARTITIONS)
    ]
    commit = OffsetCommitRequest[8](
        group_id=group, generation_id_or_member_epoch=-1, member_id="", group_instance_id=None,
        topics=[item(name=topic, partitions=parts)],
    )  # fmt: skip

    def is_stored() -> bool:
        return all(one.error_code == NONE for one in wire.ask(commit).topics[0].partitions)

    wait_until("the offsets to be stored", is_stored)


def _join(wire: Wire) -> None:
    _joined(wire)


def _joined(wire: Wire) -> str:
    """The id of the heavy group's only member."""
    protocol = JoinGroupRequest.JoinGroupRequestProtocol(name="range", metadata=b"m" * MEMBER_BYTES)
    joined = wire.ask(
        JoinGroupRequest[3](
            group_id=GROUP, session_timeout_ms=600_000, rebalance_timeout_ms=600_000, member_id="",
            protocol_type="consumer", protocols=[protocol],
        )
    )  # fmt: skip
    assert joined.error_code == NONE, joined
    part = SyncGroupRequest.SyncGroupRequestAssignment(member_id=joined.member_id, assignment=b"a" * MEMBER_BYTES)
    synced = wire.ask(
        SyncGroupRequest[3](
            group_id=GROUP, generation_id=joined.generation_id, member_id=joined.member_id, group_instance_id=None,
            assignments=[part],
        )
    )  # fmt: skip
    assert synced.error_code == NONE, synced
    return str(joined.member_id)


def attack(server: FirnServer, frame: bytes) -> str:
    """Sends a frame; the server must answer it or close the connection."""
    sock = connection(server, timeout_s=ANSWER_WITHIN_S)
    try:
        sock.sendall(frame)
        head = _receive(sock, 4)
        left = struct.unpack(">i", head)[0]
        while left:
            left -= len(_receive(sock, min(left, 1 << 16)))
        return "answered"
    except TimeoutError:
        return "silence"
    except (ConnectionError, EOFError):
        return "closed"
    finally:
        sock.close()


def _receive(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = sock.recv(count - len(data))
        if not part:
            raise EOFError
        data += part
    return data


def worst_of(table: Table, low: int, high: int, names: Names) -> Iterator[tuple[Shape, int, bytes]]:
    """Frames of the newest version; of the oldest, the plain ones."""
    for shape in shapes(table, high):
        yield shape, high, Encoder(table, high, shape, names).frame()
    if low != high:
        for shape in shapes(table, low):
            if shape.label.startswith("one item"):
                yield shape, low, Encoder(table, low, shape, names).frame()


@pytest.mark.timeout(240)
def test_the_worst_request_of_every_api_harms_nobody(start_server: StartServer) -> None:
    server = start_server(SETTINGS)
    names = with_state(server)
    tables = request_tables()
    with Wire(server.host, server.port) as wire:
        announced = api_versions(wire)
    began, outcomes, slowest = time.monotonic(), Counter[str](), (0.0, "")
    with memory_limit(server) as means:
        with Neighbour(server, rounds=10) as neighbour, ThreadPoolExecutor(CONNECTIONS) as pool:
            for api, (low, high) in announced.items():
                table = tables[api]
                for shape, version, frame in worst_of(table, max(low, table.versions.start), high, names):
                    label = f"{table.name} {version}, {shape.label} at {shape.target or '-'}, {len(frame)} bytes"
                    sent = time.monotonic()
                    answers = list(pool.map(lambda frame: attack(server, frame), [frame] * CONNECTIONS))
                    slowest = max(slowest, (time.monotonic() - sent, label))
                    assert server.alive(), f"the server died of {label}\n{server.tail()}"
                    assert "silence" not in answers, f"no answer to {label}\n{server.tail()}"
                    outcomes.update(answers)
                neighbour.check_alive()
            neighbour.progress(5)
        peak = memory_bytes(server, "VmHWM")
        stays_healthy(server)
    describe(
        means=means, peak_mib=peak // MIB, limit_mib=LIMIT_BYTES // MIB, apis=len(announced), slowest=slowest,
        seconds=round(time.monotonic() - began, 1), neighbours_slowest_s=round(neighbour.slowest_s, 2), **outcomes,
    )  # fmt: skip


PARKED = 24


@pytest.mark.timeout(120)
def test_parked_joins_hold_bounded_memory_and_hold_up_nobody(start_server: StartServer) -> None:
    """Joins of one group, each as large as a request may be, wait for a member that never comes back."""
    server = start_server({**SETTINGS, "group.initial.rebalance.delay.ms": "3000"})
    table = request_tables()[11]
    names = Names({"GroupId": "parked", "ProtocolType": "consumer", "Name": "range"}, {}, bytes(16))
    names.numbers.update({"SessionTimeoutMs": 6000, "RebalanceTimeoutMs": 6000})
    frame = Encoder(table, 3, Shape("parked", "", payload_bytes=15 * MIB), names).frame()
    with Wire(server.host, server.port) as wire:
        find = FindCoordinatorRequest[4](key_type=0, coordinator_keys=["parked"])
        wait_until("a coordinator", lambda: wire.ask(find).coordinators[0].error_code == NONE)
    with memory_limit(server) as means, Neighbour(server, value_bytes=900_000, rounds=10) as neighbour:
        answers: list[str] = []
        threads = [
            threading.Thread(target=lambda: answers.append(attack(server, frame)), daemon=True) for _ in range(PARKED)
        ]
        for thread in threads:
            thread.start()
        neighbour.progress(10)
        for thread in threads:
            thread.join(ANSWER_WITHIN_S)
        assert len(answers) == PARKED and "silence" not in answers, answers
        peak = memory_bytes(server, "VmHWM")
        assert server.alive(), server.tail()
    describe(means=means, parked=PARKED, peak_mib=peak // MIB, neighbours_slowest_s=round(neighbour.slowest_s, 2))


POLLS = 300


GROUP_MEMORY = 32 * MIB
LARGE_MEMBER_BYTES = 900_000
COORDINATOR_NOT_AVAILABLE, MEMBER_ID_REQUIRED = 15, 79


def _large_join(wire: Wire, group: str) -> Any:
    protocol = JoinGroupRequest.JoinGroupRequestProtocol(name="range", metadata=b"m" * LARGE_MEMBER_BYTES)
    return wire.ask(
        JoinGroupRequest[3](
            group_id=group, session_timeout_ms=600_000, rebalance_timeout_ms=600_000, member_id="",
            protocol_type="any", protocols=[protocol],
        )
    )  # fmt: skip


@pytest.mark.timeout(120)
def test_groups_stay_within_their_memory_also_after_a_restart(start_server: StartServer) -> None:
    """Groups of one member with large metadata, then ids that are never used; a member from before keeps its place."""
    settings = SETTINGS | {
        "firn.group.memory.bytes": str(GROUP_MEMORY),
        "group.initial.rebalance.delay.ms": "0",
        "offsets.topic.num.partitions": "5",
    }
    server = start_server(settings)
    topic = server.create_topic("wide", partitions=WIDE_PARTITIONS)
    with Wire(server.host, server.port) as wire:
        find = FindCoordinatorRequest[4](key_type=0, coordinator_keys=[GROUP])
        wait_until("a coordinator", lambda: wire.ask(find).coordinators[0].error_code == NONE)
        _commit(wire, topic, "noted")
        early = _joined(wire)
        with memory_limit(server) as means:
            before = memory_bytes(server)
            errors = Counter(_large_join(wire, f"large-{n}").error_code for n in range(200))
            name = "c" * 20_000
            unused = Counter(_unused_id(wire, f"unused-{n % 20}", name) for n in range(1500))
            used = metric(server, "firn_group_memory_bytes")
            grown = memory_bytes(server, "VmHWM") - before
            alive = wire.ask(HeartbeatRequest[3](group_id=GROUP, generation_id=1, member_id=early, group_instance_id=None))
            _commit(wire, topic, "noted")
            stays_healthy(server, connections=1)
            warnings = server.log_text().count("have used the memory of firn.group.memory.bytes")
    describe(means=means, used_mib=used // MIB, grown_mib=grown // MIB, joins=errors, unused=unused)
    assert errors[NONE] >= 10 and errors[COORDINATOR_NOT_AVAILABLE] > 100 and len(errors) == 2, errors
    assert set(unused) <= {MEMBER_ID_REQUIRED, COORDINATOR_NOT_AVAILABLE}, unused
    assert used <= GROUP_MEMORY
    assert grown < 4 * GROUP_MEMORY, f"{grown // MIB} MiB"
    assert alive.error_code == NONE, alive
    assert warnings == 1
    server.kill()
    server.start()
    with Wire(server.host, server.port) as wire:
        wait_until("the groups to be loaded", lambda: metric(server, "firn_group_partitions_loading") == 0)
        assert metric(server, "firn_group_memory_bytes") <= GROUP_MEMORY
        _commit(wire, topic, "noted")


def _unused_id(wire: Wire, group: str, client: str) -> int:
    join = JoinGroupRequest[4](
        group_id=group, session_timeout_ms=600_000, rebalance_timeout_ms=600_000, member_id="", protocol_type="any",
        protocols=[JoinGroupRequest.JoinGroupRequestProtocol(name="range", metadata=b"")],
    )  # fmt: skip
    join.with_header(correlation_id=1, client_id=client)
    wire.send_bytes(bytes(join.encode(header=True, framed=True)))
    return int(wire.receive(join).error_code)


@pytest.mark.timeout(120)
def test_long_polls_of_wide_sessions_hold_bounded_memory_and_hold_up_nobody(start_server: StartServer) -> None:
    """Each opens a session of all partitions of a wide topic and waits for records that never come."""
    server = start_server(SETTINGS)
    topic = server.create_topic("wide", partitions=WIDE_PARTITIONS)
    with Wire(server.host, server.port) as wire:
        wanted = fetch_request(
            {topic_id(wire, topic): dict.fromkeys(range(WIDE_PARTITIONS), 0)}, session=(0, 0), max_wait_ms=4000
        )
    wanted.with_header(correlation_id=1, client_id="wide")
    frame = bytes(wanted.encode(header=True, framed=True))
    with memory_limit(server) as means, Neighbour(server, rounds=10) as neighbour:
        before = memory_bytes(server)
        socks = [connection(server, timeout_s=ANSWER_WITHIN_S) for _ in range(POLLS)]
        for sock in socks:
            sock.sendall(frame)
        neighbour.progress(10)
        ended = Counter("answered" if is_answered(sock) else "closed" for sock in socks)
        grown = memory_bytes(server, "VmHWM") - before
        sessions = metric(server, "firn_fetch_sessions")
        for sock in socks:
            sock.close()
    describe(means=means, polls=POLLS, sessions=sessions, grown_mib=grown // MIB, **ended)
    # A quarter of the memory for requests for those that wait, an eighth for sessions.
    assert grown < 24 * MIB + POLLS * 64 * 1024, f"{grown // MIB} MiB"
    assert ended["answered"] >= 30


def is_answered(sock: socket.socket) -> bool:
    """Whether an answer comes before the end of the connection."""
    try:
        return bool(_receive(sock, 4))
    except (ConnectionError, EOFError):
        return False


LOOKUPS = 100_000


def test_a_request_for_many_offsets_takes_the_memory_of_few_lookups(start_server: StartServer) -> None:
    server = start_server({})
    topic = server.create_topic("offsets").encode()
    lookups = b"".join(struct.pack(">iq", partition, -1) for partition in range(LOOKUPS))
    body = header(2, 2) + struct.pack(">ib", -1, 0)
    body += struct.pack(">ih", 1, len(topic)) + topic + struct.pack(">i", LOOKUPS) + lookups
    before = memory_bytes(server)
    assert attack(server, struct.pack(">i", len(body)) + body) == "answered"
    grown = memory_bytes(server, "VmHWM") - before
    describe(lookups=LOOKUPS, grown_mib=grown // MIB)
    assert grown < 128 * MIB, f"{grown // MIB} MiB"


UPLOADS = 700
UPLOAD_BYTES = 2_000_000
QUIET_S = 1.5


@pytest.mark.timeout(120)
def test_unfinished_queries_hold_bounded_memory_and_hide_nothing(start_server: StartServer) -> None:
    """Each sends nearly all of a body; together they are larger than the process may be."""
    server = start_server(SETTINGS)
    body = b'{"query":"' + b"x" * UPLOAD_BYTES
    request = b"POST /v1/sql HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % (2 * MIB) + body
    with memory_limit(server) as means, Neighbour(server, rounds=10) as neighbour:
        before = memory_bytes(server)
        host, port = server.admin_address.rsplit(":", 1)
        left = {socket.create_connection((host, int(port))): memoryview(request) for _ in range(UPLOADS)}
        last = time.monotonic()
        while time.monotonic() - last < QUIET_S:
            if upload_more(left):
                last = time.monotonic()
        stays_healthy(server, connections=None)
        assert metric(server, "firn_partitions") > 0
        grown = memory_bytes(server, "VmHWM") - before
        closed = sum(is_closed(sock) for sock in left)
        for sock in left:
            sock.close()
        wait_until("a query's answer", lambda: ask(server, "SELECT 1 AS one").status == OK)
        assert server.alive(), server.tail()
    describe(means=means, uploads=UPLOADS, closed=closed, grown_mib=grown // MIB, rounds=neighbour.rounds)
    # 32 MiB of bodies, and the buffers of 512 connections.
    assert grown < 128 * MIB, f"{grown // MIB} MiB"
    assert closed >= UPLOADS - 512, f"{closed} of {UPLOADS} connections were closed"


def upload_more(left: dict[socket.socket, memoryview]) -> int:
    """Sends what the sockets take at once; how many bytes that was."""
    total = 0
    for sock, rest in left.items():
        sock.setblocking(False)
        try:
            sent = sock.send(rest[: 1 << 18]) if rest else 0
        except BlockingIOError:
            sent = 0
        except OSError:
            sent = len(rest)
        left[sock], total = rest[sent:], total + sent
    return total
