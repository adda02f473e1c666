"""Bytes that no proper client sends: the right error or a closed connection, and the server stays as it was."""

import gzip
import os
import struct
import time

import pytest
import zstandard
from kafka.protocol.metadata import ApiVersionsRequest, MetadataRequest

from conftest import AnyServer
from harness import requests
from harness.batches import GZIP, LZ4, SNAPPY, ZSTD, batch, message_v1, record
from harness.broker import unique
from harness.process import wait_until
from harness.records import Draft, consume, expect_same, generated, produce
from harness.requests import fetch_request, produce_raw
from harness.wire import Closed, Wire, api_versions, header

API_VERSIONS, METADATA, PRODUCE, FETCH = 18, 3, 0, 1


def still_serves(server: AnyServer) -> None:
    """The proof that nothing was harmed: a new client writes and reads."""
    topic = server.create_topic("after-bad-input")
    written = produce(server.bootstrap, topic, generated(20, seed=1))
    expect_same(written, consume(server.bootstrap, topic))


def logged(server: AnyServer, since: int) -> bool:
    """Whether the server wrote a line about it."""
    return len(server.log_text()) > since


HOSTILE = {
    "zeros": b"\x00" * 64,
    "text": b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n",
    "tls": bytes.fromhex("16030100c8010000c40303") + b"\x11" * 200,
    "negative length": struct.pack(">i", -1) + b"abc",
    "most negative length": struct.pack(">i", -(1 << 31)),
    "two gigabytes announced": struct.pack(">i", (1 << 31) - 1) + b"\x00" * 100,
    "shorter than a header": struct.pack(">i", 3) + b"abc",
    "empty frame": struct.pack(">i", 0),
    "unknown api": struct.pack(">i", 26) + header(12_345, 0),
    "negative api": struct.pack(">i", 26) + header(-7, 0),
    "unknown version": struct.pack(">i", 26) + header(METADATA, 99),
    "negative version": struct.pack(">i", 26) + header(METADATA, -3),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_frame_closes_the_connection(server: AnyServer, name: str) -> None:
    since = len(server.log_text())
    body = HOSTILE[name]
    with Wire(server.host, server.port) as wire:
        try:
            wire.send_bytes(body)
            wire.half_close()
            assert wire.closed_by_server(), "the server answered"
        except Closed:
            pass
    if server.tiered:
        wait_until("a line in the log", lambda: logged(server, since), timeout_s=5)
    still_serves(server)


@pytest.mark.firn
@pytest.mark.parametrize(("name", "protocol"), [("text", "HTTP"), ("tls", "TLS")])
def test_another_protocol_is_named_in_one_line(server: AnyServer, name: str, protocol: str) -> None:
    since = len(server.log_text())
    with Wire(server.host, server.port) as wire:
        wire.send_bytes(HOSTILE[name])
        wire.half_close()
        assert wire.closed_by_server()
    said = wait_until("a line in the log", lambda: server.log_text()[since:].splitlines(), timeout_s=5)
    assert len(said) == 1 and f"the client speaks {protocol}, this listener speaks Kafka's" in said[0], said


def test_random_bytes_harm_nothing(server: AnyServer) -> None:
    for index in range(60):
        junk = os.urandom(20 + index * 7)
        with Wire(server.host, server.port) as wire:
            try:
                wire.send_bytes(struct.pack(">i", len(junk)) + junk if index % 2 else junk)
                wire.half_close()
                wire.closed_by_server()
            except Closed:
                pass
    still_serves(server)


@pytest.mark.parametrize("api", [PRODUCE, FETCH, 2, METADATA, 8, 9, 10, 11, 12, 14, 19, 20, 21, 22, 32, 35, 37, 44, 60, 75])
def test_truncated_and_lying_bodies_harm_nothing(server: AnyServer, api: int) -> None:
    with Wire(server.host, server.port) as wire:
        spoken = api_versions(wire)
    if api not in spoken:
        pytest.skip("not announced")
    low, high = spoken[api]
    for version in {low, high}:
        for flexible in (False, True):
            for body in (b"", b"\xff" * 40, b"\x7f" * 40, b"\x00\x00\x00\x00\x7f\xff\xff\xff" * 4, os.urandom(60)):
                with Wire(server.host, server.port) as wire:
                    try:
                        wire.send_frame(header(api, version, flexible=flexible) + body)
                        wire.half_close()
                        wire.closed_by_server()
                    except Closed:
                        pass
    with Wire(server.host, server.port) as wire:
        assert api_versions(wire) == spoken


def test_an_unknown_version_of_api_versions_is_answered_in_version_0(server: AnyServer) -> None:
    with Wire(server.host, server.port) as wire:
        wire.send_frame(header(API_VERSIONS, 99, correlation_id=77, flexible=True) + b"\x05junk")
        body = wire.read_frame()
        correlation, error, count = struct.unpack_from(">ihi", body)
        assert (correlation, error) == (77, requests.UNSUPPORTED_VERSION)
        listed = [struct.unpack_from(">hhh", body, 10 + 6 * index) for index in range(count)]
        assert API_VERSIONS in [key for key, _, _ in listed]
        # The connection is still good: the client now asks in a version that both speak.
        assert wire.ask(ApiVersionsRequest[0]()).error_code == requests.NONE


def test_only_modern_versions_are_announced(server: AnyServer) -> None:
    with Wire(server.host, server.port) as wire:
        spoken = api_versions(wire)
    assert spoken[FETCH][0] == 4 and spoken[2][0] == 1 and spoken[API_VERSIONS][0] == 0
    assert spoken[PRODUCE][1] >= 11 and spoken[FETCH][1] >= 16


def test_a_half_sent_request_holds_nobody_up(server: AnyServer) -> None:
    with Wire(server.host, server.port) as stuck:
        stuck.send_bytes(struct.pack(">i", 5000) + b"\x00\x03")
        still_serves(server)
        stuck.send_bytes(b"\x00" * 10)
    still_serves(server)


def bomb(codec: int) -> bytes:
    """One record of 300 MB in some kilobytes."""
    size = 300_000_000
    head = b"\x00" + b"\x00" + b"\x00"  # attributes, timestamp delta, offset delta
    value = b"\x00" * size
    from harness.batches import varint

    body = head + varint(-1) + varint(size)
    raw = varint(len(body) + size + 1) + body + value + varint(0)
    packed = gzip.compress(raw, 6) if codec == GZIP else zstandard.ZstdCompressor(level=1).compress(raw)
    return batch(attributes=codec, payload=packed, count=1, last_offset_delta=0)


@pytest.mark.firn
@pytest.mark.parametrize("codec", [GZIP, ZSTD])
def test_a_decompression_bomb_is_refused_without_being_unpacked(server: AnyServer, codec: int) -> None:
    topic = server.create_topic("bomb")
    data = bomb(codec)
    assert len(data) < 1_000_000
    before, started = peak_memory_kib(server), time.monotonic()
    with Wire(server.host, server.port) as wire:
        answer = produce_raw(wire, topic, data)
    assert answer.error_code in (requests.CORRUPT_MESSAGE, requests.MESSAGE_TOO_LARGE, requests.INVALID_RECORD), answer
    assert time.monotonic() - started < 10
    assert peak_memory_kib(server) - before < 200_000
    assert consume(server.bootstrap, topic) == []


def peak_memory_kib(server: AnyServer) -> int:
    """The most memory that the process has ever held."""
    assert server.process is not None
    with open(f"/proc/{server.process.pid}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))


GOOD = [(b"k", b"one"), (b"k", b"two")]
_TWO = b"".join(record(index, key, value) for index, (key, value) in enumerate(GOOD))
CORRUPT = (requests.CORRUPT_MESSAGE,)
INVALID = (requests.INVALID_RECORD, requests.CORRUPT_MESSAGE)
# name: (bytes of `records`, the codes that say so)
BAD_BATCHES: dict[str, tuple[bytes, tuple[int, ...]]] = {
    "wrong checksum": (batch(GOOD, crc=1234), CORRUPT),
    "flipped bit": (batch(GOOD)[:-3] + b"\x55" + batch(GOOD)[-2:], CORRUPT),
    "count too high": (batch(GOOD, count=3, last_offset_delta=2), INVALID),
    "count too low": (batch(GOOD, count=1, last_offset_delta=0), INVALID),
    "count of two thousand million": (batch(GOOD, count=2_000_000_000), INVALID),
    "negative count": (batch(GOOD, count=-5), INVALID),
    "last offset delta disagrees with the count": (batch(GOOD, last_offset_delta=7), INVALID),
    "offsets that repeat": (batch(payload=record(0, b"k", b"a") * 2, count=2, last_offset_delta=1), INVALID),
    "bytes after the last record": (batch(payload=_TWO + b"\x00\x00", count=2, last_offset_delta=1), INVALID),
    "a record that ends too early": (batch(payload=_TWO[:-2], count=2, last_offset_delta=1), INVALID),
    "a record length that is negative": (batch(payload=b"\x01" + _TWO, count=2, last_offset_delta=1), INVALID),
    "not gzip": (batch(attributes=GZIP, payload=b"not gzip at all"), INVALID),
    "not snappy": (batch(attributes=SNAPPY, payload=b"\xff" * 30), INVALID),
    "not lz4": (batch(attributes=LZ4, payload=b"not lz4 at all"), INVALID),
    "not zstd": (batch(attributes=ZSTD, payload=b"not zstd at all"), INVALID),
    "cut gzip": (batch(attributes=GZIP, payload=gzip.compress(_TWO)[:-12], count=2, last_offset_delta=1), INVALID),
    "control batch from a client": (batch(GOOD, attributes=0x20), INVALID),
    "two batches at once": (batch(GOOD) + batch(GOOD), INVALID),
    "magic 3": (batch(GOOD, magic=3), (*INVALID, requests.UNSUPPORTED_FOR_MESSAGE_FORMAT)),
    "message format 1": (message_v1(b"old", 1), (*INVALID, requests.UNSUPPORTED_FOR_MESSAGE_FORMAT)),
    "message format 0": (message_v1(b"older", 0), (*INVALID, requests.UNSUPPORTED_FOR_MESSAGE_FORMAT)),
    "cut in its header": (batch(GOOD)[:40], INVALID),
    "cut in its records": (batch(GOOD)[:-2], INVALID),
    "nothing": (b"", INVALID),
}
KAFKA_TAKES = {"offsets that repeat"}
UNKNOWN_SERVER_ERROR = -1


@pytest.mark.parametrize("name", BAD_BATCHES)
def test_a_bad_batch_is_refused_and_never_stored(server: AnyServer, name: str) -> None:
    data, allowed = BAD_BATCHES[name]
    if not server.tiered:
        if name in KAFKA_TAKES:
            pytest.skip("Kafka stores it")
        allowed = (*allowed, UNKNOWN_SERVER_ERROR)  # Kafka's answer to what it cannot unpack
    topic = server.create_topic("bad-batch")
    first = produce(server.bootstrap, topic, [Draft(value=b"before")])
    with Wire(server.host, server.port) as wire:
        try:
            answer = produce_raw(wire, topic, data)
            refusal: object = answer.error_code
            assert answer.error_code in allowed, answer
        except Closed:
            refusal = "closed"  # Kafka closes on what it cannot even begin to read
    second = produce(server.bootstrap, topic, [Draft(value=b"after")])
    assert second[0].offset == 1, f"{name} took an offset ({refusal})"
    expect_same(first + second, consume(server.bootstrap, topic))


@pytest.mark.firn
def test_a_header_key_that_is_not_text_is_refused(server: AnyServer) -> None:
    topic = server.create_topic("header-key")
    payload = record(0, b"k", b"v", headers=[(b"\xff\xfe", b"x")])
    with Wire(server.host, server.port) as wire:
        answer = produce_raw(wire, topic, batch(payload=payload, count=1, last_offset_delta=0))
    assert answer.error_code in INVALID
    assert consume(server.bootstrap, topic) == []


def test_acks_that_do_not_exist_are_refused(server: AnyServer) -> None:
    topic = server.create_topic("acks")
    with Wire(server.host, server.port) as wire:
        assert produce_raw(wire, topic, batch(GOOD), acks=7).error_code == 21, "INVALID_REQUIRED_ACKS"
    assert consume(server.bootstrap, topic) == []


def test_timestamps_outside_the_window_of_the_topic_are_refused(server: AnyServer) -> None:
    topic = server.create_topic("window", config={"message.timestamp.before.max.ms": "3600000"})
    with Wire(server.host, server.port) as wire:
        assert produce_raw(wire, topic, batch(GOOD)).error_code == 32, "INVALID_TIMESTAMP"
        now = int(time.time() * 1000)
        assert produce_raw(wire, topic, batch(GOOD, timestamp=now)).error_code == requests.NONE
        assert produce_raw(wire, topic, batch(GOOD, timestamp=now + 7 * 86_400_000)).error_code == 32


def test_unknown_topics_are_an_error(server: AnyServer) -> None:
    with Wire(server.host, server.port) as wire:
        wanted = [MetadataRequest.MetadataRequestTopic(name=unique("nowhere"))]
        answer = wire.ask(MetadataRequest[12](topics=wanted, allow_auto_topic_creation=False))
        assert answer.topics[0].error_code == requests.UNKNOWN_TOPIC_OR_PARTITION
        import uuid

        by_id = wire.ask(fetch_request({uuid.uuid4(): {0: 0}}, max_wait_ms=1))
        codes = {by_id.error_code} | {part.error_code for item in by_id.responses for part in item.partitions}
        assert requests.UNKNOWN_TOPIC_ID in codes


def test_many_idle_connections_harm_nobody(server: AnyServer) -> None:
    wires = [Wire(server.host, server.port) for _ in range(200)]
    still_serves(server)
    for wire in wires:
        wire.close()
    still_serves(server)
