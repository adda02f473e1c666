"""What clients saw, as values: the events of a history, and their form as one line of JSON each.

Times (`at`, `asked`) are seconds of the machine's monotonic clock, which all processes share: `asked` is before the
request could leave, `at` is after its answer had come. Bytes are text here, one character for one byte.
"""

import hashlib
import json
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

LONG = 200
NOWHERE = -1
"""An offset that nobody told."""

Headers = tuple[tuple[str, str | None], ...]


class Record(NamedTuple):
    """A record's content; the timestamp in milliseconds since 1970."""

    timestamp: int
    key: str | None
    value: str | None
    headers: Headers

    @property
    def name(self) -> str:
        """The name of its send, which every value begins with; "" where there is none."""
        return (self.value or "").split(" ", 1)[0]


class Row(NamedTuple):
    """A record at its offset, and the leader epoch in which it was appended; NOWHERE if that was not told."""

    offset: int
    record: Record
    epoch: int = NOWHERE


def text_of(data: bytes | None) -> str | None:
    """Bytes as the history holds them; long ones by their beginning, length and digest."""
    if data is None or len(data) <= LONG:
        return None if data is None else data.decode("latin-1")
    digest = hashlib.blake2b(data, digest_size=12).hexdigest()
    return f"{data[:64].decode('latin-1')} … {len(data)} bytes, {digest}"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened at a time."""

    at: float


@dataclass(frozen=True, slots=True)
class Topic(Event):
    """What a topic was made for; `retention_ms` 0 means that time deletes nothing, `trimmed` that DeleteRecords is used.

    Where there are several replicas, one that has led may go on answering for a while, with what it knew.
    """

    topic: str
    partitions: int
    retention_ms: int = 0
    trimmed: bool = False
    replicas: int = 1


@dataclass(frozen=True, slots=True)
class Sent(Event):
    """A record is about to be handed to its producer; numbers of one producer grow."""

    producer: str
    number: int
    topic: str
    partition: int
    record: Record

    @property
    def name(self) -> str:
        """What the record's value begins with."""
        return f"{self.producer}/{self.number}"


@dataclass(frozen=True, slots=True)
class Acked(Event):
    """The broker acknowledged it; the offset is NOWHERE where the answer had none."""

    producer: str
    number: int
    topic: str
    partition: int
    offset: int

    @property
    def name(self) -> str:
        """The name of the send."""
        return f"{self.producer}/{self.number}"


@dataclass(frozen=True, slots=True)
class Failed(Event):
    """The client gave up: the outcome is unknown."""

    producer: str
    number: int
    error: str

    @property
    def name(self) -> str:
        """The name of the send."""
        return f"{self.producer}/{self.number}"


@dataclass(frozen=True, slots=True)
class Opened(Event):
    """A reader begins at an offset of one partition; `group` is "" outside of groups, the offset NOWHERE if unknown."""

    session: str
    topic: str
    partition: int
    offset: int
    why: str
    group: str = ""


@dataclass(frozen=True, slots=True)
class Read(Event):
    """What a session read next."""

    session: str
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class OutOfRange(Event):
    """A session was told that its offset is out of range; this ends it."""

    session: str
    offset: int


@dataclass(frozen=True, slots=True)
class Bounds(Event):
    """ListOffsets: the log start and the high watermark, each with the epoch of the leader that told it.

    `wall_ms` is the time of day after the answer.
    """

    asked: float
    wall_ms: int
    topic: str
    partition: int
    start: int
    end: int
    start_epoch: int = NOWHERE
    end_epoch: int = NOWHERE


@dataclass(frozen=True, slots=True)
class AtTime(Event):
    """ListOffsets by time: the first offset at or after a timestamp, or NOWHERE."""

    asked: float
    topic: str
    partition: int
    timestamp: int
    offset: int


@dataclass(frozen=True, slots=True)
class DeleteAsked(Event):
    """DeleteRecords is about to be asked."""

    topic: str
    partition: int
    before: int


@dataclass(frozen=True, slots=True)
class Deleted(Event):
    """DeleteRecords was answered."""

    topic: str
    partition: int
    before: int
    low_watermark: int


@dataclass(frozen=True, slots=True)
class CommitAsked(Event):
    """A member is about to commit."""

    commit: str
    group: str
    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Committed(Event):
    """The commit was acknowledged."""

    commit: str


@dataclass(frozen=True, slots=True)
class Fetched(Event):
    """Somebody asked for a group's committed offset; NOWHERE where there is none."""

    asked: float
    who: str
    group: str
    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Whole(Event):
    """A session that was meant to read all of `[start, end)`, after everything else had ended."""

    session: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Life(Event):
    """A topic was made, filled, read and deleted, and was right all the time; how many records it had acknowledged."""

    topic: str
    number: int
    records: int


@dataclass(frozen=True, slots=True)
class Trouble(Event):
    """An error that a client was told, by its name in librdkafka."""

    who: str
    error: str
    text: str


@dataclass(frozen=True, slots=True)
class Fault(Event):
    """Something was done to the server, the store or a client; `over` when it was undone again. Remarks have no track."""

    fault: str
    detail: str = ""
    track: str = ""
    over: bool = False


class Place(NamedTuple):
    """Where in the history an event stands."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class Noted(NamedTuple):
    """An event and its place."""

    place: Place
    event: Event


KINDS: dict[str, type[Event]] = {
    kind.__name__: kind
    for kind in (
        Topic, Sent, Acked, Failed, Opened, Read, OutOfRange, Bounds, AtTime, DeleteAsked, Deleted, CommitAsked, Committed,
        Fetched, Whole, Life, Trouble, Fault,
    )
}  # fmt: skip
FIELDS = {name: tuple(field.name for field in fields(kind)) for name, kind in KINDS.items()}


def to_line(event: Event) -> str:
    """The event as JSON, its kind in front. A row is `[offset, timestamp, key, value, headers, leader epoch]`."""
    name = type(event).__name__
    values = [getattr(event, field) for field in FIELDS[name]]
    if isinstance(event, Read):
        values[-1] = [(row.offset, *row.record, row.epoch) for row in event.rows]
    return json.dumps([name, *values], separators=(",", ":"))


def from_line(line: str) -> Event:
    """The event of a line."""
    name, *values = json.loads(line)
    if name == "Sent":
        values[-1] = _record(values[-1])
    elif name == "Read":
        values[-1] = tuple(Row(row[0], _record(row[1:5]), row[5]) for row in values[-1])
    return KINDS[name](*values)


def _record(parts: list[Any]) -> Record:
    timestamp, key, value, headers = parts
    return Record(timestamp, key, value, tuple((name, content) for name, content in headers))
