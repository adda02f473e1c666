"""Histories on disk: a folder with one file of JSON lines for each client, appended to and never changed."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

from chaos.events import Event, Noted, Place, from_line, to_line

SUFFIX = ".jsonl"


class History:
    """One client's part. A line is written by one call, so that a client that is killed leaves whole lines."""

    def __init__(self, folder: Path, client: str) -> None:
        self.client = client
        folder.mkdir(parents=True, exist_ok=True)
        self._file = os.open(folder / f"{client}{SUFFIX}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def note(self, event: Event) -> None:
        """Appends the event; it outlives this process from the moment this returns."""
        data = to_line(event).encode() + b"\n"
        written = os.write(self._file, data)
        assert written == len(data), "the disk is full"

    def close(self) -> None:
        """Closes the file."""
        os.close(self._file)


def now() -> float:
    """The clock of all histories."""
    return time.monotonic()


def load(folder: Path) -> Iterator[Noted]:
    """All events of a history, file by file. A torn last line, of a client that was killed, is passed over."""
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if line.endswith("\n"):
                    yield Noted(Place(path.name, number), from_line(line))
