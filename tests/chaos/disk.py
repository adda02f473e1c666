"""The disk of a server of a run, and what is done to it."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path

from chaos.schedule import DISK_KINDS, Step
from harness.faulty_disk import FaultyDisk, why_not
from harness.firn import FirnServer

LATE_S = 0.15
"""How much longer a sync takes on a slow disk."""


class ChaosDisk:
    """A device below a data folder that can be harmed, where the machine can mount one; else the folder as it is."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.device = None if why_not() else FaultyDisk(data_dir)

    def can(self, fault: str) -> bool:
        """Whether this fault can happen to this disk."""
        return self.device is not None and fault in {kind.name for kind in DISK_KINDS}

    def harm(self, server: FirnServer, step: Step, start: Callable[[], None]) -> None:
        """Does to the disk what a step says, and brings the server back."""
        assert self.device is not None
        if step.fault == "power cut":
            self.device.cut_power(torn=round(step.at_s * 1000))
            time.sleep(step.lasts_s)
            server.kill()
            self.device.remount()
            start()
        elif step.fault == "syncs fail":
            # The journal cannot be flushed: the server acknowledges nothing more until it is started again.
            self.device.fail("sync", "/journal/")
            time.sleep(step.lasts_s)
            server.kill()
            self.device.clear()
            start()
        elif step.fault == "disk full":
            self.device.fill()
            time.sleep(step.lasts_s)
            self.device.free()
        else:
            self.device.delay("sync", LATE_S)
            time.sleep(step.lasts_s)
            self.device.clear()

    def wipe(self) -> None:
        """Nothing of it is left. The server must not run."""
        for path in self.data_dir.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()

    def close(self) -> None:
        """Ends it for good."""
        if self.device is not None:
            self.device.close()
