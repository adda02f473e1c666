"""Reading what lies on local disk, in the page cache: MB/s, CPU seconds of the broker per GB, and memory after it all."""

from clients import run
from harness.broker import Broker
from peers.brokers import KINDS, UNPINNED, broker_cpu_s, disk_bytes, resident_mb, running
from peers.figures import Run

_TOPIC = {"segment.bytes": str(128 << 20), "remote.storage.enable": "false"}
_RECORDS = 1 << 20
_BROKERS = ("kafka", "firn")


def measure(bench: Run) -> None:
    """Both brokers in turn; each reading is preceded by one that does not count."""
    for number in range(bench.rounds):
        for name in _BROKERS:
            bench.attempt(f"consume, {bench.cores.name}, {name}, round {number + 1}", lambda n=name: _round(bench, n))


def _round(bench: Run, name: str) -> None:
    kind = KINDS[name]
    with running(kind, bench.cores, bench.work) as server:
        for codec in ("none", "zstd"):
            topic = server.create_topic(codec, config={**_TOPIC, **kind.topic})
            load = ("--records", _RECORDS, "--codec", codec, "--linger-ms", 50)
            written = run(server, "produce", topic, *load, launcher=bench.cores.client)
            bench.add(name, f"hot-{codec}", "disk_bytes_per_byte", disk_bytes(server, topic) / written["bytes"])
            run(server, "consume", topic, "--records", _RECORDS // 4, launcher=bench.cores.client)
            _read(bench, name, server, topic, f"hot-{codec}")
            if codec == "none" and bench.cores is not UNPINNED:
                share = ("--consumers", 8, "--records", _RECORDS // 4)
                _read(bench, name, server, topic, "hot-8-same", *share, "--from", "same")
                _read(bench, name, server, topic, "hot-8-spread", *share, "--from", "spread")
        bench.add(name, "end", "resident_mb", resident_mb(server))


def _read(bench: Run, name: str, server: Broker, topic: str, case: str, *args: object) -> None:
    before = broker_cpu_s(server)
    done = run(server, "consume", topic, *args, launcher=bench.cores.client)
    used = broker_cpu_s(server) - before
    bench.add(name, case, "mb_s", done["mb_s"])
    bench.add(name, case, "cpu_s_per_gb", used / (done["bytes"] / 1e9))
    bench.add(name, case, "client_cpu_s_per_gb", done["client_cpu_s_per_gb"])
