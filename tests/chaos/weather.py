"""When which faults were in force, which errors they explain, and when nothing was broken. Pure.

A fault is noted twice: when it begins, and when it is over and what was ended runs again. It explains errors of its own kind
only, from its beginning until clients have had time to recover from it.
"""

from bisect import bisect_right
from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple

from chaos.events import Fault

RECOVERY_S = 15.0
"""Clients may be told of a fault for that long after it is over: elections, sessions, requests that were under way."""
NOTICED_S = 60.0
"""A client that had no call under way notices the loss of its connection, or an old leader epoch, with its next one."""

SERVERS = frozenset({"server", "nodes", "links"})
"""Tracks by which a client loses its server, or a server the others."""

_LOST_SERVER = (
    # The connection or the server was gone, or did not answer in time.
    "_TRANSPORT", "_ALL_BROKERS_DOWN", "_TIMED_OUT_QUEUE", "_MSG_TIMED_OUT", "_RESOLVE", "_WAIT_COORD", "NETWORK_EXCEPTION",
    "_DESTROY_BROKER", "_FAIL",
    # What librdkafka calls a question for watermarks whose connection broke.
    "_UNKNOWN_PARTITION",
    # A restart or an election begins a new leader epoch, of which the client, or the new leader, does not know yet.
    "FENCED_LEADER_EPOCH", "UNKNOWN_LEADER_EPOCH", "OFFSET_NOT_AVAILABLE", "NOT_LEADER_FOR_PARTITION",
    "LEADER_NOT_AVAILABLE", "BROKER_NOT_AVAILABLE",
)  # fmt: skip
_MOVED_GROUP = (
    # A coordinator that moves or loads, and members that missed their session.
    "COORDINATOR_NOT_AVAILABLE", "NOT_COORDINATOR", "COORDINATOR_LOAD_IN_PROGRESS", "UNKNOWN_MEMBER_ID",
    "ILLEGAL_GENERATION", "_ASSIGNMENT_LOST", "_MAX_POLL_EXCEEDED",
)  # fmt: skip

EXPLAINED: dict[str, frozenset[str]] = {
    **dict.fromkeys(_LOST_SERVER, SERVERS),
    **dict.fromkeys(_MOVED_GROUP, SERVERS | {"clients"}),
    # A question about the archive that its store does not answer in time.
    **dict.fromkeys(("_TIMED_OUT", "REQUEST_TIMED_OUT", "KAFKA_STORAGE_ERROR"), SERVERS | {"store"}),
    # Too few replicas are in sync: only where there are several, never because of the store or of clients.
    **dict.fromkeys(("NOT_ENOUGH_REPLICAS", "NOT_ENOUGH_REPLICAS_AFTER_APPEND"), frozenset({"nodes", "links"})),
}
"""The tracks whose faults explain an error."""

ALWAYS = frozenset({
    # The client knows of no leader yet, or has not finished a call itself, or ends.
    "_NOENT", "_IN_PROGRESS", "_DESTROY", "_STATE",
    # A group that goes on without this member, as it must whenever another one joins.
    "REBALANCE_IN_PROGRESS",
})  # fmt: skip
"""Errors that need no fault."""


class Span(NamedTuple):
    """A fault of a track, from its beginning to its end."""

    track: str
    begun: float
    over: float


class Weather:
    """The faults of a history."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.spans: list[Span] = []
        begun: dict[str, float] = {}
        for fault in sorted((fault for fault in faults if fault.track), key=lambda fault: fault.at):
            if fault.over:
                self.spans.append(Span(fault.track, begun.pop(fault.track, fault.at), fault.at))
            else:
                begun.setdefault(fault.track, fault.at)
        self.spans += [Span(track, at, float("inf")) for track, at in begun.items()]

    def explains(self, error: str, at: float) -> bool:
        """Whether a fault that can cause the error was in force, or over a short while ago."""
        tracks = EXPLAINED.get(error, frozenset())
        lasts_s = NOTICED_S if error in _LOST_SERVER else RECOVERY_S
        return error in ALWAYS or any(
            span.track in tracks and span.begun <= at <= span.over + lasts_s for span in self.spans
        )

    def calms(self, until: float, shortest_s: float) -> list[tuple[float, float]]:
        """The times before `until`, at least that long, in which no fault was in force; each begins with a fault's end."""
        edges = sorted(self.spans, key=lambda span: span.begun)
        calm: list[tuple[float, float]] = []
        covered = edges[0].over if edges else until
        for span in edges[1:]:
            if span.begun > covered:
                calm.append((covered, min(span.begun, until)))
            covered = max(covered, span.over)
        if covered < until:
            calm.append((covered, until))
        return [(begun, over) for begun, over in calm if over - begun >= shortest_s]


def stalls(times: list[float], calms: list[tuple[float, float]], within_s: float) -> list[tuple[float, float]]:
    """The parts of the calm times, longer than `within_s`, in which nothing of this happened. `times` are in order."""
    found = []
    for begun, over in calms:
        inside = times[bisect_right(times, begun) : bisect_right(times, over)]
        found += [(last, next_one) for last, next_one in pairwise([begun, *inside, over]) if next_one - last > within_s]
    return found
