"""What the demo prints: steps, one moving line of progress on a terminal, aligned numbers."""

import sys
import time
from collections.abc import Sequence

_TTY = sys.stdout.isatty()


def _style(code: str, text: str) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if _TTY else text


def bold(text: str) -> str:
    """Emphasised."""
    return _style("1", text)


def green(text: str) -> str:
    """For what went well."""
    return _style("32;1", text)


def red(text: str) -> str:
    """For what did not."""
    return _style("31;1", text)


def dim(text: str) -> str:
    """For what matters less."""
    return _style("2", text)


def step(title: str, about: str) -> None:
    """Begins a step."""
    print(f"\n{bold(title)}  {dim(about)}", flush=True)


def line(text: str = "") -> None:
    """One line that stays."""
    print(f"{_ERASE if _TTY else ''}  {text}" if text else "", flush=True)


_ERASE = "\r\x1b[K"


def commands(told: Sequence[tuple[str, str]]) -> None:
    """Commands to type, each with what it is for."""
    for command, about in told:
        line(f"{command}  {dim('# ' + about)}")


class Progress:
    """A bar that is drawn over itself on a terminal; elsewhere only the last state is printed, once."""

    def __init__(self, total: int, unit: str) -> None:
        self.total, self.unit = total, unit
        self.started = time.monotonic()
        self._drawn = 0.0

    def show(self, count: int, *, extra: str = "", last: bool = False) -> None:
        """Draws the bar at `count`, at most ten times a second."""
        now = time.monotonic()
        if not last and (not _TTY or now - self._drawn < 0.1):
            return
        self._drawn = now
        seconds = max(now - self.started, 1e-3)
        share = min(count / max(self.total, 1), 1.0)
        bar = "█" * int(share * 24) + "░" * (24 - int(share * 24))
        text = f"  {bar} {count:>9,} {self.unit}  {count / seconds:>9,.0f}/s  {seconds:5.1f} s  {extra}".rstrip()
        print(f"{_ERASE if _TTY else ''}{text}", end="\n" if last else "", flush=True)


def mib(count: int) -> str:
    """Bytes as MiB."""
    return f"{count / (1 << 20):,.1f} MiB"
