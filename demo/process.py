"""The programs that a demo starts: they outlive Ctrl-C in its terminal; logs and process ids lie in their folders."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path


def launch(
    args: Sequence[str | Path], folder: Path, name: str, env: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Starts a program with its output in `name`.log and its id in `name`.pid."""
    with (folder / f"{name}.log").open("ab") as log:
        # A session of its own: Ctrl-C in the demo's terminal leaves it alone.
        process = subprocess.Popen(
            args, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            env={**os.environ, **(env or {})},
        )  # fmt: skip
    (folder / f"{name}.pid").write_text(str(process.pid))
    return process


def await_start(
    process: subprocess.Popen[bytes], ready: Callable[[], bool], patience_s: float, failure: Callable[[], str]
) -> None:
    """Waits until a program is ready; one that ends or takes too long ends the demo with what `failure` says."""
    deadline = time.monotonic() + patience_s
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise SystemExit(failure())
        time.sleep(0.05)


def end(process: subprocess.Popen[bytes], patience_s: float) -> None:
    """SIGTERM; SIGKILL if that does not help."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(patience_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def lives(pid_file: Path) -> bool:
    """Whether the program of this file, which names its folder on its command line, still runs."""
    command = Path(f"/proc/{pid_file.read_text().strip()}/cmdline")
    return command.exists() and str(pid_file.parent).encode() in command.read_bytes()


def listens(port: int) -> bool:
    """Whether somebody accepts connections there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_port(wanted: int, taken: Sequence[int] = ()) -> int:
    """The wanted port or the next one that nobody listens on, and that is not taken."""
    for port in range(wanted, wanted + 200):
        if port not in taken and not listens(port):
            return port
    raise SystemExit(f"no free port from {wanted} on")
