"""The differences that are meant: the table in docs/kafka-compatibility.md, the only place that lists them."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from differential.answers import Difference
from harness.paths import REPO

PAGE = REPO / "docs" / "kafka-compatibility.md"
_BEGIN, _END = "<!-- accepted differences: begin -->", "<!-- accepted differences: end -->"


@dataclass(frozen=True)
class Accepted:
    """A row of the table; `*` stands for any text."""

    request: str
    field: str
    kafka: str
    firn: str
    reason: str

    def covers(self, difference: Difference) -> bool:
        """Whether the row is about this difference."""
        pairs = (
            (self.request, difference.request),
            (self.field, difference.field),
            (self.kafka, difference.kafka),
            (self.firn, difference.firn),
        )
        return all(_matches(pattern, text) for pattern, text in pairs)

    def __str__(self) -> str:
        return f"{self.request} | {self.field} | {self.kafka} | {self.firn}"


def _matches(pattern: str, text: str) -> bool:
    return re.fullmatch(re.escape(pattern).replace(r"\*", ".*"), text, re.DOTALL) is not None


def accepted() -> list[Accepted]:
    """The rows of the table, each with a reason."""
    page = PAGE.read_text(encoding="utf-8")
    table = page.split(_BEGIN)[1].split(_END)[0]
    rows = []
    for line in table.splitlines():
        cells = [cell.strip().strip("`") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if len(cells) == 5 and not set(cells[0]) <= set("- ") and cells[0] != "Request":
            assert cells[4], f"no reason: {line}"
            rows.append(Accepted(*cells))
    return rows


def unexplained(differences: Iterable[Difference], rows: list[Accepted]) -> tuple[list[Difference], list[Accepted]]:
    """Differences that no row covers, and rows that cover none."""
    used: set[Accepted] = set()
    left = []
    for difference in differences:
        covering = [row for row in rows if row.covers(difference)]
        used.update(covering)
        if not covering:
            left.append(difference)
    return left, [row for row in rows if row not in used]
