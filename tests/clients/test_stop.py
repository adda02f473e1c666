"""A broker is told to stop, twice: the second time it ends at once, and says so by its status alone."""

import signal
import time

import pytest

from conftest import StartServer
from harness.process import wait_until

pytestmark = pytest.mark.firn
ENDED_BY_SIGNAL = 130
# From a stop that has just begun to one that is nearly over.
PAUSES_S = (0, 0.001, 0.002, 0.003, 0.004, 0.006, 0.008, 0.01)


def test_a_second_signal_ends_a_broker_that_is_stopping_and_loses_no_task(start_server: StartServer) -> None:
    server = start_server({})
    statuses = []
    for pause_s in PAUSES_S:
        process = server.process
        assert process is not None
        process.signal(signal.SIGTERM)
        wait_until("the stop to begin", lambda: "stopping signal" in server.log_text(), interval_s=0.001)
        time.sleep(pause_s)
        process.signal(signal.SIGINT)
        statuses.append(process.wait(30))
        assert "a task of the broker has ended" not in server.log_text(), server.tail()
        is_stopped = " stopped " in server.log_text()
        assert statuses[-1] == ENDED_BY_SIGNAL or (is_stopped and statuses[-1] == 0), f"{statuses}\n{server.tail()}"
        server.kill()
        server.start()
    assert ENDED_BY_SIGNAL in statuses, statuses
