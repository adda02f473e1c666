"""Odd values of every kind of field: the ones that servers easily forget."""

import uuid
from collections.abc import Callable, Iterator
from typing import Any

from differential.messages import INTEGER_BITS, Field
from differential.sides import Side, Values

Mutation = Callable[[Side, Values], Values]
"""Changes the values of a request."""
Path = tuple[str, ...]
"""Names of fields from the outside in; `name[]` is a list of which an element may have to be made."""

LONG_NAME = "n" * 300
NO_SUCH_ID = uuid.UUID(int=0x1234)
# Waiting for as long as the request says shows nothing but patience.
_TIMES = {"TimeoutMs", "timeoutMs", "MaxWaitMs", "RebalanceTimeoutMs"}


def mutations(path: Path, field: Field, version: int) -> Iterator[tuple[str, Mutation]]:
    """Labels and changes of one field."""
    if version in field.nullable:
        yield "null", replaced(path, None)
    elif field.is_array or field.type in ("string", "bytes", "records"):
        yield "null, which it must not be", replaced(path, None)
    if field.is_array:
        yield "[]", replaced(path, [])
        yield "twice", edited(path, lambda value: value * 2 if value else value)
        if not field.fields:
            yield from ((f"[{label}]", replaced(path, [value])) for label, value in _scalars(field))
    elif field.type == "string" or field.type in INTEGER_BITS:
        yield from ((label, replaced(path, value)) for label, value in _scalars(field))
    elif field.type == "bool":
        yield "not", edited(path, lambda value: not value, field.default)
    elif field.type == "uuid":
        yield "zero", replaced(path, uuid.UUID(int=0))
        yield "unknown", replaced(path, NO_SUCH_ID)
        yield "other", lambda side, values: replaced(path, side.topic_id("beta"))(side, values)
    elif field.type in ("bytes", "records"):
        yield "empty", replaced(path, b"")
        yield "garbage", replaced(path, b"\x00\x01garbage")


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


def replaced(path: Path, value: Any) -> Mutation:
    """Puts a value in the place of a field's."""
    return edited(path, lambda _: value)


def edited(path: Path, edit: Callable[[Any], Any], default: Any = None) -> Mutation:
    """Changes one field, in the first element of every list above it."""

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
