"""Which errors which faults explain, and when it is calm."""

from chaos.events import Fault
from chaos.weather import RECOVERY_S, Weather, stalls


def fault(track: str, begun: float, over: float) -> list[Fault]:
    """A fault as a run notes it."""
    return [Fault(begun, "harm", "", track), Fault(over, "healed", "", track, over=True)]


def test_a_fault_explains_errors_of_its_kind_in_its_time() -> None:
    weather = Weather([*fault("store", 10, 12), *fault("clients", 30, 31)])
    assert weather.explains("KAFKA_STORAGE_ERROR", 11)
    assert weather.explains("KAFKA_STORAGE_ERROR", 12 + RECOVERY_S)
    assert not weather.explains("KAFKA_STORAGE_ERROR", 9)
    assert not weather.explains("KAFKA_STORAGE_ERROR", 31)
    assert weather.explains("UNKNOWN_MEMBER_ID", 31)
    assert not weather.explains("NOT_ENOUGH_REPLICAS", 11)
    assert not weather.explains("NOT_ENOUGH_REPLICAS", 31)
    assert not weather.explains("_BAD_MSG", 11)
    assert weather.explains("REBALANCE_IN_PROGRESS", 1000)


def test_replicas_are_missing_only_when_nodes_or_links_are() -> None:
    assert Weather(fault("links", 10, 12)).explains("NOT_ENOUGH_REPLICAS", 11)
    assert not Weather(fault("server", 10, 12)).explains("NOT_ENOUGH_REPLICAS", 11)


def test_calm_is_between_the_faults_of_all_tracks() -> None:
    weather = Weather([*fault("nodes", 0, 10), *fault("links", 8, 30), *fault("nodes", 45, 46), *fault("store", 50, 99)])
    assert weather.calms(200, 10) == [(30, 45), (99, 200)]
    assert weather.calms(40, 10) == [(30, 40)]


def test_a_fault_that_never_ends_leaves_no_calm() -> None:
    assert Weather([*fault("nodes", 0, 1), Fault(5, "kill", "", "nodes")]).calms(100, 10) == []


def test_a_stall_is_a_calm_time_in_which_nothing_happened() -> None:
    assert stalls([1, 12, 14, 19, 40], [(10, 20), (30, 50)], 5) == [(30, 40), (40, 50)]
