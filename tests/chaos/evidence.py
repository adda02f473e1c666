"""The events of a history, sorted by what they are about, so that the checker can ask. Pure.

Reads are taken in one by one and only the first sight of every offset is kept; what a later sight shows otherwise, and
where a session does not go on with the next offset, is kept as a surprise.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import accumulate
from typing import NamedTuple

from chaos.events import (
    NOWHERE,
    Acked,
    AtTime,
    Bounds,
    CommitAsked,
    Committed,
    DeleteAsked,
    Deleted,
    Event,
    Failed,
    Fault,
    Fetched,
    Noted,
    Opened,
    OutOfRange,
    Place,
    Read,
    Record,
    Sent,
    Topic,
    Trouble,
    Whole,
)
from chaos.floor import Floor, Terms
from chaos.weather import Weather

NO_MORE = "no more faults"
"""The remark that ends the faults of a run."""

LEARNING_S = 5.0
"""How long a node that was cut off or paused may need to learn that others lead."""
PARTING = {
    "isolate": "links are whole", "cut one way": "links are whole", "cut both ways": "links are whole",
    "lose packets": "links are whole", "pause": "running again after pause",
}  # fmt: skip
"""Faults by which a leader can miss that it was replaced, and what is noted when they are over."""

Part = tuple[str, int]
"""A topic and a partition."""


class Sight(NamedTuple):
    """A record as it was read for the first time."""

    record: Record
    place: Place
    at: float
    session: str
    epoch: int


class Stray(NamedTuple):
    """A row that is not what its session, or an earlier reader of its offset, made expect."""

    offset: int
    place: Place
    at: float
    session: str
    expected: int
    record: Record


@dataclass
class Session:
    """One reader's way through a partition."""

    opened: Opened
    place: Place
    first: int = NOWHERE
    next: int = NOWHERE
    rows: int = 0
    lowest: int = NOWHERE
    epoch: int = NOWHERE
    """The newest leader epoch of its records: who served them led in this one, or later."""
    lowest_epoch: int = NOWHERE
    """The same when it came to its lowest offset."""


@dataclass
class Partition:
    """All that is known of one partition."""

    sights: dict[int, Sight] = field(default_factory=dict)
    changed: list[Stray] = field(default_factory=list)
    acked: dict[int, tuple[Acked, Place]] = field(default_factory=dict)
    acked_again: list[tuple[Acked, Place]] = field(default_factory=list)
    bounds: list[tuple[Bounds, Place]] = field(default_factory=list)
    times: list[tuple[AtTime, Place]] = field(default_factory=list)
    deletes: list[DeleteAsked] = field(default_factory=list)
    deleted: list[tuple[Deleted, Place]] = field(default_factory=list)
    out_of_range: list[tuple[OutOfRange, Place]] = field(default_factory=list)
    terms: Terms = field(default_factory=Terms)
    start: Floor = field(init=False)
    end: Floor = field(init=False)
    whole: list[tuple[Whole, Place]] = field(default_factory=list)
    """The last readings: of both tiers, and of the archive alone."""

    def __post_init__(self) -> None:
        self.start, self.end = Floor(self.terms), Floor(self.terms)


@dataclass
class Register:
    """A group's committed offset of one partition."""

    asked: dict[str, tuple[CommitAsked, Place]] = field(default_factory=dict)
    done: list[tuple[Committed, Place]] = field(default_factory=list)
    fetched: list[tuple[Fetched, Place]] = field(default_factory=list)
    floor: Floor = field(default_factory=Floor)


class Evidence:
    """A history, taken in."""

    def __init__(self, history: Iterable[Noted]) -> None:
        self.topics: dict[str, Topic] = {}
        self.sent: dict[str, tuple[Sent, Place]] = {}
        self.acked: dict[str, tuple[Acked, Place]] = {}
        self.failed: dict[str, tuple[Failed, Place]] = {}
        self.sessions: dict[str, Session] = {}
        self.strays: list[tuple[Session, Stray]] = []
        self.parts: dict[Part, Partition] = {}
        self.registers: dict[tuple[str, str, int], Register] = {}
        self.troubles: list[tuple[Trouble, Place]] = []
        self.faults: list[Fault] = []
        self.counts: Counter[str] = Counter()
        self._commits: dict[str, Register] = {}
        self._committed: list[tuple[Committed, Place]] = []
        takers = {
            Sent: self._take_sent, Acked: self._take_acked, Read: self._take_read, Bounds: self._take_bounds,
            Deleted: self._take_deleted, CommitAsked: self._take_commit, Fetched: self._take_fetched,
        }  # fmt: skip
        for place, event in history:
            self.counts[type(event).__name__] += 1
            takers.get(type(event), self._take_plain)(event, place)  # type: ignore[operator]
        self._match_commits()
        self._match_terms()
        self.faults.sort(key=lambda fault: fault.at)
        self.weather = Weather(self.faults)
        self._places = self._places_of_producers()
        self._old_leaders = self._spans() if any(topic.replicas > 1 for topic in self.topics.values()) else []

    def calms(self, shortest_s: float) -> list[tuple[float, float]]:
        """The times without a fault while all clients were at work."""
        ended = next((fault.at for fault in self.faults if fault.fault == NO_MORE), float("inf"))
        return self.weather.calms(min(ended, self.faults[-1].at if self.faults else ended), shortest_s)

    def last_before(self, event: Acked) -> int:
        """The highest offset that a producer's earlier records are known to have in the partition; else NOWHERE."""
        places = self._places.get((event.producer, event.topic, event.partition), [])
        return places[at - 1][1] if (at := bisect_left(places, (event.number, NOWHERE))) else NOWHERE

    def _places_of_producers(self) -> dict[tuple[str, str, int], list[tuple[int, int]]]:
        """Numbers of each producer's records in a partition, in order, with the highest offset of those so far."""
        known: dict[tuple[str, str, int], list[tuple[int, int]]] = {}
        for event, _ in self.acked.values():
            if event.offset >= 0:
                known.setdefault((event.producer, event.topic, event.partition), []).append((event.number, event.offset))
        for (topic, partition), part in self.parts.items():
            for offset, sight in part.sights.items():
                if sight.record.name in self.sent:
                    sent = self.sent[sight.record.name][0]
                    known.setdefault((sent.producer, topic, partition), []).append((sent.number, offset))
        return {
            who: list(accumulate(sorted(places), lambda before, place: (place[0], max(before[1], place[1]))))
            for who, places in known.items()
        }

    def part(self, topic: str, partition: int) -> Partition:
        """What is known of a partition."""
        return self.parts.setdefault((topic, partition), Partition())

    def register(self, group: str, topic: str, partition: int) -> Register:
        """What is known of a committed offset."""
        return self.registers.setdefault((group, topic, partition), Register())

    def part_of(self, session: Session) -> Partition:
        """The partition that a session reads."""
        return self.part(session.opened.topic, session.opened.partition)

    def may_be_old(self, asked: float, at: float) -> bool:
        """Whether the answer to a question, got between these, can be that of a leader which the others have replaced.

        For answers that do not tell who gave them: a leader is old only while, and a little after, links are cut or a
        process is paused.
        """
        return any(begun < at and asked < ended for begun, ended in self._old_leaders)

    def _spans(self) -> list[tuple[float, float]]:
        """When there can be old leaders."""
        spans = []
        for fault in self.faults:
            if fault.fault in PARTING:
                over = PARTING[fault.fault]
                ends = (later.at for later in self.faults if later.at >= fault.at and later.fault == over)
                spans.append((fault.at, next(ends, float("inf")) + LEARNING_S))
        return spans

    def _match_terms(self) -> None:
        """Which records were appended in which leader epochs."""
        for part in self.parts.values():
            for sight in part.sights.values():
                known = self.sent.get(sight.record.name)
                if known is not None and sight.epoch != NOWHERE:
                    part.terms.appended(sight.epoch, known[0].at)

    def _take_plain(self, event: Event, place: Place) -> None:
        if isinstance(event, Topic):
            self.topics[event.topic] = event
        elif isinstance(event, Opened):
            self.sessions[event.session] = Session(event, place, next=event.offset)
        elif isinstance(event, Failed):
            self.failed[event.name] = (event, place)
        elif isinstance(event, OutOfRange):
            self.part_of(self.sessions[event.session]).out_of_range.append((event, place))
        elif isinstance(event, AtTime):
            self.part(event.topic, event.partition).times.append((event, place))
        elif isinstance(event, DeleteAsked):
            self.part(event.topic, event.partition).deletes.append(event)
        elif isinstance(event, Committed):
            self._committed.append((event, place))
        elif isinstance(event, Whole):
            self.part_of(self.sessions[event.session]).whole.append((event, place))
        elif isinstance(event, Trouble):
            self.troubles.append((event, place))
        elif isinstance(event, Fault):
            self.faults.append(event)

    def _take_sent(self, event: Sent, place: Place) -> None:
        self.sent[event.name] = (event, place)

    def _take_acked(self, event: Acked, place: Place) -> None:
        self.acked[event.name] = (event, place)
        if event.offset < 0:
            return
        part = self.part(event.topic, event.partition)
        if event.offset in part.acked:
            part.acked_again.append((event, place))
        else:
            part.acked[event.offset] = (event, place)
        part.end.know(event.at, event.offset + 1, f"{event.name} was acknowledged at {event.offset} ({place})")

    def _take_read(self, event: Read, place: Place) -> None:
        session = self.sessions[event.session]
        part = self.part_of(session)
        for offset, record, epoch in event.rows:
            session.epoch = max(session.epoch, epoch)
            if session.first == NOWHERE:
                session.first = session.lowest = offset
                session.lowest_epoch = session.epoch
            if session.next not in (NOWHERE, offset):
                stray = Stray(offset, place, event.at, event.session, session.next, record)
                self.strays.append((session, stray))
            session.next = offset + 1
            if offset < session.lowest:
                session.lowest, session.lowest_epoch = offset, session.epoch
            known = part.sights.get(offset)
            if known is None:
                part.sights[offset] = Sight(record, place, event.at, event.session, epoch)
            elif known.record != record:
                part.changed.append(Stray(offset, place, event.at, event.session, offset, record))
        session.rows += len(event.rows)
        self.counts["rows"] += len(event.rows)
        if event.rows:
            last = event.rows[-1].offset
            part.end.know(event.at, last + 1, f"offset {last} was read ({place})")

    def _take_bounds(self, event: Bounds, place: Place) -> None:
        part = self.part(event.topic, event.partition)
        part.bounds.append((event, place))
        part.terms.saw(max(event.start_epoch, event.end_epoch))
        part.start.know(event.at, event.start, f"the log start was {event.start} ({place})", event.start_epoch)
        part.end.know(event.at, event.end, f"the end was {event.end} ({place})", event.end_epoch)

    def _take_deleted(self, event: Deleted, place: Place) -> None:
        part = self.part(event.topic, event.partition)
        part.deleted.append((event, place))
        known = max(event.before, event.low_watermark)
        part.start.know(event.at, known, f"DeleteRecords was answered with {event.low_watermark} ({place})")

    def _take_commit(self, event: CommitAsked, place: Place) -> None:
        register = self.register(event.group, event.topic, event.partition)
        register.asked[event.commit] = (event, place)
        self._commits[event.commit] = register

    def _take_fetched(self, event: Fetched, place: Place) -> None:
        register = self.register(event.group, event.topic, event.partition)
        register.fetched.append((event, place))
        register.floor.know(event.at, event.offset, f"{event.who} was told {event.offset} ({place})")

    def _match_commits(self) -> None:
        for event, place in self._committed:
            register = self._commits[event.commit]
            register.done.append((event, place))
            offset = register.asked[event.commit][0].offset
            register.floor.know(event.at, offset, f"commit {event.commit} of {offset} was acknowledged ({place})")
