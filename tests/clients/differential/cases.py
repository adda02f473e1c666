"""The requests: every scene in every version, each of its fields made odd, and some that no rule makes."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from differential.extras import extras
from differential.messages import Field, Message
from differential.mutations import Mutation, Path, mutations
from differential.scenes import scene
from differential.sides import Side, Values

# Kafka deletes and widens its own topics, and with them loses the groups of all requests that follow, and forgets its only
# broker. Neither server answers acks=0, and Kafka does not answer the last two.
_LEFT_OUT = {
    "DeleteTopics TopicNames=[internal]",
    "DeleteTopics Topics.Name=internal",
    "CreatePartitions Topics.Name=internal",
    "UnregisterBroker BrokerId=0",
    "UnregisterBroker BrokerId=1",
    "Produce Acks=0",
    "Produce TopicData.PartitionData.Records=null",
    "AlterConfigs Resources=twice",
}
# These change what the others see: they come last, so that one difference is not seen in all that follow.
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
    for api, (low, high) in announced.items():
        for version in range(low, high + 1):
            yield _case(api, version, "", lambda side, values: values)
        request = messages[f"{api}Request"]
        for version, path, field in _fields(request.fields, low, high):
            for label, mutation in mutations(path, field, version):
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
