"""The object store of a run: VersityGW behind a proxy that fails on demand."""

import threading
import time
from pathlib import Path

from harness.proxy import Fault, FaultProxy, Rule, always, data_reads, every, healthy, writes
from harness.stores import Store, VersityGw

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
RECOVERY_S = 5.0
"""A call that failed in a fault's last moment may still end a server's start so much later."""


class ChaosStore:
    """A store that works, or fails in one of the ways above."""

    def __init__(self, folder: Path, host: str = "127.0.0.1") -> None:
        self.gateway = VersityGw(folder / "versitygw")
        self.proxy = FaultProxy(self.gateway.port, delay_s=0.3, host=host)
        self._lock = threading.Lock()
        self._broken_until = 0.0
        self._breaking = False

    @property
    def store(self) -> Store:
        """As servers are told."""
        return self.gateway.store(self.proxy.endpoint)

    @property
    def broken(self) -> bool:
        """Whether it fails now or did a moment ago."""
        with self._lock:
            return self._breaking or time.monotonic() < self._broken_until

    def fail(self, fault: str) -> None:
        """It fails like this from now on."""
        with self._lock:
            self._breaking = True
        self.proxy.rule = STORE_FAULTS[fault]

    def heal(self) -> None:
        """It works again."""
        self.proxy.rule = healthy
        with self._lock:
            self._breaking = False
            self._broken_until = time.monotonic() + RECOVERY_S

    def close(self) -> None:
        """Ends it."""
        self.proxy.close()
        self.gateway.stop()
