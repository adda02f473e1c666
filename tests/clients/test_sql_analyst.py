"""An analyst's session: varied queries over two topics, each answered as DuckDB answers it over the same Parquet objects."""

import json
import math
import random
from collections.abc import Iterator
from datetime import date, datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest

from harness.firn import FirnServer
from harness.records import Draft, produce
from harness.sql import answered

pytestmark = pytest.mark.firn
CITIES = ["Oslo", "Lima", "Pune", "Kyiv", "Zürich"]
START = 1_700_000_000_000
SETTINGS = {"firn.sql.timeout.ms": "60000"}

# One on each line, in a dialect that both speak; what DuckDB lacks is defined below.
QUERIES = Path(__file__).with_name("analyst.sql").read_text(encoding="utf-8").splitlines()


@pytest.fixture(scope="module")
def session(server: FirnServer) -> Iterator[duckdb.DuckDBPyConnection]:
    """DuckDB with the topics as views; the server has them as `orders` and `clicks`, archived as a whole."""
    chance = random.Random(7)
    orders = [
        Draft(
            key=None if n % 17 == 0 else f"{chance.choice('abc')}k{chance.randrange(40)}".encode(),
            value=json.dumps({"city": chance.choice(CITIES), "amount": chance.randrange(100)}, ensure_ascii=False).encode(),
            timestamp=START + n * 1000,
            partition=n % 3,
        )
        for n in range(1500)
    ]
    clicks = [
        Draft(key=f"ak{n % 30}".encode(), value=b"{}", timestamp=START + n * 60_000, partition=n % 2) for n in range(80)
    ]
    database = duckdb.connect()
    database.execute("SET TimeZone = 'UTC'; SET integer_division = true")
    database.execute("CREATE MACRO text(x) AS x")
    database.execute("CREATE MACRO json_get_int(x, field) AS CAST(x->>field AS BIGINT)")
    for name, drafts, partitions in (("orders", orders, 3), ("clicks", clicks, 2)):
        server.create_topic(name=name, tier="cold", partitions=partitions)
        produce(server.bootstrap, name, drafts)
        server.settle(name)
        files = [str(file) for file in server.archived_files(name)]
        columns = "* REPLACE (decode(key) AS key, decode(value) AS value)"
        database.execute(f"CREATE VIEW {name} AS SELECT {columns} FROM read_parquet({files})")
    yield database
    database.close()


def plain(value: Any) -> Any:
    """A value as JSON would have it, numbers as floats."""
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, datetime):
        moment = value if value.tzinfo else value.replace(tzinfo=timezone.utc)
        return moment.timestamp()
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, int | float | Decimal):
        return float(value)
    return value


def ours(value: Any) -> Any:
    """The same for what the server answers, where times are text."""
    if isinstance(value, str) and len(value) > 18 and value[4] == "-" and value[10] == "T":
        return datetime.fromisoformat(value.replace("Z", "+00:00")).timestamp()
    return plain(value)


def same(left: list[Any], right: list[Any]) -> bool:
    """Whether two rows are equal, but for the last digits of floats."""
    pairs = zip(left, right, strict=True)
    return all(
        math.isclose(a, b, rel_tol=1e-9) if isinstance(a, float) and isinstance(b, float) else a == b for a, b in pairs
    )


def test_every_query_is_answered_as_duckdb_answers_it(server: FirnServer, session: duckdb.DuckDBPyConnection) -> None:
    wrong = []
    for query in QUERIES:
        columns = session.execute(query).to_arrow_table().columns
        wanted = [[plain(cell.as_py()) for cell in row] for row in zip(*columns, strict=True)]
        try:
            lines = answered(server, query).splitlines()
            got = [[ours(cell) for cell in json.loads(line).values()] for line in lines]
        except AssertionError as error:
            wrong.append(f"{query}\n  {error}")
            continue
        if len(got) != len(wanted) or not all(map(same, got, wanted)):
            wrong.append(f"{query}\n  ours   {got[:6]}\n  theirs {wanted[:6]}")
    assert not wrong, "\n".join(wrong)
    assert len(QUERIES) >= 40
