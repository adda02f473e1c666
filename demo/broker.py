"""Starts a Firn broker for the demo on the default ports, or the next free ones, in a folder of its own."""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KAFKA_PORT, ADMIN_PORT = 9092, 9644
READY_S = 60


@dataclass
class Broker:
    """The running broker."""

    firn: Path
    folder: Path
    port: int
    admin_port: int
    process: subprocess.Popen[bytes]

    @property
    def bootstrap(self) -> str:
        """Where clients connect."""
        return f"127.0.0.1:{self.port}"

    @property
    def admin(self) -> str:
        """Where operators look."""
        return f"127.0.0.1:{self.admin_port}"

    @property
    def archive(self) -> Path:
        """The folder that stands in for a bucket."""
        return self.folder / "archive"

    def status(self, topic: str) -> list[dict[str, Any]]:
        """`firn archive status --json`, the rows of one topic."""
        run = subprocess.run(
            [str(self.firn), "archive", "status", "--json", "--admin", self.admin],
            capture_output=True, check=True,
        )  # fmt: skip
        parsed = json.loads(run.stdout)
        rows = parsed["partitions"] if isinstance(parsed, dict) else parsed
        return sorted((row for row in rows if row["topic"] == topic), key=lambda row: row["partition"])

    def stop(self) -> None:
        """SIGTERM; kills it if that does not help."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def log_tail(self) -> str:
        """The end of its log."""
        return "\n".join((self.folder / "broker.log").read_text(errors="replace").splitlines()[-15:])


def fresh_folder(parent: Path) -> Path:
    """`parent`/demo, emptied; the next number when a broker of an earlier run still lives there."""
    for number in range(1, 100):
        folder = parent / ("demo" if number == 1 else f"demo-{number}")
        if not _in_use(folder):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            return folder
    raise SystemExit("too many demo brokers are running")


def _in_use(folder: Path) -> bool:
    pid_file = folder / "broker.pid"
    if not pid_file.exists():
        return False
    command = Path(f"/proc/{pid_file.read_text().strip()}/cmdline")
    return command.exists() and str(folder).encode() in command.read_bytes()


def free_port(wanted: int, taken: int | None = None) -> int:
    """The wanted port or the next one that nobody listens on."""
    for port in range(wanted, wanted + 200):
        with socket.socket() as probe:
            if port != taken and probe.connect_ex(("127.0.0.1", port)) != 0:
                return port
    raise SystemExit(f"no free port from {wanted} on")


def start(firn: Path, folder: Path, settings: dict[str, str]) -> Broker:
    """Starts the broker and waits until it is ready."""
    port = free_port(KAFKA_PORT)
    admin_port = free_port(ADMIN_PORT, taken=port)
    args = [
        str(firn), "server", "--data-dir", str(folder / "data"), "--listen", f"127.0.0.1:{port}",
        "--admin", f"127.0.0.1:{admin_port}", "--object-store", f"file://{folder / 'archive'}",
    ]  # fmt: skip
    for name, value in settings.items():
        args += ["--set", f"{name}={value}"]
    (folder / "archive").mkdir(exist_ok=True)
    with (folder / "broker.log").open("ab") as log:
        # A session of its own: Ctrl-C in the demo's terminal leaves the broker alone.
        process = subprocess.Popen(
            args, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            env={**os.environ, "NO_COLOR": "1"},
        )  # fmt: skip
    (folder / "broker.pid").write_text(str(process.pid))
    broker = Broker(firn, folder, port, admin_port, process)
    deadline = time.monotonic() + READY_S
    while not _ready(broker):
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise SystemExit(f"the broker did not start:\n{broker.log_tail()}")
        time.sleep(0.05)
    return broker


def _ready(broker: Broker) -> bool:
    try:
        with urllib.request.urlopen(f"http://{broker.admin}/ready", timeout=2) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False
