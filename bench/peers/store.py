"""Firn's second tier over HTTP: the requests that it takes, and reading from a store that is 20 ms away.

VersityGW, the proxy that delays and counts, and the client share one core, so that the broker has the other for itself; what
they cost lowers the cold rates, not the hot one.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from clients import run
from harness.firn import FirnServer
from harness.pressure import metric
from harness.process import Process
from harness.proxy import Fault, FaultProxy, always, healthy
from harness.stores import VersityGw
from measure import cpu_s
from peers.brokers import KINDS, running
from peers.figures import Run
from peers.tiered import ARCHIVED, COLD, HOT, WRITTEN, await_archived, read, write

_KIND = KINDS["firn-tiered"]
_DELAY_S = 0.02
_MOST_ROUNDS = 2
_GIB = 1 << 30


def measure(bench: Run) -> None:
    """Pinned only, in two rounds at most."""
    if bench.cores.name != "pinned":
        return
    for number in range(min(bench.rounds, _MOST_ROUNDS)):
        bench.attempt(f"store, round {number + 1}", lambda: _round(bench))


@contextmanager
def _over_http(bench: Run) -> Iterator[tuple[FirnServer, FaultProxy, Process]]:
    gateway = VersityGw(bench.work / "gateway")
    proxy = FaultProxy(gateway.port, delay_s=_DELAY_S)
    try:
        with running(_KIND, bench.cores, bench.work, gateway.store(proxy.endpoint)) as server:
            assert isinstance(server, FirnServer) and gateway.process is not None
            yield server, proxy, gateway.process
    finally:
        proxy.close()
        gateway.remove()


def _round(bench: Run) -> None:
    with _over_http(bench) as (server, proxy, gateway):
        hot = server.create_topic("hot", config={**HOT, **_KIND.topic})
        write(bench, server, hot, ARCHIVED)
        run(server, "consume", hot, "--records", ARCHIVED // 4, launcher=bench.cores.client)
        read(bench, _KIND.name, server, hot, "http-hot")
        cold = server.create_topic("cold", config={**COLD, **_KIND.topic})
        before = proxy.seen
        write(bench, server, cold, WRITTEN)
        await_archived(server, cold)
        archived = metric(server, "firn_archive_record_bytes_total")
        bench.add(_KIND.name, "http-archiving", "requests_per_gib", (proxy.seen - before) / (archived / _GIB))
        for case, rule in (("http-cold", healthy), ("http-cold-late", always(Fault.SLOW))):
            server.restart()  # nothing that it remembers may help
            proxy.rule, before = rule, proxy.seen
            gateway_s, proxy_s = cpu_s(gateway.pid), time.process_time()
            done = read(bench, _KIND.name, server, cold, case)
            gb = done["bytes"] / 1e9
            bench.add(_KIND.name, case, "gateway_cpu_s_per_gb", (cpu_s(gateway.pid) - gateway_s) / gb)
            bench.add(_KIND.name, case, "proxy_cpu_s_per_gb", (time.process_time() - proxy_s) / gb)
            bench.add(_KIND.name, case, "requests_per_gib", (proxy.seen - before) / (done["bytes"] / _GIB))
            proxy.rule = healthy
