"""The checker names every kind of broken promise, and finds nothing where nothing is broken."""

import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from chaos.checker import Kind, check
from chaos.events import (
    NOWHERE,
    Acked,
    AtTime,
    Bounds,
    CommitAsked,
    Committed,
    Deleted,
    Event,
    Fetched,
    Noted,
    Opened,
    OutOfRange,
    Place,
    Read,
    Row,
    Trouble,
    Whole,
    from_line,
    to_line,
)
from chaos.made_history import BRIEF, KEPT, RETENTION_MS, TRIMMED, MadeHistory

SEEDS = range(12)
Break = Callable[[MadeHistory, random.Random], list[Event]]


def placed(events: list[Event]) -> list[Noted]:
    """The events with their lines."""
    return [Noted(Place("made.jsonl", line), event) for line, event in enumerate(events, start=1)]


def rows_read(events: list[Event], topic: str, why: str | None = None) -> list[tuple[int, int]]:
    """(index of a Read, index of a row in it) of this topic, of readings of one kind if named."""
    opened = {event.session: event for event in events if isinstance(event, Opened)}
    return [
        (index, at)
        for index, event in enumerate(events)
        if isinstance(event, Read) and opened[event.session].topic == topic and why in (None, opened[event.session].why)
        for at in range(len(event.rows))
    ]


def everywhere(history: MadeHistory, part: tuple[str, int], change: Callable[[Row], Row | None]) -> list[Event]:
    """The history with every sight of a partition's rows changed, or removed."""
    opened = {event.session: event for event in history.events if isinstance(event, Opened)}
    events: list[Event] = []
    for event in history.events:
        if isinstance(event, Read) and (opened[event.session].topic, opened[event.session].partition) == part:
            rows = tuple(new for row in event.rows if (new := change(row)) is not None)
            events.append(replace(event, rows=rows))
        else:
            events.append(event)
    return events


def some_acked(history: MadeHistory, rng: random.Random, topic: str = KEPT) -> Acked:
    """An acknowledged record that is still there at the end."""
    return rng.choice([
        event for event in history.events
        if isinstance(event, Acked) and event.topic == topic and event.offset > history.logs[topic, event.partition].start
    ])  # fmt: skip


def lose(history: MadeHistory, rng: random.Random) -> list[Event]:
    acked = some_acked(history, rng)
    return everywhere(history, (KEPT, acked.partition), lambda row: None if row.offset == acked.offset else row)


def lose_and_close_the_gap(history: MadeHistory, rng: random.Random) -> list[Event]:
    acked = next(event for event in history.events if isinstance(event, Acked) and event.topic == KEPT and event.offset > 0)

    def shifted(row: Row) -> Row | None:
        if row.offset == acked.offset:
            return None
        return row._replace(offset=row.offset - 1) if row.offset > acked.offset else row

    return everywhere(history, (KEPT, acked.partition), shifted)


def lose_what_was_acknowledged_without_its_offset(history: MadeHistory, rng: random.Random) -> list[Event]:
    """In a topic that DeleteRecords trims: the producer's record before it stands above the log start."""
    log = history.logs[TRIMMED, 0]
    producers = [row.record.name.split("/")[0] for row in log.rows]
    at = next(
        at for at in range(len(log.rows) - 1, log.start, -1) if producers[at] in producers[log.start : at]
    )  # fmt: skip
    name = log.rows[at].record.name
    lost = everywhere(history, (TRIMMED, 0), lambda row: None if row.offset == at else row)
    acked = [event for event in lost if isinstance(event, Acked) and event.name == name]
    told = Acked(history.now(), *name.split("/")[:1], int(name.split("/")[1]), TRIMMED, 0, NOWHERE)
    return [*(event for event in lost if event not in acked), told]


def stall(kind: type[Event]) -> Break:
    """Nothing of this happens in the calm time."""

    def broken(history: MadeHistory, rng: random.Random) -> list[Event]:
        return [event for event in history.events if not (isinstance(event, kind) and event.at > history.calm_begun)]

    return broken


def duplicate(history: MadeHistory, rng: random.Random) -> list[Event]:
    acked = some_acked(history, rng)
    log = history.logs[KEPT, acked.partition]
    copy = Row(len(log.rows), log.rows[acked.offset].record)
    session = "again"
    return [
        *history.events,
        Opened(history.now(), session, KEPT, acked.partition, copy.offset, "tail"),
        Read(history.now(), session, (copy,)),
    ]


def reorder(history: MadeHistory, rng: random.Random) -> list[Event]:
    log = history.logs[KEPT, 0]
    producer = [row for row in log.rows if row.record.name.startswith("w1/")]
    first, second = sorted(rng.sample(producer, 2))
    swap = {first.offset: second.record, second.offset: first.record}
    events = everywhere(history, (KEPT, 0), lambda row: row._replace(record=swap.get(row.offset, row.record)))
    place = {first.record.name: second.offset, second.record.name: first.offset}
    return [
        replace(event, offset=place[event.name]) if isinstance(event, Acked) and event.name in place else event
        for event in events
    ]


def change(field: str, value: object) -> Break:
    """A record comes back with one thing changed, always."""

    def broken(history: MadeHistory, rng: random.Random) -> list[Event]:
        acked = some_acked(history, rng)

        def changed(row: Row) -> Row:
            new = f"{row.record.value}!" if field == "value" else value
            return row._replace(record=row.record._replace(**{field: new})) if row.offset == acked.offset else row

        return everywhere(history, (KEPT, acked.partition), changed)

    return broken


def change_once(history: MadeHistory, rng: random.Random) -> list[Event]:
    events = list(history.events)
    index, at = rng.choice(rows_read(events, KEPT, "whole"))
    read = events[index]
    assert isinstance(read, Read)
    row = read.rows[at]
    changed = row._replace(record=row.record._replace(timestamp=0))
    events[index] = replace(read, rows=(*read.rows[:at], changed, *read.rows[at + 1 :]))
    return events


def phantom(history: MadeHistory, rng: random.Random) -> list[Event]:
    acked = some_acked(history, rng)
    return everywhere(
        history,
        (KEPT, acked.partition),
        lambda row: row._replace(record=row.record._replace(value="w9/1 v")) if row.offset == acked.offset else row,
    )


def skip(history: MadeHistory, rng: random.Random) -> list[Event]:
    events = list(history.events)
    index, at = rng.choice([(index, at) for index, at in rows_read(events, TRIMMED, "middle") if at > 0])
    read = events[index]
    assert isinstance(read, Read)
    following = [event for event in events[index + 1 :] if isinstance(event, Read) and event.session == read.session]
    cut = at if at < len(read.rows) - 1 or following else at - 1
    events[index] = replace(read, rows=(*read.rows[:cut], *read.rows[cut + 1 :]))
    return events


def send_back(history: MadeHistory, rng: random.Random) -> list[Event]:
    events = list(history.events)
    index, at = rng.choice(rows_read(events, BRIEF))
    read = events[index]
    assert isinstance(read, Read)
    events[index] = replace(read, rows=(*read.rows[: at + 1], *read.rows[at:]))
    return events


def tell_zero(history: MadeHistory, rng: random.Random) -> list[Event]:
    acked = some_acked(history, rng, rng.choice([KEPT, TRIMMED]))
    return [replace(event, offset=0) if event is acked else event for event in history.events]


def one(history: MadeHistory, rng: random.Random, kind: type[Event], where: Callable[[Event], bool]) -> int:
    """The index of one event of this kind."""
    found = [index for index, event in enumerate(history.events) if isinstance(event, kind) and where(event)]
    return rng.choice(found)


def with_one(kind: type[Event], where: Callable[[Event], bool], broken: Callable[[Event], Event]) -> Break:
    """One event of this kind is replaced."""

    def breaks(history: MadeHistory, rng: random.Random) -> list[Event]:
        events = list(history.events)
        index = one(history, rng, kind, where)
        events[index] = broken(events[index])
        return events

    return breaks


def last_bounds(topic: str, **broken: int) -> Break:
    """The last answer about a partition's bounds differs by so much."""

    def breaks(history: MadeHistory, rng: random.Random) -> list[Event]:
        log = history.logs[topic, 1]
        asked = history.now()
        start, end = log.start + broken.get("start", 0), len(log.rows) + broken.get("end", 0)
        return [*history.events, Bounds(history.now(), asked, history.wall_ms(), topic, 1, start, end)]

    return breaks


def delete_young(history: MadeHistory, rng: random.Random) -> list[Event]:
    history.clock += RETENTION_MS / 1000 + 1
    history.send((BRIEF, 0))
    log = history.logs[BRIEF, 0]
    history.read_from((BRIEF, 0), log.start, "tail")
    asked = history.now()
    return [*history.events, Bounds(history.now(), asked, history.wall_ms(), BRIEF, 0, len(log.rows), len(log.rows))]


def rise(history: MadeHistory, rng: random.Random) -> list[Event]:
    log = history.logs[TRIMMED, 0]
    offset = rng.randrange(log.start)
    return [
        *history.events,
        Opened(history.now(), "grave", TRIMMED, 0, offset, "behind"),
        Read(history.now(), "grave", (log.rows[offset],)),
    ]


def refuse(history: MadeHistory, rng: random.Random) -> list[Event]:
    log = history.logs[TRIMMED, 1]
    events = [
        *history.events,
        Opened(history.now(), "refused", TRIMMED, 1, log.start, "start"),
        OutOfRange(history.now(), "refused", log.start),
    ]
    asked = history.now()
    return [*events, Bounds(history.now(), asked, history.wall_ms(), TRIMMED, 1, log.start, len(log.rows))]


def time_question(shift: int) -> Break:
    """The answer to a question by time is beside the right one."""

    def breaks(history: MadeHistory, rng: random.Random) -> list[Event]:
        log = history.logs[KEPT, 0]
        highest = -1
        steps = []
        for row in log.rows[:-1]:
            if row.record.timestamp > highest and row.offset:
                steps.append(row)
            highest = max(highest, row.record.timestamp)
        row = rng.choice(steps)
        asked = history.now()
        told = AtTime(history.now(), asked, KEPT, 0, row.record.timestamp, row.offset + shift)
        history.note(told)
        history.bounds((KEPT, 0))
        return history.events

    return breaks


def forget_commits(history: MadeHistory, rng: random.Random) -> list[Event]:
    asked = history.now()
    told = Fetched(history.now(), asked, "member", "g", KEPT, 0, NOWHERE)
    return [*history.events, told]


def take_an_old_commit(history: MadeHistory, rng: random.Random) -> list[Event]:
    known = history.logs[KEPT, 0].committed
    asked = history.now()
    history.note(Fetched(history.now(), asked, "member", "g", KEPT, 0, known))
    return [*history.events, CommitAsked(history.now(), "old", "g", KEPT, 0, known - 1), Committed(history.now(), "old")]


def resume_elsewhere(history: MadeHistory, rng: random.Random) -> list[Event]:
    committed = history.logs[KEPT, 0].committed
    rows = history.logs[KEPT, 0].rows
    return [
        *history.events,
        Opened(history.now(), "elsewhere", KEPT, 0, committed - 2, "resume", "g"),
        Read(history.now(), "elsewhere", (rows[committed - 1],)),
    ]


BREAKS: list[tuple[str, Kind, Break]] = [
    ("a record is gone", Kind.LOST, lose),
    ("a record is gone and the next ones moved up", Kind.LOST, lose_and_close_the_gap),
    ("the next ones moved up: their places were told otherwise", Kind.WRONG_OFFSET, lose_and_close_the_gap),
    ("a record stands twice", Kind.DUPLICATED, duplicate),
    ("two records changed places", Kind.REORDERED, reorder),
    ("another timestamp", Kind.CHANGED, change("timestamp", 1)),
    ("another key", Kind.CHANGED, change("key", "other")),
    ("another value", Kind.CHANGED, change("value", None)),
    ("other headers", Kind.CHANGED, change("headers", (("n", None),))),
    ("once another record than before", Kind.TWO_RECORDS, change_once),
    ("a record from nowhere", Kind.PHANTOM, phantom),
    ("a reader misses one", Kind.GAP, skip),
    ("a reader gets one twice", Kind.WENT_BACK, send_back),
    ("offset 0 is told", Kind.WRONG_OFFSET, tell_zero),
    ("the end falls", Kind.END_BEHIND, last_bounds(KEPT, end=-1)),
    ("the log start falls", Kind.START_BEHIND, last_bounds(TRIMMED, start=-1)),
    ("the log start moves by itself", Kind.STARTED_LATE, last_bounds(KEPT, start=1)),
    ("the log start moves too far", Kind.STARTED_LATE, last_bounds(TRIMMED, start=1)),
    ("time deletes young records", Kind.STARTED_LATE, delete_young),
    ("a deleted record is read", Kind.RISEN, rise),
    ("the log start is out of range", Kind.OUT_OF_RANGE, refuse),
    ("a timestamp leads too far", Kind.WRONG_TIME, time_question(1)),
    ("a timestamp leads not far enough", Kind.WRONG_TIME, time_question(-1)),
    ("a committed offset is gone", Kind.COMMIT_LOST, forget_commits),
    ("an old commit is taken", Kind.COMMIT_LOST, take_an_old_commit),
    (
        "a committed offset from nowhere", Kind.COMMIT_INVENTED,
        with_one(Fetched, lambda event: event.offset > 0, lambda event: replace(event, offset=event.offset + 100_000)),
    ),
    ("a member resumes elsewhere", Kind.WRONG_RESUME, resume_elsewhere),
    (
        "the last reading ends early", Kind.UNREAD,
        with_one(Whole, lambda event: True, lambda event: replace(event, end=event.end + 1)),
    ),
    (
        "nobody read to the end", Kind.UNREAD,
        with_one(Whole, lambda event: True, lambda event: Trouble(event.at, "reader", "_TIMED_OUT", "no answer")),
    ),
    (
        "a client is told that a record is corrupt", Kind.UNEXPLAINED,
        lambda history, rng: [*history.events, Trouble(history.now(), "reader", "_BAD_MSG", "Local: Bad message format")],
    ),
    (
        "too few replicas, long after the last fault of nodes", Kind.UNEXPLAINED,
        lambda history, rng: [*history.events, Trouble(history.now() + 60, "writer", "NOT_ENOUGH_REPLICAS", "too few")],
    ),
    ("nothing is acknowledged although all is well", Kind.STALLED, stall(Acked)),
    ("nothing is committed although all is well", Kind.STALLED, stall(Committed)),
    ("a record without an offset is lost", Kind.LOST, lose_what_was_acknowledged_without_its_offset),
    (
        "a deletion is forgotten", Kind.START_BEHIND,
        with_one(Deleted, lambda event: True, lambda event: replace(event, at=900.0, before=10**6, low_watermark=10**6)),
    ),
]  # fmt: skip


@pytest.mark.parametrize("seed", SEEDS)
def test_a_good_history_is_without_fault(seed: int) -> None:
    verdict = check(MadeHistory(seed).noted())
    assert verdict.violations == ()
    assert all(verdict.checked[what] > 0 for what in verdict.checked if what != "errors told to clients"), verdict.checked


@pytest.mark.parametrize(("kind", "broken"), [pytest.param(kind, broken, id=name) for name, kind, broken in BREAKS])
def test_one_broken_promise_is_named(kind: Kind, broken: Break) -> None:
    for seed in list(SEEDS)[:6]:
        history = MadeHistory(seed)
        verdict = check(placed(broken(history, random.Random(seed))))
        assert kind in verdict.kinds(), f"seed {seed}: {verdict.kinds()}"


def test_every_kind_of_broken_promise_has_a_test() -> None:
    assert {kind for _, kind, _ in BREAKS} == set(Kind)


def test_a_violation_tells_a_person_where_to_look() -> None:
    history = MadeHistory(1)
    acked = some_acked(history, random.Random(1))
    events = [replace(event, offset=0) if event is acked else event for event in history.events]
    line = next(number for number, event in enumerate(events, start=1) if event.at == acked.at)
    (text,) = {one.text for one in check(placed(events)).violations if acked.name in one.text and "stands" in one.text}
    assert f"{KEPT}/{acked.partition} offset 0" in text and f"offset {acked.offset}" in text
    assert f"made.jsonl:{line}" in text and "s after: running again after kill" in text


def test_events_outlive_their_lines() -> None:
    for noted in MadeHistory(3).noted():
        assert from_line(to_line(noted.event)) == noted.event
