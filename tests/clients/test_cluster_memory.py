"""Memory for requests in a cluster: followers are never kept from fetching by clients that wait for them."""

import os
import signal
import time
from pathlib import Path

import pytest
from confluent_kafka import Producer

from conftest import new_cluster

pytestmark = pytest.mark.firn
# The least there may be: some fifty of the records below. No timer of the cluster ends the wait.
SETTINGS = {
    "firn.request.memory.bytes": str(1 << 20),
    "broker.session.timeout.ms": "60000",
    "replica.lag.time.max.ms": "60000",
}
PRODUCERS, EACH = 8, 60
VALUE = b"." * 15_000
SOON_S = 25
"""Far below the time after which a leader gives up a follower."""


@pytest.mark.timeout(180)
def test_replication_goes_on_while_producers_hold_the_memory_for_requests(tmp_path: Path) -> None:
    """A follower that was paused comes back to a leader whose memory is held by those who wait for that follower."""
    cluster = new_cluster(tmp_path / "cluster", SETTINGS)
    producers: list[Producer] = []
    acknowledged: list[int] = []
    try:
        cluster.start()
        topic = cluster.create_topic("crowded")
        leader = cluster.leader(topic)
        follower = cluster.others(leader)[0]
        assert follower.process is not None
        producers = [
            Producer({
                "bootstrap.servers": leader.bootstrap, "acks": "all", "linger.ms": 0, "batch.num.messages": 1,
                "max.in.flight": EACH, "request.timeout.ms": 90_000, "message.timeout.ms": 120_000, "log_level": 0,
            })
            for _ in range(PRODUCERS)
        ]  # fmt: skip

        def noted(error: object, message: object) -> None:
            assert error is None, error
            acknowledged.append(message.offset())  # type: ignore[attr-defined]

        for producer in producers:
            producer.produce(topic, VALUE, on_delivery=noted)
            assert producer.flush(60) == 0
        os.kill(follower.process.pid, signal.SIGSTOP)
        try:
            for producer in producers:
                for _ in range(EACH):
                    producer.produce(topic, VALUE, on_delivery=noted)
            end = time.monotonic() + 3  # they fill the leader's memory, and more of them wait
            while time.monotonic() < end:
                for producer in producers:
                    producer.poll(0.01)
        finally:
            os.kill(follower.process.pid, signal.SIGCONT)
        came_back = time.monotonic()
        left = [producer.flush(max(0.1, came_back + SOON_S - time.monotonic())) for producer in producers]
        took_s = time.monotonic() - came_back
        print(f"{len(acknowledged)} records acknowledged {took_s:.1f} s after the follower came back")
        assert not any(left), f"{sum(left)} records are not acknowledged after {took_s:.1f} s"
        assert len(set(acknowledged)) == PRODUCERS * (EACH + 1)
        assert cluster.part(topic).isr == {1, 2, 3}, "no replica left the ISR"
    finally:
        producers.clear()
        cluster.close()
