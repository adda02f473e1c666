"""Many connections, short ones, silent ones, dead ones: each is cheap, bounded, and nobody else's affair.

FIRN_LOAD_SCALE multiplies the numbers of connections where the machine allows it.
"""

import os
import secrets
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import KafkaException

from conftest import StartServer, new_server
from harness.firn import FirnServer
from harness.paths import free_port
from harness.pressure import (
    API_VERSIONS_FRAME,
    MIB,
    Neighbour,
    at_once,
    connection,
    describe,
    is_closed,
    memory_bytes,
    metric,
    raise_file_limit,
    stays_healthy,
)
from harness.process import Process, wait_until

pytestmark = pytest.mark.firn
SCALE = float(os.environ.get("FIRN_LOAD_SCALE") or 1)
MANY = int(5000 * SCALE)
CONNECTION_BYTES = 40 << 10
"""What a connection without a request under way may take, as docs/operations.md says."""


def read_frame(sock: socket.socket) -> bytes:
    """One whole answer."""
    data = b""
    while len(data) < 4 or len(data) < 4 + struct.unpack_from(">i", data)[0]:
        part = sock.recv(1 << 16)
        assert part, "the server closed the connection"
        data += part
    return data


def test_five_thousand_connections_are_served_and_cost_little(start_server: StartServer) -> None:
    raise_file_limit(MANY + 500)
    server = start_server()
    with Neighbour(server) as neighbour:
        before = memory_bytes(server)
        socks = [connection(server) for _ in range(MANY)]
        wait_until("all to be accepted", lambda: metric(server, "firn_connections") >= MANY)
        idle = (memory_bytes(server) - before) / MANY
        for sock in socks:
            sock.sendall(API_VERSIONS_FRAME)
        answers = {read_frame(sock) for sock in socks}
        assert len(answers) == 1, "the same question got different answers"
        used = (memory_bytes(server) - before) / MANY
        neighbour.progress(10)
        for sock in socks:
            sock.close()
        describe(connections=MANY, idle_bytes_each=int(idle), used_bytes_each=int(used))
        assert idle < CONNECTION_BYTES, f"{idle:.0f} bytes for each idle connection"
        assert used < CONNECTION_BYTES, f"{used:.0f} bytes for each used connection"
    stays_healthy(server)


def test_connections_over_the_limit_wait_for_their_turn(start_server: StartServer) -> None:
    server = start_server({"max.connections": "50"})
    held = [connection(server) for _ in range(50)]
    for sock in held:
        sock.sendall(API_VERSIONS_FRAME)
        read_frame(sock)
    waiting = [connection(server) for _ in range(200)]
    for sock in waiting:
        sock.sendall(API_VERSIONS_FRAME)
    waiting[0].settimeout(0.5)
    with pytest.raises(TimeoutError):
        waiting[0].recv(1)
    assert metric(server, "firn_connections") == 50
    for sock in held:
        sock.close()
    for sock in waiting:
        sock.settimeout(60)
        read_frame(sock)
        sock.close()
    lines = [line for line in server.log_text().splitlines() if "max.connections" in line]
    assert len(lines) == 1, "one line in a minute, however many wait"
    stays_healthy(server)


def test_a_storm_of_short_connections_leaves_nothing_behind(start_server: StartServer) -> None:
    server = start_server()
    each = int(1500 * SCALE)
    with Neighbour(server):
        at_once(2, lambda _: short_connections(server, 200))  # what is allocated once
        before = memory_bytes(server)
        began = time.monotonic()
        at_once(2, lambda _: short_connections(server, each))
        rate = 2 * each / (time.monotonic() - began)
    stays_healthy(server)
    grown = memory_bytes(server) - before
    describe(short_connections=2 * each, per_second=int(rate), grown_bytes=grown)
    assert grown < 32 * MIB, f"{grown} bytes stayed behind"


def short_connections(server: FirnServer, count: int) -> None:
    """Connects, asks or not, and goes: properly, by a reset, or in the middle of a request."""
    for index in range(count):
        sock = connection(server)
        if index % 2 == 0:
            sock.sendall(API_VERSIONS_FRAME)
            read_frame(sock)
        elif index % 4 == 1:
            sock.sendall(API_VERSIONS_FRAME[:9])
        if index % 8 >= 6:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()


def test_a_silent_connection_is_closed_and_an_active_one_is_not(start_server: StartServer) -> None:
    server = start_server({"connections.max.idle.ms": "2000"})
    with Neighbour(server) as neighbour:
        silent = connection(server)
        half = connection(server)
        half.sendall(struct.pack(">i", 50 * MIB) + b"\x00" * 30_000)
        for sock in (silent, half):
            wait_until("the silent connection to be closed", lambda sock=sock: is_closed(sock), timeout_s=30)
        neighbour.progress(5)
    stays_healthy(server)


class Island:
    """A network namespace behind a virtual cable, which can be cut: packets vanish, nobody is told."""

    def __init__(self) -> None:
        tag = secrets.token_hex(3)
        self.name, self.ours, self.theirs = f"firn-{tag}", f"fa{tag}", f"fb{tag}"
        net = 4 * secrets.randbelow(1 << 14)
        prefix = f"10.213.{net >> 8 & 255}"
        self.host, self.guest = f"{prefix}.{(net & 255) + 1}", f"{prefix}.{(net & 255) + 2}"
        self._ip("netns", "add", self.name)
        self._ip("link", "add", self.ours, "type", "veth", "peer", "name", self.theirs, "netns", self.name)
        self._ip("addr", "add", f"{self.host}/30", "dev", self.ours)
        self._ip("-n", self.name, "addr", "add", f"{self.guest}/30", "dev", self.theirs)
        for where, link in (([], self.ours), (["-n", self.name], self.theirs), (["-n", self.name], "lo")):
            self._ip(*where, "link", "set", link, "up")

    @staticmethod
    def _ip(*args: str) -> None:
        subprocess.run(["ip", *args], check=True, capture_output=True)  # noqa: S603, S607 - the system's own

    def run(self, code: str, log: Path) -> Process:
        """Runs Python in it."""
        return Process(["ip", "netns", "exec", self.name, sys.executable, "-c", code], log)

    def cut(self) -> None:
        """From now on every packet is lost."""
        self._ip("-n", self.name, "link", "set", self.theirs, "down")

    def remove(self) -> None:
        """Removes it with its cable."""
        self._ip("netns", "del", self.name)


@pytest.fixture
def island() -> Iterator[Island]:
    """An island, where this user may make one."""
    try:
        made = Island()
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no network namespace can be made here: {error}")
    yield made
    made.remove()


MEMBER = """
import socket, struct, sys
from confluent_kafka import Consumer
idle = [socket.create_connection(({host!r}, {port})) for _ in range(20)]
consumer = Consumer({{"bootstrap.servers": "{host}:{port}", "group.id": {group!r}, "session.timeout.ms": 2000,
                     "heartbeat.interval.ms": 300, "auto.offset.reset": "earliest"}})
consumer.subscribe([{topic!r}])
while True:
    message = consumer.poll(0.2)
    if message is not None and message.error() is None:
        print("got", message.offset(), flush=True)
"""


def test_clients_that_vanish_without_a_word_are_forgotten(island: Island, tmp_path: Path) -> None:
    server = new_server(tmp_path / "server", {"firn.connection.stall.ms": "2000"})
    assert isinstance(server, FirnServer)
    server.bootstrap = f"{island.host}:{free_port()}"
    member: Process | None = None
    try:
        server.start()
        topic = server.create_topic("vanished")
        with Neighbour(server) as neighbour:
            code = MEMBER.format(host=island.host, port=server.port, group="vanishing", topic=topic)
            member = island.run(code, tmp_path / "member.log")
            wait_until("the member to be assigned", lambda: members(server, "vanishing") == 1, timeout_s=60)
            wait_until("its connections", lambda: metric(server, "firn_connections") > 20)
            island.cut()
            wait_until("its membership to expire", lambda: members(server, "vanishing") == 0, timeout_s=30)
            # Only the neighbour is left, and the one who looks.
            wait_until("its connections to go", lambda: metric(server, "firn_connections") <= 2, timeout_s=60)
            neighbour.progress(3)
        stays_healthy(server)
    finally:
        if member is not None:
            member.kill()
        server.close()


def members(server: FirnServer, group: str) -> int:
    """How many members a group has; not yet known while the coordinator of a first group is being found."""
    admin = server.admin()
    try:
        return len(admin.describe_consumer_groups([group])[group].result(20).members)
    except KafkaException as error:
        raise AssertionError(str(error)) from error
