"""Good histories made up from a seed: a perfect log in memory, and clients that see it. For the checker's own tests."""

import random
from dataclasses import dataclass, field

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
    Life,
    Noted,
    Opened,
    OutOfRange,
    Place,
    Read,
    Record,
    Row,
    Sent,
    Topic,
    Whole,
)
from chaos.evidence import NO_MORE

KEPT, TRIMMED, BRIEF = "kept", "trimmed", "brief"
RETENTION_MS = 4000


@dataclass
class Log:
    """A partition as it should be."""

    rows: list[Row] = field(default_factory=list)
    start: int = 0
    committed: int = NOWHERE


class MadeHistory:
    """Makes one history, a second of its time with every step."""

    def __init__(self, seed: int, steps: int = 60) -> None:
        self.rng = random.Random(seed)
        self.events: list[Event] = []
        self.clock = 1000.0
        self.logs = {(topic, partition): Log() for topic in (KEPT, TRIMMED, BRIEF) for partition in range(2)}
        self.numbers = {"w1": 0, "w2": 0}
        self.names = 0
        self.calm_begun = 0.0
        self.note(Topic(self.now(), KEPT, 2))
        self.note(Topic(self.now(), TRIMMED, 2, trimmed=True))
        self.note(Topic(self.now(), BRIEF, 2, retention_ms=RETENTION_MS))
        self.note(Life(self.now(), "passing-0", 1, 60))
        kinds = [self.send, self.send, self.send, self.read, self.bounds, self.time, self.delete, self.expire, self.resume,
                 self.fault]  # fmt: skip
        for _ in range(steps):
            for part in list(self.logs):
                self.rng.choice(kinds)(part)
        self.calm()
        for part in self.logs:
            self.send(part)
            self.delete(part, likely=1.0)
            self.send(part)
            self.bounds(part)
            self.time(part)
            self.read_from(part, self.logs[part].start, "middle")
            self.whole(part)

    def noted(self) -> list[Noted]:
        """The history, all in one file."""
        return [Noted(Place("made.jsonl", line), event) for line, event in enumerate(self.events, start=1)]

    def note(self, event: Event) -> None:
        """Appends."""
        self.events.append(event)

    def now(self) -> float:
        """The next instant."""
        self.clock += 0.01
        return self.clock

    def wall_ms(self) -> int:
        """The time of day that belongs to the clock."""
        return 1_700_000_000_000 + round(self.clock * 1000)

    def name(self, prefix: str) -> str:
        """A name that was not used yet."""
        self.names += 1
        return f"{prefix}{self.names}"

    def send(self, part: tuple[str, int]) -> None:
        """A producer sends a few records; now and then the outcome stays unknown."""
        log = self.logs[part]
        producer = self.rng.choice(list(self.numbers))
        for _ in range(self.rng.randint(1, 6)):
            number = self.numbers[producer]
            self.numbers[producer] += 1
            stamp = self.wall_ms() - self.rng.randint(0, 300)
            key = self.rng.choice([None, f"k{number % 3}"])
            record = Record(stamp, key, f"{producer}/{number} v", (("n", str(number)), ("n", None)))
            self.note(Sent(self.now(), producer, number, *part, record))
            outcome = self.rng.choice(["acked"] * 8 + ["unknown, there", "unknown, not there", "acked nowhere"])
            if outcome != "unknown, not there":
                log.rows.append(Row(len(log.rows), record))
            if outcome.startswith("acked"):
                offset = NOWHERE if outcome == "acked nowhere" else len(log.rows) - 1
                self.note(Acked(self.now(), producer, number, *part, offset))
            else:
                self.note(Failed(self.now(), producer, number, "_MSG_TIMED_OUT"))

    def read(self, part: tuple[str, int]) -> None:
        """A reader begins anywhere."""
        log = self.logs[part]
        self.read_from(part, self.rng.randint(log.start, len(log.rows)), "middle")

    def read_from(self, part: tuple[str, int], offset: int, why: str, group: str = "") -> tuple[str, int]:
        """Reads to the end; returns the session and how far it came."""
        session = self.name("reader")
        self.note(Opened(self.now(), session, *part, offset, why, group))
        rows = self.logs[part].rows[offset:]
        for index in range(0, len(rows), 7):
            self.note(Read(self.now(), session, tuple(rows[index : index + 7])))
        return session, offset + len(rows)

    def whole(self, part: tuple[str, int]) -> None:
        """The last reading."""
        log = self.logs[part]
        session, end = self.read_from(part, log.start, "whole")
        self.note(Whole(self.now(), session, log.start, end))

    def bounds(self, part: tuple[str, int]) -> None:
        """ListOffsets."""
        log = self.logs[part]
        asked = self.now()
        self.note(Bounds(self.now(), asked, self.wall_ms(), *part, log.start, len(log.rows)))

    def time(self, part: tuple[str, int]) -> None:
        """ListOffsets by time."""
        log = self.logs[part]
        asked = self.now()
        wanted = self.wall_ms() - self.rng.randint(-50, 3000)
        found = next((row.offset for row in log.rows[log.start :] if row.record.timestamp >= wanted), NOWHERE)
        self.note(AtTime(self.now(), asked, *part, wanted, found))

    def delete(self, part: tuple[str, int], likely: float = 0.3) -> None:
        """DeleteRecords, and a reader that is too late."""
        log = self.logs[part]
        if part[0] != TRIMMED or self.rng.random() > likely:
            return
        before = self.rng.randint(log.start + 1, len(log.rows)) if log.start < len(log.rows) else log.start
        self.note(DeleteAsked(self.now(), *part, before))
        log.start = before
        self.note(Deleted(self.now(), *part, before, before))
        if before:
            session = self.name("late")
            self.note(Opened(self.now(), session, *part, before - 1, "behind"))
            self.note(OutOfRange(self.now(), session, before - 1))

    def expire(self, part: tuple[str, int]) -> None:
        """Time deletes what is old enough."""
        log = self.logs[part]
        if part[0] == BRIEF:
            limit = self.wall_ms() - RETENTION_MS
            while log.start < len(log.rows) and log.rows[log.start].record.timestamp < limit:
                log.start += 1

    def resume(self, part: tuple[str, int]) -> None:
        """A group's member resumes, reads and commits."""
        log = self.logs[part]
        if part[0] != KEPT:
            return
        asked = self.now()
        self.note(Fetched(self.now(), asked, "member", "g", *part, log.committed))
        _, reached = self.read_from(part, max(log.committed, 0), "resume", "g")
        commit = self.name("commit")
        self.note(CommitAsked(self.now(), commit, "g", *part, reached))
        if self.rng.random() < 0.8:
            self.note(Committed(self.now(), commit))
            log.committed = reached
        elif self.rng.random() < 0.5:
            log.committed = reached

    def fault(self, part: tuple[str, int]) -> None:
        """Something happens."""
        self.note(Fault(self.now(), "kill", f"while {part[0]} was looked at", "nodes"))
        self.note(Fault(self.now(), "running again after kill", "", "nodes", over=True))

    def calm(self) -> None:
        """A time without faults, in which clients are at work everywhere."""
        self.fault((KEPT, 0))
        self.calm_begun = self.now()
        for _ in range(13):
            self.clock += 1.0
            for part in self.logs:
                self.send(part)
                self.resume(part)
        self.note(Fault(self.now(), NO_MORE))
