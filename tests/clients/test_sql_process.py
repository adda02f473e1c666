"""SQL has a process of its own: whatever a query does, the broker goes on, and the next query is answered."""

import http.client
import os
import re
import threading
from pathlib import Path

import pytest

from conftest import StartServer
from harness.firn import FirnServer
from harness.pressure import MIB, Neighbour, memory_bytes, metric
from harness.process import wait_until
from harness.records import Draft, produce
from harness.sql import Answer, answered, ask, asking, value

pytestmark = pytest.mark.firn
# Takes far longer than a test, and lets go of no thread meanwhile.
COMPUTES = "SELECT levenshtein(repeat('a', 300000), repeat('b', 300000))"
# Has rows at once, and far more than are read in the time of a test.
LONG = 'SELECT a.value FROM "{0}" a, "{0}" b, "{0}" c'
# Grows by a function whose result is not bounded: 40 GB.
BURSTS = "SELECT length(regexp_replace(repeat('a', 400000), 'a', repeat('b', 100000), 'g'))"


def child(server: FirnServer) -> int | None:
    """The id of the SQL process, while there is one."""
    assert server.process is not None
    for folder in Path("/proc").iterdir():
        try:
            status = (folder / "status").read_text() if folder.name.isdigit() else ""
        except OSError:
            continue
        if f"\nPPid:\t{server.process.pid}\n" in status and "\nState:\tZ" not in status:
            return int(folder.name)
    return None


def peak(pid: int) -> int:
    """The most memory that a process has had, in bytes."""
    (line,) = re.findall(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(line) * 1024


def is_gone(pid: int) -> bool:
    """Whether a process has ended."""
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True


def restarts(server: FirnServer) -> float:
    """How often the SQL process has ended."""
    return metric(server, "firn_sql_process_restarts_total")


class Attack:
    """A server with a neighbour that writes with acks=all, whose memory must not grow by what queries do."""

    def __init__(self, server: FirnServer) -> None:
        self.server = server
        assert value(server, "SELECT 1 AS one") == 1
        self.neighbour = Neighbour(server, rounds=1)
        self.before = 0

    def __enter__(self) -> FirnServer:
        self.neighbour.__enter__()
        self.before = memory_bytes(self.server)
        return self.server

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self.neighbour.__exit__(kind, *rest)
        if kind is None:
            grown = memory_bytes(self.server, "VmHWM") - self.before
            assert grown < 96 * MIB, f"the broker's memory grew by {grown >> 20} MiB"
            assert value(self.server, "SELECT 2 AS two") == 2


@pytest.fixture(scope="module")
def topic(server: FirnServer) -> str:
    """A few small records."""
    name = server.create_topic("small")
    produce(server.bootstrap, name, [Draft(value=b"v%d" % n) for n in range(600)])
    return name


def test_a_long_chain_of_operators_is_answered_or_refused(server: FirnServer) -> None:
    before = restarts(server)
    with Attack(server):
        assert value(server, "SELECT " + "+".join(["1"] * 300) + " AS n") == 300
        terms = " OR ".join(f"n = {n}" for n in range(300))
        assert value(server, f"SELECT count(*) AS c FROM (VALUES (1), (299), (300)) AS t(n) WHERE {terms}") == 2
        union = " UNION ALL ".join(["SELECT 1 AS n"] * 200)
        assert value(server, f"SELECT sum(n) AS s FROM ({union})") == 200
        for sign in ["+", " OR ", "||", " UNION ALL SELECT "]:
            answer = ask(server, "SELECT " + sign.join(["1"] * 20_000))
            assert answer.status == 400 and "more than the limit" in answer.error()["error"], (sign, answer)
    assert restarts(server) == before


@pytest.mark.parametrize(
    "query",
    [
        "SELECT octet_length(repeat(arrow_cast('x', 'LargeUtf8'), 12000000000))",
        "SELECT length(lpad('x', 2000000000))",
        "SELECT length(rpad('x', 2000000000))",
        "SELECT array_length(array_repeat('x', 2000000000))",
        "SELECT array_length(array_resize([1], 2000000000, 1))",
        "SELECT array_length(range(1, 1000000000))",
        "SELECT length(replace(repeat('a', 1000000), 'a', repeat('b', 1000000)))",
    ],
)
def test_a_function_that_multiplies_fails_its_query_alone(server: FirnServer, query: str) -> None:
    before = restarts(server)
    answer = ask(server, query)
    assert answer.status == 503 and "more than the limit" in answer.error()["error"], answer
    assert restarts(server) == before


def test_functions_that_multiply_work_as_before(server: FirnServer) -> None:
    answer = answered(
        server,
        "SELECT repeat('ab', 3) AS a, lpad('x', 3, '-') AS b, rpad('x', 3) AS c, replace('aXbX', 'X', 'YY') AS d, "
        "array_repeat('x', 2) AS e, list_repeat(1, 2) AS f, range(3) AS g, generate_series(1, 5, 2) AS h, "
        "array_resize([1], 2, 7) AS i, repeat(NULL, 2) AS j",
        format="json",
    )
    assert answer == (
        b'{"a":"ababab","b":"--x","c":"x  ","d":"aYYbYY","e":["x","x"],"f":[1,1],'
        b'"g":[0,1,2],"h":[1,3,5],"i":[1,7],"j":null}\n'
    )


def await_answer(server: FirnServer) -> None:
    """Waits for the next process; a query that is sent in the instant in which the last one ends is told to be repeated."""

    def answered_again() -> bool:
        answer = ask(server, "SELECT 1 AS one")
        assert answer.status == 200 or "repeat yours" in answer.error()["error"], answer
        return answer.status == 200

    wait_until("the next SQL process to answer", answered_again, timeout_s=10)


def test_a_query_that_needs_too_much_memory_ends_the_process_and_not_the_broker(server: FirnServer, topic: str) -> None:
    with Attack(server):
        before = restarts(server)
        with asking(server, LONG.format(topic), format="table") as other:
            response = other.getresponse()
            assert response.status == 200 and response.read(100)
            answer = ask(server, BURSTS)
            assert answer.status == 503 and "memory" in answer.error()["error"], answer
            # The other one ends with the same reason, and without a clean end.
            rest = response.read1
            seen = b""
            try:
                while piece := rest(1 << 16):
                    seen = (seen + piece)[-1000:]
            except (OSError, http.client.HTTPException):
                pass
            assert b"error: a query ended the SQL process" in seen, seen
        assert restarts(server) == before + 1
        await_answer(server)
        health = server.http("/health")
        assert "sql process: up" in health and "memory limit: " in health, health
        assert metric(server, "firn_sql_process_up") == 1
        assert metric(server, "firn_sql_process_memory_limit_bytes") >= 1 << 30


def test_a_query_that_computes_ends_soon_after_its_deadline(start_server: StartServer) -> None:
    server = start_server({"firn.sql.concurrency": "1"})
    assert isinstance(server, FirnServer)
    with Attack(server):
        first = child(server)
        assert first is not None
        answer = ask(server, COMPUTES, timeout_ms=500)
        assert answer.status == 504 and "limit" in answer.error()["error"], answer
        wait_until("its thread to end", lambda: is_gone(first), timeout_s=20)
        await_answer(server)
        # So does one whose client has gone away.
        second = child(server)
        assert second is not None
        with asking(server, COMPUTES):
            wait_until("it to run", lambda: ask(server, "SELECT 1", timeout_ms=100).status == 429)
        wait_until("its thread to end", lambda: is_gone(second), timeout_s=20)
        await_answer(server)
    text = server.http("/metrics")
    assert 'firn_sql_process_restarts_total{reason="overrun"} 2' in text, text


def test_a_client_that_does_not_read_loses_its_place_at_the_deadline(start_server: StartServer) -> None:
    server = start_server({"firn.sql.concurrency": "1", "firn.sql.timeout.ms": "2000"})
    assert isinstance(server, FirnServer)
    topic = server.create_topic("unread")
    produce(server.bootstrap, topic, [Draft(value=b"v" * 1000) for _ in range(600)])
    with asking(server, LONG.format(topic)):
        wait_until("the next query", lambda: ask(server, "SELECT 1", timeout_ms=1000).status == 200)


def test_compressed_records_are_unpacked_a_few_at_a_time(start_server: StartServer) -> None:
    server = start_server({"firn.sql.memory.bytes": str(32 * MIB)})
    assert isinstance(server, FirnServer)
    topic = server.create_topic("zeros", tier="hot", config={"remote.storage.enable": "false"})
    records = [Draft(value=bytes(900_000)) for _ in range(500)]
    produce(server.bootstrap, topic, records, **{"compression.type": "zstd", "batch.num.messages": 4})
    with Attack(server):
        assert value(server, f'SELECT sum(octet_length(value)) AS n FROM "{topic}"') == 500 * 900_000
        pid = child(server)
        assert pid is not None
        assert peak(pid) < 320 * MIB, peak(pid) >> 20
        print(f"peak of the SQL process: {peak(pid) >> 20} MiB")


@pytest.mark.parametrize("form", ["table", "parquet"])
def test_large_rows_are_written_as_they_come(start_server: StartServer, form: str) -> None:
    server = start_server({"firn.sql.memory.bytes": str(64 * MIB)})
    assert isinstance(server, FirnServer)
    topic = server.create_topic("wide")
    produce(server.bootstrap, topic, [Draft(value=os.urandom(125_000).hex().encode()) for _ in range(600)])
    with Attack(server), asking(server, f'SELECT "offset", value FROM "{topic}"', format=form) as connection_:
        response = connection_.getresponse()
        assert response.status == 200
        read = 0
        while piece := response.read(1 << 20):
            read += len(piece)
        assert read > (5_000_000 if form == "table" else 60_000_000), read
        pid = child(server)
        assert pid is not None
        assert peak(pid) < 320 * MIB, peak(pid) >> 20
        print(f"peak of the SQL process: {peak(pid) >> 20} MiB")


def test_a_wide_cell_is_cut_in_a_table(server: FirnServer) -> None:
    table = answered(server, "SELECT repeat('x', 100000) AS wide, 1 AS one", format="table").decode()
    assert re.search(r"\| x{10000}… \|   1 \|\n", table), table[:200]
    # The name of this column is as long as the value.
    table = answered(server, f"SELECT '{'y' * 70000}'", format="table").decode()
    assert "y" * 9000 in table and "1 row\n" in table


def test_the_process_ends_with_a_broker_that_is_killed(start_server: StartServer) -> None:
    server = start_server({})
    assert isinstance(server, FirnServer)
    with asking(server, COMPUTES):
        pid = wait_until("the process", lambda: child(server))
        server.kill()
        wait_until("it to end too", lambda: is_gone(pid), timeout_s=10)
    server.start()
    await_answer(server)
    second = child(server)
    server.stop()
    assert second is not None and is_gone(second)


def test_a_process_that_was_killed_or_hangs_is_replaced(server: FirnServer) -> None:
    with Attack(server):
        for _ in range(3):
            pid = child(server)
            assert pid is not None
            before = restarts(server)
            os.kill(pid, 9)
            wait_until("its end to be noticed", lambda before=before: restarts(server) > before)  # type: ignore[misc]
            await_answer(server)
            assert child(server) != pid
        pid = child(server)
        assert pid is not None
        os.kill(pid, 19)
        answers: list[Answer] = []
        hanging = threading.Thread(target=lambda: answers.append(ask(server, "SELECT 1", timeout_ms=100)))
        hanging.start()
        hanging.join(30)
        assert answers and answers[0].status == 503, answers
        assert is_gone(pid)


def test_the_socket_is_for_its_owner_alone(server: FirnServer) -> None:
    value(server, "SELECT 1 AS one")
    assert (server.data_dir / "sql-process").stat().st_mode & 0o777 == 0o700
    # Of the broker's files none is open in the process, but its log and its sockets.
    pid = child(server)
    opened = [os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()]
    assert not [path for path in opened if str(server.data_dir) in path], opened
