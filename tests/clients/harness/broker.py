"""What every server under test offers to the tests, be it Firn or a real Apache Kafka."""

import abc
import signal
import uuid
from collections.abc import Mapping
from typing import Literal

from confluent_kafka.admin import AdminClient, NewTopic

from harness.process import Process

Tier = Literal["hot", "cold"]

# Everything stays on the local disk.
HOT: dict[str, str] = {"segment.bytes": str(64 << 20), "segment.ms": "3600000"}
# Everything leaves it: tiny segments, closed after half a second, local copies dropped as soon as they are archived.
COLD: dict[str, str] = {
    "segment.bytes": "16384",
    "segment.ms": "500",
    "local.retention.bytes": "1",
    "local.retention.ms": "100",
}


def unique(prefix: str) -> str:
    """A name that no other test uses."""
    return f"{prefix}-{uuid.uuid4().hex[:10]}"


class Broker(abc.ABC):
    """A running broker. Topics are created through it, because the two kinds take different settings."""

    tiered: bool
    """Whether history moves to an object store."""
    bootstrap: str
    """HOST:PORT of the Kafka listener."""
    admin_settings: Mapping[str, str] = {}
    """More settings of librdkafka for admin clients."""
    launcher: tuple[str, ...] = ()
    """A command that becomes the server, such as `taskset -c 0`; from the next start on."""
    process: Process | None = None
    """The running process; None while it does not run."""

    @property
    def host(self) -> str:
        """The listener's host."""
        return self.bootstrap.rsplit(":", 1)[0]

    @property
    def port(self) -> int:
        """The listener's port."""
        return int(self.bootstrap.rsplit(":", 1)[1])

    @abc.abstractmethod
    def start(self) -> None:
        """Starts the process on its data, and waits until it is ready."""

    @abc.abstractmethod
    def stop(self, timeout_s: float = 30) -> None:
        """Asks the process to end (SIGTERM), and waits."""

    @abc.abstractmethod
    def kill(self) -> None:
        """Ends the process at once (SIGKILL)."""

    @abc.abstractmethod
    def topic_config(self, config: Mapping[str, str]) -> dict[str, str]:
        """These topic settings as far as this kind of server takes them."""

    @abc.abstractmethod
    def settle(self, topic: str, timeout_s: float = 60) -> None:
        """Waits until a topic created as "cold" is wholly in the archive and gone from local disk."""

    @abc.abstractmethod
    def log_text(self) -> str:
        """What the process has logged since its last start."""

    def alive(self) -> bool:
        """Whether the process still runs."""
        return self.process is not None and self.process.exit_status is None

    def pause(self) -> None:
        """SIGSTOP: it pauses and does not know it."""
        assert self.process is not None
        self.process.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        assert self.process is not None
        self.process.signal(signal.SIGCONT)

    def restart(self) -> None:
        """Stops and starts it on the same data and ports."""
        self.stop()
        self.start()

    def admin(self) -> AdminClient:
        """A new admin client."""
        return AdminClient({"bootstrap.servers": self.bootstrap, "socket.timeout.ms": 20_000, **self.admin_settings})

    def create_topic(
        self,
        prefix: str = "topic",
        *,
        partitions: int = 1,
        tier: Tier = "hot",
        replicas: int = 1,
        config: Mapping[str, str] | None = None,
        name: str | None = None,
    ) -> str:
        """Creates a topic with a fresh name and waits until it is there."""
        name = name or unique(prefix)
        wanted = {**(COLD if tier == "cold" else HOT), **(config or {})}
        topic = NewTopic(name, num_partitions=partitions, replication_factor=replicas, config=self.topic_config(wanted))
        admin = self.admin()  # kept until the result is there: dropping the client cancels the request
        admin.create_topics([topic], operation_timeout=20)[name].result(20)
        self.await_leaders(admin, name, partitions)
        return name

    def await_leaders(self, admin: AdminClient, topic: str, partitions: int) -> None:
        """Waits until every partition of a new topic answers; nothing to do where creation includes that."""
