"""A real Apache Kafka as a child process: tests are checked against it (FIRN_PEER=kafka), benchmarks measure it."""

import shutil
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from harness.broker import Broker
from harness.java import JAVA_LOG_CONFIG, class_path
from harness.paths import free_port
from harness.process import Process, wait_until

_SMALLEST_SEGMENT_BYTES = 1 << 20
_SERVER_NAMES = {"segment.bytes": "log.segment.bytes", "retention.ms": "log.retention.ms"}


class KafkaServer(Broker):
    """One node, broker and controller in one process, without tiering."""

    tiered = False
    jvm: tuple[str, ...] = ("-Xmx512m", "-XX:+UseSerialGC")
    """Memory and collector."""
    class_path: str = class_path()

    def __init__(self, folder: Path, settings: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.bootstrap = f"127.0.0.1:{free_port()}"
        self._controller_port = free_port()
        self._settings = dict(settings or {})
        self.process: Process | None = None

    def _properties(self) -> str:
        lines = {
            "process.roles": "broker,controller",
            "node.id": "0",
            "controller.quorum.voters": f"0@127.0.0.1:{self._controller_port}",
            "listeners": f"PLAINTEXT://{self.bootstrap},CONTROLLER://127.0.0.1:{self._controller_port}",
            "advertised.listeners": f"PLAINTEXT://{self.bootstrap}",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": str(self.data_dir),
            "offsets.topic.replication.factor": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "group.initial.rebalance.delay.ms": "0",
            "group.min.session.timeout.ms": "1000",
            "num.partitions": "1",
            "log.segment.delete.delay.ms": "1000",
        }
        for name, value in self._settings.items():
            # Topic settings of tiers, which a topic without them does not take.
            if not name.startswith(("firn.", "local.retention")) and name != "segment.bytes":
                lines[_SERVER_NAMES.get(name, name)] = value
        return "".join(f"{name}={value}\n" for name, value in lines.items())

    @property
    def data_dir(self) -> Path:
        """The server's data folder."""
        return self.folder / "data"

    def spawn(self) -> Process:
        """Formats the data folder if it is new, and starts the process without waiting for it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.folder / "server.properties"
        config.write_text(self._properties(), encoding="utf-8")
        java = [shutil.which("java") or "java", f"-Dlog4j2.configurationFile={JAVA_LOG_CONFIG}", "-cp", self.class_path]
        if not (self.data_dir / "meta.properties").exists():
            subprocess.run(  # noqa: S603 - the tool of the peer
                [*java, "kafka.tools.StorageTool", "format", "-t", "MkU3OEVBNTcwNTJENDM2Qg", "-c", str(config)],
                check=True, capture_output=True,
            )  # fmt: skip
        self.process = Process(
            [*self.launcher, *java, *self.jvm, "-Dtest.level=warn", "kafka.Kafka", config],
            self.folder / "server.log",
        )
        return self.process

    def start(self) -> None:
        """Starts it and waits for the listener."""
        self.spawn()
        self.await_listener()

    def await_listener(self) -> None:
        """Waits for the listener of a process that was spawned."""
        process = self.process
        assert process is not None
        deadline = time.monotonic() + 60
        while not self._listens():
            if process.exit_status is not None or time.monotonic() > deadline:
                raise RuntimeError(f"Kafka did not start\n{process.output()[-4000:]}")
            time.sleep(0.05)

    def _listens(self) -> bool:
        with socket.socket() as sock:
            return sock.connect_ex((self.host, self.port)) == 0

    def stop(self, timeout_s: float = 60) -> None:
        """SIGTERM."""
        if self.process is not None:
            process, self.process = self.process, None
            process.signal(15)
            process.wait(timeout_s)

    def kill(self) -> None:
        """SIGKILL."""
        if self.process is not None:
            self.process.kill()
            self.process = None

    def close(self) -> None:
        """Ends it for good."""
        self.kill()

    def log_text(self) -> str:
        """What this run has logged."""
        return self.process.output() if self.process is not None else ""

    def tail(self, lines: int = 40) -> str:
        """The last lines of the log, for failure messages."""
        return "\n".join(self.log_text().splitlines()[-lines:])

    def topic_config(self, config: Mapping[str, str]) -> dict[str, str]:
        """Without tiering unless this broker has it, and with segments as small as Kafka allows."""
        ours = ("firn.",) if self.tiered else ("local.", "remote.", "firn.")
        kept = {name: value for name, value in config.items() if not name.startswith(ours)}
        if int(kept.get("segment.bytes", _SMALLEST_SEGMENT_BYTES)) < _SMALLEST_SEGMENT_BYTES:
            kept["segment.bytes"] = str(_SMALLEST_SEGMENT_BYTES)
        return kept

    def await_leaders(self, admin: AdminClient, topic: str, partitions: int) -> None:
        """Kafka answers before the broker has caught up with its controller: NOT_LEADER for some milliseconds."""
        wanted = {TopicPartition(topic, index): OffsetSpec.latest() for index in range(partitions)}

        def answered() -> bool:
            try:
                return all(future.result(20) for future in admin.list_offsets(wanted, request_timeout=20).values())
            except KafkaException:
                return False

        wait_until(f"the leaders of {topic}", answered)

    def settle(self, topic: str, timeout_s: float = 60) -> None:
        """Nothing to wait for: all of it is hot here."""
