"""The server of a run, its store behind the fault proxy, and what is done to them."""

import signal
import threading
import time
from collections import Counter
from pathlib import Path

from harness.firn import FirnServer
from harness.process import wait_until
from harness.proxy import Fault, FaultProxy, Rule, always, data_reads, every, healthy, writes
from harness.stores import VersityGw

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
STORE_FAULTS: dict[str, Rule] = {
    "refuse": always(Fault.REFUSE),
    "unavailable": always(Fault.UNAVAILABLE),
    "every second unavailable": every(2, Fault.UNAVAILABLE),
    "hang": always(Fault.HANG),
    "slow": always(Fault.SLOW),
    "error after the write": writes(2, Fault.ERROR_AFTER),
    "lost answers": every(2, Fault.LOST_ANSWER),
    "short reads": data_reads(2, Fault.SHORT),
    "wrong bytes": data_reads(2, Fault.WRONG_BYTES),
}
START_S = 60


class ChaosServer:
    """One Firn server on VersityGW. A supervisor's view: a start that a broken store prevents is tried again."""

    def __init__(self, folder: Path) -> None:
        self.gateway = VersityGw(folder / "versitygw")
        self.proxy = FaultProxy(self.gateway.port, delay_s=0.3)
        (folder / "server").mkdir(parents=True, exist_ok=True)
        self.firn = FirnServer(folder / "server", self.gateway.store(self.proxy.endpoint), SETTINGS)
        self.starts: Counter[str] = Counter()
        self._store_lock = threading.Lock()
        self._broken_until = 0.0
        self._breaking = False

    @property
    def broken(self) -> bool:
        """Whether the store fails now or did a moment ago."""
        with self._store_lock:
            return self._breaking or time.monotonic() < self._broken_until

    def break_store(self, fault: str) -> None:
        """The store fails like this from now on."""
        with self._store_lock:
            self._breaking = True
        self.proxy.rule = STORE_FAULTS[fault]

    def heal_store(self) -> None:
        """The store works again."""
        self.proxy.rule = healthy
        with self._store_lock:
            self._breaking = False
            # A call that failed in the fault's last moment may still end a start.
            self._broken_until = time.monotonic() + 5.0

    def start(self) -> None:
        """Starts the server and waits until it is ready."""
        deadline = time.monotonic() + START_S
        while True:
            process = self.firn.spawn()
            was_broken = self.broken
            while time.monotonic() < deadline and process.exit_status is None:
                if self.firn.ready():
                    self.starts["ready"] += 1
                    return
                time.sleep(0.02)
            if process.exit_status is None or not (was_broken or self.broken) or time.monotonic() > deadline:
                raise AssertionError(f"the server did not start again\n{self.firn.tail()}")
            self.starts["given up because of the store"] += 1
            time.sleep(0.1)

    def kill(self) -> None:
        """SIGKILL."""
        self.check_alive()
        self.firn.kill()

    def terminate(self) -> None:
        """SIGTERM; it has to end well and soon."""
        self.check_alive()
        self.firn.stop(timeout_s=60)

    def pause(self, seconds: float) -> None:
        """SIGSTOP, and SIGCONT later."""
        self.check_alive()
        assert self.firn.process is not None
        self.firn.process.signal(signal.SIGSTOP)
        time.sleep(seconds)
        self.firn.process.signal(signal.SIGCONT)

    def check_alive(self) -> None:
        """Only we may end the server."""
        assert self.firn.alive(), f"the server ended by itself\n{self.firn.tail()}"

    def panics(self) -> list[str]:
        """Lines of the log that tell of a panic."""
        text = (self.firn.folder / "server.log").read_text(errors="replace")
        return [line for line in text.splitlines() if "panicked" in line]

    def settle(self, topic: str, timeout_s: float = 150) -> None:
        """Waits until a topic can only be read from the archive, up to the segment that is still open."""
        self.firn.settle(topic, timeout_s)

    def close(self) -> None:
        """Ends everything."""
        if self.firn.process is not None:
            self.firn.process.signal(signal.SIGCONT)
        self.firn.close()
        self.proxy.close()
        self.gateway.stop()

    def wait_healthy(self) -> None:
        """Waits until it answers."""
        wait_until("the server to be ready", self.firn.ready, 60)
