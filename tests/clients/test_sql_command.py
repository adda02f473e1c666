"""`firn sql` as a command and as a shell at a terminal."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.firn import FirnServer
from harness.parquet_rows import COLUMNS
from harness.records import Draft, corner_cases, expect_same, generated, produce
from harness.sql import Terminal, asking, rows_of

pytestmark = pytest.mark.firn
RECORDS = 700
# Shown when a line may be typed, and not when what is typed is drawn again.
PROMPT = r"\x1b\[\?2004h(?s:.)*?firn> "
# Has rows at once, and far more than are read in the time of a test.
LONG = "SELECT a.value FROM {0} a, {0} b, {0} c"
SETTINGS = {"firn.sql.concurrency": "1"}


@pytest.fixture(scope="module")
def topic(server: FirnServer) -> str:
    """A topic with a name that needs no quotes."""
    name = server.create_topic(name="departures")
    produce(server.bootstrap, name, [Draft(value=f"value {n}".encode()) for n in range(RECORDS)])
    return name


def test_a_query_is_an_argument_a_file_or_standard_input(server: FirnServer, topic: str, tmp_path: Path) -> None:
    admin = ("--admin", server.admin_address)
    query = f'SELECT "offset", value FROM {topic} ORDER BY 1 LIMIT 2'
    csv = b"offset,value\n0,value 0\n1,value 1\n"
    assert server.cli("sql", *admin, "--format", "csv", query).stdout == csv
    file = tmp_path / "queries.sql"
    file.write_text(f"-- the first\n{query};\n{query};\n")
    assert server.cli("sql", *admin, "--format", "csv", "-f", str(file)).stdout == csv + csv
    assert server.cli("sql", *admin, "--format", "csv", stdin=query.encode()).stdout == csv


def test_failures_are_told_by_status_and_words(server: FirnServer, topic: str) -> None:
    admin = ("--admin", server.admin_address)
    wrong = server.cli("sql", *admin, "SELECT * FROM departure", check=False)
    assert wrong.returncode == 1 and b'no topic "departure" at line 1, column 15' in wrong.stderr, wrong
    assert b"did you mean departures?" in wrong.stderr and not wrong.stdout, wrong
    broken = server.cli("sql", *admin, "--format", "csv", "--timeout", "3", LONG.format(topic), check=False)
    assert broken.returncode == 1 and b"broke off" in broken.stderr, broken.stderr
    nobody = server.cli("sql", "--admin", "127.0.0.1:1", "SELECT 1", check=False)
    assert nobody.returncode == 1 and b"127.0.0.1:1 does not answer" in nobody.stderr, nobody
    both = server.cli("sql", *admin, "--format", "parquet", stdin=b"SELECT 1; SELECT 2", check=False)
    assert both.returncode == 2, both


def test_a_copied_bucket_answers_without_a_broker(server: FirnServer, tmp_path: Path) -> None:
    topic = server.create_topic("kept", tier="cold", partitions=2)
    written = produce(server.bootstrap, topic, corner_cases() + generated(300, 4, partitions=2))
    server.settle(topic)
    copy = tmp_path / "bucket"
    shutil.copytree(server.store.url.removeprefix("file://"), copy)
    # None of these is in the copy.
    produce(server.bootstrap, topic, generated(50, 5, partitions=2))
    names = ", ".join(f'"{name}"' for name in COLUMNS)
    offline = ("sql", "--object-store", f"file://{copy}")
    run = server.cli(*offline, "--format", "parquet", f'SELECT {names} FROM "{topic}"')
    expect_same(written, rows_of(run.stdout))
    assert b"only archived records are seen" in run.stderr, run.stderr
    wrong = server.cli(*offline, f'SELECT * FROM "{topic}x"', check=False)
    assert wrong.returncode == 1 and b"did you mean" in wrong.stderr, wrong
    empty = server.cli("sql", "--object-store", f"file://{tmp_path}/none", "SELECT 1", check=False)
    assert empty.returncode == 1 and b"none" in empty.stderr, empty


@pytest.fixture
def shell(server: FirnServer, topic: str, tmp_path: Path) -> Iterator[Terminal]:
    """The shell, at its prompt."""
    env = {"FIRN_SQL_HISTORY": str(tmp_path / "history")}
    with Terminal("sql", "--admin", server.admin_address, env=env) as terminal:
        terminal.expect(PROMPT)
        yield terminal


def test_the_shell_lists_completes_and_answers(shell: Terminal, topic: str, tmp_path: Path) -> None:
    shell.type("\\d\r")
    shell.expect(topic)
    shell.expect(r"\d rows?\r")
    shell.expect(PROMPT)
    shell.type("\\d departure\r")
    shell.expect("did you mean departures")
    shell.expect(PROMPT)
    shell.type("\\d departures\r")
    seen = shell.expect("12 rows")
    assert "partition" in seen and "bytes" in seen, seen
    shell.expect(PROMPT)
    shell.type("\\timing\r")
    shell.expect("timing is on")
    shell.expect(PROMPT)
    # Two lines, with the topic's name completed.
    shell.type("select count(*) as n\r")
    shell.type("from depar\t")
    shell.expect("from departures")
    shell.type(" where 1 = 1;\r")
    shell.expect(rf"\| +{RECORDS} \|")
    shell.expect(r"\d+\.\d{3} s")
    shell.expect(PROMPT)
    shell.type("select nothing\x03")
    shell.expect(PROMPT)
    shell.type("\\q\r")
    assert shell.end() == 0
    assert "departures where 1 = 1" in (tmp_path / "history").read_text()


def test_ctrl_c_ends_the_query_and_not_the_shell(shell: Terminal, server: FirnServer, topic: str) -> None:
    # It waits for the end of another query, and a spinner shows that, and for how long.
    with asking(server, LONG.format(topic)) as other:
        assert other.getresponse().read(100)
        shell.type("select 1;\r")
        shell.expect(r"[1-9]s")
        shell.type("\x03")
        shell.expect("cancelled")
        shell.expect(PROMPT)
    shell.type("select 40 + 2 as answer;\r")
    shell.expect(r"\| +42 \|")
    shell.expect(PROMPT)
    shell.type("\x04")
    assert shell.end() == 0
