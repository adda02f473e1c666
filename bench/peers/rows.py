"""The table: which figures a row compares, and what Firn has to reach. Those with a target come first."""

from dataclasses import dataclass

from peers.figures import Run

PARTS = ("produce", "latency", "consume", "tiered", "store", "archive", "recovery", "history", "crowds", "tools", "cluster")

# docs/operations.md: 160 MB, requests, replies, decoded chunks, 50 connections, batches in hand; a quarter more for all.
_CROWD_CAP_MB = round(1.25 * (160 + 1.048576 * (512 + 100 + 256 + 256 + 50 + 64)))


@dataclass(frozen=True)
class Row:
    """One line. Ratios are of the medians of all rounds, Firn's over the other's."""

    part: str
    title: str
    unit: str
    firn: str
    """Name of Firn's figure."""
    other: str = ""
    """Name of the figure beside it: Kafka's, or another of Firn's own; empty when Firn's stands alone."""
    at_most: float | None = None
    at_least: float | None = None
    below: float | None = None
    """A bound of Firn's figure itself, as is `above`; the two others bound the ratio."""
    above: float | None = None

    @property
    def target(self) -> str:
        """In words."""
        bounds = (
            ("≤", self.at_most, "×"),
            ("≥", self.at_least, "×"),
            ("<", self.below, self.unit),
            ("≥", self.above, self.unit),
        )
        return ", ".join(f"{sign} {bound:g} {unit}" for sign, bound, unit in bounds if bound is not None)

    def ratio(self, bench: Run) -> float | None:
        """None when one of the two was not measured."""
        firn, other = bench.median(self.firn), bench.median(self.other)
        return firn / other if firn is not None and other else None

    def verdict(self, bench: Run) -> str:
        """Yes, MISSED, FAILED, or nothing when there is no target."""
        ratio, figure = self.ratio(bench), bench.median(self.firn)
        if figure is None or (self.other and ratio is None):
            return "FAILED"
        holds = [ratio is not None and ratio <= self.at_most] if self.at_most is not None else []
        holds += [ratio is not None and ratio >= self.at_least] if self.at_least is not None else []
        holds += [figure < self.below] if self.below is not None else []
        holds += [figure >= self.above] if self.above is not None else []
        return ("yes" if all(holds) else "MISSED") if holds else ""


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


def _own(
    one: str,
    other: str,
    title: str,
    unit: str,
    at_most: float | None = None,
    at_least: float | None = None,
    part: str = "tiered",
) -> Row:
    return Row(part, title, unit, f"firn-tiered/{one}", f"firn-tiered/{other}", at_most, at_least)


def _recovered(case: str, title: str, below: float) -> Row:
    return Row("recovery", f"SIGKILL to acknowledged in all of {title} (with the restart of the process)", "s",
               f"firn/{case}/acknowledging_s", f"kafka/{case}/acknowledging_s", below=below)  # fmt: skip


def _history(case: str, title: str, below: float) -> Row:
    long, short = (f"firn/{length}-{case}/acknowledging_s" for length in ("long", "short"))
    return Row("history", f"SIGKILL to acknowledged, {title}, Firn alone", "s", long, short, at_most=1.5, below=below)


def _three(
    case: str,
    what: str,
    title: str,
    unit: str,
    firn: str = "firn-replicated",
    at_most: float | None = None,
    at_least: float | None = None,
    below: float | None = None,
) -> Row:
    kafka = "kafka-tiered" if firn == "firn-tiered" else "kafka"
    figure = f"three-{case}/{what}"
    return Row("cluster", f"three brokers: {title}", unit, f"{firn}/{figure}", f"{kafka}/{figure}", at_most, at_least, below)


_JAVA = (
    ("java-full-speed/mb_s", "ProducerPerformance, 1 KiB, full speed", "MB/s"),
    ("java-full-speed/cpu_s_per_gb", "broker CPU per GB of it", "s/GB"),
    ("java-paced/p99_ms", "ProducerPerformance at 5,000/s, p99", "ms"),
    ("java-end-to-end/mean_ms", "EndToEndLatency, mean", "ms"),
)

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
    _own("replayed-4/p99_ms", "idle/p99_ms", "produce p99 with 4 cold readers / without, Firn alone", "ms", at_most=3),
    _own("archived/bytes_per_record", "lz4/bytes_per_record", "archived / lz4 batches of 1 MB", "B/record", at_most=0.55),
    _own("archived/bytes_per_record", "zstd/bytes_per_record", "archived / zstd batches of 1 MB", "B/record", at_most=0.85),
    _tiered("tiers-end", "resident_mb", "resident memory after writing and replaying both tiers", "MB", at_most=0.3),
    Row("tiered", "most resident memory while 50 consumers replay (bound: docs/operations.md)", "MB",
        "firn-tiered/crowd/resident_mb", "kafka-tiered/crowd/resident_mb", below=_CROWD_CAP_MB),
    _own("http-cold-late/mb_s", "http-hot/mb_s", "cold replay, 20 ms added to every object call / hot replay, Firn alone",
         "MB/s", at_least=0.7, part="store"),
    Row("store", "object-store requests per GiB archived", "/GiB", "firn-tiered/http-archiving/requests_per_gib", below=20),
    Row("archive", "archive alone, 1 KiB, zstd-1, verified, per core", "MB/s", "firn/archive-alone/mb_s", above=350),
    _recovered("100x1", "100 partitions", 1),
    _recovered("1000x10", "1,000 partitions × 10 segments", 2),
    _history("segments", "10,000 archived segments / 80", 2),
    _history("bytes", "the long history in bytes / 0.2 GB", 2),
    _three("none", "cpu_s_per_gb", "CPU of all per GB produced, 1 KiB, none", "s/GB", at_most=0.35),
    _three("none", "mb_s", "produce, 1 KiB, none", "MB/s", at_least=2.5),
    _three("linger-5", "p99_ms", "produce p99 at 5,000/s, linger 5", "ms", at_most=0.5),
    _three("end", "resident_mb", "resident memory of all after producing", "MB", at_most=0.3),
    _three("killed", "pause_s", "SIGKILL of a leader, longest pause of a partition", "s", below=1),
    _three("stopped", "pause_s", "SIGTERM of a leader, longest pause of a partition", "s", below=0.1),
    _three("many", "leaders_s", "SIGKILL of the leader of 1,000 partitions, until all have another", "s", below=2),
    _three("replaced", "in_sync_s", "an empty broker replaces a dead one, until in sync", "s", "firn-tiered", below=10),
    _own("three-replaced/copied_mb", "three-replaced/written_mb", "three brokers: what it copied / what was written",
         "MB", at_most=0.15, part="cluster"),
)  # fmt: skip

REST = (
    _own("archived/bytes_per_record", "lz4-16k/bytes_per_record",
         "archived / lz4 batches of 16 KiB, Java's default", "B/record"),
    _own("archived/bytes_per_record", "zstd-16k/bytes_per_record",
         "archived / zstd batches of 16 KiB, Java's default", "B/record"),
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
    Row("latency", "produce p99 at 5,000/s, linger 5, flushed on every acknowledgement", "ms",
        "firn/linger-5/p99_ms", "kafka-flush/linger-5/p99_ms"),
    _latency("linger-0", "p99", "produce p99 at 5,000/s, linger 0", firn="firn-replicated"),
    _latency("end-to-end", "p50", "producer to consumer p50, 1,000/s"),
    _latency("end-to-end", "p99", "producer to consumer p99, 1,000/s"),
    _consumed("hot-none", "mb_s", "consume hot, none", "MB/s"),
    _consumed("hot-zstd", "mb_s", "consume hot, zstd", "MB/s"),
    _consumed("hot-8-same", "mb_s", "consume hot, 8 consumers, same offsets", "MB/s"),
    _consumed("hot-8-spread", "mb_s", "consume hot, 8 consumers, different offsets", "MB/s"),
    _consumed("hot-8-same", "cpu_s_per_gb", "broker CPU per GB, 8 consumers, same offsets", "s/GB"),
    _consumed("hot-none", "disk_bytes_per_byte", "disk bytes per byte of records, none", "B/B"),
    _consumed("hot-zstd", "disk_bytes_per_byte", "disk bytes per byte of records, zstd", "B/B"),
    _consumed("end", "resident_mb", "resident memory after writing and reading", "MB"),
    _tiered("first-produce-archive", "cpu_s_per_gb", "produce and archive, broker CPU per GB, the first 0.3 GB", "s/GB"),
    _tiered("first-cold", "mb_s", "cold replay, the first 0.2 GB", "MB/s"),
    _tiered("first-cold", "cpu_s_per_gb", "cold replay, broker CPU per GB, the first 0.2 GB", "s/GB"),
    *(row for count in (4, 8) for row in (
        _tiered(f"replayed-{count}", "p99_ms", f"produce p99 with {count} cold readers", "ms"),
        Row("tiered", f"produce p99 with {count} cold readers / without, Kafka alone", "ms",
            f"kafka-tiered/replayed-{count}/p99_ms", "kafka-tiered/idle/p99_ms"),
        _tiered(f"replayed-{count}", "mb_s", f"what those {count} readers read meanwhile", "MB/s"))),
    _own("replayed-8/p99_ms", "idle/p99_ms", "produce p99 with 8 cold readers / without, Firn alone", "ms"),
    *(row for case, title in (("same", "same offsets"), ("spread", "different offsets")) for row in (
        _tiered(f"tier-cold-8-{case}", "mb_s", f"cold replay, 8 consumers, {title}", "MB/s"),
        _tiered(f"tier-cold-8-{case}", "cpu_s_per_gb", f"cold replay, broker CPU per GB, 8 consumers, {title}", "s/GB"))),
    _tiered("crowd", "mb_s", "what 50 cold readers read", "MB/s"),
    _tiered("tier-hot", "mb_s", "hot replay beside it", "MB/s"),
    _own("http-cold/mb_s", "http-hot/mb_s", "cold replay over HTTP / hot replay, Firn alone", "MB/s", part="store"),
    _own("http-cold-late/mb_s", "http-cold/mb_s", "cold replay, 20 ms added / without, over HTTP", "MB/s", part="store"),
    Row("store", "object-store requests per GiB replayed", "/GiB", "firn-tiered/http-cold/requests_per_gib"),
    *(Row("recovery", f"SIGKILL to listening (Kafka) or ready (Firn), {title}", "s",
          f"firn/{case}/listening_s", f"kafka/{case}/listening_s")
      for case, title in (("100x1", "100 partitions"), ("1000x10", "1,000 partitions × 10 segments"))),
    Row("recovery", "creating a topic of 1,000 partitions", "s", "firn/1000x10/create_s", "kafka/1000x10/create_s"),
    Row("recovery", "resident memory with 1,000 partitions × 10 segments", "MB",
        "firn/1000x10/resident_mb", "kafka/1000x10/resident_mb"),
    Row("crowds", "memory per idle connection, 5,000 of them", "kB",
        "firn-replicated/idle-connections/kb_each", "kafka/idle-connections/kb_each"),
    *(Row("crowds", f"produce p99 at 5,000/s, {title}", "ms", f"firn-replicated/{case}/p99_ms", f"kafka/{case}/p99_ms")
      for case, title in (("idle-connections", "beside 5,000 idle connections"), ("alone", "without them"))),
    Row("crowds", "creating 10 topics of 1,000 partitions", "s", "firn/10000-partitions/create_s"),
    Row("crowds", "resident memory with 10,000 partitions", "MB", "firn/10000-partitions/resident_mb"),
    Row("crowds", "memory per partition, 10,000 of them", "kB", "firn/10000-partitions/kb_each"),
    *(Row("tools", f"{title} ({name})", unit, f"{name}/{case}", f"kafka/{case}")
      for name in ("firn", "firn-replicated") for case, title, unit in _JAVA),
    *(row for case, title in (("zstd", "1 KiB, zstd"), ("none-16k", "1 KiB, none, batches of 16 KiB")) for row in (
        _three(case, "cpu_s_per_gb", f"CPU of all per GB produced, {title}", "s/GB"),
        _three(case, "mb_s", f"produce, {title}", "MB/s"))),
    *(row for case, title in (
        ("none", "1 KiB, none"), ("zstd", "1 KiB, zstd"), ("none-16k", "1 KiB, none, batches of 16 KiB"))
      for row in (_three(case, "cpu_s_per_gb", f"CPU of all per GB produced, {title}", "s/GB", "firn"),
                  _three(case, "mb_s", f"produce, {title}", "MB/s", "firn"))),
    *(_three("linger-5", f"{what}_ms", f"produce {shown} at 5,000/s, linger 5", "ms", firn)
      for firn in ("firn-replicated", "firn") for what, shown in (("p50", "p50"), ("p99", "p99"), ("p999", "p99.9"))
      if (firn, what) != ("firn-replicated", "p99")),
    _three("end", "proportional_mb", "the same, shared pages counted once (PSS)", "MB"),
    _three("end", "resident_mb", "resident memory of all after producing", "MB", "firn"),
    *(_three(case, "pause_s", f"{signal} of a leader, longest pause of a partition", "s", "firn")
      for case, signal in (("killed", "SIGKILL"), ("stopped", "SIGTERM"))),
    _three("many", "leaders_s", "SIGKILL of the leader of 1,000 partitions, until all have another", "s", "firn"),
    *(_three("many", "acknowledging_s", "the same, until each has acknowledged a record", "s", firn)
      for firn in ("firn-replicated", "firn")),
    _three("many", "create_s", "creating 1,000 partitions × 3 replicas, until each has acknowledged a record", "s"),
    _three("replaced", "copied_mb", "what the empty broker copied", "MB", "firn-tiered"),
)  # fmt: skip


def unpinned(row: Row) -> Row:
    """The same row without pinning and without a target."""
    return Row(row.part, f"{row.title}, unpinned", row.unit, f"unpinned/{row.firn}", f"unpinned/{row.other}")


def chosen(parts: list[str], bench: Run) -> list[Row]:
    """The rows of these parts; of the unpinned ones, those that were measured."""
    rows = [row for row in (*TARGETS, *REST) if row.part in parts]
    return rows + [more for row in rows if row.other and (more := unpinned(row)).ratio(bench) is not None]
