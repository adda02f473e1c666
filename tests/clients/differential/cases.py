"""The requests: every scene in every version, each of its fields made odd, and some that no rule makes."""

import copy
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from differential.messages import INTEGER_BITS, Field, Message
from differential.scenes import scene
from differential.sides import Side, Values

Mutation = Callable[[Side, Values], Values]
Path = tuple[str, ...]

LONG_NAME = "n" * 300
NO_SUCH_ID = uuid.UUID(int=0x1234)
# Waiting for as long as the request says shows nothing but patience.
_TIMES = {"TimeoutMs", "timeoutMs", "MaxWaitMs", "RebalanceTimeoutMs"}

# Kafka deletes and widens its own topics, and with them loses the groups of all requests that follow, and forgets its only
# broker. Nobody answers to acks=0.
_LEFT_OUT = {
    "DeleteTopics TopicNames=[internal]",
    "DeleteTopics Topics.Name=internal",
    "CreatePartitions Topics.Name=internal",
    "UnregisterBroker BrokerId=0",
    "UnregisterBroker BrokerId=1",
    "Produce Acks=0",
}
# What these change, the others would see: they come last, so that one difference is not seen in all that follow.
_CHANGING = (
    "JoinGroup", "SyncGroup", "Heartbeat", "LeaveGroup", "DeleteGroups", "OffsetCommit", "OffsetDelete", "DeleteRecords",
    "Produce", "AlterConfigs", "IncrementalAlterConfigs", "AlterPartitionReassignments", "CreatePartitions", "DeleteTopics",
    "CreateTopics",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One request to either side."""

    name: str
    api: str
    version: int
    build: Callable[[Side], Values]


def all_cases(messages: dict[str, Message], announced: dict[str, tuple[int, int]]) -> list[Case]:
    """Every request, in an order that never changes."""
    place = {api: number for number, api in enumerate(_CHANGING, 1)}
    return sorted(_cases(messages, announced), key=lambda case: place.get(case.api, 0))


def _cases(messages: dict[str, Message], announced: dict[str, tuple[int, int]]) -> Iterator[Case]:
    from differential.extras import extras

    for api, (low, high) in announced.items():
        for version in range(low, high + 1):
            yield _case(api, version, "", lambda side, values: values)
        request = messages[f"{api}Request"]
        for version, path, field in _fields(request.fields, low, high):
            for label, mutation in _mutations(path, field, version):
                changed = f"{'.'.join(path).replace('[]', '')}={label}"
                if f"{api} {changed}" not in _LEFT_OUT:
                    yield _case(api, version, changed, mutation)
    for api, version, label, mutation in extras():
        low, high = announced[api]
        yield _case(api, high if version is None else version, label, mutation)


def _case(api: str, version: int, label: str, mutation: Mutation) -> Case:
    make = scene(api)

    def build(side: Side) -> Values:
        return mutation(side, copy.deepcopy(make(side, version)))

    return Case(f"{api} v{version} {label}".rstrip(), api, version, build)


def _fields(fields: tuple[Field, ...], low: int, high: int, above: Path = ()) -> Iterator[tuple[int, Path, Field]]:
    """Every field, with the newest version that has it."""
    for field in fields:
        newest = min(high, field.versions.high)
        if newest < max(low, field.versions.low):
            continue
        yield newest, (*above, field.name), field
        yield from _fields(field.fields, low, newest, (*above, field.name + "[]" * field.is_array))


def _mutations(path: Path, field: Field, version: int) -> Iterator[tuple[str, Mutation]]:
    if version in field.nullable:
        yield "null", _set(path, None)
    if field.is_array:
        yield "[]", _set(path, [])
        yield "twice", _edit(path, lambda value: value * 2 if value else value)
        if not field.fields:
            yield from ((f"[{label}]", _set(path, [value])) for label, value in _scalars(field))
    elif field.type == "string" or field.type in INTEGER_BITS:
        yield from ((label, _set(path, value)) for label, value in _scalars(field))
    elif field.type == "bool":
        yield "not", _edit(path, lambda value: not value, field.default)
    elif field.type == "uuid":
        yield "zero", _set(path, uuid.UUID(int=0))
        yield "unknown", _set(path, NO_SUCH_ID)
        yield "other", lambda side, values: _set(path, side.topic_id("beta"))(side, values)
    elif field.type in ("bytes", "records"):
        yield "empty", _set(path, b"")
        yield "garbage", _set(path, b"\x00\x01garbage")


def _scalars(field: Field) -> Iterator[tuple[str, Any]]:
    if field.element == "string":
        yield from _strings(field)
    elif field.element in INTEGER_BITS:
        yield from ((str(value), value) for value in _integers(field))


def _strings(field: Field) -> Iterator[tuple[str, str]]:
    yield "empty", ""
    yield "unknown", "no-such"
    yield "long", LONG_NAME
    if field.entity == "topicName":
        yield "illegal", "bad name!"
        yield "internal", "__consumer_offsets"
        yield "dots", ".."
        yield "metadata", "__cluster_metadata"


def _integers(field: Field) -> Iterator[int]:
    limit = 1 << (INTEGER_BITS[field.element] - 1)
    yield from (-1, 0) if field.name in _TIMES else (-limit, -3, -2, -1, 0, 1, 7, limit - 1)


def _set(path: Path, value: Any) -> Mutation:
    return _edit(path, lambda _: value)


def _edit(path: Path, edit: Callable[[Any], Any], default: Any = None) -> Mutation:
    """Changes one field, in the first element of every array above it (`name[]`: one that may have to be made)."""

    def mutate(side: Side, values: Values) -> Values:
        here: Any = values
        for step in path[:-1]:
            name = step.removesuffix("[]")
            if not here.get(name):
                here[name] = [{}] if step != name else {}
            here = here[name][0] if isinstance(here[name], list) else here[name]
        here[path[-1]] = edit(here.get(path[-1], default))
        return values

    return mutate
