"""A child process with its output in a file, and waiting for conditions."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def wait_until(
    what: str,
    condition: Callable[[], T],
    timeout_s: float = 30,
    interval_s: float = 0.05,
) -> T:
    """Polls until the condition returns something true, and returns that; a timeout names `what` and the last value.

    `what` is a phrase for the failure message. Assertion errors of the condition count as "not yet".
    """
    deadline = time.monotonic() + timeout_s
    last: object = None
    while True:
        try:
            value = condition()
            if value:
                return value
            last = value
        except AssertionError as error:
            last = error
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout_s:g} s for {what}; last seen: {last!r}")
        time.sleep(interval_s)


def clean_environment() -> dict[str, str]:
    """This process's environment without what configures Firn: a test says all of that itself."""
    return {name: value for name, value in os.environ.items() if not name.startswith("FIRN_")}


class Process:
    """One run of a program; both its outputs are appended to `log`."""

    def __init__(self, args: Sequence[str | Path], log: Path, env: Mapping[str, str] | None = None) -> None:
        self.log = log
        self.log_start = log.stat().st_size if log.exists() else 0
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as out:
            self._child = subprocess.Popen(  # noqa: S603 - the tests run what they name
                [str(arg) for arg in args],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**clean_environment(), **(env or {})},
                cwd=log.parent,
            )

    @property
    def pid(self) -> int:
        """The process id."""
        return self._child.pid

    @property
    def exit_status(self) -> int | None:
        """None while it runs; minus the signal's number when one ended it."""
        return self._child.poll()

    def output(self) -> str:
        """What this run has printed so far."""
        if not self.log.exists():
            return ""
        with self.log.open("rb") as file:
            file.seek(self.log_start)
            return file.read().decode(errors="replace")

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal unless the process has ended."""
        with contextlib.suppress(ProcessLookupError):
            self._child.send_signal(number)

    def wait(self, timeout_s: float) -> int:
        """Waits for the end; returns the exit status."""
        return self._child.wait(timeout_s)

    def kill(self) -> None:
        """SIGKILL, and waits until it is gone."""
        self.signal(signal.SIGKILL)
        self._child.wait(30)
