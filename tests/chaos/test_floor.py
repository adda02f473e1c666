"""What the checker holds against answers of leaders that were replaced: what they can know, and nothing else."""

from dataclasses import replace

import pytest

from chaos.checker import Kind, check
from chaos.events import NOWHERE, Acked, Bounds, Event, Fault, Fetched, Noted, Place, Read, Sent, Topic
from chaos.floor import Floor, Terms
from chaos.made_history import KEPT, TRIMMED, MadeHistory


def kinds(events: list[Event]) -> set[Kind]:
    """What is broken in these events."""
    return check(Noted(Place("made.jsonl", line), event) for line, event in enumerate(events, start=1)).kinds()


def told(history: MadeHistory, topic: str, epoch: int, *, start: int = 0, end: int = 0) -> Bounds:
    """The bounds as a leader of this epoch tells them; so much beside the right ones."""
    log, asked = history.logs[topic, 1], history.now()
    bounds = (log.start + start, len(log.rows) + end)
    return Bounds(history.now(), asked, history.wall_ms(), topic, 1, *bounds, epoch, epoch)


def in_epoch(history: MadeHistory, epoch: int) -> list[Event]:
    """The events of a history whose records were all appended in one epoch."""
    return [
        replace(event, rows=tuple(row._replace(epoch=epoch) for row in event.rows)) if isinstance(event, Read) else event
        for event in history.events
    ]


def replicated(events: list[Event]) -> list[Event]:
    """The same, of a cluster."""
    return [replace(event, replicas=3) if isinstance(event, Topic) else event for event in events]


def test_a_fact_of_unknown_epoch_counts_as_told_by_the_newest_leader_that_there_can_have_been() -> None:
    terms = Terms()
    assert terms.at_most(1.0) == NOWHERE
    terms.appended(2, 20.0)
    terms.appended(1, 10.0)
    terms.saw(4)
    assert [terms.at_most(at) for at in (5.0, 9.9, 10.0, 19.9, 20.0, 30.0)] == [1, 1, 2, 2, 4, 4]
    floor = Floor(terms)
    floor.know(5.0, 100, "early")
    floor.know(15.0, 200, "in the middle")
    floor.know(25.0, 300, "late")
    floor.know(26.0, 250, "by the first", 1)
    assert floor.before(30.0) == (300, "late")
    assert [floor.before(30.0, epoch)[0] for epoch in (0, 1, 2, 3, 4)] == [NOWHERE, 250, 250, 250, 300]
    assert floor.before(26.0, 1) == (100, "early")
    assert floor.before(5.0, 4) == (NOWHERE, "")


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("topic", "moved", "kind"), [(KEPT, "end", Kind.END_BEHIND), (TRIMMED, "start", Kind.START_BEHIND)])
def test_an_old_leaders_answer_is_held_against_its_own_epoch(topic: str, moved: str, kind: Kind, seed: int) -> None:
    history = MadeHistory(seed)
    before = [*in_epoch(history, 7), told(history, topic, 8, **{moved: 1})]
    assert kind not in kinds([*before, told(history, topic, 7)]), "it was replaced and does not know"
    assert kind in kinds([*before, told(history, topic, 8)])
    assert kind in kinds([*before, told(history, topic, 9)])
    assert kind in kinds([*before, told(history, topic, 7, **{moved: -1})]), "it had told more itself"


@pytest.mark.parametrize("seed", range(6))
def test_a_leader_that_still_took_records_knows_what_was_acknowledged_before(seed: int) -> None:
    history = MadeHistory(seed)
    log = history.logs[KEPT, 1]
    for _ in range(5):
        history.send((KEPT, 1))
    history.whole((KEPT, 1))
    last = next(event.at for event in history.events if isinstance(event, Sent) and event.name == log.rows[-1].record.name)
    acked = [event for event in history.events if isinstance(event, Acked) and (event.topic, event.partition) == (KEPT, 1)]
    known = max(event.offset for event in acked if event.at < last)
    before = [*in_epoch(history, 7), told(history, KEPT, 8)]
    assert kinds([*before, told(history, KEPT, 7, end=known + 1 - len(log.rows))]) == set()
    assert Kind.END_BEHIND in kinds([*before, told(history, KEPT, 7, end=known - len(log.rows))])


def test_a_deleted_record_may_come_from_an_old_leader_only() -> None:
    for epoch, expected in ((7, False), (8, True)):
        history = MadeHistory(2)
        log = history.logs[TRIMMED, 1]
        before = [*in_epoch(history, 7), told(history, TRIMMED, 8, start=1)]
        history.events = []
        history.read_from((TRIMMED, 1), log.start, "behind")
        assert (Kind.RISEN in kinds([*before, *in_epoch(history, epoch)])) == expected


def test_an_old_committed_offset_is_excused_while_there_can_be_an_old_coordinator() -> None:
    history = MadeHistory(1)
    before = list(history.events)
    cut = Fault(history.now(), "isolate", "node 2")
    asked = history.now()
    forgotten = Fetched(history.now(), asked, "member", "g", KEPT, 0, NOWHERE)
    whole = Fault(history.now(), "links are whole")
    history.clock += 10
    asked = history.now()
    later = replace(forgotten, at=history.now(), asked=asked)
    assert kinds(replicated([*before, cut, forgotten, whole])) == set()
    assert kinds([*before, cut, forgotten, whole]) == {Kind.COMMIT_LOST}, "a server alone has no old coordinator"
    assert kinds(replicated([*before, forgotten])) == {Kind.COMMIT_LOST}
    assert kinds(replicated([*before, cut, whole, later])) == {Kind.COMMIT_LOST}
