"""Servers in the place of the object store: they answer something else than a store, or nothing."""

import socket
import ssl
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# Self-signed, for 127.0.0.1 and localhost, until 2126.
CERTIFICATE = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgQdqiQpVuMcR8TKDh
c+r32hDYIviNM+NXbZCCQWn8oWChRANCAAQYF9ZsOsdEU41Si4aIxcmF4GB3qr8b
dHuIdl7oB8LYZPwp1NkX1JF1PJTYSbiv3DIm1h5Ks6sDic2Ms2O4OtxI
-----END PRIVATE KEY-----
-----BEGIN CERTIFICATE-----
MIIBnDCCAUGgAwIBAgIUFJMtyIx45PeOfxK5ZbNT6zHfAn0wCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEzMDE3NTQ0OVoYDzIxMjYxMTA2
MTc1NDQ5WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAAQYF9ZsOsdEU41Si4aIxcmF4GB3qr8bdHuIdl7oB8LYZPwp1NkX1JF1
PJTYSbiv3DIm1h5Ks6sDic2Ms2O4OtxIo28wbTAdBgNVHQ4EFgQULkyQNv4OiWak
fO7Hdi/OG4Bjzl4wHwYDVR0jBBgwFoAULkyQNv4OiWakfO7Hdi/OG4Bjzl4wDwYD
VR0TAQH/BAUwAwEB/zAaBgNVHREEEzARgglsb2NhbGhvc3SHBH8AAAEwCgYIKoZI
zj0EAwIDSQAwRgIhAOa8ui7BWBXZiHssKgH45QDETG2EGpOQFKEj+g6DMY2KAiEA
lWzXvagSBOnjEwbSRTqP7VV4ETPrY91lmt7pSZ5IFEM=
-----END CERTIFICATE-----
"""


@contextmanager
def answering(status: int, body: str = "", **headers: str) -> Iterator[str]:
    """An HTTP server that gives every request this answer; its base URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Quiet."""

        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body.encode())

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _answer  # noqa: N815 - names of the base class

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def s3_error(code: str, message: str) -> str:
    """The body of an error as S3 writes it."""
    text = f"<Code>{code}</Code><Message>{message}</Message><RequestId>1</RequestId><HostId>{'x' * 80}</HostId>"
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<Error>{text}</Error>'


@contextmanager
def listening(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server that gives each connection to `serve`, on a thread of its own; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener, ExitStack() as connections:

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                connections.callback(connection.close)
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)


def silent(_: socket.socket) -> None:
    """Takes the connection and never reads from it."""


def hang_up(connection: socket.socket) -> None:
    """Ends the connection as soon as a byte has come."""
    connection.recv(1)
    connection.close()


def redis(connection: socket.socket) -> None:
    """Answers as Redis does."""
    connection.recv(1000)
    connection.sendall(b"-ERR unknown command 'PUT'\r\n")
    connection.close()


@contextmanager
def over_tls() -> Iterator[int]:
    """A server that speaks TLS, with an untrusted certificate; its port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
        file.write(CERTIFICATE)
        file.flush()
        context.load_cert_chain(file.name)

    def serve(connection: socket.socket) -> None:
        try:
            context.wrap_socket(connection, server_side=True).close()
        except (OSError, ssl.SSLError):
            connection.close()

    with listening(serve) as port:
        yield port
