"""Rows of writing: acknowledged records that are on the disk, against `dd` of the same bytes on the same disk."""

import os
from pathlib import Path

from clients import produce, size_bytes
from harness.firn import FirnServer
from measure import MB, Row, cpu_s, dd, median

# Nothing but writing: the topic stays on local disk.
_TOPIC = {"segment.bytes": str(128 << 20), "remote.storage.enable": "false"}


def rows(folder: Path, count: int, rounds: int) -> list[Row]:
    """`rounds` times: dd, then the producer, then dd again; a round's ratio is against the mean of its two dds."""
    total = size_bytes(count)
    source = folder / "source"
    with source.open("wb") as file:
        for _ in range(total // MB):
            file.write(os.urandom(MB))
    server = FirnServer(folder / "produce")
    server.start()
    assert server.process is not None
    raw: list[dict[str, float]] = []
    try:
        produce(server, server.create_topic("warm", config=_TOPIC), count // 8)
        before = dd(source, folder / "dd-first")
        for number in range(rounds):
            topic = server.create_topic("durable", config=_TOPIC)
            server_cpu_before = cpu_s(server.process.pid)
            figures = produce(server, topic, count)
            server_cpu_s = cpu_s(server.process.pid) - server_cpu_before
            after = dd(source, folder / f"dd-{number}")
            disk_s = (before + after) / 2
            raw.append({"produce_s": figures["seconds"], "dd_before_s": before, "dd_after_s": after,
                        "ratio": disk_s / figures["seconds"], "server_cpu_s": server_cpu_s,
                        "client_cpu_s": figures["client_cpu_s"]})  # fmt: skip
            before = after
    finally:
        server.close()
        source.unlink()
    rate = total / MB / median([r["produce_s"] for r in raw])
    disk = total / MB / median([r["dd_after_s"] for r in raw])
    ratios = [r["ratio"] for r in raw]
    note = f"{rate:.0f} of {disk:.0f} MB/s; rounds {min(ratios):.2f} to {max(ratios):.2f}"
    cpu = [r["server_cpu_s"] / (total / 1e9) for r in raw]
    client = median([r["client_cpu_s"] / (total / 1e9) for r in raw])
    return [
        Row("durable produce / dd conv=fdatasync", median(ratios), "×", 0.7, note=note, raw={"bytes": total, "rounds": raw}),
        Row("  broker's CPU for it", median(cpu), "s/GB", note=f"the client's: {client:.2f} s/GB"),
    ]
