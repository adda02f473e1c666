"""kcat, as a client under test."""

import subprocess


def kcat(bootstrap: str, *args: str, stdin: str | None = None) -> str:
    """Runs kcat and returns what it printed; its errors fail the test."""
    run = subprocess.run(  # noqa: S603 - the client under test
        ["kcat", "-b", bootstrap, "-m", "20", *args],  # noqa: S607
        input=None if stdin is None else stdin.encode(), capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert run.returncode == 0, f"kcat {args}: status {run.returncode}\n{run.stderr.decode()}"
    return run.stdout.decode()
