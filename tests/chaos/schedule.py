"""What is done to the servers, their links, their store and their clients, and when; a seed repeats it. Pure."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

FIRST_S = 2.0
"""Clients get this long before the first fault."""
CALM_EVERY_S = 50.0
CALM_S = 14.0
"""So long before each multiple of CALM_EVERY_S there is no fault: then the clients have to come forward."""


@dataclass(frozen=True)
class Kind:
    """A fault: how often it is drawn against its neighbours, and for how long it lasts."""

    name: str
    weight: int
    shortest_s: float = 0.0
    longest_s: float = 0.0


@dataclass(frozen=True)
class Step:
    """One fault at its time, in seconds from the start."""

    at_s: float
    track: str
    fault: str
    lasts_s: float

    @property
    def ends_s(self) -> float:
        """When it is over."""
        return self.at_s + self.lasts_s


@dataclass(frozen=True)
class Track:
    """Faults of which one happens at a time, with pauses between."""

    name: str
    kinds: tuple[Kind, ...]
    shortest_pause_s: float
    longest_pause_s: float


DISK_KINDS = (
    Kind("power cut", 4, 0.0, 0.5),
    Kind("syncs fail", 2, 0.5, 3.0),
    Kind("disk full", 2, 0.5, 4.0),
    Kind("syncs late", 3, 1.0, 5.0),
)
"""Faults of the device below a node. A machine that cannot mount one has SIGKILL instead."""

TRACKS = (
    Track(
        "nodes",
        (
            Kind("kill", 6, 0.0, 2.0),
            Kind("kill twice", 2, 0.0, 0.3),
            Kind("kill all", 1, 0.0, 0.5),
            Kind("terminate", 3, 0.0, 1.0),
            Kind("pause", 3, 0.3, 6.0),
            Kind("lose a disk", 2, 0.0, 1.0),
            *DISK_KINDS,
        ),
        2.0,
        8.0,
    ),
    Track(
        "links",
        (
            Kind("isolate", 3, 0.5, 7.0),
            Kind("cut one way", 3, 0.5, 7.0),
            Kind("cut both ways", 3, 0.5, 7.0),
            Kind("lose packets", 2, 1.0, 6.0),
        ),
        2.0,
        10.0,
    ),
    Track(
        "server",
        (
            Kind("kill", 6, 0.0, 0.5),
            Kind("kill twice", 2, 0.0, 0.3),
            Kind("terminate", 3, 0.0, 0.5),
            Kind("pause", 3, 0.3, 4.0),
            *DISK_KINDS,
        ),
        1.5,
        7.0,
    ),
    Track(
        "store",
        (
            Kind("refuse", 3, 0.5, 5.0),
            Kind("unavailable", 3, 0.5, 5.0),
            Kind("every second unavailable", 3, 1.0, 6.0),
            Kind("hang", 2, 0.5, 3.0),
            Kind("slow", 2, 1.0, 5.0),
            Kind("error after the write", 4, 1.0, 6.0),
            Kind("lost answers", 4, 1.0, 6.0),
            Kind("short reads", 2, 1.0, 5.0),
            Kind("wrong bytes", 2, 1.0, 5.0),
        ),
        1.0,
        8.0,
    ),
    Track(
        "clients",
        (
            Kind("kill a member", 4),
            Kind("pause a member", 3, 3.5, 6.0),
            Kind("kill a writer", 2),
        ),
        2.0,
        9.0,
    ),
)


def plan(seed: int, duration_s: float, tracks: Sequence[str]) -> list[Step]:
    """The faults of these tracks in order of time. A longer run begins as a shorter one with the same seed."""
    steps = []
    for track in (track for track in TRACKS if track.name in tracks):
        rng = random.Random(f"{seed} {track.name}")
        weights = [kind.weight for kind in track.kinds]
        at_s = FIRST_S
        while True:
            at_s += rng.uniform(track.shortest_pause_s, track.longest_pause_s)
            (kind,) = rng.choices(track.kinds, weights)
            step = Step(round(at_s, 3), track.name, kind.name, round(rng.uniform(kind.shortest_s, kind.longest_s), 3))
            if step.ends_s > duration_s:
                break
            calm_over_s = (at_s // CALM_EVERY_S + 1) * CALM_EVERY_S
            if step.ends_s > calm_over_s - CALM_S:
                at_s = calm_over_s
                continue
            steps.append(step)
            at_s = step.ends_s
    return sorted(steps, key=lambda step: step.at_s)
