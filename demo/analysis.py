"""The demo's last step: one SQL query over both tiers, checked against the events, and its picture."""

import json
import subprocess
from collections import defaultdict
from collections.abc import Iterable

import broker as brokers
import screen
from flights import Departure

CARRIERS, HOURS = 10, range(5, 24)
"""The largest carriers and the hours of the picture."""
QUERY = """\
SELECT value->>'carrier' AS carrier, json_get_int(value, 'hour') AS hour,
       count(*) AS flights, sum(json_get_int(value, 'dep_delay')) AS minutes
FROM departures
WHERE json_get_int(value, 'dep_delay') IS NOT NULL
GROUP BY 1, 2"""
_SHADES = " ▁▂▃▄▅▆▇█"
_DARKEST = 40
"""Minutes of delay from which on a cell is full."""
Cells = dict[tuple[str, int], tuple[int, int]]
"""Flights and minutes of delay by carrier and scheduled hour."""


def ask(broker: brokers.Broker) -> Cells:
    """What `firn sql` answers."""
    args = [str(broker.firn), "sql", QUERY, "--format", "json", "--admin", broker.admin]
    answer = subprocess.run(args, capture_output=True, text=True)
    if answer.returncode != 0:
        raise SystemExit(screen.red(f"the query failed: {answer.stderr.strip()}"))
    rows = [json.loads(row) for row in answer.stdout.splitlines()]
    return {(row["carrier"], row["hour"]): (row["flights"], row["minutes"]) for row in rows}


def count(records: Iterable[Departure]) -> Cells:
    """The same from the events as they were written."""
    cells: dict[tuple[str, int], list[int]] = defaultdict(lambda: [0, 0])
    for record in records:
        event = json.loads(record.value)
        if event["dep_delay"] is not None:
            cell = cells[event["carrier"], event["hour"]]
            cell[0] += 1
            cell[1] += event["dep_delay"]
    return {key: (flights, minutes) for key, (flights, minutes) in cells.items()}


def draw(cells: Cells) -> None:
    """Mean delay of departure by carrier and hour, the carriers with most flights first."""
    totals: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for (carrier, _), (flights, minutes) in cells.items():
        totals[carrier][0] += flights
        totals[carrier][1] += minutes
    largest = sorted(totals, key=lambda carrier: -totals[carrier][0])[:CARRIERS]
    screen.line(screen.dim("carrier   flights   late on average   by hour, 5 to 23 o'clock"))
    for carrier in largest:
        flights, minutes = totals[carrier]
        shades = " ".join(_shade(cells.get((carrier, hour))) for hour in HOURS)
        screen.line(f"{carrier:<7}   {flights:>7,}   {minutes / flights:>11.1f} min   {shades}")
    screen.line(screen.dim(f"▁ up to {_DARKEST // 8} minutes late, █ {_DARKEST - _DARKEST // 8} and more"))


def _shade(cell: tuple[int, int] | None) -> str:
    if cell is None:
        return " "
    flights, minutes = cell
    share = max(minutes / flights, 0) / _DARKEST
    return _SHADES[1 + min(int(share * (len(_SHADES) - 1)), len(_SHADES) - 2)]
