"""A stand-in for S3, and for the XML API of Google Cloud Storage, that breaks one promise or none."""

import threading
from enum import Enum
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape


class Flaw(Enum):
    """The promise that is broken."""

    NONE = "none"
    NO_CONDITIONAL_PUT = "If-None-Match on PUT is ignored, as by Garage"
    NO_RANGES = "a Range is ignored and the whole object answered"
    STALE_LISTING = "a listing does not show what was just written"
    STALE_READS = "a fresh object is not found"


class WeakStore:
    """Objects in memory behind S3's HTTP API, path style, without authentication."""

    def __init__(self, flaw: Flaw) -> None:
        self.flaw = flaw
        self.objects: dict[str, bytes] = {}
        store = self

        class Handler(_Handler):
            weak = store

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def endpoint(self) -> str:
        """Its base URL."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        """Stops it."""
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    weak: WeakStore
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def _answer(self, status: HTTPStatus, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _error(self, status: HTTPStatus, code: str) -> None:
        self._answer(status, f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode())

    @property
    def _key(self) -> str:
        return unquote(urlsplit(self.path).path)

    def do_PUT(self) -> None:
        """Stores an object."""
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        is_new = self.headers.get("If-None-Match") == "*" or self.headers.get("x-goog-if-generation-match") == "0"
        guarded = is_new and self.weak.flaw is not Flaw.NO_CONDITIONAL_PUT
        if guarded and self._key in self.weak.objects:
            self._error(HTTPStatus.PRECONDITION_FAILED, "PreconditionFailed")
            return
        self.weak.objects[self._key] = body
        self._answer(HTTPStatus.OK, ETag=f'"{len(body)}"', x_goog_generation="1")

    def do_HEAD(self) -> None:
        """As GET."""
        self.do_GET()

    def do_GET(self) -> None:
        """An object, a range of one, or a listing."""
        query = parse_qs(urlsplit(self.path).query)
        if "list-type" in query:
            self._list(query.get("prefix", [""])[0])
            return
        body = self.weak.objects.get(self._key)
        if body is None or self.weak.flaw is Flaw.STALE_READS:
            self._error(HTTPStatus.NOT_FOUND, "NoSuchKey")
            return
        headers = {"ETag": f'"{len(body)}"', "Last_Modified": "Thu, 01 Jan 2026 00:00:00 GMT", "x_goog_generation": "1"}
        wanted = self.headers.get("Range", "").removeprefix("bytes=")
        if not wanted or self.weak.flaw is Flaw.NO_RANGES:
            self._answer(HTTPStatus.OK, body, **headers)
            return
        first, last = wanted.split("-")
        start = int(first) if first else len(body) - int(last)
        end = min(int(last) + 1 if first and last else len(body), len(body))
        headers["Content_Range"] = f"bytes {start}-{end - 1}/{len(body)}"
        self._answer(HTTPStatus.PARTIAL_CONTENT, body[start:end], **headers)

    def _list(self, prefix: str) -> None:
        bucket = self._key.split("/")[1]
        entries = "".join(
            f"<Contents><Key>{escape(key.removeprefix(f'/{bucket}/'))}</Key><Size>{len(body)}</Size><ETag>x</ETag>"
            "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
            for key, body in sorted(self.weak.objects.items())
            if key.startswith(f"/{bucket}/{prefix}") and self.weak.flaw is not Flaw.STALE_LISTING
        )
        body = (
            f'<?xml version="1.0"?><ListBucketResult><Name>{bucket}</Name><Prefix>{escape(prefix)}</Prefix>'
            f"<KeyCount>1</KeyCount><MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>"
        )
        self._answer(HTTPStatus.OK, body.encode(), Content_Type="application/xml")

    def do_DELETE(self) -> None:
        """Removes an object."""
        self.weak.objects.pop(self._key, None)
        self._answer(HTTPStatus.NO_CONTENT)

    def do_POST(self) -> None:
        """Removes several objects (`?delete`)."""
        import re

        body = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode()
        bucket = self._key.split("/")[1]
        keys = re.findall(r"<Key>(.*?)</Key>", body)
        for key in keys:
            self.weak.objects.pop(f"/{bucket}/{key}", None)
        deleted = "".join(f"<Deleted><Key>{escape(key)}</Key></Deleted>" for key in keys)
        self._answer(HTTPStatus.OK, f"<DeleteResult>{deleted}</DeleteResult>".encode())
