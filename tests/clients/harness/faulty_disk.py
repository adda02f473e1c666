"""A disk whose device misbehaves on request: the FUSE file system of `tests/faulty-disk`, which holds its bytes in memory.

Unlike errors that are injected at the system call, its faults happen at the device: a sync that fails leaves pages that can
be read and are not durable, and that no later sync writes.
"""

import os
import subprocess
from pathlib import Path

from harness.paths import faulty_disk_binary


def why_not() -> str | None:
    """The reason why such a disk cannot be mounted on this machine; None when it can."""
    if os.geteuid() != 0:
        return "only root may mount a file system"
    if not Path("/dev/fuse").exists():
        return "this machine has no /dev/fuse"
    return None


class FaultyDisk:
    """An empty device of `size_mb`, mounted at `mount`. The kinds of calls: read, write, sync, sync-folder, change."""

    def __init__(self, mount: Path, size_mb: int = 1024) -> None:
        self.mount = mount
        self.size_bytes = size_mb << 20
        mount.mkdir(parents=True, exist_ok=True)
        self._process = subprocess.Popen(  # noqa: S603 - our own program
            [str(faulty_disk_binary()), str(mount), str(self.size_bytes)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
        )  # fmt: skip
        assert self._answer() == "mounted"

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def _tell(self, *words: object) -> str:
        assert self._process.stdin is not None
        self._process.stdin.write(" ".join(map(str, words)) + "\n")
        self._process.stdin.flush()
        kind, _, text = self._answer().partition(" ")
        assert kind == "ok", f"{' '.join(map(str, words))}: {text}"
        return text

    def fail(self, call: str, path: str = "*", times: int | None = None) -> None:
        """The call fails with EIO for paths that contain `path`."""
        self._tell("fail", call, path, *([] if times is None else [times]))

    def delay(self, call: str, seconds: float, path: str = "*", times: int | None = None) -> None:
        """The call takes so much longer for paths that contain `path`."""
        self._tell("delay", call, round(seconds * 1000), path, *([] if times is None else [times]))

    def clear(self) -> None:
        """No faults from now on."""
        self._tell("clear")

    @property
    def hits(self) -> int:
        """Calls that were failed or delayed so far."""
        return int(self._tell("hits"))

    def fill(self) -> None:
        """The device is full."""
        self._tell("capacity", 0)

    def free(self) -> None:
        """There is room again."""
        self._tell("capacity", self.size_bytes)

    def flip(self, file: Path, offset: int, bit: int) -> None:
        """Changes one bit of a file below `mount`."""
        self._tell("flip", f"/{file.relative_to(self.mount)}", offset, bit)

    def cut_power(self, *, torn: int | None = None) -> None:
        """Every call fails from now on, and what was not synced is gone; with a seed, all of it but a random part."""
        self._tell("cut", *([] if torn is None else [torn]))

    def remount(self) -> None:
        """The power is back. The processes that used the disk must have ended."""
        self._tell("restore")

    def close(self) -> None:
        """Unmounts it; its bytes are gone."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
        # In case that something still had a file open.
        subprocess.run(["umount", "-l", str(self.mount)], check=False, timeout=30, capture_output=True)  # noqa: S603, S607
