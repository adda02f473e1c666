"""What lies in the archive's bucket, against what the archive names; and what `firn archive status` says of it."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.firn import FirnServer
from harness.process import wait_until


def topic_objects(server: FirnServer, topic: str) -> list[Path]:
    """Everything that lies under the topic's name in the store, whatever its id.

    Without the staged files (`name#1`) of uploads to a folder that a crash cut off: no listing shows them.
    """
    folder = re.compile(rf"/{re.escape(topic)}-[\w-]{{22}}/[^#]+$")
    return [file for file in server.store.objects() if folder.search(str(file))]


def expect_no_orphan(server: FirnServer, topic: str, timeout_s: float = 20) -> None:
    """Sooner or later the store holds what the current manifests name, themselves, and nothing else of the topic.

    The topic's Iceberg table, which is swept by other rules, is not looked at.
    """

    def clean() -> bool:
        named = set(server.archived_files(topic))
        partitions = [row["partition"] for row in server.archive_status([topic]) if row["archived_end"] > row["log_start"]]
        archive = [file for file in topic_objects(server, topic) if "iceberg" not in file.parts]
        objects = [file for file in archive if file.suffix != ".node"]
        data = {file for file in objects if file.suffix == ".parquet"}
        assert data == named, f"orphans: {sorted(data - named)}, missing: {sorted(named - data)}"
        manifests = [file for file in objects if file.suffix == ".manifest"]
        assert len(manifests) == len({file.parent for file in manifests}) == len(partitions), manifests
        assert len(data) + len(manifests) == len(objects), objects
        return True

    wait_until("orphans to be swept", clean, timeout_s)


def troubles(server: FirnServer, topic: str, activity: str = "archive") -> list[dict[str, Any]]:
    """What the status says to be going wrong with the topic's partitions."""
    rows = server.archive_status([topic])
    return [trouble for row in rows for trouble in row["troubles"] if trouble["activity"] == activity]


def await_trouble(
    server: FirnServer, topic: str, words: Sequence[str], activity: str = "archive", timeout_s: float = 20
) -> dict[str, Any]:
    """Waits until the status names a trouble with all these words, and checks what else it says of it."""

    def named() -> dict[str, Any]:
        found = troubles(server, topic, activity)
        for trouble in found:
            if all(word in trouble["error"] for word in words):
                return trouble
        raise AssertionError(f"no {activity} trouble with {words} among {found}")

    trouble = wait_until(f"the status to say {' '.join(words)}", named, timeout_s)
    assert trouble["attempts"] >= 1 and trouble["since_ms"] <= trouble["last_ms"], trouble
    assert (trouble["next_attempt_ms"] is not None) == (activity == "archive"), trouble
    return trouble


def await_health(server: FirnServer, topic: str, timeout_s: float = 30) -> None:
    """Waits until the status has nothing to complain about the topic."""

    def healthy() -> bool:
        rows = server.archive_status([topic])
        assert rows and not any(row["troubles"] or row["last_error"] for row in rows), rows
        return True

    wait_until("the status to be clear", healthy, timeout_s)


def status_sentences(server: FirnServer, topic: str) -> list[str]:
    """The sentences under the table of `firn archive status` that are about the topic."""
    return [line for line in status_text(server).splitlines() if re.match(rf"{re.escape(topic)}-\d+: ", line)]


def status_text(server: FirnServer) -> str:
    """What `firn archive status` prints."""
    return server.cli("archive", "status", "--admin", server.admin_address).stdout.decode()
