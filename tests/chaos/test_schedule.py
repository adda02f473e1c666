"""A seed is a schedule."""

from itertools import pairwise

from chaos.schedule import CALM_EVERY_S, CALM_S, TRACKS, Step, plan

ALL = [track.name for track in TRACKS]


def planned(seed: int, duration_s: float) -> list[Step]:
    """All tracks."""
    return plan(seed, duration_s, ALL)


def test_a_seed_repeats_its_schedule() -> None:
    assert planned(7, 300) == planned(7, 300) != planned(8, 300)


def test_a_longer_run_begins_as_a_shorter_one() -> None:
    short, long = planned(7, 60), planned(7, 600)
    for track in TRACKS:
        begun = [step for step in short if step.track == track.name]
        assert begun == [step for step in long if step.track == track.name][: len(begun)]


def test_every_fault_is_drawn_and_none_outlives_the_run() -> None:
    steps = planned(1, 3600)
    assert {step.fault for step in steps} == {kind.name for track in TRACKS for kind in track.kinds}
    assert all(0 < step.at_s <= step.ends_s <= 3600 for step in steps)
    for track in TRACKS:
        own = [step for step in steps if step.track == track.name]
        assert all(first.ends_s < second.at_s for first, second in pairwise(own))


def test_a_track_is_the_same_beside_any_others() -> None:
    assert plan(3, 300, ["store"]) == [step for step in planned(3, 300) if step.track == "store"]


def test_there_are_calm_times_without_a_fault() -> None:
    for step in planned(5, 1800):
        calm_over_s = (step.at_s // CALM_EVERY_S + 1) * CALM_EVERY_S
        assert step.ends_s <= calm_over_s - CALM_S, step
