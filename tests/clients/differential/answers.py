"""Answers as paths and values, without anything that differs between any two servers, and their comparison."""

import re
import uuid
from collections import Counter
from dataclasses import dataclass
from typing import Any

from kafka.errors import for_code

from differential.sides import Side, Values

# Words for people, and durations.
_IGNORED = {"ErrorMessage", "ThrottleTimeMs", "BatchIndexErrorMessage", "Documentation"}
# Different on every machine; only whether there is one is compared.
_MACHINE = {"Host", "Port", "LogDir", "TotalBytes", "UsableBytes", "FinalizedFeaturesEpoch"}
_BROKERS = {
    "NodeId", "BrokerId", "LeaderId", "ControllerId", "ReplicaId", "ReplicaNodes", "IsrNodes", "EligibleLeaderReplicas",
    "Replicas",
}  # fmt: skip
# Given out by either server as it likes; only whether there is one is compared.
_GIVEN = {"ProducerId", "SessionId", "LogAppendTimeMs", "LastTimestamp", "TopicId", "ClusterId", "LastFetchTimestamp",
          "LastCaughtUpTimestamp", "VoterDirectoryId"}  # fmt: skip
_KEYS = (
    "Name", "TopicName", "Topic", "TopicId", "PartitionIndex", "Partition", "Index", "GroupId", "GroupName", "ApiKey", "Key",
    "NodeId", "BrokerId", "ResourceName", "MemberId", "PartitionId", "Feature", "LogDir",
)  # fmt: skip
# Between fields, not within a key.
_DOTS = re.compile(r"\.(?![^\[]*\])")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")

Flat = dict[str, Any]


class Code(str):
    """The name of an error."""

    def __repr__(self) -> str:
        return str(self)


@dataclass(frozen=True, order=True)
class Difference:
    """A field whose values differ; `-` is a field that only the other answer has."""

    request: str
    field: str
    kafka: str
    firn: str

    def __str__(self) -> str:
        return f"{self.request}: {self.field}: Kafka {self.kafka}, Firn {self.firn}"


def flat(side: Side, answer: Values | str) -> Flat:
    """Every value of an answer by its path."""
    if isinstance(answer, str):
        return {"answer": answer}
    found: Flat = {}
    _flatten(side, answer, "", found)
    return found


def _flatten(side: Side, value: Any, path: str, found: Flat) -> None:
    name = re.sub(r"\[.*", "", path.rsplit(".", 1)[-1])
    if name in _IGNORED:
        return
    if isinstance(value, dict):
        for key, inner in value.items():
            _flatten(side, inner, f"{path}.{key}".lstrip("."), found)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        seen: Counter[str] = Counter()
        for element in value:
            key = _key(side, element)
            seen[key] += 1
            number = f"#{seen[key]}" if seen[key] > 1 else ""
            _flatten(side, element, f"{path}[{key}{number}]", found)
    else:
        found[path] = _plain(side, name, value)


def _key(side: Side, element: Values) -> str:
    """The identity of an element of a list, as servers may answer in any order."""
    for name in _KEYS:
        if element.get(name) not in (None, ""):
            return str(_plain(side, name, element[name], keep=name not in ("TopicId", "LogDir")))
    return ""


def _plain(side: Side, name: str, value: Any, keep: bool = False) -> Any:
    if name.endswith("ErrorCode"):
        return Code(for_code(value).message if value else "NONE")
    if isinstance(value, uuid.UUID):
        names = {known: topic for topic, known in side.topic_ids.items()}
        return f"<{names[value]}>" if value in names else str(value) if value.int < 1 << 32 else "<id>"
    if name in _BROKERS and value in (side.broker_id, [side.broker_id]):
        return "<broker>"
    if keep:
        return _UUID.sub("<uuid>", value) if isinstance(value, str) else value
    if name in _MACHINE:
        return "<machine>" if value not in ("", None, -1) else value
    if name in _GIVEN and value not in (-1, 0, "", None):
        return "<given>"
    if isinstance(value, str):
        return _UUID.sub("<uuid>", value)
    return value


def compare(request: str, kafka: Flat, firn: Flat) -> list[Difference]:
    """The fields that differ. A missing element is one difference; fields beside an error code that differs are none."""
    found: dict[str, Difference] = {}
    for path in sorted(kafka.keys() | firn.keys()):
        if path in kafka and path in firn:
            if kafka[path] != firn[path]:
                found[path] = Difference(request, path, repr(kafka[path]), repr(firn[path]))
            continue
        there, absent = (kafka, firn) if path in kafka else (firn, kafka)
        if there[path] == [] and any(other.startswith(path + "[") for other in absent):
            continue
        whole = _element(path, absent)
        value = repr(there[path]) if whole == path else "there"
        found.setdefault(whole, Difference(request, whole, *((value, "-") if there is kafka else ("-", value))))
    codes = [path for path in found if path.endswith("ErrorCode") and path in kafka and path in firn]
    decided = tuple(path.removesuffix("ErrorCode") for path in codes)
    return [one for path, one in found.items() if path in codes or not path.startswith(decided)]


def _element(path: str, absent: Flat) -> str:
    """The largest part of the path of which the answer has nothing."""
    parts = _DOTS.split(path)
    for count in range(1, len(parts)):
        prefix = ".".join(parts[:count])
        if not any(other == prefix or other.startswith(prefix + ".") for other in absent):
            return prefix
    return path
