"""The figures as pictures, docs/benchmarks/*.svg, drawn by matplotlib."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from peers.figures import Run

_COLOURS = {"Apache Kafka": "#9a9a9a", "Firn, durable": "#1565a8", "Firn": "#5fa8d8"}
_BAR = 0.8
mpl.use("svg")
mpl.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "firn", "font.family": "sans-serif", "font.size": 9}


@dataclass(frozen=True)
class Group:
    """Bars side by side under one label: a figure's name by whose bar it is."""

    label: str
    figures: dict[str, str]


def _pair(label: str, case: str, what: str, firn: str = "firn-replicated", kafka: str = "kafka") -> Group:
    return Group(label, {"Apache Kafka": f"{kafka}/{case}/{what}", "Firn": f"{firn}/{case}/{what}"})


def _tiers(label: str, case: str, what: str) -> Group:
    return _pair(label, case, what, "firn-tiered", "kafka-tiered")


def _latency(label: str, case: str, what: str) -> Group:
    names = {"Apache Kafka": "kafka", "Firn, durable": "firn", "Firn": "firn-replicated"}
    return Group(label, {shown: f"{name}/{case}/{what}_ms" for shown, name in names.items()})


_PRODUCED = (("1 KiB\nnone", "1k-none"), ("1 KiB\nlz4", "1k-lz4"), ("1 KiB\nzstd", "1k-zstd"), ("20\npartitions", "1k-20p"),
             ("200\npartitions", "1k-200p"), ("50\nproducers", "50-producers"), ("100 B\nnone", "100b-none"))  # fmt: skip
_CONSUMED = (("hot\nnone", "hot-none"), ("hot\nzstd", "hot-zstd"))
_LATENCIES = (("linger 5", "linger-5"), ("linger 0", "linger-0"), ("end to end", "end-to-end"))

_PERCENTILES = (("p50", "p50"), ("p99", "p99"), ("p999", "p99.9"))
_REPLAYS = (
    ("hot", "tier-hot"),
    ("cold", "tier-cold"),
    ("cold, 8", "tier-cold-8-same"),
    ("cold, 8 apart", "tier-cold-8-spread"),
)
_BESIDE = (("alone", "idle"), ("4 cold readers", "replayed-4"), ("8 cold readers", "replayed-8"))


def _throughput(what: str) -> list[Group]:
    produced = [_pair(label, case, what) for label, case in _PRODUCED]
    consumed = [_pair(f"consume\n{label}", case, what, "firn") for label, case in _CONSUMED]
    return [*produced, *consumed, _tiers("consume\ncold", "tier-cold", what)]


def draw(bench: Run, folder: Path) -> list[str]:
    """Writes those pictures that have figures; their file names."""
    folder.mkdir(exist_ok=True)
    latencies = [_latency(f"{label}\n{shown}", case, what) for label, case in _LATENCIES for what, shown in _PERCENTILES]
    tiers = [_tiers(f"read {label}", case, "mb_s") for label, case in _REPLAYS]
    beside = [_tiers(label, case, "p99_ms") for label, case in _BESIDE]
    pictures = (
        ("cpu", "Broker's CPU seconds per GB", [_throughput("cpu_s_per_gb")], True),
        ("rates", "MB/s, broker on one core", [_throughput("mb_s")], False),
        ("latency", "Milliseconds until acknowledged, 5,000/s (end to end: 1,000/s)", [latencies], True),
        ("tiers", "Second tier: MB/s, and p99 of a producer beside readers (ms)", [tiers, beside], False),
    )
    return [
        name
        for file, title, groups, log in pictures
        if (name := _picture(bench, folder / f"{file}.svg", title, groups, log))
    ]


def _picture(bench: Run, file: Path, title: str, halves: Sequence[Sequence[Group]], log: bool) -> str:
    measured = [[group for group in half if any(bench.median(name) for name in group.figures.values())] for half in halves]
    if not all(measured):
        return ""
    widths = [len(half) for half in measured]
    figure, axes = plt.subplots(1, len(measured), figsize=(9, 3.2), width_ratios=widths, squeeze=False, layout="constrained")
    for axis, half in zip(axes[0], measured, strict=True):
        _bars(bench, axis, half)
        axis.set_yscale("log" if log else "linear")
    figure.suptitle(title, fontsize=10)
    axes[0][0].legend(frameon=False)
    figure.savefig(file, metadata={"Date": None})
    plt.close(figure)
    return file.name


def _bars(bench: Run, axis: Axes, groups: Sequence[Group]) -> None:
    brokers = [name for name in _COLOURS if any(name in group.figures for group in groups)]
    for number, broker in enumerate(brokers):
        width = _BAR / len(brokers)
        pairs = [(place, bench.median(group.figures.get(broker, ""))) for place, group in enumerate(groups)]
        known = [(place, value) for place, value in pairs if value is not None]
        at = [place + (number - (len(brokers) - 1) / 2) * width for place, _ in known]
        axis.bar(at, [value for _, value in known], width, color=_COLOURS[broker], label=broker)
    axis.set_xticks(range(len(groups)), [group.label for group in groups])
    axis.spines[["top", "right"]].set_visible(False)
