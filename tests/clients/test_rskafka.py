"""rskafka's own integration tests (a Rust client), compiled by scripts/setup-tests.sh."""

import os
import subprocess

import pytest

from conftest import AnyServer
from harness.paths import RSKAFKA_TESTS

# As in rskafka's own setup: a test asks for a topic that must not come into being by that.
SETTINGS = {"auto.create.topics.enable": "false"}
# rskafka means this broker's behaviour where it distinguishes brands.
BRAND = "kafka"
PROGRAMS = ["client", "consumer", "produce_consume", "producer"]
# name: why it is left out
LEFT_OUT: dict[str, str] = {}


@pytest.mark.parametrize("program", PROGRAMS)
def test_rskafka(server: AnyServer, program: str) -> None:
    env = {
        **os.environ,
        "TEST_INTEGRATION": "1",
        "TEST_BROKER_IMPL": BRAND,
        "KAFKA_CONNECT": server.bootstrap,
    }
    skips = [part for name in LEFT_OUT for part in ("--skip", name)]
    run = subprocess.run(  # noqa: S603 - the client under test
        [str(RSKAFKA_TESTS / program), "--test-threads", "4", *skips],
        env=env, capture_output=True, timeout=150, check=False, text=True,
    )  # fmt: skip
    assert run.returncode == 0, f"{run.stdout[-6000:]}\n{run.stderr[-3000:]}"
    assert "test result: ok" in run.stdout and "running 0 tests" not in run.stdout
