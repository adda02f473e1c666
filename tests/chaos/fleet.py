"""The client processes of a run: started, killed and replaced, paused, and ended in order."""

import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from chaos.topics import GROUPS
from harness.process import Process

TESTS = Path(__file__).resolve().parents[1]
END_S = 180


@dataclass
class Member:
    """A client process and what it is started with again."""

    role: str
    extra: dict[str, str]
    process: Process
    name: str
    killed: bool = False
    """By the run, on purpose; set before it happens."""


class Fleet:
    """Three writers, two readers, an observer, a churner, and groups of two."""

    def __init__(self, bootstrap: str, folder: Path, seed: int) -> None:
        self.bootstrap, self.folder, self.seed = bootstrap, folder, seed
        self.clients: list[Member] = []
        self.failures: list[str] = []
        self._count: Counter[str] = Counter()

    @property
    def history(self) -> Path:
        """The folder of the history."""
        return self.folder / "history"

    def start(self) -> None:
        """Starts everybody."""
        for group in GROUPS:
            for _ in range(2):
                self.clients.append(self._spawn("member", {"group": group}))
        self.clients += [
            self._spawn(role, {}) for role in ("writer", "writer", "writer", "reader", "reader", "observer", "churner")
        ]

    def _spawn(self, role: str, extra: dict[str, str]) -> Member:
        self._count[role] += 1
        name = f"{role}-{self._count[role]}"
        args = [sys.executable, "-m", f"chaos.{role}", "--name", name, "--bootstrap", self.bootstrap,
                "--history", str(self.history), "--seed", str(self.seed)]  # fmt: skip
        for key, value in extra.items():
            args += [f"--{key}", value]
        env = {"PYTHONPATH": f"{TESTS}:{TESTS / 'clients'}", "PYTHONUNBUFFERED": "1"}
        return Member(role, extra, Process(args, self.folder / f"{name}.log", env), name)

    def chosen(self, role: str, number: int) -> Member:
        """One of the clients of a role, by a number that chance drew."""
        clients = [client for client in self.clients if client.role == role]
        return clients[number % len(clients)]

    def replace(self, client: Member) -> str:
        """SIGKILL for a client, and another one in its place; returns their names."""
        client.killed = True
        client.process.kill()
        new = self._spawn(client.role, client.extra)
        self.clients[self.clients.index(client)] = new
        return f"{client.name}, then {new.name}"

    def pause(self, client: Member, seconds: float) -> None:
        """A client stands still, and does not know it."""
        client.process.signal(signal.SIGSTOP)
        time.sleep(seconds)
        client.process.signal(signal.SIGCONT)

    def check(self) -> None:
        """No client may end by itself."""
        for client in self.clients:
            if client.process.exit_status is not None and not client.killed:
                raise AssertionError(f"{client.name} ended by itself\n{client.process.output()}")

    def end(self, *roles: str) -> None:
        """Asks the clients of these roles to end, and waits; what they fail with is a failure of the run."""
        ending = [client for client in self.clients if client.role in roles]
        for client in ending:
            client.process.signal(signal.SIGTERM)
        for client in ending:
            self.clients.remove(client)
            self._await(client)

    def _await(self, client: Member) -> None:
        try:
            status = client.process.wait(END_S)
        except subprocess.TimeoutExpired:
            client.process.kill()
            self.failures.append(f"{client.name} did not end within {END_S} s: stuck\n{client.process.output()}")
            return
        if status != 0:
            self.failures.append(f"{client.name} ended with status {status}\n{client.process.output()}")

    def last_reading(self) -> None:
        """One client reads everything."""
        self._await(self._spawn("last_reader", {}))

    def close(self) -> None:
        """Ends everybody at once."""
        for client in self.clients:
            client.process.signal(signal.SIGCONT)
            client.process.kill()
