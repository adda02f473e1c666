"""A disk of our own: ext4 in a file, that can lose its power, fill up, and be given back its room."""

import os
import shutil
import subprocess
from pathlib import Path

from harness.process import wait_until

COMMANDS = ("mkfs.ext4", "mount", "umount", "xfs_io")


def why_not() -> str | None:
    """What is missing for such a disk on this machine; None when nothing is."""
    if os.geteuid() != 0:
        return "only root may mount a file system"
    missing = [command for command in COMMANDS if shutil.which(command) is None]
    if missing:
        return f"{', '.join(missing)} not found: run scripts/setup-tests.sh"
    if not Path("/dev/loop-control").exists():
        return "this machine has no loop devices"
    return None


def _run(*args: str | Path) -> None:
    done = subprocess.run([str(arg) for arg in args], capture_output=True, timeout=60, check=False)  # noqa: S603
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, args))}: {done.stderr.decode(errors='replace').strip()}")


class LoopDisk:
    """An ext4 file system of `size_mb`, mounted at `mount`; its bytes lie in `image`."""

    def __init__(self, image: Path, mount: Path, size_mb: int = 512) -> None:
        self.image, self.mount = image, mount
        mount.mkdir(parents=True, exist_ok=True)
        image.parent.mkdir(parents=True, exist_ok=True)
        with image.open("wb") as file:
            file.truncate(size_mb << 20)
        # Without blocks that only root may use: the tests run as root, and "full" is to mean full.
        _run("mkfs.ext4", "-q", "-F", "-b", "4096", "-m", "0", image)
        self._mount()

    def _mount(self) -> None:
        _run("mount", "-o", "loop,noatime", self.image, self.mount)

    def cut_power(self, *, flush_log: bool) -> None:
        """Stops the file system: from now on every call fails, and what was not synced is lost.

        `flush_log` lets the file system write its own journal out first; without it, nothing more reaches the disk.
        """
        _run("xfs_io", "-x", "-c", "shutdown -f" if flush_log else "shutdown", self.mount)

    def remount(self) -> None:
        """Power is back: the disk is mounted again. No process may have files open."""
        self._unmount()
        self._mount()

    def _unmount(self) -> None:
        def unmounted() -> bool:
            # Files of a process that was just killed are let go of a moment later.
            done = subprocess.run(["umount", str(self.mount)], capture_output=True, timeout=60, check=False)  # noqa: S603, S607
            assert done.returncode == 0 or not os.path.ismount(self.mount), done.stderr.decode(errors="replace")
            return True

        wait_until(f"{self.mount} to be unmounted", unmounted, 30)

    @property
    def free_bytes(self) -> int:
        """Room that is left."""
        state = os.statvfs(self.mount)
        return state.f_bavail * state.f_frsize

    @property
    def filler(self) -> Path:
        """The file that takes the room away."""
        return self.mount / "filler"

    def fill(self, leave_bytes: int = 0) -> None:
        """Takes all room but this."""
        with self.filler.open("ab") as file:
            size = file.seek(0, os.SEEK_END)
            step = 64 << 20
            while step >= 4096:
                step = min(step, max(self.free_bytes - leave_bytes, 0))
                try:
                    if step >= 4096:
                        os.posix_fallocate(file.fileno(), size, step)
                        size += step
                except OSError:
                    step //= 2

    def free(self) -> None:
        """Gives the room back."""
        self.filler.unlink(missing_ok=True)

    def close(self) -> None:
        """Unmounts it for good and removes its bytes."""
        if os.path.ismount(self.mount):
            self._unmount()
        self.image.unlink(missing_ok=True)
