"""`firn sql` as a command and as a shell at a terminal."""

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.firn import FirnServer
from harness.parquet_rows import COLUMNS
from harness.paths import firn_binary
from harness.process import clean_environment
from harness.records import Draft, consume, corner_cases, expect_same, generated, produce
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
    strange = server.cli(*offline, "--cluster-id", "nobody", f'SELECT * FROM "{topic}"', check=False)
    assert strange.returncode == 1 and b'no archive of the cluster "nobody", but of ' in strange.stderr, strange
    empty = server.cli("sql", "--object-store", f"file://{tmp_path}/none", "SELECT 1", check=False)
    assert empty.returncode == 1 and b"none" in empty.stderr, empty


def test_titles_are_the_text_of_expressions(server: FirnServer, topic: str) -> None:
    query = f"SELECT 1, max(\"offset\"), value->>'a', 1 FROM {topic} GROUP BY 3"
    csv = server.cli("sql", "--admin", server.admin_address, "--format", "csv", query).stdout.splitlines()
    assert csv[0] == b"1,max(offset),value ->> 'a',1 (2)", csv
    assert csv[1] == b"1,%d,,1" % (RECORDS - 1), csv


def test_parameters_views_and_fractions_of_seconds_are_taken(server: FirnServer, topic: str, tmp_path: Path) -> None:
    admin = ("--admin", server.admin_address, "--format", "csv")
    query = f'SELECT count(*) AS n FROM {topic} WHERE "offset" < $below AND text(value) LIKE $like'
    run = server.cli("sql", *admin, "--timeout", "20.5", "-p", "below=20", "-p", "like=value 1%", query)
    assert run.stdout == b"n\n11\n"
    assert server.cli("sql", *admin, "-p", "1=5", "SELECT $1 + 2 AS n").stdout == b"n\n7\n"
    unbound = server.cli("sql", *admin, "SELECT $1 + 2 AS n", check=False)
    assert unbound.returncode == 1 and b"$1" in unbound.stderr, unbound
    file = tmp_path / "views.sql"
    file.write_text(
        f'CREATE VIEW low AS SELECT * FROM {topic} WHERE "offset" < 10;\n'
        'create or replace view "Lowest" as SELECT * FROM low WHERE "offset" < 3;\n'
        'SELECT count(*) AS n FROM "Lowest";\nEXPLAIN SELECT * FROM low;\n'
    )
    run = server.cli("sql", *admin, "-f", str(file))
    assert run.stdout.startswith(b"n\n3\n") and b"TopicScanExec" in run.stdout, run


def test_plans_columns_and_wide_rows_can_be_read(server: FirnServer, topic: str) -> None:
    admin = ("--admin", server.admin_address)
    plan = server.cli("sql", *admin, f"EXPLAIN SELECT * FROM {topic}").stdout.decode()
    assert plan.startswith("logical_plan\n  ") and "\nphysical_plan\n" in plan and "\\n" not in plan, plan
    columns = server.cli("sql", *admin, f"DESCRIBE {topic}").stdout.decode()
    assert "| headers" in columns and "| list of (key, value) |" in columns and max(map(len, columns.splitlines())) < 80, (
        columns
    )
    lines = server.cli("sql", *admin, "--format", "lines", f'SELECT "offset", value FROM {topic} WHERE "offset" = 3').stdout
    assert lines == b"row 1\n  offset  3\n  value   value 3\n1 row\n", lines


def test_errors_speak_of_bytes_and_text(server: FirnServer, topic: str) -> None:
    admin = ("--admin", server.admin_address)
    for query in (f"SELECT upper(key) FROM {topic}", f"SELECT key + 1 FROM {topic}", f"SELECT sum(value) FROM {topic}"):
        said = server.cli("sql", *admin, query, check=False).stderr.decode()
        assert "write text(key)" in said and len(said.splitlines()) == 1, said
        assert not re.search(r"Utf8|Int64|Binary|CAST|Candidate|explicit type", said), said


def test_a_command_stands_that_standard_error_is_closed_or_full(server: FirnServer) -> None:
    for target in ("/dev/full", "&-"):
        command = f'{shlex.quote(str(firn_binary()))} sql --admin {server.admin_address} "SELECT nothing" 2>{target}'
        run = subprocess.run(["sh", "-c", command], capture_output=True, timeout=60, check=False, env=clean_environment())  # noqa: S603, S607
        assert run.returncode == 1 and not run.stdout, run


def test_a_line_that_is_json_but_no_record_is_refused(server: FirnServer) -> None:
    topic = server.create_topic(name="objects")
    for line, said in (
        (b'["hello"]', b"expected a JSON object"),
        (b'{"value":"v","headers":[["k","v"]]}', b"expected a JSON object"),
        (b'{"value":"v","headers":7}', b'a list of {"key": \xe2\x80\xa6, "value": \xe2\x80\xa6}, or an object of texts'),
    ):
        run = server.cli("produce", "--bootstrap", server.bootstrap, topic, "--json", stdin=line + b"\n", check=False)
        assert run.returncode == 1 and said in run.stderr and b"Input" not in run.stderr, (line, run)
    assert not consume(server.bootstrap, topic)


def test_records_and_rows_are_copied_by_pipes(server: FirnServer) -> None:
    source = server.create_topic(name="source", partitions=3)
    drafts = [
        Draft(key=f"k{n}".encode(), value=f"v{n}".encode(), timestamp=1_700_000_000_000 + n, partition=n % 3)
        for n in range(60)
    ]
    written = produce(server.bootstrap, source, drafts)
    bootstrap = ("--bootstrap", server.bootstrap)
    records = server.cli("consume", *bootstrap, source, "--json").stdout
    one = server.create_topic(name="one", partitions=1)
    run = server.cli("produce", *bootstrap, one, "--json", stdin=records)
    assert b"40 records named a partition that topic one does not have" in run.stderr, run.stderr
    rows = server.cli("sql", "--admin", server.admin_address, "--format", "json", f"SELECT * FROM {source}").stdout
    three = server.create_topic(name="three", partitions=3)
    server.cli("produce", *bootstrap, three, "--json", stdin=rows)
    for topic, partitions in ((one, 1), (three, 3)):
        copied = consume(server.bootstrap, topic, partitions=partitions)
        kept = sorted((row.key, row.value, row.timestamp) for row in copied)
        assert kept == sorted((row.key, row.value, row.timestamp) for row in written)


def test_a_topic_is_deleted_on_a_terminal_only_by_its_name(server: FirnServer) -> None:
    name = server.create_topic(name="precious", partitions=2)
    produce(server.bootstrap, name, [Draft(value=b"x")] * 5)
    command = ("topic", "delete", name, "--bootstrap", server.bootstrap)
    with Terminal(*command, env={}) as terminal:
        terminal.expect("precious has 2 partitions with about 5 records")
        terminal.type("yes\r")
        terminal.expect("nothing was deleted")
        assert terminal.end() == 1
    with Terminal(*command, env={}) as terminal:
        terminal.expect("Type its name")
        terminal.type("precious\r")
        terminal.expect("its archived objects are removed by a sweep, at most 70 min from now")
        assert terminal.end() == 0
    again = server.create_topic(name="precious")
    assert b"deleted topic" in server.cli("topic", "delete", again, "--bootstrap", server.bootstrap).stdout


def test_the_status_shows_one_topic_and_no_empty_internal_partitions(server: FirnServer, topic: str) -> None:
    admin = ("--admin", server.admin_address)
    shown = server.cli("archive", "status", *admin, topic).stdout.decode()
    assert topic in shown and max(map(len, shown.splitlines())) < 200, shown
    assert server.cli("archive", "status", *admin, "nobody", check=False).returncode == 1


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
