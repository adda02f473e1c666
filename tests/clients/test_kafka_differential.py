"""Odd requests to Firn and to a real Apache Kafka: every difference of their answers is one that the documentation lists.

A failure names the request, the field and both values. Either Firn is wrong, or the table in docs/kafka-compatibility.md
gets a row with the reason; a row whose difference is gone has to go, too.
"""

from pathlib import Path

import pytest

from differential.accepted import accepted, unexplained
from differential.answers import Difference, Flat, compare, flat
from differential.cases import Case, all_cases
from differential.messages import Message, load
from differential.sides import Side, on_both, seed
from harness.firn import FirnServer
from harness.kafka_peer import KafkaServer

pytestmark = pytest.mark.firn
SETTINGS = {
    "log.retention.check.interval.ms": "300000",
    "log.local.retention.ms": "-2",
    "log.segment.delete.delay.ms": "1000",
    "offsets.topic.num.partitions": "1",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "1",
    "transaction.state.log.replication.factor": "1",
}
# Records of the distant past stay as long as the test runs; what the servers say of retention.ms is compared.
KAFKA_ONLY = {"log.initial.task.delay.ms": "3600000"}
SHOWN = 60


def announced(firn: Side, messages: dict[str, Message]) -> dict[str, tuple[int, int]]:
    """The versions of every API that Firn announces, as far as they have a definition."""
    names = {one.api_key: name.removesuffix("Request") for name, one in messages.items() if name.endswith("Request")}
    answer = firn.must("ApiVersions", 3, {"ClientSoftwareName": "differential", "ClientSoftwareVersion": "1"})
    found = {}
    for api in answer["ApiKeys"]:
        name = names[api["ApiKey"]]
        found[name] = (max(api["MinVersion"], messages[f"{name}Request"].versions.low), api["MaxVersion"])
    return found


def answers(sides: list[Side], cases: list[Case]) -> dict[str, list[Flat]]:
    """The answers of either side to every request."""
    given: dict[str, list[Flat]] = {side.name: [] for side in sides}

    def ask(side: Side) -> None:
        for case in cases:
            given[side.name].append(flat(side, side.ask(case.api, case.version, case.build(side))))

    on_both(sides, ask)
    return given


def test_answers_differ_from_those_of_kafka_only_where_the_documentation_says_so(tmp_path: Path) -> None:
    messages = load()
    kafka, firn = KafkaServer(tmp_path / "kafka", SETTINGS | KAFKA_ONLY), FirnServer(tmp_path / "firn", None, SETTINGS)
    firn.folder.mkdir(exist_ok=True)
    firn.env["FIRN_NODE_ID"] = "0"
    del firn.settings["log.retention.ms"]
    kafka.jvm = ("-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
    try:
        kafka.spawn()
        firn.start()
        kafka.await_listener()
        sides = [Side("Kafka", kafka, messages), Side("Firn", firn, messages)]
        on_both(sides, seed)
        cases = all_cases(messages, announced(sides[1], messages))
        assert len(cases) > 1000 and len({case.name for case in cases}) == len(cases)
        given = answers(sides, cases)
        assert "panicked" not in firn.log_text()
    finally:
        kafka.close()
        firn.close()
    differences: list[Difference] = []
    for case, of_kafka, of_firn in zip(cases, given["Kafka"], given["Firn"], strict=True):
        differences += compare(case.name, of_kafka, of_firn)
    left, unused = unexplained(differences, accepted())
    shown = "\n".join(map(str, left[:SHOWN]))
    assert not left, f"{len(left)} differences that no row of the table explains:\n{shown}"
    assert not unused, "rows of the table whose difference is gone:\n" + "\n".join(map(str, unused))
