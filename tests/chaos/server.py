"""The one server of a run, and what is done to it."""

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from chaos.disk import ChaosDisk
from chaos.schedule import Step
from chaos.store import ChaosStore
from chaos.topics import TopicPlan
from harness.firn import FirnServer
from harness.process import wait_until

SETTINGS = {
    # The smallest journal, so that it wraps and is freed often.
    "firn.journal.bytes": str(4 << 20),
    "firn.cold.cache.bytes": str(16 << 20),
    "firn.object.store.timeout.ms": "1000",
    "firn.cold.fetch.timeout.ms": "500",
    "firn.sweep.interval.ms": "500",
    "firn.sweep.grace.ms": "10000",
    "offsets.topic.num.partitions": "4",
    "segment.bytes": "16384",
    "segment.ms": "2000",
}
START_S = 60
Note = Callable[[str, str], None]
"""Tells the history of a fault: its name and what there is to say of it."""


def start_beside(store: ChaosStore, server: FirnServer) -> int:
    """Starts a server as a supervisor would: a start that a broken store prevents is tried again; how often it was."""
    deadline = time.monotonic() + START_S
    given_up = 0
    while True:
        process = server.spawn()
        was_broken = store.broken
        while time.monotonic() < deadline and process.exit_status is None:
            if server.ready():
                return given_up
            time.sleep(0.02)
        if process.exit_status is None or not (was_broken or store.broken) or time.monotonic() > deadline:
            raise AssertionError(f"the server did not start again\n{server.tail()}")
        given_up += 1
        time.sleep(0.1)


def hit(server: FirnServer, disk: ChaosDisk, step: Step, start: Callable[[], None]) -> None:
    """Kills, terminates or pauses a server, or harms its disk, and brings it back."""
    assert server.alive(), f"the server ended by itself\n{server.tail()}"
    if step.fault == "pause":
        server.pause()
        time.sleep(step.lasts_s)
        server.resume()
        return
    if disk.can(step.fault):
        disk.harm(server, step, start)
        return
    if step.fault == "terminate":
        server.stop(timeout_s=60)  # it has to end well and soon
    else:
        server.kill()
    time.sleep(step.lasts_s)
    if step.fault == "kill twice":
        # The second one meets the server somewhere in its recovery.
        server.spawn()
        time.sleep(step.lasts_s)
        server.kill()
    start()


def panics_of(server: FirnServer) -> list[str]:
    """Lines of a server's log that tell of a panic."""
    log = server.folder / "server.log"
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return [line for line in lines if "panicked" in line]


class ChaosServer:
    """One Firn server on a store that may fail."""

    tracks = ("server", "store", "clients")

    def __init__(self, folder: Path) -> None:
        self.store = ChaosStore(folder)
        (folder / "server").mkdir(parents=True, exist_ok=True)
        self.firn = FirnServer(folder / "server", self.store.store, SETTINGS)
        self.disk = ChaosDisk(self.firn.data_dir)
        self.starts: Counter[str] = Counter()

    @property
    def bootstrap(self) -> str:
        """Where clients connect."""
        return self.firn.bootstrap

    def begin(self) -> None:
        """Starts it for the first time."""
        self.firn.start()

    def create_topic(self, topic: TopicPlan) -> None:
        """Makes a topic of the run."""
        self.firn.create_topic(name=topic.name, partitions=topic.partitions, config=topic.config)

    def start(self) -> None:
        """Starts it again and waits until it is ready."""
        self.starts["given up because of the store"] += start_beside(self.store, self.firn)
        self.starts["ready"] += 1

    def inject(self, step: Step, _victim: int, _note: Note) -> str:
        """Does to the server what a step says; returns how it ended."""
        hit(self.firn, self.disk, step, self.start)
        return f"running again after {step.fault}"

    def terminate(self) -> None:
        """SIGTERM; it has to end well and soon."""
        assert self.firn.alive(), f"the server ended by itself\n{self.firn.tail()}"
        self.firn.stop(timeout_s=60)

    def panics(self) -> list[str]:
        """Lines of the log that tell of a panic."""
        return panics_of(self.firn)

    def settle(self, topic: str, timeout_s: float = 150) -> None:
        """Waits until a topic can only be read from the archive, up to the segment that is still open."""
        self.firn.settle(topic, timeout_s)

    def wait_healthy(self) -> None:
        """Waits until it answers."""
        wait_until("the server to be ready", self.firn.ready, 60)

    def close(self) -> None:
        """Ends everything."""
        self.firn.close()
        self.disk.close()
        self.store.close()
