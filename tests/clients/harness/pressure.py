"""Load that is meant to hurt, and the neighbour that must not notice: many sockets, memory read from /proc, a witness."""

import json
import resource
import socket
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path

from harness.batches import batch
from harness.firn import FirnServer
from harness.process import wait_until
from harness.requests import fetch_one, produce_raw
from harness.wire import Wire, header

MIB = 1 << 20

API_VERSIONS_FRAME = struct.pack(">i", len(header(18, 0))) + header(18, 0)
"""A whole ApiVersions request, the cheapest there is."""


def raise_file_limit(wanted: int) -> None:
    """Lets this process open that many files; fails when the system does not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        assert hard >= wanted or hard == resource.RLIM_INFINITY, f"{wanted} open files are needed, the limit is {hard}"
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def memory_bytes(server: FirnServer, field: str = "VmRSS") -> int:
    """Memory of the server's process: resident now (VmRSS) or at most ever (VmHWM)."""
    assert server.process is not None
    with open(f"/proc/{server.process.pid}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(field)) * 1024


def metric(server: FirnServer, name: str) -> float:
    """The sum of a metric over all its labels; 0 while there is none."""
    lines = [line for line in server.http("/metrics").splitlines() if line.split("{")[0].split(" ")[0] == name]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


def connection(server: FirnServer, *, receive_buffer: int | None = None, timeout_s: float = 60) -> socket.socket:
    """A plain connection; a small receive buffer keeps the kernel from reading ahead for a slow reader."""
    sock = socket.socket()
    sock.settimeout(timeout_s)
    if receive_buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.connect((server.host, server.port))
    return sock


def is_closed(sock: socket.socket, timeout_s: float = 0) -> bool:
    """Whether the server has closed the connection; what it sent before is read and forgotten."""
    sock.settimeout(timeout_s or 0.001)
    try:
        while sock.recv(1 << 16):
            pass
    except TimeoutError:
        return False
    except OSError:
        return True
    return True


def stays_healthy(server: FirnServer, connections: int | None = 0) -> None:
    """The server lives, says that it is well, has not panicked, and holds no connection without a client.

    `connections` are those that the test still has; `None` does not count them.
    """
    assert server.alive(), server.tail()
    assert server.http("/health")
    assert "panicked" not in server.log_text(), server.tail()
    if connections is not None:
        wait_until("the connections to be gone", lambda: metric(server, "firn_connections") == connections, timeout_s=60)


class Neighbour(threading.Thread):
    """Another client: writes a record, reads it back, again and again; every answer must be right and come in time.

    Used as a context: the end of the block checks that it got through at least `rounds` times.
    """

    def __init__(self, server: FirnServer, *, value_bytes: int = 1000, rounds: int = 3, patience_s: float = 30) -> None:
        super().__init__(daemon=True)
        self.server = server
        self.topic = server.create_topic("neighbour", config={"max.message.bytes": str(8 * MIB)})
        self.rounds = 0
        self.slowest_s = 0.0
        self._value = b"n" * value_bytes
        self._wanted = rounds
        self._patience_s = patience_s
        self._stopping = threading.Event()
        self._error: BaseException | None = None

    def run(self) -> None:
        """Continues until it is stopped, or something is wrong."""
        try:
            with Wire(self.server.host, self.server.port, timeout_s=self._patience_s) as wire:
                while not self._stopping.is_set():
                    began = time.monotonic()
                    self._round(wire)
                    self.slowest_s = max(self.slowest_s, time.monotonic() - began)
                    time.sleep(0.02)
        except BaseException as error:  # noqa: BLE001 - it is raised again by the test's thread
            self._error = error

    def _round(self, wire: Wire) -> None:
        value = b"%d " % self.rounds + self._value
        written = produce_raw(wire, self.topic, batch([(b"k", value)]))
        assert written.error_code == 0, written
        assert written.base_offset == self.rounds, written
        read = fetch_one(wire, self.topic, self.rounds)
        assert read.error_code == 0 and value in bytes(read.records), "the record that was just written is not there"
        self.rounds += 1

    def __enter__(self) -> "Neighbour":
        self.start()
        self.progress(1)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None and self._error is None:
            self.progress(self._wanted)
        self._stopping.set()
        self.join(self._patience_s + 30)
        if kind is None:
            self.check()
            print(f"neighbour: {self.rounds} rounds, the slowest took {self.slowest_s:.2f} s")

    def progress(self, rounds: int) -> None:
        """Waits for so many more rounds."""
        goal = self.rounds + rounds

        def is_there() -> bool:
            self.check_alive()
            return self.rounds >= goal

        wait_until("the neighbour's answers", is_there, self._patience_s + 5)

    def check_alive(self) -> None:
        """Raises what went wrong; as a RuntimeError, so that it is not taken for "not yet"."""
        if self._error is not None:
            raise RuntimeError(f"the neighbour was disturbed: {self._error!r}") from self._error

    def check(self) -> None:
        """Fails with what the neighbour met."""
        self.check_alive()
        assert not self.is_alive(), "the neighbour still waits for an answer"


def at_once(count: int, act: Callable[[int], None], timeout_s: float = 120) -> None:
    """Runs `act(0)` … `act(count - 1)` in threads of their own; raises the first error."""
    errors: list[BaseException] = []

    def guarded(index: int) -> None:
        try:
            act(index)
        except BaseException as error:  # noqa: BLE001 - it is raised again below
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(index,), daemon=True) for index in range(count)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + timeout_s
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    if errors:
        raise errors[0]
    waiting = sum(thread.is_alive() for thread in threads)
    assert not waiting, f"{waiting} of {count} still wait after {timeout_s:g} s"


class MemoryGroup:
    """A memory cgroup (v1 or v2) of this machine; `None` from `create` where there is none that we may use."""

    def __init__(self, folder: Path, limit_file: str, limit: int) -> None:
        self.folder = folder
        folder.mkdir()
        (folder / limit_file).write_text(str(limit))

    @classmethod
    def create(cls, name: str, limit: int) -> "MemoryGroup | None":
        """A group of that name with a limit in bytes."""
        v1 = Path("/sys/fs/cgroup/memory")
        v2 = Path("/sys/fs/cgroup")
        try:
            if (v1 / "memory.limit_in_bytes").exists():
                return cls(v1 / name, "memory.limit_in_bytes", limit)
            if "memory" in (v2 / "cgroup.subtree_control").read_text().split():
                return cls(v2 / name, "memory.max", limit)
        except OSError:
            pass
        return None

    def add(self, pid: int) -> None:
        """Moves a process into it."""
        (self.folder / "cgroup.procs").write_text(str(pid))

    def remove(self) -> None:
        """Removes the group; its processes must have ended."""
        wait_until("the cgroup to be empty", lambda: not (self.folder / "cgroup.procs").read_text().split())
        self.folder.rmdir()


def describe(**figures: object) -> None:
    """Prints figures for the table of docs/reliability.md (shown by pytest -s and on failures)."""
    print(json.dumps(figures))
