"""Two races inside kafka-python 3.0.12, and the lines that close each.

Both silence a consumer for minutes although every request of it was answered at once, and with Apache Kafka as well:
what decides is which of the client's two threads is faster. `test_kafka_python_races.py` forces each of them.

This module is also a pytest plugin (`-p harness.kafka_python_races`), by which kafka-python's own tests run with both
races closed. It changes nothing else, so that a consumer that falls silent for another reason still fails its test.
"""

from typing import Any

import pytest
from kafka.cluster import ClusterMetadata
from kafka.coordinator.consumer import ConsumerCoordinator


def pytest_configure(config: pytest.Config) -> None:
    """Closes the races for a whole run."""
    patch = pytest.MonkeyPatch()
    config.add_cleanup(patch.undo)
    close_lost_subscription(patch)
    close_forgotten_rejoin(patch)


def close_lost_subscription(patch: pytest.MonkeyPatch) -> None:
    """Asks again when the topics changed between a Metadata request and its answer.

    `set_topics` only raises a flag, and every answer lowers it: also the answer to a request that was built before, without
    these topics. Then they are not asked for before `metadata_max_age_ms`. (Java's client had the same: KAFKA-7831.)
    """
    build, apply = ClusterMetadata.metadata_request, ClusterMetadata.update_metadata

    def topics(cluster: Any) -> tuple[bool, frozenset[str]]:
        return cluster.need_all_topic_metadata, frozenset(cluster._topics)

    def metadata_request(cluster: Any) -> Any:
        cluster.topics_in_flight = topics(cluster)
        return build(cluster)

    def update_metadata(cluster: Any, answer: Any) -> None:
        apply(cluster, answer)
        if topics(cluster) != cluster.topics_in_flight:
            cluster.request_update()

    patch.setattr(ClusterMetadata, "metadata_request", metadata_request)
    patch.setattr(ClusterMetadata, "update_metadata", update_metadata)


def close_forgotten_rejoin(patch: pytest.MonkeyPatch) -> None:
    """Takes part in a rebalance to its end.

    A leader rejoins because a topic's partitions changed; when the time of its `poll` is over first, the join continues in
    the background. Assigning the partitions makes the reason for the rejoin disappear, so that the next `poll` finds
    nothing to do: no code takes the assignment, and heartbeats, which were off for the join, stay off.
    """
    needs_rejoin = ConsumerCoordinator.need_rejoin

    def need_rejoin(coordinator: Any) -> bool:
        return coordinator._join_task is not None or needs_rejoin(coordinator)

    patch.setattr(ConsumerCoordinator, "need_rejoin", need_rejoin)
