"""The real `firn server` as a child process, and its own command line as an observer."""

import json
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from harness.broker import Broker
from harness.paths import firn_binary, free_port
from harness.process import Process, clean_environment, wait_until
from harness.stores import Store, folder_store

# Tests cannot wait for an archiver that runs once a minute.
FAST: dict[str, str] = {
    "firn.archive.interval.ms": "100",
    "log.retention.check.interval.ms": "200",
    # Raw batches are dated 2023. Retention goes by that and reaches the open segment: every check would delete them, or, by
    # the default of local retention (a day), archive and evict them, and "hot" topics would be read from the archive.
    "log.retention.ms": "-1",
    "log.local.retention.ms": "-2",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "num.partitions": "1",
}
READY_S = 60


class FirnServer(Broker):
    """One broker with its data in `folder`; started by the constructor's caller with `start`."""

    tiered = True

    def __init__(
        self,
        folder: Path,
        store: Store | None = None,
        settings: Mapping[str, str] | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        self.folder = folder
        self.listen_host = host
        self.store = store or folder_store(folder / "store")
        self.settings = {**FAST, **(settings or {})}
        self.env: dict[str, str] = {}
        """More of the environment, from the next start on."""
        self._assign_ports()
        self.process: Process | None = None

    def _assign_ports(self) -> None:
        self.bootstrap = f"{self.listen_host}:{free_port()}"
        self.admin_address = f"{self.listen_host}:{free_port()}"

    @property
    def data_dir(self) -> Path:
        """The server's data folder."""
        return self.folder / "data"

    @property
    def args(self) -> list[str]:
        """The command line."""
        args = [
            str(firn_binary()), "server", "--data-dir", str(self.data_dir), "--listen", self.bootstrap,
            "--admin", self.admin_address, "--object-store", self.store.url,
        ]  # fmt: skip
        for name, value in self.settings.items():
            args += ["--set", f"{name}={value}"]
        return args

    def spawn(self) -> Process:
        """Starts the process without waiting for anything."""
        env = {"RUST_BACKTRACE": "1", "NO_COLOR": "1", **self.store.env, **self.env}
        self.process = Process([*self.launcher, *self.args], self.folder / "server.log", env)
        return self.process

    def start(self) -> None:
        """Starts it and waits for `/ready`; tries other ports when another process took ours."""
        first = not self.data_dir.exists()
        for _ in range(3):
            process = self.spawn()
            if self._becomes_ready(process):
                return
            if not (first and "ddress already in use" in process.output()):
                break
            self._assign_ports()
        raise RuntimeError(f"the server did not become ready\n{self.tail()}")

    def _becomes_ready(self, process: Process) -> bool:
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline and process.exit_status is None:
            if self.ready():
                return True
            time.sleep(0.01)
        return False

    def ready(self) -> bool:
        """Whether `/ready` answers with 200."""
        try:
            with urllib.request.urlopen(f"http://{self.admin_address}/ready", timeout=2) as answer:
                return answer.status == 200
        except (OSError, urllib.error.URLError):
            return False

    def http(self, path: str) -> str:
        """The body of a page of the admin port."""
        with urllib.request.urlopen(f"http://{self.admin_address}{path}", timeout=10) as answer:
            return answer.read().decode()

    def stop(self, timeout_s: float = 30) -> None:
        """SIGTERM; a server that does not drain in time, or ends badly, is a failure."""
        if self.process is None:
            return
        process, self.process = self.process, None
        process.signal(signal.SIGTERM)
        try:
            status = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            raise AssertionError(f"the server did not end within {timeout_s} s of SIGTERM\n{self.tail()}") from None
        assert status == 0, f"the server ended with status {status}\n{self.tail()}"

    def kill(self) -> None:
        """SIGKILL."""
        if self.process is not None:
            self.process.kill()
            self.process = None

    def close(self) -> None:
        """Ends it for good; for tear-down, where its manners no longer matter."""
        self.kill()

    def log_text(self) -> str:
        """What this run has logged."""
        return self.process.output() if self.process is not None else ""

    def tail(self, lines: int = 40) -> str:
        """The last lines of the log, for failure messages."""
        log = self.folder / "server.log"
        text = log.read_text(errors="replace") if log.exists() else "(no log)"
        return f"--- {' '.join(self.args)}\n--- last {lines} lines of {log}:\n" + "\n".join(text.splitlines()[-lines:])

    def topic_config(self, config: Mapping[str, str]) -> dict[str, str]:
        """Firn takes them all."""
        return dict(config)

    def cli(self, *args: str, check: bool = True, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
        """Runs the `firn` command."""
        run = subprocess.run(  # noqa: S603 - the command under test
            [str(firn_binary()), *args], input=stdin, capture_output=True, timeout=60, check=False,
            env={**clean_environment(), "NO_COLOR": "1", **self.store.env},
        )  # fmt: skip
        if check and run.returncode != 0:
            raise AssertionError(f"firn {' '.join(args)}: status {run.returncode}\n{run.stderr.decode()}")
        return run

    def archive_status(self, topics: Iterable[str] = ()) -> list[dict[str, Any]]:
        """What `firn archive status` shows: one row per partition, of these topics only if any are named."""
        rows = json.loads(self.http("/v1/archive/status"))["partitions"]
        wanted = set(topics)
        return [row for row in rows if not wanted or row["topic"] in wanted]

    def store_trouble(self) -> dict[str, Any] | None:
        """What the status says of the object store; None when its last call went right."""
        return json.loads(self.http("/v1/archive/status"))["store_trouble"]

    def archived_files(self, topic: str) -> list[Path]:
        """The data objects that the archive itself names for this topic, oldest first, as files of the store's folder."""
        partitions = json.loads(self.http(f"/v1/archive/objects?topic={topic}"))
        names = [row["object"].rsplit("/", 1)[-1] for entry in partitions for row in entry["objects"]]
        files = {file.name: file for file in self.store.objects(".parquet")}
        return [files[name] for name in names]

    def settle(self, topic: str, timeout_s: float = 60) -> None:
        """Waits until every record of the topic can only be read from the archive."""

        def settled() -> bool:
            rows = self.archive_status([topic])
            assert rows, f"archive status does not know {topic}"
            assert all(row["archived_end"] == row["high_watermark"] == row["local_start"] for row in rows), rows
            return True

        wait_until(f"{topic} to settle in the archive", settled, timeout_s)

    def wait_archived(self, topic: str, share: float = 0.5, timeout_s: float = 60) -> None:
        """Waits until local disk has let go of this share of the topic's records, in every non-empty partition."""

        def archived() -> bool:
            rows = self.archive_status([topic])
            assert rows and all(row["local_start"] >= share * row["log_end"] for row in rows), rows
            return True

        wait_until(f"{share:.0%} of {topic} to leave the local disk", archived, timeout_s)
