"""Runs Apache Kafka's own command-line classes, and Apache Iceberg's own REST client."""

import shutil
import subprocess
from pathlib import Path

from harness.paths import ICEBERG_JARS, JARS

_JAVA = Path(__file__).resolve().parent.parent / "java"
JAVA_LOG_CONFIG = _JAVA / "log4j2.properties"

_TOOLS = "org.apache.kafka.tools"
TOOL_CLASSES = {
    "topics": f"{_TOOLS}.TopicCommand",
    "console-producer": f"{_TOOLS}.ConsoleProducer",
    "console-consumer": f"{_TOOLS}.consumer.ConsoleConsumer",
    "end-to-end-latency": f"{_TOOLS}.EndToEndLatency",
    "producer-perf-test": f"{_TOOLS}.ProducerPerformance",
    "get-offsets": f"{_TOOLS}.GetOffsetShell",
    "configs": "kafka.admin.ConfigCommand",
    "delete-records": f"{_TOOLS}.DeleteRecordsCommand",
    "consumer-groups": f"{_TOOLS}.consumer.group.ConsumerGroupCommand",
    "log-dirs": f"{_TOOLS}.LogDirsCommand",
    "dump-log": f"{_TOOLS}.DumpLogSegments",
    "metadata-quorum": f"{_TOOLS}.MetadataQuorumCommand",
    "cluster": f"{_TOOLS}.ClusterTool",
    "leader-election": f"{_TOOLS}.LeaderElectionCommand",
    "reassign-partitions": f"{_TOOLS}.reassign.ReassignPartitionsCommand",
    "features": f"{_TOOLS}.FeatureCommand",
}


_JVM = ("-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
"""For runs of a second."""


def class_path() -> str:
    """All jars that scripts/setup-tests.sh brought."""
    return f"{JARS}/*"


def tool(
    name: str,
    *args: str,
    stdin: bytes | None = None,
    check: bool = True,
    timeout_s: float = 120,
    jvm: tuple[str, ...] = _JVM,
    jars: Path = JARS,
) -> str:
    """Runs a tool to its end and returns its standard output; a failure shows both outputs."""
    run = subprocess.run(  # noqa: S603 - a tool under test
        [
            shutil.which("java") or "java", *jvm, "-Xshare:auto",
            f"-Dlog4j2.configurationFile={JAVA_LOG_CONFIG}", "-cp", f"{jars}/*", TOOL_CLASSES[name], *args,
        ],
        input=stdin, capture_output=True, timeout=timeout_s, check=False,
    )  # fmt: skip
    out, err = run.stdout.decode(errors="replace"), run.stderr.decode(errors="replace")
    if check and run.returncode != 0:
        raise AssertionError(f"{name} {' '.join(args)}: status {run.returncode}\n{out}\n{err}")
    return out if check else out + err


def iceberg_metadata_tables(catalog_url: str, table: str, *names: str, timeout_s: float = 120) -> dict[str, int]:
    """The rows of metadata tables, by their names, as every engine in Java finds them; −1 for one that does not exist."""
    command = [
        shutil.which("java") or "java", *_JVM, "-cp", f"{ICEBERG_JARS}/*", str(_JAVA / "iceberg" / "MetadataTables.java"),
        catalog_url, table, *names,
    ]  # fmt: skip
    run = subprocess.run(command, capture_output=True, timeout=timeout_s, check=False, text=True)  # noqa: S603 - a client under test
    assert run.returncode == 0, run.stdout + run.stderr
    return {name: int(rows) for name, rows in (line.split() for line in run.stdout.splitlines())}
