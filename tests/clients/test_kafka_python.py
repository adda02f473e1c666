"""kafka-python's own integration tests, from its source package; the excluded ones are named with their reason.

They run with two races of the client closed that leave a consumer silent with any broker: `harness.kafka_python_races`.
"""

import os
import subprocess
import sys
from pathlib import Path

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
        "PYTHONPATH": os.pathsep.join((str(KAFKA_PYTHON), str(Path(__file__).parent))),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    for name in ("PYTEST_XDIST_WORKER", "PYTEST_ADDOPTS"):
        env.pop(name, None)
    run = subprocess.run(  # noqa: S603 - the client under test
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-W", "ignore",
         "-p", "harness.kafka_python_races", "--log-level=WARNING", "--timeout=60", "--tb=short",
         f"test/integration/{file}", *skips],
        cwd=KAFKA_PYTHON, env=env, capture_output=True, timeout=170, check=False, text=True,
    )  # fmt: skip
    assert run.returncode == 0, f"{run.stdout[-8000:]}\n{run.stderr[-2000:]}"
    assert " passed" in run.stdout
