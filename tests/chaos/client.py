"""What the client processes of a run share: their arguments, their part of the history, the end by SIGTERM."""

import argparse
import random
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaError

from chaos.events import Trouble
from chaos.history import History, now

QUICK: dict[str, Any] = {
    "reconnect.backoff.ms": 20, "reconnect.backoff.max.ms": 300, "retry.backoff.ms": 20, "socket.timeout.ms": 5000,
    "log_level": 0,
}  # fmt: skip
"""Settings of clients that expect their server back soon."""


class Client:
    """One process: `python -m chaos.ROLE --name … --bootstrap … --history … --seed …`."""

    def __init__(self, *extra: str, args: Sequence[str] | None = None) -> None:
        parser = argparse.ArgumentParser()
        for name in ("name", "bootstrap", "history", *extra):
            parser.add_argument(f"--{name}", required=True)
        parser.add_argument("--seed", type=int, required=True)
        self.args = parser.parse_args(args)
        self.name: str = self.args.name
        self.rng = random.Random(f"{self.args.seed} {self.name}")
        self.history = History(Path(self.args.history), self.name)
        self.stopping = False
        self._told: dict[str, float] = {}
        self._sessions = 0
        signal.signal(signal.SIGTERM, self._stop)

    def _stop(self, *_: object) -> None:
        self.stopping = True

    def config(self, **more: Any) -> dict[str, Any]:
        """Settings for a client of librdkafka."""
        return {"bootstrap.servers": self.args.bootstrap, "client.id": self.name, **QUICK, "error_cb": self.trouble, **more}

    def trouble(self, error: KafkaError) -> None:
        """Notes an error that the client was told; the same one at most once a second."""
        at = now()
        if at - self._told.get(error.name(), 0.0) >= 1.0:
            self._told[error.name()] = at
            self.history.note(Trouble(at, self.name, error.name(), error.str()))

    def next_session(self) -> str:
        """A name for the next reading."""
        self._sessions += 1
        return f"{self.name}#{self._sessions}"

    def rest(self, seconds: float) -> None:
        """Pauses, but not beyond the end."""
        until = now() + seconds
        while not self.stopping and now() < until:
            time.sleep(min(0.05, seconds))
