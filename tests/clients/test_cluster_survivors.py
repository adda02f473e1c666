"""After all nodes were killed at once, any two of three go on, with everything that was acknowledged."""

from typing import Any

import pytest

from harness.cluster import Cluster
from harness.records import Row, consume, expect_same, generated, produce
from harness.replicas import expect_replicas

PARTITIONS = 3
# Kafka waits for the last member of each ISR: not every two of its nodes go on.
pytestmark = pytest.mark.firn


@pytest.mark.timeout(300)
def test_any_two_of_three_go_on_after_all_were_killed(cluster: Cluster[Any]) -> None:
    written: dict[str, list[Row]] = {
        cluster.create_topic(f"min-isr-{least}", partitions=PARTITIONS, min_isr=least): [] for least in (1, 2)
    }
    for turn, missing in enumerate(list(cluster.nodes.values())):
        for topic, rows in written.items():
            rows += produce(cluster.bootstrap, topic, generated(300, seed=turn, partitions=PARTITIONS))
        back = cluster.others(missing)
        cluster.kill()
        cluster.start(back)
        for topic, rows in written.items():
            cluster.await_isr_of(topic, *back)
            expect_same(rows, consume(back[0].bootstrap, topic, partitions=PARTITIONS))
            rows += produce(back[0].bootstrap, topic, generated(60, seed=100 + turn, partitions=PARTITIONS))
        cluster.start([missing])
        for topic in written:
            cluster.await_isr(topic, 3)
    for topic, rows in written.items():
        expect_replicas(cluster, topic, rows, partitions=PARTITIONS)
