"""An HTTP proxy in front of an object store that fails on demand. HTTP/1.1, one connection upstream per request.

Bodies pass in pieces as they come, except where a fault needs the whole of one.
"""

import asyncio
import contextlib
import re
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any

from harness.paths import free_port
from harness.store_faults import (
    Alternating,
    Bursts,
    Chosen,
    Fault,
    Request,
    Rule,
    always,
    data_reads,
    every,
    healthy,
    writes,
)

PIECE_BYTES = 64 << 10
# Requests that are remembered for tests that look at them.
REMEMBERED = 20_000
_REFUSALS = {
    Fault.UNAVAILABLE: (503, "SlowDown", ""),
    Fault.SLOW_DOWN: (503, "SlowDown", "Retry-After: 1\r\n"),
    Fault.FORBIDDEN: (403, "AccessDenied", ""),
    Fault.EXPIRED: (400, "ExpiredToken", ""),
}
_BUFFERED_REQUESTS = {Fault.SLOW, Fault.CUT_REQUEST, Fault.STALL_REQUEST, Fault.WRONG_REQUEST}
_BUFFERED_ANSWERS = {
    Fault.SHORT,
    Fault.STALL_ANSWER,
    Fault.WRONG_BYTES,
    Fault.REWRITTEN,
    Fault.ERROR_AFTER,
    Fault.LOST_ANSWER,
}


@dataclass
class FaultProxy:
    """Listens on `host` and forwards to `upstream_port` on loopback, by the rule of the moment."""

    upstream_port: int
    rule: Rule = healthy
    delay_s: float = 3.0
    """How late SLOW and LATENCY are."""
    port: int = field(default_factory=free_port)
    host: str = "127.0.0.1"
    seen: int = 0
    injected: dict[Fault, int] = field(default_factory=dict)
    requests: deque[Request] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    """The last requests, as rules saw them."""
    rewrite: Callable[[bytes], bytes] = bytes
    """What REWRITTEN does to an answer's body."""
    active: int = 0
    most_active: int = 0
    """Requests at the same time; a test may set the second back to 0."""

    def __post_init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._started.wait(10)

    @property
    def endpoint(self) -> str:
        """Its base URL."""
        return f"http://{self.host}:{self.port}"

    @contextlib.contextmanager
    def failing(self, rule: Rule) -> Iterator[Rule]:
        """This rule while the block runs; everything goes through afterwards."""
        self.rule = rule
        try:
            yield rule
        finally:
            self.rule = healthy

    def close(self) -> None:
        """Stops listening."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(asyncio.start_server(self._guarded(self._serve), self.host, self.port))
        self._started.set()
        self._loop.run_forever()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))

    def _guarded(self, serve: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., Coroutine[Any, Any, None]]:
        async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await serve(reader, writer)
            with contextlib.suppress(OSError):
                writer.close()

        return guarded

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head, headers = await _read_head(reader)
            if headers.get("expect", "").lower() == "100-continue":
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                head = re.sub(rb"\r\nexpect:[^\r]*", b"", head, flags=re.IGNORECASE)
            method, target = head.split(b" ")[:2]
            self.seen += 1
            request = Request(self.seen, method.decode(), target.decode(), headers)
            self.requests.append(request)
            fault = self.rule(request)
            if fault is not Fault.NONE:
                self.injected[fault] = self.injected.get(fault, 0) + 1
            self.active += 1
            self.most_active = max(self.most_active, self.active)
            try:
                if not await self._answer(_Exchange(reader, writer, request, head), fault):
                    return
            finally:
                self.active -= 1

    async def _answer(self, exchange: "_Exchange", fault: Fault) -> bool:
        """Answers one request; False ends the connection."""
        if fault is Fault.REFUSE:
            return False
        if fault is Fault.HANG:
            return await exchange.wait_for_the_client()
        if fault is Fault.LATENCY:
            await asyncio.sleep(self.delay_s)
        body = None
        if fault in _BUFFERED_REQUESTS or fault in _REFUSALS:
            body = await _read_body(exchange.reader, exchange.request.headers)
        if fault in _REFUSALS:
            await exchange.refuse(*_REFUSALS[fault])
            return True
        if fault is Fault.SLOW:
            await asyncio.sleep(self.delay_s)
        upstream = await asyncio.open_connection("127.0.0.1", self.upstream_port)
        try:
            if not await exchange.send(upstream, body, fault):
                return False
            return await exchange.receive(upstream[0], fault, self.rewrite)
        finally:
            upstream[1].close()


@dataclass
class _Exchange:
    """One request and its answer."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    request: Request
    head: bytes

    async def refuse(self, status: int, code: str, header: str = "") -> None:
        """An answer of S3's kind that the store never gave."""
        body = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>made up by the test</Message></Error>'.encode()
        length = f"Content-Type: application/xml\r\nContent-Length: {len(body)}\r\n"
        has_body = self.request.method != "HEAD"
        self.writer.write(f"HTTP/1.1 {status} {code}\r\n{header}{length}\r\n".encode() + (body if has_body else b""))
        await self.writer.drain()

    async def wait_for_the_client(self) -> bool:
        """Nothing more happens until the client gives up; always False."""
        await self.reader.read()
        return False

    async def send(
        self, upstream: tuple[asyncio.StreamReader, asyncio.StreamWriter], body: bytes | None, fault: Fault
    ) -> bool:
        """The request goes to the store; False when it does not arrive whole."""
        _, writer = upstream
        writer.write(self.head)
        if body is None:
            await _pass_body(self.reader, writer, self.request.headers)
            return True
        if fault in (Fault.CUT_REQUEST, Fault.STALL_REQUEST):
            writer.write(body[: len(body) // 2])
            await writer.drain()
            return fault is Fault.STALL_REQUEST and await self.wait_for_the_client()
        writer.write(_changed(body) if fault is Fault.WRONG_REQUEST else body)
        await writer.drain()
        return True

    async def receive(self, upstream: asyncio.StreamReader, fault: Fault, rewrite: Callable[[bytes], bytes]) -> bool:
        """The answer goes to the client; False when it ends early."""
        head, headers = await _read_head(upstream)
        status = head.split(b" ")[1]
        has_body = self.request.method != "HEAD" and status not in (b"204", b"304")
        if fault not in _BUFFERED_ANSWERS:
            self.writer.write(head)
            if has_body:
                await _pass_body(upstream, self.writer, headers)
            await self.writer.drain()
            return True
        body = await _read_body(upstream, headers) if has_body else b""
        if fault is Fault.LOST_ANSWER:
            return False
        if fault is Fault.ERROR_AFTER:
            await self.refuse(500, "InternalError")
            return True
        if fault is Fault.WRONG_BYTES:
            body = _changed(body)
        if fault is Fault.REWRITTEN:
            body = rewrite(_plain(body, headers))
            head = re.sub(rb"\r\n(content-length|transfer-encoding):[^\r]*", b"", head, flags=re.IGNORECASE)
            head = head.removesuffix(b"\r\n") + b"Content-Length: %d\r\n\r\n" % len(body)
        if fault in (Fault.SHORT, Fault.STALL_ANSWER):
            body = body[: len(body) // 2]
        self.writer.write(head + body)
        await self.writer.drain()
        if fault is Fault.STALL_ANSWER:
            return await self.wait_for_the_client()
        return fault is not Fault.SHORT


def _changed(body: bytes) -> bytes:
    """Eight bytes in the middle are others."""
    middle = len(body) // 2
    return body[:middle] + bytes(byte ^ 0x55 for byte in body[middle : middle + 8]) + body[middle + 8 :]


async def _read_head(reader: asyncio.StreamReader) -> tuple[bytes, dict[str, str]]:
    head = await reader.readuntil(b"\r\n\r\n")
    headers = {}
    for line in head.split(b"\r\n")[1:]:
        name, colon, value = line.partition(b":")
        if colon:
            headers[name.decode().lower()] = value.strip().decode()
    return head, headers


async def _pass_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, headers: dict[str, str]) -> None:
    """The body goes through as it comes, chunk lengths included."""
    if headers.get("transfer-encoding", "").lower() == "chunked":
        size = -1
        while size != 0:
            line = await reader.readuntil(b"\r\n")
            size = int(line.split(b";")[0], 16)
            writer.write(line)
            await _pass_bytes(reader, writer, size + 2)
    else:
        await _pass_bytes(reader, writer, int(headers.get("content-length", "0")))


async def _pass_bytes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, count: int) -> None:
    while count > 0:
        piece = await reader.read(min(count, PIECE_BYTES))
        if not piece:
            raise ConnectionResetError
        count -= len(piece)
        writer.write(piece)
        await writer.drain()


async def _read_body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    """The body as it came, chunk lengths included."""
    if headers.get("transfer-encoding", "").lower() == "chunked":
        pieces = []
        size = -1
        while size != 0:
            line = await reader.readuntil(b"\r\n")
            size = int(line.split(b";")[0], 16)
            pieces += [line, await reader.readexactly(size + 2)]
        return b"".join(pieces)
    return await reader.readexactly(int(headers.get("content-length", "0")))


def _plain(body: bytes, headers: dict[str, str]) -> bytes:
    """The body without chunk lengths."""
    if headers.get("transfer-encoding", "").lower() != "chunked":
        return body
    plain = b""
    position = 0
    while True:
        end = body.index(b"\r\n", position)
        size = int(body[position:end].split(b";")[0], 16)
        if size == 0:
            return plain
        plain += body[end + 2 : end + 2 + size]
        position = end + 4 + size


__all__ = [
    "Alternating", "Bursts", "Chosen", "Fault", "FaultProxy", "Request", "Rule", "always", "data_reads", "every", "healthy",
    "writes",
]  # fmt: skip
