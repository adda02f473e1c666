"""kcat writes and reads: formats, headers, offsets, timestamps, both tiers."""

import json
import re

import pytest

from conftest import AnyServer
from harness.broker import Tier
from harness.kcat import kcat
from harness.records import Draft, produce

both_tiers = pytest.mark.parametrize("tier", ["hot", "cold"])


@both_tiers
@pytest.mark.parametrize("codec", ["none", "zstd"])
def test_lines_come_back_from_offset_0(server: AnyServer, tier: Tier, codec: str) -> None:
    topic = server.create_topic(f"kcat-{tier}", tier=tier)
    lines = [f"{number}:line {number} " + "snow " * (number % 40) for number in range(3000)]
    kcat(
        server.bootstrap, "-P", "-t", topic, "-K", ":", "-z", codec, "-X", "batch.size=10000", stdin="\n".join(lines) + "\n"
    )
    if tier == "cold":
        server.settle(topic)
    read = kcat(server.bootstrap, "-C", "-t", topic, "-o", "0", "-e", "-q", "-f", "%o %k:%s\n")
    assert read.splitlines() == [f"{number} {line}" for number, line in enumerate(lines)]


@both_tiers
def test_headers_and_nulls_in_the_format_string(server: AnyServer, tier: Tier) -> None:
    topic = server.create_topic(f"kcat-format-{tier}", tier=tier)
    kcat(server.bootstrap, "-P", "-t", topic, "-H", "a=1", "-H", "a=2", "-H", "b=", "-k", "key", stdin="value\n")
    kcat(server.bootstrap, "-P", "-t", topic, "-Z", "-K", ":", stdin=":\n")
    if tier == "cold":
        server.settle(topic)
    read = kcat(server.bootstrap, "-C", "-t", topic, "-o", "beginning", "-e", "-q", "-f", "%p|%o|%K|%S|%k|%s|%h\n")
    assert read.splitlines() == ["0|0|3|5|key|value|a=1,a=2,b=", "0|1|-1|-1|||"]


@both_tiers
def test_reading_from_a_time_and_from_offsets(server: AnyServer, tier: Tier) -> None:
    topic = server.create_topic(f"kcat-time-{tier}", tier=tier)
    base = 1_600_000_000_000
    drafts = [Draft(value=f"{number}".encode() + b"." * 90, timestamp=base + number * 1000) for number in range(1000)]
    produce(server.bootstrap, topic, drafts, **{"batch.num.messages": 40})
    if tier == "cold":
        server.settle(topic)

    def offsets(*args: str) -> list[tuple[int, int]]:
        out = kcat(server.bootstrap, "-C", "-t", topic, "-e", "-q", "-f", "%o %T\n", *args)
        return [(int(line.split()[0]), int(line.split()[1])) for line in out.splitlines()]

    expected = [(number, base + number * 1000) for number in range(1000)]
    assert offsets("-o", f"s@{base + 500_000}") == expected[500:]
    assert offsets("-o", f"s@{base + 500_001}") == expected[501:]
    assert offsets("-o", f"s@{base + 300_000}", "-o", f"e@{base + 310_000}") == expected[300:310]
    assert offsets("-o", "s@1") == expected
    assert offsets("-o", "777") == expected[777:]
    assert offsets("-o", "-5") == expected[-5:]
    assert offsets("-o", "10", "-c", "3") == expected[10:13]


def test_json_envelopes_and_the_listing_of_metadata(server: AnyServer) -> None:
    topic = server.create_topic("kcat-json", partitions=3)
    kcat(server.bootstrap, "-P", "-t", topic, "-p", "2", "-k", "k", stdin="v\n")
    (line,) = kcat(server.bootstrap, "-C", "-t", topic, "-p", "2", "-e", "-q", "-J").splitlines()
    message = json.loads(line)
    assert (message["topic"], message["partition"], message["offset"]) == (topic, 2, 0)
    assert (message["key"], message["payload"], message["tstype"]) == ("k", "v", "create")
    listing = json.loads(kcat(server.bootstrap, "-L", "-J", "-t", topic))
    assert [broker["name"] for broker in listing["brokers"]] == [server.bootstrap]
    (entry,) = [entry for entry in listing["topics"] if entry["topic"] == topic]
    assert sorted(part["partition"] for part in entry["partitions"]) == [0, 1, 2]
    assert all(len(part["replicas"]) == 1 and part["leader"] == part["replicas"][0]["id"] for part in entry["partitions"])


@both_tiers
def test_query_mode_answers_with_offsets_by_time(server: AnyServer, tier: Tier) -> None:
    topic = server.create_topic(f"kcat-query-{tier}", tier=tier)
    base = 1_600_000_000_000
    produce(server.bootstrap, topic, [Draft(value=b"x", timestamp=base + number) for number in range(100)])
    if tier == "cold":
        server.settle(topic)
    out = kcat(server.bootstrap, "-Q", "-t", f"{topic}:0:{base + 42}")
    assert re.search(r"\[0\] offset 42\b", out), out


def test_a_balanced_consumer_reads_every_partition(server: AnyServer) -> None:
    topic = server.create_topic("kcat-group", partitions=3)
    lines = [f"{number}" for number in range(300)]
    kcat(server.bootstrap, "-P", "-t", topic, stdin="\n".join(lines) + "\n")
    out = kcat(server.bootstrap, "-G", f"group-of-{topic}", "-X", "auto.offset.reset=earliest", "-c", "300", "-q", topic)
    assert sorted(int(line) for line in out.splitlines()) == list(range(300))
