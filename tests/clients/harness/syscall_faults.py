"""System calls of a running process that fail on demand: `strace` attaches to it and answers in the kernel's place."""

import shutil
import subprocess
import sys
from pathlib import Path
from signal import SIGTERM
from types import TracebackType
from typing import Self

from harness.process import Process, wait_until

ATTACH_S = 20


def why_not() -> str | None:
    """What keeps `strace` from attaching on this machine; None when nothing does."""
    if shutil.which("strace") is None:
        return "strace not found: run scripts/setup-tests.sh"
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:  # noqa: S603
        # Not a child of strace: attaching to what runs already is what may be forbidden.
        line = ["strace", "-qq", "-p", str(other.pid), "-e", "trace=exit_group"]
        with subprocess.Popen(line, stderr=subprocess.PIPE) as trace:  # noqa: S603
            other.communicate(b"\n")
            told = (trace.communicate()[1] or b"").decode(errors="replace").strip()
        forbidden = trace.returncode != 0 and "No such process" not in told
    return f"strace may not attach to processes here: {told}" if forbidden else None


def _attach_to(pid: int, thread: str) -> list[str]:
    tasks = [task for task in Path(f"/proc/{pid}/task").iterdir() if (task / "comm").read_text().strip() == thread]
    assert tasks, f"process {pid} has no thread {thread}"
    return [argument for task in tasks for argument in ("-p", task.name)]


class SyscallFault:
    """While it is entered, calls named `call` of the process and all its threads fail with `error`.

    `when` is strace's: `3` is the third call of each thread, `3+` the third and all later ones. Calls with a path can be
    narrowed to `paths`, and all to the threads named `thread`; "" is every call. An `error` such as `delay_enter=2s` is
    another effect of strace's.
    """

    def __init__(
        self, pid: int, call: str, error: str, when: str, log: Path, paths: tuple[Path, ...] = (), thread: str | None = None
    ) -> None:
        self.call, self.error, self.when = call, error, when
        self._log = log
        narrowed = [part for path in paths for part in ("-P", str(path))]
        effect = error if "=" in error else f"error={error}"
        self._args = [
            "strace", *(["-f", "-p", str(pid)] if thread is None else _attach_to(pid, thread)), "-y", *narrowed,
            "-e", f"trace={call}", "-e", "signal=none",
            "-e", f"inject={call}:{effect}{when and f':when={when}'}",
        ]  # fmt: skip
        self._process: Process | None = None

    def __enter__(self) -> Self:
        process = self._process = Process(self._args, self._log)

        def attached() -> bool:
            # A thread may end of its fault before this looks.
            is_attached = "attached" in process.output()
            assert is_attached or process.exit_status is None, process.output()
            return is_attached

        wait_until("strace to attach", attached, ATTACH_S)
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        """Lets go of the process, which runs on."""
        self.end()

    def end(self) -> None:
        """From now on calls are real again."""
        if self._process is not None:
            process, self._process = self._process, None
            if process.exit_status is None:
                process.signal(SIGTERM)
                process.wait(ATTACH_S)

    def injected(self) -> list[str]:
        """The calls that failed so far, as strace shows them: with the file's path."""
        text = self._log.read_text(errors="replace") if self._log.exists() else ""
        return [line for line in text.splitlines() if "(INJECTED)" in line]


class SlowCalls(SyscallFault):
    """While it is entered, calls named `call` (several with commas) of the process take longer by so many milliseconds."""

    def __init__(self, pid: int, call: str, delay_ms: int, log: Path) -> None:
        super().__init__(pid, call, f"delay_enter={1000 * delay_ms}", "", log)
