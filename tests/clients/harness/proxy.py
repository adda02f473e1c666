"""An HTTP proxy in front of an object store that fails on demand. HTTP/1.1, one request per connection upstream."""

import asyncio
import contextlib
import re
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from harness.paths import free_port


class Fault(Enum):
    """What happens to one request."""

    NONE = "goes through"
    REFUSE = "the connection is closed before anything happened"
    SLOW = "the answer comes late"
    HANG = "the answer never comes"
    UNAVAILABLE = "503 before anything happened"
    ERROR_AFTER = "500 after the request took effect"
    LOST_ANSWER = "the connection is closed after the request took effect"
    SHORT = "half of the answer's body, then the end of the connection"
    WRONG_BYTES = "the answer's body with some bytes changed"


@dataclass(frozen=True)
class Request:
    """What a rule sees of a request."""

    number: int
    method: str
    target: str
    headers: dict[str, str]
    """Names in lower case."""

    @property
    def is_data(self) -> bool:
        """Whether it is about an archived data object."""
        return ".parquet" in self.target


Rule = Callable[[Request], Fault]


def healthy(_: Request) -> Fault:
    """Everything goes through."""
    return Fault.NONE


def always(fault: Fault) -> Rule:
    """Every request fails like this."""
    return lambda _: fault


def every(nth: int, fault: Fault) -> Rule:
    """Every nth request fails like this."""
    return lambda request: fault if request.number % nth == 0 else Fault.NONE


def writes(nth: int, fault: Fault) -> Rule:
    """Every nth request fails like this if it writes."""
    return lambda request: fault if request.method in ("PUT", "POST") and request.number % nth == 0 else Fault.NONE


def data_reads(nth: int, fault: Fault) -> Rule:
    """Every nth request fails like this if it reads a data object."""
    return lambda request: fault if request.method == "GET" and request.is_data and request.number % nth == 0 else Fault.NONE


@dataclass
class FaultProxy:
    """Listens on loopback and forwards to `upstream_port` there, by the rule of the moment."""

    upstream_port: int
    rule: Rule = healthy
    delay_s: float = 3.0
    port: int = field(default_factory=free_port)
    seen: int = 0
    injected: dict[Fault, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._started.wait(10)

    @property
    def endpoint(self) -> str:
        """Its base URL."""
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        """Stops listening."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(asyncio.start_server(self._guarded(self._serve), "127.0.0.1", self.port))
        self._started.set()
        self._loop.run_forever()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))

    def _guarded(self, serve: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., Coroutine[Any, Any, None]]:
        async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
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
            body = await _read_body(reader, headers)
            method, target = head.split(b" ")[:2]
            self.seen += 1
            request = Request(self.seen, method.decode(), target.decode(), headers)
            fault = self.rule(request)
            if fault is not Fault.NONE:
                self.injected[fault] = self.injected.get(fault, 0) + 1
            if not await self._answer(writer, request, head + body, fault):
                return

    async def _answer(self, writer: asyncio.StreamWriter, request: Request, message: bytes, fault: Fault) -> bool:
        """Answers one request; False ends the connection."""
        if fault is Fault.REFUSE:
            return False
        if fault is Fault.HANG:
            await asyncio.sleep(3600)
        if fault is Fault.SLOW:
            await asyncio.sleep(self.delay_s)
        if fault is Fault.UNAVAILABLE:
            writer.write(_error(503, "SlowDown"))
            await writer.drain()
            return True
        head, body = await self._forward(message, has_body=request.method != "HEAD")
        if fault is Fault.LOST_ANSWER:
            return False
        if fault is Fault.ERROR_AFTER:
            writer.write(_error(500, "InternalError"))
            await writer.drain()
            return True
        if fault is Fault.WRONG_BYTES and body:
            middle = len(body) // 2
            body = body[:middle] + bytes(byte ^ 0x55 for byte in body[middle : middle + 8]) + body[middle + 8 :]
        if fault is Fault.SHORT:
            body = body[: len(body) // 2]
        writer.write(head + body)
        await writer.drain()
        return fault is not Fault.SHORT

    async def _forward(self, message: bytes, *, has_body: bool) -> tuple[bytes, bytes]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.upstream_port)
        try:
            writer.write(message)
            await writer.drain()
            head, headers = await _read_head(reader)
            status = head.split(b" ")[1]
            body = await _read_body(reader, headers) if has_body and status not in (b"204", b"304") else b""
        finally:
            writer.close()
        return head, body


async def _read_head(reader: asyncio.StreamReader) -> tuple[bytes, dict[str, str]]:
    head = await reader.readuntil(b"\r\n\r\n")
    headers = {}
    for line in head.split(b"\r\n")[1:]:
        name, colon, value = line.partition(b":")
        if colon:
            headers[name.decode().lower()] = value.strip().decode()
    return head, headers


async def _read_body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    """The body as it came, chunk lengths included."""
    if headers.get("transfer-encoding", "").lower() == "chunked":
        body = b""
        while True:
            line = await reader.readuntil(b"\r\n")
            size = int(line.split(b";")[0], 16)
            body += line + await reader.readexactly(size + 2)
            if size == 0:
                return body
    return await reader.readexactly(int(headers.get("content-length", "0")))


def _error(status: int, code: str) -> bytes:
    body = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>made up by the test</Message></Error>'.encode()
    return (
        f"HTTP/1.1 {status} {code}\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    )
