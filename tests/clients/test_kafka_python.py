"""kafka-python's own integration tests, from its source package; the excluded ones are named with their reason."""

import os
import re
import subprocess
import sys

import pytest

from conftest import AnyServer
from harness.paths import KAFKA_PYTHON

SETTINGS = {"num.partitions": "4"}

# What they ask for is not part of this server yet, or of no server that they did not start themselves.
LEFT_OUT = {
    "test_sasl_integration.py": "SASL",
    "test_ssl_integration.py": "TLS",
    "test_admin_integration.py::test_create_describe_delete_acls": "access control lists; they need an authorizer",
    "test_admin_integration.py::test_alter_replica_log_dirs": "several log folders in one broker",
    "test_admin_integration.py::test_describe_metadata_quorum": "the controllers' own protocol",
    "test_admin_integration.py::test_alter_partition_reassignments": "moving replicas between brokers",
    "test_admin_integration.py::test_list_partition_reassignments": "moving replicas between brokers",
    "test_admin_integration.py::test_elect_leaders": "electing leaders among several brokers",
    "test_admin_integration.py::test_list_config_resources": "client metrics resources",
    "test_producer_integration.py::test_transactional_producer_messages": "transactions",
    "test_producer_integration.py::test_transactional_producer_offsets": "transactions",
}
NAMES_BROKER_0 = "test_admin_integration.py::test_create_partitions"  # it places the new replicas on broker 0
FILES = ["test_admin_integration.py", "test_consumer_integration.py", "test_producer_integration.py"]


@pytest.mark.parametrize("file", FILES)
def test_kafka_python(server: AnyServer, file: str) -> None:
    (broker,) = server.admin().list_topics(timeout=20).brokers
    left_out = [*LEFT_OUT, *([] if broker == 0 else [NAMES_BROKER_0])]
    skips = [part for name in left_out for part in ("--deselect", f"test/integration/{name}")]
    env = {
        **os.environ,
        "KAFKA_URI": f"kafka://{server.bootstrap}",
        "KAFKA_VERSION": "4.3",  # the newest that this release knows
        "KAFKA_ROOT": str(KAFKA_PYTHON),  # it only has to be a folder
        "PYTHONPATH": str(KAFKA_PYTHON),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    for name in ("PYTEST_XDIST_WORKER", "PYTEST_ADDOPTS"):
        env.pop(name, None)
    run = run_pytest([f"test/integration/{file}", *skips], env)
    failed = re.findall(r"^FAILED (test/integration/\S+)", run.stdout, re.MULTILINE)
    if len(failed) == 1:
        # Known and open (docs/roadmap.md): on a busy machine, about one consumer in a hundred stops asking although every
        # request of it was answered. One test may therefore be run again, once, and says so.
        print(f"run again: {failed[0]}\n{run.stdout[-3000:]}")
        run = run_pytest(failed, env)
    assert run.returncode == 0, f"{run.stdout[-8000:]}\n{run.stderr[-2000:]}"
    assert " passed" in run.stdout


def run_pytest(args: list[str], env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Runs tests of the unpacked source package."""
    return subprocess.run(  # noqa: S603 - the client under test
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-W", "ignore",
         "--log-level=WARNING", "--timeout=60", "--tb=short", *args],
        cwd=KAFKA_PYTHON, env=env, capture_output=True, timeout=170, check=False, text=True,
    )  # fmt: skip
