"""SQL over both tiers: a query sees what a consumer sees, whatever moves meanwhile; and what is wrong is told as such."""

import http.client
import io
import json
import time

import pyarrow as pa
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from conftest import StartServer
from harness.cluster import Cluster, FirnNode
from harness.firn import FirnServer
from harness.process import wait_until
from harness.records import Draft, Row, by_offset, consume, corner_cases, expect_same, generated, produce
from harness.sql import answered, ask, asking, sql_rows, value

pytestmark = pytest.mark.firn
SMALL = {"batch.num.messages": 25}
# Has rows at once, and far more than are read in the time of a test.
LONG = 'SELECT a.value FROM "{0}" a, "{0}" b, "{0}" c'


def fill(server: FirnServer, topic: str, count: int, seed: int, partitions: int = 1) -> list[Row]:
    """Writes corner cases and other records."""
    return produce(server.bootstrap, topic, corner_cases() + generated(count, seed, partitions=partitions), **SMALL)


@pytest.fixture(scope="module")
def topic(server: FirnServer) -> str:
    """A topic that is partly in the archive."""
    name = server.create_topic("mixed", tier="cold", partitions=2)
    fill(server, name, 600, 1, partitions=2)
    return name


def test_rows_are_those_of_a_consumer_while_segments_are_archived_and_evicted(server: FirnServer) -> None:
    topic = server.create_topic("Moving.rows-1", tier="cold", partitions=2)
    written: list[Row] = []
    seen_in_both = 0
    deadline = time.monotonic() + 60
    seed = 0
    while seen_in_both < 5:
        assert time.monotonic() < deadline, "both tiers never held a part of it"
        written += fill(server, topic, 250, seed, partitions=2)
        seed += 1
        for _ in range(3):
            now = server.archive_status([topic])
            expect_same(written, sql_rows(server, topic))
            seen_in_both += any(row["local_start"] > 0 and row["archived_end"] < row["log_end"] for row in now)
    server.settle(topic)
    expect_same(written, sql_rows(server, topic))
    assert value(server, f'SELECT count(*) AS n FROM "{topic}"') == len(written)
    last = max(row.offset for row in written if row.partition == 1)
    assert value(server, f'SELECT max("offset") AS last FROM "{topic}" WHERE partition = 1') == last


def test_what_is_deleted_is_not_seen(server: FirnServer) -> None:
    topic = server.create_topic("shrinking", tier="cold")
    written = fill(server, topic, 500, 7)
    server.settle(topic)
    written += fill(server, topic, 100, 8)
    middle = 333
    admin = server.admin()
    below = TopicPartition(topic, 0, middle)
    admin.delete_records([below])[below].result(20)
    expect_same([row for row in written if row.offset >= middle], sql_rows(server, topic))
    server.restart()
    expect_same([row for row in written if row.offset >= middle], sql_rows(server, topic))

    change = ConfigEntry("retention.bytes", "20000", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[change])
    admin.incremental_alter_configs([resource])[resource].result(20)
    wait_until("retention to delete", lambda: server.archive_status([topic])[0]["log_start"] > middle)
    # Retention may go on between the two readers, and stops when nothing is left to drop.
    wait_until("SQL and a consumer to agree", lambda: by_offset(sql_rows(server, topic)) == consume(server.bootstrap, topic))


def test_a_node_reads_what_other_nodes_lead(cluster: Cluster[FirnNode]) -> None:
    topic = cluster.create_topic("spread", tier="cold", partitions=3, config={"segment.bytes": "16384"})
    written = produce(cluster.bootstrap, topic, generated(400, 3, partitions=3), **SMALL)
    for node in cluster.nodes.values():
        expect_same(written, sql_rows(node, topic))
    killed = cluster.leader(topic)
    killed.kill()
    for node in cluster.living:
        expect_same(written, sql_rows(node, topic))
    cluster.start([killed])


def test_formats(server: FirnServer) -> None:
    topic = server.create_topic("formats")
    produce(server.bootstrap, topic, [Draft(key=b"k", value=b'say "a,b"'), Draft(key=None, value=b"\xff\x00")])
    query = f'SELECT "offset", key, value FROM "{topic}" ORDER BY "offset"'
    assert answered(server, query, format="csv") == b'offset,key,value\n0,k,"say ""a,b"""\n1,,\\xff00\n'
    assert [json.loads(line) for line in answered(server, query).splitlines()] == [
        {"offset": 0, "key": "k", "value": 'say "a,b"'},
        {"offset": 1, "key": None, "value": "\\xff00"},
    ]
    table = answered(server, query, format="table").decode()
    assert "| offset | key | value" in table and 'say "a,b"' in table and table.endswith("2 rows\n"), table
    arrow = pa.ipc.open_stream(io.BytesIO(answered(server, query, format="arrow"))).read_all()
    assert arrow.column("value").to_pylist() == [b'say "a,b"', b"\xff\x00"]
    empty = f'SELECT "offset" FROM "{topic}" WHERE partition = 9'
    assert answered(server, empty) == b"" and answered(server, empty, format="csv") == b"offset\n"


@pytest.mark.parametrize(
    ("query", "words", "at"),
    [
        ("SELECT (1\n  FROM x", "syntax error", {"line": 2, "column": 3}),
        ("SELECT * FROM formatted", "there is no topic", {"line": 1, "column": 15}),
        ('SELECT ofset FROM "{topic}"', "did you mean", {"line": 1, "column": 8}),
        ("DROP TABLE x", "only reads", None),
        ("SELECT 1; SELECT 2", "several statements", None),
        ("SELECT 1 / 0", "ivide by zero", None),
        ("", "no statement", None),
    ],
)
def test_a_wrong_query_is_answered_with_the_place(
    server: FirnServer, topic: str, query: str, words: str, at: dict[str, int] | None
) -> None:
    answer = ask(server, query.replace("{topic}", topic))
    assert answer.status == 400 and answer.media_type == "application/json", answer
    assert words in answer.error()["error"], answer
    assert answer.error().get("at") == at, answer


def test_a_wrong_request_is_refused(server: FirnServer) -> None:
    for wrong in ({"format": "xml"}, {"timeout_ms": "soon"}, {"formatt": "csv"}, {"views": [["v", "SELECT 1"]]}):
        answer = ask(server, "SELECT 1", **wrong)
        assert answer.status == 400 and answer.error(), answer


def test_a_query_ends_at_its_deadline(server: FirnServer, topic: str) -> None:
    answer = ask(server, f'SELECT max(value) FROM "{topic}"', timeout_ms=1)
    assert answer.status == 504 and "limit" in answer.error()["error"], answer


@pytest.mark.parametrize("form", ["json", "csv"])
def test_an_answer_that_fails_in_the_middle_has_no_clean_end(server: FirnServer, topic: str, form: str) -> None:
    answer = ask(server, LONG.format(topic), format=form, timeout_ms=3000)
    assert answer.status == 200 and not answer.whole and answer.body, (answer.status, answer.whole, len(answer.body))
    if form == "json":
        assert "limit" in json.loads(answer.body.splitlines()[-1])["error"]


def test_queries_are_limited_and_end_with_their_connection(start_server: StartServer) -> None:
    server = start_server({"firn.sql.concurrency": "1"})
    assert isinstance(server, FirnServer)
    topic = server.create_topic("busy")
    fill(server, topic, 600, 2)
    with asking(server, LONG.format(topic)):

        def refused() -> bool:
            answer = ask(server, "SELECT 1", timeout_ms=200)
            return answer.status == 429 and "try again" in answer.error()["error"]

        wait_until("the limit to count", refused)
    # Nobody waits for the long one any more.
    wait_until("its place to be free", lambda: ask(server, "SELECT 1 AS one").status == 200)
    assert 'firn_sql_queries_total{outcome="cancelled"} 1' in server.http("/metrics")


def test_a_cancelled_stream_ends_its_query(server: FirnServer, topic: str) -> None:
    with asking(server, LONG.format(topic)) as connection:
        response: http.client.HTTPResponse = connection.getresponse()
        assert response.status == 200 and response.read(1000)
        response.close()

    def cancelled() -> bool:
        return 'firn_sql_queries_total{outcome="cancelled"}' in server.http("/metrics")

    wait_until("the query to be given up", cancelled)
