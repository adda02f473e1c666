"""Starts Firn brokers for the demos on the default ports, or the next free ones, in folders of their own."""

import json
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from process import await_start, end, free_port, launch, lives

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
        end(self.process, 20)

    def log_tail(self) -> str:
        """The end of its log."""
        return "\n".join((self.folder / "broker.log").read_text(errors="replace").splitlines()[-15:])


def fresh_folder(parent: Path, name: str = "demo") -> Path:
    """`parent`/`name`, emptied; the next number when a broker of an earlier run still lives there."""
    for number in range(1, 100):
        folder = parent / (name if number == 1 else f"{name}-{number}")
        if not any(lives(pid_file) for pid_file in folder.glob("**/*.pid")):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            return folder
    raise SystemExit("too many demo brokers are running")


def start(firn: Path, folder: Path, settings: Mapping[str, str]) -> Broker:
    """Starts a broker of its own and waits until it is ready."""
    port = free_port(KAFKA_PORT)
    admin_port = free_port(ADMIN_PORT, taken=[port])
    (folder / "archive").mkdir(exist_ok=True)
    more = ["--object-store", f"file://{folder / 'archive'}", *as_options(settings)]
    broker = spawn(firn, folder, (port, admin_port), more)
    await_ready(broker)
    return broker


def as_options(settings: Mapping[str, str]) -> list[str]:
    """Settings for the command line."""
    return [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]


def spawn(
    firn: Path, folder: Path, ports: tuple[int, int], more: Sequence[str], env: Mapping[str, str] | None = None
) -> Broker:
    """Starts a broker on these ports (Kafka, admin) without waiting for it."""
    port, admin_port = ports
    args = [
        str(firn), "server", "--data-dir", str(folder / "data"), "--listen", f"127.0.0.1:{port}",
        "--admin", f"127.0.0.1:{admin_port}", *more,
    ]  # fmt: skip
    process = launch(args, folder, "broker", {"NO_COLOR": "1", **(env or {})})
    return Broker(firn, folder, port, admin_port, process)


def await_ready(broker: Broker) -> None:
    """Waits until the broker serves clients."""
    await_start(broker.process, lambda: _ready(broker), READY_S, lambda: f"the broker did not start:\n{broker.log_tail()}")


def _ready(broker: Broker) -> bool:
    try:
        with urllib.request.urlopen(f"http://{broker.admin}/ready", timeout=2) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False
