"""The judge of a history: which promise was broken, where, and who saw it. Pure: events in, a verdict out.

One function for one promise. Each takes what is known for certain (an answer that had come before a question was asked)
and never what is merely likely, so a violation is a proof and not a suspicion.

A leader that is cut off from the others goes on answering readers, until it learns that it was replaced (as in Kafka). Its
answers about the log start and the end carry its leader epoch, by which clients recognise them as old (KIP-320): an answer
is held against what leaders up to its own epoch had told before, and an acknowledgement or a read counts as told by the
newest leader that there can have been (`floor.py`). Answers that carry no epoch (committed offsets, offsets by time, a
refusal as out of range) are only excused while there can be an old leader: while links are cut or a process is paused.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum

from chaos.events import NOWHERE, Acked, Noted, Record, Topic
from chaos.evidence import Evidence, Part, Partition
from chaos.weather import stalls

CLOCK_SLACK_MS = 50
"""How much the broker's time of day may differ from the clients', which ask the same machine."""

ASKED_BEFORE_S = 6.0
"""A member asks for its committed offsets before it begins to read, and waits so long at most."""

CALM_S = 10.0
"""In so much time without a fault every partition acknowledges something, and every group commits something."""


class Kind(Enum):
    """A broken promise."""

    LOST = "an acknowledged record is missing"
    DUPLICATED = "a record stands at two offsets"
    REORDERED = "a producer's records stand in another order"
    CHANGED = "a record is not what was sent"
    PHANTOM = "a record that nobody sent"
    TWO_RECORDS = "an offset held two records"
    GAP = "a reader skipped offsets"
    WENT_BACK = "a reader was sent back"
    WRONG_OFFSET = "an answer to a producer named a wrong offset"
    END_BEHIND = "the end of the log went back"
    START_BEHIND = "the log start went back"
    STARTED_LATE = "the log start passed records that had to stay"
    RISEN = "a deleted record was read"
    OUT_OF_RANGE = "an offset in range was refused"
    WRONG_TIME = "a wrong offset for a timestamp"
    COMMIT_LOST = "a committed offset was lost or went back"
    COMMIT_INVENTED = "a committed offset that nobody committed"
    WRONG_RESUME = "a member did not resume at the committed offset"
    UNREAD = "the last reading is not whole"
    UNEXPLAINED = "an error that no fault explains"
    STALLED = "no progress although nothing was broken"


@dataclass(frozen=True)
class Violation:
    """One broken promise, in words, and when it was seen."""

    kind: Kind
    text: str
    at: float


@dataclass(frozen=True)
class Verdict:
    """The outcome: nothing is broken if there are no violations. `checked` counts what was looked at."""

    violations: tuple[Violation, ...]
    checked: dict[str, int]

    def kinds(self) -> set[Kind]:
        """What kinds of promises were broken."""
        return {violation.kind for violation in self.violations}


def check(history: Iterable[Noted]) -> Verdict:
    """Judges a whole history."""
    evidence = Evidence(history)
    found: list[Violation] = []
    for judge in (_sights, _places, _acknowledged, _order, _sessions, _whole, _ends, _starts, _risen, _refused, _times,
                  _commits, _troubles, _progress):  # fmt: skip
        found += judge(evidence)
    found.sort(key=lambda violation: violation.at)
    told = tuple(Violation(one.kind, f"{one.text}{_weather(evidence, one.at)}", one.at) for one in found)
    return Verdict(told, _checked(evidence))


def _weather(evidence: Evidence, at: float) -> str:
    past = [fault for fault in evidence.faults if fault.at <= at]
    if not past:
        return ""
    last = past[-1]
    return f"; {at - last.at:.1f} s after: {last.fault}{' ' if last.detail else ''}{last.detail}"


def _checked(evidence: Evidence) -> dict[str, int]:
    counts = evidence.counts
    commits = sum(len(register.done) for register in evidence.registers.values())
    return {
        "records sent": len(evidence.sent),
        "records acknowledged": len(evidence.acked),
        "records of unknown outcome": len(evidence.sent) - len(evidence.acked),
        "rows read": counts["rows"],
        "offsets seen": sum(len(part.sights) for part in evidence.parts.values()),
        "readings": len(evidence.sessions),
        "readings in groups": sum(bool(session.opened.group) for session in evidence.sessions.values()),
        "lives of topics": counts["Life"],
        "log starts and ends asked": counts["Bounds"],
        "offsets asked by time": counts["AtTime"],
        "answers out of range": counts["OutOfRange"],
        "deletions of records": counts["Deleted"],
        "commits acknowledged": commits,
        "committed offsets asked": counts["Fetched"],
        "errors told to clients": counts["Trouble"],
        "calm times": len(evidence.calms(CALM_S)),
    }


def _at(part: Part, offset: int) -> str:
    return f"{part[0]}/{part[1]} offset {offset}"


def _sights(evidence: Evidence) -> Iterator[Violation]:
    """What was read is what was sent, there, and stays so."""
    for where, part in evidence.parts.items():
        for stray in part.changed:
            first = part.sights[stray.offset]
            yield Violation(
                Kind.TWO_RECORDS,
                f"{_at(where, stray.offset)}: {first.session} read {_told(first.record)} ({first.place}), "
                f"later {stray.session} read {_told(stray.record)} ({stray.place})",
                stray.at,
            )
        for offset, sight in part.sights.items():
            read = f"{_at(where, offset)}: {sight.session} read {_told(sight.record)} ({sight.place})"
            if sight.record.name not in evidence.sent:
                yield Violation(Kind.PHANTOM, f"{read}, which nobody sent", sight.at)
                continue
            sent, place = evidence.sent[sight.record.name]
            if sent.record != sight.record or (sent.topic, sent.partition) != where:
                wrote = f"{_told(sent.record)} to {sent.topic}/{sent.partition}"
                yield Violation(Kind.CHANGED, f"{read}, but {sent.producer} sent {wrote} ({place})", sight.at)


def _told(record: Record) -> str:
    value = record.value or ""
    shown = value if len(value) <= 40 else f"{value[:40]}…"
    return f"({record.timestamp}, key {record.key!r}, value {shown!r}, headers {list(record.headers)!r})"


def _places(evidence: Evidence) -> Iterator[Violation]:
    """No record stands twice."""
    seen: dict[str, tuple[Part, int]] = {}
    for where, part in evidence.parts.items():
        for offset, sight in part.sights.items():
            name = sight.record.name
            if name in seen and name in evidence.sent:
                other, there = seen[name]
                first = evidence.parts[other].sights[there]
                yield Violation(
                    Kind.DUPLICATED,
                    f"{name} ({evidence.sent[name][1]}) stands at {_at(other, there)} ({first.place}) "
                    f"and at {_at(where, offset)} ({sight.place})",
                    sight.at,
                )
            seen.setdefault(name, (where, offset))


def _acknowledged(evidence: Evidence) -> Iterator[Violation]:
    """Every acknowledged record is where the answer said."""
    stands = {
        sight.record.name: (where, offset) for where, part in evidence.parts.items() for offset, sight in part.sights.items()
    }
    for where, part in evidence.parts.items():
        for event, place in part.acked_again:
            first, its_place = part.acked[event.offset]
            text = f"{_at(where, event.offset)} was told for {first.name} ({its_place}) and for {event.name} ({place})"
            yield Violation(Kind.WRONG_OFFSET, text, event.at)
    for name, (event, place) in evidence.acked.items():
        told = f"{name} was acknowledged at {_at((event.topic, event.partition), event.offset)} ({place})"
        found = stands.get(name)
        if found is None:
            yield from _missing(evidence, event, told)
        elif event.offset >= 0 and found != ((event.topic, event.partition), event.offset):
            sight = evidence.parts[found[0]].sights[found[1]]
            text = f"{told}, but stands at {_at(*found)} ({sight.place})"
            yield Violation(Kind.WRONG_OFFSET, text, event.at)


def _missing(evidence: Evidence, event: Acked, told: str) -> Iterator[Violation]:
    """An acknowledged record that nobody ever read: deleted before anybody could, or lost."""
    part = evidence.part(event.topic, event.partition)
    other = part.sights.get(event.offset)
    if other is not None:
        text = f"{told}, but there {other.session} read {_told(other.record)} ({other.place})"
        yield Violation(Kind.LOST, text, event.at)
        return
    # An answer without an offset is one for a repeated batch: the record stands behind what its producer had sent before.
    least = event.offset if event.offset >= 0 else evidence.last_before(event) + 1
    for whole, place in part.whole:
        if least >= whole.start:
            text = f"{told}, but the last reading of [{whole.start}, {whole.end}) does not have it ({place})"
            yield Violation(Kind.LOST, text, event.at)


def _order(evidence: Evidence) -> Iterator[Violation]:
    """A producer's records stand in the order in which it sent them."""
    for where, part in evidence.parts.items():
        last: dict[str, tuple[int, int]] = {}
        for offset in sorted(part.sights):
            sight = part.sights[offset]
            known = evidence.sent.get(sight.record.name)
            if known is None:
                continue
            sent = known[0]
            number, there = last.get(sent.producer, (-1, -1))
            if sent.number < number:
                earlier = part.sights[there]
                yield Violation(
                    Kind.REORDERED,
                    f"{_at(where, offset)} holds {sent.name} ({sight.place}), after {sent.producer}/{number} "
                    f"at offset {there} ({earlier.place})",
                    sight.at,
                )
            last[sent.producer] = (sent.number, offset)


def _sessions(evidence: Evidence) -> Iterator[Violation]:
    """A reader gets the offset that it asked for, and then every next one."""
    for session, stray in evidence.strays:
        opened = session.opened
        where = (opened.topic, opened.partition)
        who = f"{opened.session} ({opened.why}, opened at {opened.offset}, {session.place})"
        text = f"{_at(where, stray.expected)}: {who} was given {stray.offset} instead ({stray.place})"
        if opened.group and session.first == stray.offset and stray.expected == opened.offset:
            # The member had asked, and its client asked again: one of both may have met an old coordinator.
            if evidence.may_be_old(opened.at - ASKED_BEFORE_S, stray.at):
                continue
            yield Violation(Kind.WRONG_RESUME, f"group {opened.group}, {text}", stray.at)
        else:
            yield Violation(Kind.GAP if stray.offset > stray.expected else Kind.WENT_BACK, text, stray.at)
    for session in evidence.sessions.values():
        opened = session.opened
        if opened.group and opened.offset == NOWHERE and session.rows:
            # The member could not ask where it would resume; what it read first tells.
            known, why = evidence.register(opened.group, opened.topic, opened.partition).floor.before(opened.at)
            if session.first < known and not evidence.may_be_old(opened.at - ASKED_BEFORE_S, opened.at):
                text = f"group {opened.group}, {opened.session} ({session.place}) resumed at {session.first}, though {why}"
                yield Violation(Kind.WRONG_RESUME, text, opened.at)


def _whole(evidence: Evidence) -> Iterator[Violation]:
    """The last reading of every partition has everything from the log start to the end."""
    for topic in evidence.topics.values():
        for partition in range(topic.partitions):
            where = (topic.topic, partition)
            wholes = evidence.part(*where).whole
            if not wholes:
                yield Violation(Kind.UNREAD, f"{topic.topic}/{partition} was not read to its end", float("inf"))
            for event, place in wholes:
                session = evidence.sessions[event.session]
                reached = session.next if session.rows else event.start
                begun = session.first if session.rows else event.start
                if (begun, reached) != (event.start, event.end):
                    text = f"{_at(where, event.start)}..{event.end}: only [{begun}, {reached}) was read ({place})"
                    yield Violation(Kind.UNREAD, text, event.at)


def _ends(evidence: Evidence) -> Iterator[Violation]:
    """The high watermark never falls, and never lies below what was acknowledged or read."""
    for where, part in evidence.parts.items():
        for event, place in part.bounds:
            known, why = part.end.before(event.asked, event.end_epoch)
            if event.end < known:
                text = f"{where[0]}/{where[1]}: the end was told as {event.end} ({place}), though {why}"
                yield Violation(Kind.END_BEHIND, text, event.at)


def _starts(evidence: Evidence) -> Iterator[Violation]:
    """The log start never falls, follows DeleteRecords, and moves for no other reason than that and the retention time."""
    for where, part in evidence.parts.items():
        topic = evidence.topics.get(where[0])
        for event, place in sorted(part.bounds, key=lambda noted: noted[0].asked):
            known, why = part.start.before(event.asked, event.start_epoch)
            told = f"{where[0]}/{where[1]}: the log start was told as {event.start} ({place})"
            if event.start < known:
                yield Violation(Kind.START_BEHIND, f"{told}, though {why}", event.at)
            allowed = max((delete.before for delete in part.deletes if delete.at < event.at), default=0)
            if topic is not None and not topic.retention_ms and event.start > allowed:
                asked = f"nobody asked to delete more than the records before {allowed}"
                yield Violation(Kind.STARTED_LATE, f"{told}, but {asked}", event.at)
        if topic is not None and topic.retention_ms:
            yield from _young(evidence, where, part, topic)


def _young(evidence: Evidence, where: Part, part: Partition, topic: Topic) -> Iterator[Violation]:
    """Time deletes only what is old enough."""
    done = 0
    for event, place in sorted(part.bounds, key=lambda noted: noted[0].at):
        limit = event.wall_ms - topic.retention_ms + CLOCK_SLACK_MS
        for offset in range(done, event.start):
            record = _record_at(evidence, part, offset)
            if record is not None and record.timestamp > limit:
                text = f"{_at(where, offset)}: {_told(record)} was deleted {record.timestamp - limit} ms early ({place})"
                yield Violation(Kind.STARTED_LATE, text, event.at)
        done = max(done, event.start)


def _record_at(evidence: Evidence, part: Partition, offset: int) -> Record | None:
    if offset in part.sights:
        return part.sights[offset].record
    if offset in part.acked:
        known = evidence.sent.get(part.acked[offset][0].name)
        return known[0].record if known else None
    return None


def _risen(evidence: Evidence) -> Iterator[Violation]:
    """What was deleted before a reading began is not in it."""
    for session in evidence.sessions.values():
        start, why = evidence.part_of(session).start.before(session.opened.at, session.lowest_epoch)
        if session.rows and session.lowest < start:
            opened = session.opened
            where = _at((opened.topic, opened.partition), session.lowest)
            yield Violation(Kind.RISEN, f"{where} was read by {opened.session} ({session.place}), though {why}", opened.at)


def _refused(evidence: Evidence) -> Iterator[Violation]:
    """Only what is below the log start is out of range; readers here never ask beyond the end."""
    for where, part in evidence.parts.items():
        bounds = sorted(part.bounds, key=lambda noted: noted[0].asked)
        for event, place in part.out_of_range:
            if evidence.may_be_old(evidence.sessions[event.session].opened.at, event.at):
                continue
            # Told by the leader that refused, or by a newer one.
            epoch = part.terms.at_most(event.at)
            later = next((noted for noted in bounds if noted[0].asked > event.at and noted[0].start_epoch >= epoch), None)
            if later is not None and later[0].start <= event.offset:
                text = f"{_at(where, event.offset)} was out of range for {event.session} ({place})"
                yield Violation(Kind.OUT_OF_RANGE, f"{text}, but the log began at {later[0].start} ({later[1]})", event.at)


def _times(evidence: Evidence) -> Iterator[Violation]:
    """A timestamp leads to the first record that is not older."""
    for where, part in evidence.parts.items():
        if not part.times:
            continue
        length = 1 + max([*part.sights, *part.acked], default=-1)
        records = [_record_at(evidence, part, offset) for offset in range(length)]
        stamps = [-1 if record is None else record.timestamp for record in records]
        bounds = sorted(part.bounds, key=lambda noted: noted[0].asked)
        for event, place in part.times:
            if evidence.may_be_old(event.asked, event.at):
                continue
            told = f"{where[0]}/{where[1]} at time {event.timestamp}: the answer was offset {event.offset} ({place})"
            lowest = part.start.before(event.asked)[0]
            begun = next((noted[0].start for noted in bounds if noted[0].asked > event.at), length)
            if event.offset != NOWHERE and event.offset < lowest:
                yield Violation(Kind.WRONG_TIME, f"{told}, below the log start {lowest}", event.at)
            elif event.offset != NOWHERE and -1 < _stamp(stamps, event.offset) < event.timestamp:
                yield Violation(Kind.WRONG_TIME, f"{told}, whose record is of {stamps[event.offset]}", event.at)
            known = part.end.before(event.asked)[0] if event.offset == NOWHERE else event.offset
            earlier = next((at for at in range(begun, min(known, length)) if stamps[at] >= event.timestamp), None)
            if earlier is not None:
                yield Violation(Kind.WRONG_TIME, f"{told}, but offset {earlier} is of {stamps[earlier]}", event.at)


def _stamp(stamps: list[int], offset: int) -> int:
    return stamps[offset] if offset < len(stamps) else -1


def _commits(evidence: Evidence) -> Iterator[Violation]:
    """A committed offset is never lost, never goes back, and is one that somebody committed."""
    for (group, topic, partition), register in evidence.registers.items():
        where = f"group {group}, {topic}/{partition}"
        first_asked: dict[int, float] = {}
        for asked, _ in register.asked.values():
            first_asked[asked.offset] = min(asked.at, first_asked.get(asked.offset, asked.at))
        for fetched, place in register.fetched:
            told = f"{where}: {fetched.who} was told {fetched.offset} ({place})"
            known, why = register.floor.before(fetched.asked)
            if fetched.offset < known and not evidence.may_be_old(fetched.asked, fetched.at):
                yield Violation(Kind.COMMIT_LOST, f"{told}, though {why}", fetched.at)
            if fetched.offset != NOWHERE and first_asked.get(fetched.offset, fetched.at) >= fetched.at:
                yield Violation(Kind.COMMIT_INVENTED, f"{told}, which nobody had committed", fetched.at)
        for done, place in register.done:
            asked = register.asked[done.commit][0]
            known, why = register.floor.before(asked.at)
            if asked.offset < known:
                text = f"{where}: commit {done.commit} of {asked.offset} was taken ({place}), though {why}"
                yield Violation(Kind.COMMIT_LOST, text, done.at)


def _troubles(evidence: Evidence) -> Iterator[Violation]:
    """Clients are told only what the faults explain."""
    seen: Counter[tuple[str, str]] = Counter()
    for event, place in evidence.troubles:
        if not evidence.weather.explains(event.error, event.at):
            seen[event.who, event.error] += 1
            if seen[event.who, event.error] > 1:
                continue
            yield Violation(Kind.UNEXPLAINED, f"{event.who} was told {event.error}: {event.text} ({place})", event.at)


def _progress(evidence: Evidence) -> Iterator[Violation]:
    """Whenever no fault is in force, writers are acknowledged in every partition, and groups commit."""
    calms = evidence.calms(CALM_S)
    acked: dict[str, list[float]] = {
        f"{topic.topic}/{partition} acknowledged nothing": []
        for topic in evidence.topics.values() for partition in range(topic.partitions)
    }  # fmt: skip
    for event, _ in evidence.acked.values():
        acked[f"{event.topic}/{event.partition} acknowledged nothing"].append(event.at)
    commits: dict[str, list[float]] = {}
    for (group, _, _), register in evidence.registers.items():
        commits.setdefault(f"group {group} committed nothing", []).extend(done.at for done, _ in register.done)
    for what, times in {**acked, **commits}.items():
        for begun, over in stalls(sorted(times), calms, CALM_S - 1):
            yield Violation(Kind.STALLED, f"{what} for {over - begun:.1f} s", over)
