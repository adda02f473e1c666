"""Every message of the protocol, read from Apache Kafka's own definitions, as plain dictionaries on both sides.

A message is a dictionary from Kafka's field names to values; a missing field has its default. UUIDs are `uuid.UUID`,
byte strings `bytes`, arrays lists, structs dictionaries. Nothing of Firn's own code is used: the
answers of both servers are read by the official tables.
"""

import importlib.util
import struct
import uuid
from dataclasses import dataclass, field
from typing import Any

from harness.batches import unsigned_varint
from harness.paths import JARS, REPO
from harness.wire import header

_FIXED = {
    "bool": ">?",
    "int8": ">b",
    "int16": ">h",
    "uint16": ">H",
    "int32": ">i",
    "uint32": ">I",
    "int64": ">q",
    "float64": ">d",
}
INTEGER_BITS = {"int8": 8, "int16": 16, "int32": 32, "int64": 64}


@dataclass(frozen=True)
class Versions:
    """A range of versions; empty when `low` is above `high`."""

    low: int = 1
    high: int = 0

    @classmethod
    def parse(cls, text: str | None) -> "Versions":
        """From Kafka's notation: `3`, `3+`, `0-4`, `none`."""
        if not text or text == "none":
            return cls()
        if text.endswith("+"):
            return cls(int(text[:-1]), 1 << 15)
        low, _, high = text.partition("-")
        return cls(int(low), int(high or low))

    def __contains__(self, version: int) -> bool:
        return self.low <= version <= self.high


@dataclass(frozen=True)
class Field:
    """One field of a message or a struct."""

    name: str
    type: str
    versions: Versions
    nullable: Versions
    tag: int | None
    tagged: Versions
    default: Any
    entity: str
    is_key: bool
    fields: tuple["Field", ...] = ()

    @property
    def is_array(self) -> bool:
        """Whether it is a list."""
        return self.type.startswith("[]")

    @property
    def element(self) -> str:
        """The type of an element, or its own."""
        return self.type.removeprefix("[]")


@dataclass(frozen=True)
class Message:
    """One request or response."""

    name: str
    api_key: int
    versions: Versions
    flexible: Versions
    fields: tuple[Field, ...] = field(repr=False)


def _default(raw: dict[str, Any], kind: str) -> Any:
    text = raw.get("default")
    if kind.startswith("[]"):
        return None if text == "null" else []
    if text == "null":
        return None
    if kind in _FIXED:
        if kind == "bool":
            return str(text).lower() == "true"
        if kind == "float64":
            return float(text or 0)
        return int(str(text or 0), 0)
    return {"string": str(text or ""), "bytes": b"", "records": None, "uuid": uuid.UUID(int=0)}.get(kind, {})


def _field(raw: dict[str, Any], structs: dict[str, list[dict[str, Any]]]) -> Field:
    kind = raw["type"]
    inner = raw.get("fields") or structs.get(kind.removeprefix("[]"), [])
    return Field(
        name=raw["name"],
        type=kind,
        versions=Versions.parse(raw.get("versions") or raw.get("taggedVersions")),
        nullable=Versions.parse(raw.get("nullableVersions")),
        tag=raw.get("tag"),
        tagged=Versions.parse(raw.get("taggedVersions")),
        default=_default(raw, kind),
        entity=raw.get("entityType", ""),
        is_key=bool(raw.get("mapKey", False)),
        fields=tuple(_field(one, structs) for one in inner),
    )


def load() -> dict[str, Message]:
    """Requests and responses by name."""
    spec = importlib.util.spec_from_file_location("kafka_definitions", REPO / "scripts" / "kafka-definitions.py")
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    messages = {}
    for name, raw in script.load_definitions(JARS, script.pinned_version()).items():
        if raw["type"] in ("request", "response"):
            structs = {one["name"]: one["fields"] for one in raw.get("commonStructs", [])}
            messages[name] = Message(
                name,
                raw["apiKey"],
                Versions.parse(raw["validVersions"]),
                Versions.parse(raw.get("flexibleVersions")),
                tuple(_field(one, structs) for one in raw.get("fields", ())),
            )
    return messages


def _length(count: int, flexible: bool, form: str) -> bytes:
    return unsigned_varint(count + 1) if flexible else struct.pack(form, count)


def _encode_value(kind: str, fields: tuple[Field, ...], value: Any, version: int, flexible: bool) -> bytes:
    if kind.startswith("[]"):
        if value is None:
            return _length(-1, flexible, ">i")
        parts = [_encode_value(kind[2:], fields, one, version, flexible) for one in value]
        return _length(len(value), flexible, ">i") + b"".join(parts)
    if kind in _FIXED:
        return struct.pack(_FIXED[kind], value)
    if kind == "uuid":
        return value.bytes
    if kind in ("string", "bytes", "records"):
        form = ">h" if kind == "string" else ">i"
        if value is None:
            return _length(-1, flexible, form)
        data = value.encode() if isinstance(value, str) else value
        return _length(len(data), flexible, form) + data
    return encode(fields, value, version, flexible)


def encode(fields: tuple[Field, ...], values: dict[str, Any], version: int, flexible: bool) -> bytes:
    """A struct's bytes. Fields that the version does not have are left out."""
    out, tagged = [], {}
    for one in fields:
        if version not in one.versions:
            continue
        value = values.get(one.name, one.default)
        if one.tag is not None and version in one.tagged:
            if value != one.default:
                tagged[one.tag] = _encode_value(one.type, one.fields, value, version, flexible)
            continue
        if one.fields and not one.is_array and version in one.nullable:
            out.append(b"\xff" if value is None else b"\x01")
            if value is None:
                continue
        out.append(_encode_value(one.type, one.fields, value, version, flexible))
    if flexible:
        out.append(unsigned_varint(len(tagged)))
        out += [unsigned_varint(tag) + unsigned_varint(len(data)) + data for tag, data in sorted(tagged.items())]
    return b"".join(out)


def encode_request(message: Message, version: int, values: dict[str, Any], correlation_id: int) -> bytes:
    """Header and body."""
    flexible = version in message.flexible
    head = header(message.api_key, version, correlation_id, flexible=flexible)
    return head + encode(message.fields, values, version, flexible)


class Reader:
    """Reads a response from its bytes."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def take(self, count: int) -> bytes:
        """The next bytes."""
        assert 0 <= count <= len(self._data) - self._at, f"{count} bytes wanted at {self._at} of {len(self._data)}"
        self._at += count
        return self._data[self._at - count : self._at]

    def varint(self) -> int:
        """An unsigned varint."""
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    def _length(self, flexible: bool, form: str) -> int:
        return self.varint() - 1 if flexible else struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def value(self, kind: str, fields: tuple[Field, ...], version: int, flexible: bool) -> Any:
        """A value of this type."""
        if kind.startswith("[]"):
            count = self._length(flexible, ">i")
            return None if count < 0 else [self.value(kind[2:], fields, version, flexible) for _ in range(count)]
        if kind in _FIXED:
            return struct.unpack(_FIXED[kind], self.take(struct.calcsize(_FIXED[kind])))[0]
        if kind == "uuid":
            return uuid.UUID(bytes=self.take(16))
        if kind in ("string", "bytes", "records"):
            count = self._length(flexible, ">h" if kind == "string" else ">i")
            if count < 0:
                return None
            data = self.take(count)
            return data.decode() if kind == "string" else data
        return self.struct(fields, version, flexible)

    def struct(self, fields: tuple[Field, ...], version: int, flexible: bool) -> dict[str, Any]:
        """A struct; every field of the version is in the result."""
        values, tagged = {}, {}
        for one in fields:
            if version not in one.versions:
                continue
            if one.tag is not None and version in one.tagged:
                tagged[one.tag] = one
                values[one.name] = one.default
                continue
            if one.fields and not one.is_array and version in one.nullable and self.take(1) == b"\xff":
                values[one.name] = None
                continue
            values[one.name] = self.value(one.type, one.fields, version, flexible)
        for _ in range(self.varint() if flexible else 0):
            tag, size = self.varint(), self.varint()
            data = Reader(self.take(size))
            one = tagged[tag]
            values[one.name] = data.value(one.type, one.fields, version, flexible)
        return values

    def rest(self) -> int:
        """Bytes that are left."""
        return len(self._data) - self._at


def decode_response(message: Message, version: int, data: bytes) -> tuple[int, dict[str, Any]]:
    """Correlation id and body. The answer to ApiVersions has the oldest header in every version."""
    flexible = version in message.flexible
    reader = Reader(data)
    (correlation_id,) = struct.unpack(">i", reader.take(4))
    if flexible and message.api_key != 18:
        assert reader.varint() == 0, "tagged fields in a response's header"
    values = reader.struct(message.fields, version, flexible)
    assert reader.rest() == 0, f"{reader.rest()} bytes behind {message.name} version {version}"
    return correlation_id, values
