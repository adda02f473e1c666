"""Asking a broker by SQL, over HTTP as any program would, and typing into `firn sql` at a terminal."""

import fcntl
import http.client
import io
import json
import os
import pty
import re
import select
import subprocess
import termios
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from harness.firn import FirnServer
from harness.parquet_rows import COLUMNS, row_of
from harness.paths import firn_binary
from harness.process import clean_environment
from harness.records import Row


@dataclass(frozen=True)
class Answer:
    """What `/v1/sql` answered; `whole` is false when the connection was cut before the end of the body."""

    status: int
    media_type: str
    body: bytes
    whole: bool

    def json_lines(self) -> list[Any]:
        """The rows of an answer in the format `json`."""
        return [json.loads(line) for line in self.body.splitlines()]

    def error(self) -> dict[str, Any]:
        """What a refusal says."""
        answer = json.loads(self.body)
        assert isinstance(answer["error"], str) and answer["error"], answer
        return answer


@contextmanager
def asking(server: FirnServer, query: str, **more: Any) -> Iterator[http.client.HTTPConnection]:
    """Sends a query; leaving closes the connection."""
    host, port = server.admin_address.rsplit(":", 1)
    connection = http.client.HTTPConnection(host, int(port), timeout=60)
    try:
        connection.request("POST", "/v1/sql", json.dumps({"query": query, **more}))
        yield connection
    finally:
        connection.close()


def ask(server: FirnServer, query: str, **more: Any) -> Answer:
    """A query's answer, whatever it is."""
    with asking(server, query, **more) as connection:
        response = connection.getresponse()
        try:
            body, whole = response.read(), True
        except http.client.IncompleteRead as cut:
            body, whole = cut.partial, False
        return Answer(response.status, response.getheader("content-type", ""), body, whole)


def answered(server: FirnServer, query: str, **more: Any) -> bytes:
    """The body of a query that has to succeed."""
    answer = ask(server, query, **more)
    assert answer.status == 200 and answer.whole, answer
    return answer.body


def value(server: FirnServer, query: str) -> Any:
    """The only value of the only row."""
    (row,) = (json.loads(line) for line in answered(server, query).splitlines())
    (only,) = row.values()
    return only


def sql_rows(server: FirnServer, topic: str) -> list[Row]:
    """All rows of a topic."""
    names = ", ".join(f'"{name}"' for name in COLUMNS)
    return rows_of(answered(server, f'SELECT {names} FROM "{topic}"', format="parquet"))


def rows_of(parquet: bytes) -> list[Row]:
    """The rows of an answer in the format `parquet`."""
    table = pq.read_table(io.BytesIO(parquet))
    columns = [table.column(name) for name in COLUMNS]
    lists = [column.cast("int64") if pa.types.is_timestamp(column.type) else column for column in columns]
    return [row_of(*values) for values in zip(*(column.to_pylist() for column in lists), strict=True)]


def _take_terminal() -> None:
    """Makes standard input the terminal whose Ctrl-C the process gets."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class Terminal:
    """A command with a pseudo-terminal of its own."""

    def __init__(self, *args: str, env: Mapping[str, str]) -> None:
        self.fd, child = pty.openpty()
        self.text = ""
        environment = {**clean_environment(), "TERM": "xterm", "NO_COLOR": "1", **env}
        self.process = subprocess.Popen(  # noqa: S603 - the command under test
            [str(firn_binary()), *args], stdin=child, stdout=child, stderr=child, env=environment,
            start_new_session=True, preexec_fn=_take_terminal,  # noqa: PLW1509 - only one system call
        )  # fmt: skip
        os.close(child)

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        os.close(self.fd)

    def type(self, text: str) -> None:
        """Types into it."""
        os.write(self.fd, text.encode())

    def expect(self, pattern: str, timeout_s: float = 20) -> str:
        """Waits until the screen shows it, and takes everything up to there."""
        deadline = time.monotonic() + timeout_s
        while (found := re.search(pattern, self.text)) is None:
            left = deadline - time.monotonic()
            assert left > 0, f"{pattern!r} is not shown: {self.text!r}"
            if select.select([self.fd], [], [], left)[0]:
                self.text += os.read(self.fd, 65536).decode(errors="replace")
        seen, self.text = self.text[: found.end()], self.text[found.end() :]
        return seen

    def end(self, timeout_s: float = 10) -> int:
        """Waits for its status."""
        return self.process.wait(timeout_s)
