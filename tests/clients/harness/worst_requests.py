"""The worst requests of an API, made from the protocol's own tables: one item many times, many items, the largest items.

Nothing here knows an API: fields are filled by their names, so an API that is announced later is covered as well.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from harness.batches import unsigned_varint
from harness.wire import CLIENT_ID

SCHEMAS = Path(__file__).parents[3] / "protocol" / "schemas"
LONGEST_STRING = 32_767


@dataclass
class Field:
    """A field of a message."""

    name: str
    kind: str
    versions: range
    nullable: range
    tagged: bool
    flexible: range | None
    default: str | None
    fields: list["Field"] = field(default_factory=list)

    @property
    def element(self) -> "Field":
        """The element of an array."""
        return Field(self.name, self.kind[2:], self.versions, range(0), False, self.flexible, None, self.fields)


@dataclass
class Table:
    """A request."""

    name: str
    api: int
    versions: range
    flexible: range
    fields: list[Field]


def _range(text: str) -> range:
    first, _, last = text.partition("-")
    if text == "none":
        return range(0)
    if text.endswith("+"):
        return range(int(text[:-1]), 1000)
    return range(int(first), int(last or first) + 1)


def request_tables() -> dict[int, Table]:
    """The tables of all requests, by API."""
    tables = {}
    for path in SCHEMAS.glob("*Request.schema"):
        table = _parse(path.read_text(encoding="utf-8"))
        if table is not None:
            tables[table.api] = table
    return tables


def _parse(text: str) -> Table | None:
    lines = [line.split("#")[0].rstrip() for line in text.splitlines()]
    head, *rest = [line for line in lines if line]
    kind, name, *attributes = head.split()
    facts = dict(part.split("=") for part in attributes if "=" in part)
    if kind != "request":
        return None
    root: list[Field] = []
    structs: dict[str, list[Field]] = {}
    stack: list[list[Field]] = [root]
    for line in rest:
        depth = (len(line) - len(line.lstrip())) // 2
        words = line.split()
        if words[0] == "struct":
            structs[words[1]] = []
            stack = [root, structs[words[1]]]
            continue
        more = dict(word.split("=", 1) for word in words[3:] if "=" in word)
        tag_versions = more.get("tagged")
        one = Field(
            words[0], words[1], _range(words[2]), _range(more.get("null", "none")), "tag" in more or bool(tag_versions),
            _range(more["flexible"]) if "flexible" in more else None, more.get("default"),
        )  # fmt: skip
        del stack[depth:]
        stack[depth - 1].append(one)
        base = one.kind.removeprefix("[]")
        if base in structs:
            one.fields = structs[base]
        elif re.match("[A-Z]", base):
            structs[base] = one.fields
        stack.append(one.fields)
    flexible = _range(facts.get("flexible", "none"))
    return Table(name, int(facts["api"]), _range(facts["versions"]), flexible, root)


@dataclass
class Names:
    """Real things to ask for, by the name of the field that takes them."""

    strings: dict[str, str]
    numbers: dict[str, int]
    topic_id: bytes


@dataclass
class Shape:
    """One way to make a request bad."""

    label: str
    target: str
    """Path of the array that gets many elements."""
    count: int = 1
    """How many; in a frame of at most `frame_bytes`."""
    frame_bytes: int = 2 << 20
    named: bool = True
    """Real names, else the least encoding of everything."""
    string_bytes: int = 0
    """Length of the strings, when they should be long."""
    payload_bytes: int = 0
    """Length of the bytes fields."""


class Encoder:
    """Encodes one request of a version in a shape."""

    def __init__(self, table: Table, version: int, shape: Shape, names: Names) -> None:
        self.table, self.version, self.shape, self.names = table, version, shape, names
        self.is_flexible = version in table.flexible

    def frame(self) -> bytes:
        """The whole frame, its length in front."""
        client = CLIENT_ID.encode()
        head = struct.pack(">hhih", self.table.api, self.version, 1, len(client)) + client
        # ApiVersions and ControlledShutdown aside, a flexible request has a flexible header.
        head += b"\x00" if self.is_flexible else b""
        body = head + self._struct(self.table.fields, "")
        return struct.pack(">i", len(body)) + body

    def _struct(self, fields: list[Field], path: str) -> bytes:
        wanted = [one for one in fields if self.version in one.versions and not (one.tagged and self.is_flexible)]
        parts = [self._value(one, f"{path}.{one.name}") for one in wanted]
        return b"".join(parts) + (b"\x00" if self.is_flexible else b"")

    def _value(self, one: Field, path: str) -> bytes:
        if one.kind.startswith("[]"):
            return self._array(one, path)
        compact = self.is_flexible if one.flexible is None else self.version in one.flexible
        if one.kind == "string":
            return self._string(one, compact)
        if one.kind in ("bytes", "records"):
            data = b"\x00" * self.shape.payload_bytes
            return (unsigned_varint(len(data) + 1) if compact else struct.pack(">i", len(data))) + data
        if one.kind == "uuid":
            return self.names.topic_id if self.shape.named else bytes(16)
        if re.match("[A-Z]", one.kind):
            present = b"\x01" if self.version in one.nullable else b""
            return present + self._struct(one.fields, path)
        return self._number(one)

    def _number(self, one: Field) -> bytes:
        default = int(one.default) if one.default and one.default.lstrip("-").isdigit() else 0
        value = self.names.numbers.get(one.name, default)
        if one.kind == "bool":
            return b"\x01" if self.shape.named and one.name.startswith("Include") else b"\x00"
        if one.kind == "float64":
            return struct.pack(">d", 0.0)
        bits = int(re.sub(r"\D", "", one.kind))
        return (value & ((1 << bits) - 1)).to_bytes(bits // 8, "big")

    def _string(self, one: Field, compact: bool) -> bytes:
        if self.shape.string_bytes:
            text = b"x" * self.shape.string_bytes
        elif self.shape.named:
            text = self.names.strings.get(one.name, "").encode()
        elif self.version in one.nullable:
            return b"\x00" if compact else b"\xff\xff"
        else:
            text = b""
        return (unsigned_varint(len(text) + 1) if compact else struct.pack(">h", len(text))) + text

    def _array(self, one: Field, path: str) -> bytes:
        leads_there = self.shape.target == path or self.shape.target.startswith(path + ".")
        if not leads_there:
            count = 1 if self.shape.string_bytes or self.shape.payload_bytes else 0
        else:
            count = self.shape.count if path == self.shape.target else 1
        element = self._value(one.element, path) if count else b""
        if count > 1:
            count = max(1, min(count, self.shape.frame_bytes // max(1, len(element))))
        compact = self.is_flexible if one.flexible is None else self.version in one.flexible
        return (unsigned_varint(count + 1) if compact else struct.pack(">i", count)) + element * count


def array_paths(fields: list[Field], version: int, path: str = "") -> Iterator[str]:
    """Paths of all arrays of a version."""
    for one in fields:
        if version not in one.versions or one.tagged:
            continue
        here = f"{path}.{one.name}"
        if one.kind.startswith("[]"):
            yield here
        yield from array_paths(one.fields, version, here)


def shapes(table: Table, version: int) -> Iterator[Shape]:
    """All that is tried with a version of an API."""
    for target in array_paths(table.fields, version):
        yield Shape("one item, as often as is decoded", target, 8_000)
        yield Shape("one item, more often than is decoded", target, 1 << 30)
        yield Shape("the least items", target, 1 << 30, named=False)
        yield Shape("long names", target, 300, 8 << 20, string_bytes=LONGEST_STRING)
    yield Shape("nothing", "")
    yield Shape("the largest item", "", string_bytes=LONGEST_STRING, payload_bytes=7 << 20)
