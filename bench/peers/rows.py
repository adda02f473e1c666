"""The table: which figures a row compares, and what Firn has to reach. Those with a target come first."""

from dataclasses import dataclass

from peers.figures import Run

PARTS = ("produce", "latency", "consume", "tiered", "recovery")


@dataclass(frozen=True)
class Row:
    """One line. Ratios are of the medians of all rounds, Firn's over Kafka's."""

    part: str
    title: str
    unit: str
    firn: str
    """Name of Firn's figure."""
    kafka: str
    """Name of the figure beside it: Kafka's, or another of Firn's own."""
    at_most: float | None = None
    at_least: float | None = None
    below: float | None = None
    """A bound of Firn's figure itself."""

    @property
    def target(self) -> str:
        """In words."""
        if self.below is not None:
            return f"< {self.below:g} {self.unit}"
        if self.at_most is not None:
            return f"≤ {self.at_most:g} ×"
        return f"≥ {self.at_least:g} ×" if self.at_least is not None else ""

    def ratio(self, bench: Run) -> float | None:
        """None when one of the two was not measured."""
        firn, kafka = bench.median(self.firn), bench.median(self.kafka)
        return firn / kafka if firn is not None and kafka else None

    def verdict(self, bench: Run) -> str:
        """Yes, MISSED, FAILED, or nothing when there is no target."""
        ratio = self.ratio(bench)
        if ratio is None:
            return "FAILED"
        if self.below is not None:
            return "yes" if (bench.median(self.firn) or 0.0) < self.below else "MISSED"
        if self.at_most is not None:
            return "yes" if ratio <= self.at_most else "MISSED"
        if self.at_least is not None:
            return "yes" if ratio >= self.at_least else "MISSED"
        return ""


def _produced(case: str, title: str, at_most: float | None = None, firn: str = "firn-replicated") -> Row:
    return Row("produce", f"broker CPU per GB produced, {title}", "s/GB",
               f"{firn}/{case}/cpu_s_per_gb", f"kafka/{case}/cpu_s_per_gb", at_most=at_most)  # fmt: skip


def _rate(case: str, title: str, firn: str = "firn-replicated") -> Row:
    return Row("produce", f"produce, {title}", "MB/s", f"{firn}/{case}/mb_s", f"kafka/{case}/mb_s")


def _latency(case: str, what: str, title: str, at_most: float | None = None, firn: str = "firn") -> Row:
    return Row("latency", title, "ms", f"{firn}/{case}/{what}_ms", f"kafka/{case}/{what}_ms", at_most=at_most)


def _consumed(case: str, what: str, title: str, unit: str, at_most: float | None = None) -> Row:
    return Row("consume", title, unit, f"firn/{case}/{what}", f"kafka/{case}/{what}", at_most=at_most)


def _tiered(case: str, what: str, title: str, unit: str, at_most: float | None = None, at_least: float | None = None) -> Row:
    return Row("tiered", title, unit, f"firn-tiered/{case}/{what}", f"kafka-tiered/{case}/{what}", at_most, at_least)


def _own(one: str, other: str, title: str, unit: str, at_most: float | None = None, at_least: float | None = None) -> Row:
    return Row("tiered", title, unit, f"firn-tiered/{one}", f"firn-tiered/{other}", at_most, at_least)


TARGETS = (
    _produced("1k-none", "1 KiB, none", 0.4),
    _produced("1k-lz4", "1 KiB, lz4", 0.4),
    _produced("1k-zstd", "1 KiB, zstd", 0.4),
    _produced("1k-200p", "1 KiB, none, 200 partitions", 0.3),
    _produced("100b-none", "100 B, none", 0.4),
    Row("produce", "produce, 1 KiB, none, flushed on every acknowledgement", "MB/s",
        "firn/1k-none/mb_s", "kafka-flush/1k-none/mb_s", at_least=2),
    _latency("linger-5", "p50", "produce p50 at 5,000/s, linger 5"),
    _latency("linger-5", "p99", "produce p99 at 5,000/s, linger 5", 0.8),
    _latency("linger-0", "p50", "produce p50 at 5,000/s, linger 0"),
    _latency("linger-0", "p99", "produce p99 at 5,000/s, linger 0", 0.5),
    _consumed("hot-none", "cpu_s_per_gb", "broker CPU per GB consumed hot, none", "s/GB", 1),
    _consumed("hot-zstd", "cpu_s_per_gb", "broker CPU per GB consumed hot, zstd", "s/GB", 1),
    _tiered("produce-archive", "cpu_s_per_gb", "produce and archive, broker CPU per GB", "s/GB", at_most=0.6),
    _tiered("tier-cold", "mb_s", "cold replay, one consumer", "MB/s", at_least=3),
    _tiered("tier-cold", "cpu_s_per_gb", "cold replay, broker CPU per GB", "s/GB", at_most=0.3),
    _own("tier-cold/mb_s", "tier-hot/mb_s", "cold replay / hot replay, Firn alone", "MB/s", at_least=0.9),
    _own("replayed/p99_ms", "idle/p99_ms", "produce p99 with 4 cold readers / without, Firn alone", "ms", at_most=3),
    _own("archived/bytes_per_record", "lz4/bytes_per_record", "archived / lz4 batches", "B/record", at_most=0.55),
    _own("archived/bytes_per_record", "zstd/bytes_per_record", "archived / zstd batches", "B/record", at_most=0.85),
    _tiered("tiers-end", "resident_mb", "resident memory after writing and replaying both tiers", "MB", at_most=0.3),
    Row("recovery", "SIGKILL to acknowledged in all of 100 partitions (the restart of the process included)", "s",
        "firn/100-partitions/acknowledging_s", "kafka/100-partitions/acknowledging_s", below=1),
)  # fmt: skip

REST = (
    *(_rate(case, title) for case, title in (
        ("1k-none", "1 KiB, none"), ("1k-lz4", "1 KiB, lz4"), ("1k-zstd", "1 KiB, zstd"), ("1k-20p", "20 partitions"),
        ("1k-200p", "200 partitions"), ("50-producers", "50 producers, 20 partitions"), ("100b-none", "100 B, none"),
        ("100b-lz4", "100 B, lz4"), ("100b-zstd", "100 B, zstd"))),
    _produced("1k-20p", "20 partitions"),
    _produced("50-producers", "50 producers, 20 partitions"),
    _produced("100b-lz4", "100 B, lz4"),
    _produced("100b-zstd", "100 B, zstd"),
    _produced("1k-none", "1 KiB, none", firn="firn"),
    _rate("1k-none", "1 KiB, none", firn="firn"),
    _produced("1k-zstd", "1 KiB, zstd", firn="firn"),
    _latency("linger-5", "p999", "produce p99.9 at 5,000/s, linger 5"),
    _latency("linger-0", "p999", "produce p99.9 at 5,000/s, linger 0"),
    _latency("linger-5", "p99", "produce p99 at 5,000/s, linger 5", firn="firn-replicated"),
    _latency("linger-0", "p99", "produce p99 at 5,000/s, linger 0", firn="firn-replicated"),
    _latency("end-to-end", "p50", "producer to consumer p50, 1,000/s"),
    _latency("end-to-end", "p99", "producer to consumer p99, 1,000/s"),
    _consumed("hot-none", "mb_s", "consume hot, none", "MB/s"),
    _consumed("hot-zstd", "mb_s", "consume hot, zstd", "MB/s"),
    _consumed("hot-8-same", "mb_s", "consume hot, 8 consumers, same offsets", "MB/s"),
    _consumed("hot-8-spread", "mb_s", "consume hot, 8 consumers, different offsets", "MB/s"),
    _consumed("hot-8-same", "cpu_s_per_gb", "broker CPU per GB, 8 consumers, same offsets", "s/GB"),
    _consumed("end", "resident_mb", "resident memory after writing and reading", "MB"),
    _tiered("replayed", "p99_ms", "produce p99 with 4 cold readers", "ms"),
    Row("tiered", "produce p99 with 4 cold readers / without, Kafka alone", "ms",
        "kafka-tiered/replayed/p99_ms", "kafka-tiered/idle/p99_ms"),
    _tiered("replayed", "mb_s", "what those 4 readers read meanwhile", "MB/s"),
    _tiered("tier-hot", "mb_s", "hot replay beside it", "MB/s"),
    Row("recovery", "SIGKILL to listening (Kafka) or ready (Firn), 100 partitions", "s",
        "firn/100-partitions/listening_s", "kafka/100-partitions/listening_s"),
)  # fmt: skip


def unpinned(row: Row) -> Row:
    """The same row without pinning and without a target."""
    return Row(row.part, f"{row.title}, unpinned", row.unit, f"unpinned/{row.firn}", f"unpinned/{row.kafka}")


def chosen(parts: list[str], bench: Run) -> list[Row]:
    """The rows of these parts; of the unpinned ones, those that were measured."""
    rows = [row for row in (*TARGETS, *REST) if row.part in parts]
    return rows + [more for row in rows if (more := unpinned(row)).ratio(bench) is not None]
