"""Rows of reading: a consumer of what lies in the archive, against the same consumer of what lies on local disk."""

from pathlib import Path

from clients import consume, produce, size_bytes
from harness.firn import FirnServer
from measure import MB, Row, cpu_s, median, timed

_HOT = {"segment.bytes": str(128 << 20), "remote.storage.enable": "false"}
_COLD = {"segment.bytes": str(128 << 20), "segment.ms": "2000", "local.retention.bytes": "1", "local.retention.ms": "100"}


def rows(folder: Path, count: int, rounds: int) -> list[Row]:
    """Writes the same records for both tiers and reads them in turns; the server restarts before each reading."""
    total = size_bytes(count)
    server = FirnServer(folder / "consume")
    server.start()
    raw: list[dict[str, float]] = []
    try:
        hot = server.create_topic("hot", config=_HOT)
        cold = server.create_topic("cold", config=_COLD)
        produce(server, hot, count)
        with timed() as settling:
            produce(server, cold, count)
            server.settle(cold, 300)
        (status,) = server.archive_status([cold])
        sizes = {codec: _batches_bytes(server, codec, count // 4) * 4 for codec in ("lz4", "zstd")}
        for _ in range(rounds):
            figures = {}
            for name, topic in (("hot", hot), ("cold", cold)):
                # Nothing that the server remembers may help; the files are in the page cache for both.
                server.restart()
                assert server.process is not None
                before = cpu_s(server.process.pid)
                read = consume(server, topic, count)
                figures |= {f"{name}_s": read["seconds"], f"{name}_server_cpu_s": cpu_s(server.process.pid) - before,
                            f"{name}_client_cpu_s": read["client_cpu_s"]}  # fmt: skip
            raw.append(figures)
    finally:
        server.close()
    return [*_reading(raw, total), *_sizes(status["archived_bytes"], sizes, total, settling.wall_s)]


def _batches_bytes(server: FirnServer, codec: str, count: int) -> int:
    """Size of the log of records that the producer compresses."""
    topic = server.create_topic(codec, config=_HOT)
    produce(server, topic, count, codec)
    (status,) = server.archive_status([topic])
    return int(status["local_bytes"])


def _reading(raw: list[dict[str, float]], total: int) -> list[Row]:
    ratios = [figures["hot_s"] / figures["cold_s"] for figures in raw]

    def rate(tier: str) -> float:
        return total / MB / median([figures[f"{tier}_s"] for figures in raw])

    def cpu(tier: str, side: str) -> float:
        return median([figures[f"{tier}_{side}_cpu_s"] for figures in raw]) / (total / 1e9)

    note = f"{rate('cold'):.0f} of {rate('hot'):.0f} MB/s; rounds {min(ratios):.2f} to {max(ratios):.2f}"
    return [
        Row("cold consumer / hot consumer", median(ratios), "×", 0.7, note=note, raw={"bytes": total, "rounds": raw}),
        Row("  broker's CPU, hot", cpu("hot", "server"), "s/GB", note=f"the client's: {cpu('hot', 'client'):.2f} s/GB"),
        Row("  broker's CPU, cold", cpu("cold", "server"), "s/GB", note=f"the client's: {cpu('cold', 'client'):.2f} s/GB"),
    ]


def _sizes(archived: int, sizes: dict[str, int], total: int, settling_s: float) -> list[Row]:
    raw: dict[str, object] = {"archived_bytes": archived, "record_bytes": total, **sizes}
    return [
        Row("archived bytes / lz4 batches", archived / sizes["lz4"], "×", at_most=0.6, raw=raw,
            note=f"archived {archived / total:.3f} of raw, lz4 {sizes['lz4'] / total:.3f}"),
        Row("  / zstd batches", archived / sizes["zstd"], "×", note=f"zstd {sizes['zstd'] / total:.3f} of raw"),
        Row("  written, archived, gone from disk", total / MB / settling_s, "MB/s",
            note="2 s of it wait for the last segment's end"),
    ]  # fmt: skip
