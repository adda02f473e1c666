"""Kafka's protocol by hand: single requests in chosen versions, and bytes that no proper client would send.

Messages are encoded by kafka-python's tables of the protocol, frames and headers here.
"""

import socket
import struct
from typing import Any

from kafka.protocol.api_message import ApiMessage
from kafka.protocol.metadata import ApiVersionsRequest, MetadataRequest

CLIENT_ID = "firn-wire-test"


class Closed(Exception):
    """The server closed the connection."""


class Wire:
    """One connection."""

    def __init__(self, host: str, port: int, timeout_s: float = 20) -> None:
        self._socket = socket.create_connection((host, port), timeout=timeout_s)
        self._correlation = 0

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def set_timeout(self, timeout_s: float) -> None:
        """How long to wait for the server from now on."""
        self._socket.settimeout(timeout_s)

    def close(self) -> None:
        """Closes our side."""
        self._socket.close()

    def send_bytes(self, data: bytes) -> None:
        """Sends bytes as they are."""
        try:
            self._socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise Closed from error

    def send_frame(self, body: bytes) -> None:
        """Sends a length and a body."""
        self.send_bytes(struct.pack(">i", len(body)) + body)

    def half_close(self) -> None:
        """Says that nothing more will come."""
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError as error:
            raise Closed from error

    def read_exact(self, count: int) -> bytes:
        """Reads this many bytes; raises Closed at the end of the stream."""
        data = bytearray()
        while len(data) < count:
            try:
                part = self._socket.recv(count - len(data))
            except ConnectionResetError as error:
                raise Closed from error
            if not part:
                raise Closed
            data += part
        return bytes(data)

    def read_frame(self) -> bytes:
        """Reads one answer's body, correlation id included."""
        (length,) = struct.unpack(">i", self.read_exact(4))
        return self.read_exact(length)

    def closed_by_server(self) -> bool:
        """Waits for the server to close; True when it sent nothing before that."""
        try:
            self.read_exact(1)
        except Closed:
            return True
        return False

    def send(self, request: ApiMessage) -> int:
        """Sends a request that carries its version; returns its correlation id."""
        self._correlation += 1
        request.with_header(correlation_id=self._correlation, client_id=CLIENT_ID)
        self.send_bytes(bytes(request.encode(header=True, framed=True)))
        return self._correlation

    def receive(self, request: ApiMessage) -> Any:
        """Reads the answer to this request; the answer must carry its correlation id."""
        body = self.read_frame()
        response_class = request.header.get_response_class()
        response = response_class.decode(body, header=True)
        assert response.header.correlation_id == request.header.correlation_id
        return response

    def ask(self, request: ApiMessage) -> Any:
        """Sends a request and reads its answer."""
        self.send(request)
        return self.receive(request)


def header(api_key: int, api_version: int, correlation_id: int = 1, *, flexible: bool = False) -> bytes:
    """A request header by hand."""
    client = CLIENT_ID.encode()
    tail = b"\x00" if flexible else b""
    return struct.pack(">hhih", api_key, api_version, correlation_id, len(client)) + client + tail


def api_versions(wire: Wire) -> dict[int, tuple[int, int]]:
    """API key to (lowest, highest) version announced."""
    answer = wire.ask(ApiVersionsRequest[3](client_software_name="firn-tests", client_software_version="1"))
    assert answer.error_code == 0
    return {api.api_key: (api.min_version, api.max_version) for api in answer.api_keys}


def topic_id(wire: Wire, topic: str) -> Any:
    """The topic's id, as kafka-python represents a UUID."""
    wanted = MetadataRequest.MetadataRequestTopic(name=topic)
    answer = wire.ask(MetadataRequest[12](topics=[wanted], allow_auto_topic_creation=False))
    assert answer.topics[0].error_code == 0, answer
    return answer.topics[0].topic_id
