"""What may go wrong with one request to an object store, and rules that say with which."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, unique


@unique
class Fault(Enum):
    """What happens to one request."""

    NONE = "goes through"
    # Before anything happened.
    REFUSE = "the connection is closed, nothing happens"
    HANG = "the answer never comes, and nothing happens"
    UNAVAILABLE = "503 SlowDown"
    SLOW_DOWN = "503 SlowDown with Retry-After"
    FORBIDDEN = "403 AccessDenied"
    EXPIRED = "400 ExpiredToken"
    # On its way there.
    SLOW = "it is forwarded late, also when the client has given up"
    LATENCY = "it waits, then its bytes pass as they come"
    CUT_REQUEST = "half of the request's body arrives, then both connections end"
    STALL_REQUEST = "half of the request's body arrives, then nothing moves any more"
    WRONG_REQUEST = "the request's body arrives with some bytes changed"
    # On its way back; the request took effect.
    ERROR_AFTER = "500"
    LOST_ANSWER = "nothing, and the connection is closed"
    SHORT = "half of the answer's body, then the end of the connection"
    STALL_ANSWER = "half of the answer's body, then nothing more"
    WRONG_BYTES = "the answer's body with some bytes changed"
    REWRITTEN = "the answer's body as the proxy's `rewrite` changes it"


@dataclass(frozen=True)
class Request:
    """What a rule sees of a request."""

    number: int
    method: str
    target: str
    headers: dict[str, str]
    """Names in lower case."""
    at: float = field(default_factory=time.monotonic)

    @property
    def is_data(self) -> bool:
        """Whether it is about an archived data object."""
        return ".parquet" in self.target

    @property
    def is_manifest(self) -> bool:
        """Whether it is about a manifest."""
        return ".manifest" in self.target

    @property
    def is_write(self) -> bool:
        """Whether it writes an object or a part of one."""
        return self.method == "PUT" or self.is_complete

    @property
    def is_read(self) -> bool:
        """Whether it reads an object."""
        return self.method == "GET" and not self.is_list

    @property
    def is_list(self) -> bool:
        """Whether it lists a folder."""
        return self.method == "GET" and "list-type=" in self.target

    @property
    def is_complete(self) -> bool:
        """Whether it completes an upload in parts."""
        return self.method == "POST" and "uploadId=" in self.target

    @property
    def is_delete(self) -> bool:
        """Whether it deletes objects."""
        return self.method == "DELETE" or (self.method == "POST" and "?delete" in self.target)


Rule = Callable[[Request], Fault]
Choice = Callable[[Request], bool]


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


class Chosen:
    """Of the requests that `choice` picks, the first `times` fail like this; all of them without `times`.

    `struck` counts them, so that a test can wait for the fault.
    """

    def __init__(self, choice: Choice, fault: Fault, times: int | None = None) -> None:
        self.choice, self.fault, self.times = choice, fault, times
        self.struck = 0

    def __call__(self, request: Request) -> Fault:
        """The rule."""
        if not self.choice(request) or (self.times is not None and self.struck >= self.times):
            return Fault.NONE
        self.struck += 1
        return self.fault


class Alternating:
    """Of the requests that `choice` picks, every second fails like this, beginning with the first."""

    def __init__(self, choice: Choice, fault: Fault) -> None:
        self.choice, self.fault = choice, fault
        self.seen = self.struck = 0

    def __call__(self, request: Request) -> Fault:
        """The rule."""
        if not self.choice(request):
            return Fault.NONE
        self.seen += 1
        if self.seen % 2 == 0:
            return Fault.NONE
        self.struck += 1
        return self.fault


class Bursts:
    """For `bad_s` seconds everything fails like this, for `good_s` nothing does, and so on."""

    def __init__(self, fault: Fault, bad_s: float, good_s: float) -> None:
        self.fault, self.bad_s, self.good_s = fault, bad_s, good_s
        self.begun = time.monotonic()
        self.struck = 0

    def __call__(self, _: Request) -> Fault:
        """The rule."""
        if (time.monotonic() - self.begun) % (self.bad_s + self.good_s) >= self.bad_s:
            return Fault.NONE
        self.struck += 1
        return self.fault
