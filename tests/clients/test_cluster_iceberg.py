"""A topic's Iceberg table in a cluster: it goes on when another node leads, and who was late changes nothing."""

import pytest

from harness.cluster import Cluster, FirnNode
from harness.cluster_tiers import settle
from harness.iceberg_rows import FEW, Lake
from harness.load import Load
from harness.process import wait_until

pytestmark = pytest.mark.firn
SETTINGS = {
    "firn.iceberg.commit.interval.ms": "100",
    "firn.sweep.interval.ms": "300",
    "firn.sweep.grace.ms": "20000",
    "broker.session.timeout.ms": "2000",
}
TINY = {"segment.bytes": "16384", "segment.ms": "300"}


@pytest.mark.timeout(180)
def test_another_leader_goes_on_with_the_table(cluster: Cluster[FirnNode]) -> None:
    """The leader stands still, and wakes when its successor has committed."""
    topic = cluster.create_topic("table", tier="cold", config=TINY)
    lake = Lake(cluster.leader(topic))

    def await_commits() -> None:
        version = lake.version(topic)
        wait_until("two more commits", lambda: lake.version(topic) > version + 1, 40)

    # The producer must not wait for a minute for a node that stands still.
    with Load(cluster.bootstrap, topic, 1, per_second=2000, **{"socket.timeout.ms": 3000}) as load:
        await_commits()
        leader = cluster.leader(topic)
        leader.pause()
        cluster.leader(topic, unlike=leader)
        load.await_progress()
        await_commits()
        leader.resume()
        await_commits()
        load.finish()
    settle(cluster, topic, replicas=False)
    rows = [Lake(node).expect_the_log(topic, 1, FEW) for node in cluster.nodes.values()]
    assert len({len(some) for some in rows}) == 1, "every node's catalog tells the same"
    lake.expect_one_history(topic)
