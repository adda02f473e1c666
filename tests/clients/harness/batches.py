"""Kafka record batches (format v2) built by hand, right or deliberately wrong."""

import struct
from collections.abc import Sequence

import crc32c

HEADER_BYTES = 61
GZIP, SNAPPY, LZ4, ZSTD = 1, 2, 3, 4

RecordTuple = tuple[bytes | None, bytes | None]


def unsigned_varint(value: int) -> bytes:
    """Base 128, as in requests and responses."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def varint(value: int) -> bytes:
    """Zigzag base 128, as in records."""
    zigzag = (value << 1) ^ (value >> 63)
    return unsigned_varint(zigzag & (1 << 64) - 1)


def _bytes(data: bytes | None) -> bytes:
    return varint(-1) if data is None else varint(len(data)) + data


def record(index: int, key: bytes | None, value: bytes | None, headers: Sequence[tuple[bytes, bytes | None]] = ()) -> bytes:
    """One record with its length; header keys are raw bytes so that a test can send what is not text."""
    body = b"\x00" + varint(0) + varint(index) + _bytes(key) + _bytes(value) + varint(len(headers))
    for name, content in headers:
        body += varint(len(name)) + name + _bytes(content)
    return varint(len(body)) + body


def batch(
    records: Sequence[RecordTuple] = ((b"k", b"v"),),
    *,
    payload: bytes | None = None,
    count: int | None = None,
    last_offset_delta: int | None = None,
    attributes: int = 0,
    magic: int = 2,
    producer: tuple[int, int, int] = (-1, -1, -1),
    timestamp: int = 1_700_000_000_000,
    crc: int | None = None,
) -> bytes:
    """A batch of these records; every other argument replaces what would be right.

    `payload` is what follows the header (compressed, if `attributes` says so), `producer` is id, epoch and first sequence.
    """
    if payload is None:
        payload = b"".join(record(index, key, value) for index, (key, value) in enumerate(records))
    count = len(records) if count is None else count
    last = len(records) - 1 if last_offset_delta is None else last_offset_delta
    checked = struct.pack(">hiqqqhii", attributes, last, timestamp, timestamp, *producer, count) + payload
    checksum = crc32c.crc32c(checked) if crc is None else crc
    rest = struct.pack(">ibI", 0, magic, checksum) + checked
    return struct.pack(">qi", 0, len(rest)) + rest


def message_v1(value: bytes, magic: int = 1) -> bytes:
    """A message of the old formats 0 and 1, which Kafka 4 no longer takes."""
    import zlib

    body = bytes([magic, 0]) + (struct.pack(">q", 1_700_000_000_000) if magic == 1 else b"")
    body += struct.pack(">i", -1) + struct.pack(">i", len(value)) + value
    message = struct.pack(">I", zlib.crc32(body)) + body
    return struct.pack(">qi", 0, len(message)) + message


def headers_of(records: bytes) -> list[tuple[int, int, int, int]]:
    """(base offset, attributes, record count, size in bytes) of each whole batch in a fetched slice."""
    found = []
    position = 0
    while position + HEADER_BYTES <= len(records):
        base, length = struct.unpack_from(">qi", records, position)
        if position + 12 + length > len(records):
            break
        (attributes,) = struct.unpack_from(">h", records, position + 21)
        (count,) = struct.unpack_from(">i", records, position + 57)
        found.append((base, attributes, count, 12 + length))
        position += 12 + length
    return found
