"""Report: the tables of loads, ratios and push latencies; a part's report as text and as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from tests.bench.figures import median_or_none, percentiles
from tests.bench.measure import FOREIGN_CPU_CORES_MAX, FlushResult, LoadResult, PushResult
from tests.bench.stage import PartReport
from tests.bench.table import markdown, number, targets_table

Figure = Callable[[LoadResult], float | None]

# Column, digits after the point, where the figure comes from. The table shows its median.
FIGURES: tuple[tuple[str, int, Figure], ...] = (
    ("delivered/s", 0, lambda load: load.delivered_per_s),
    ("accepted/s", 0, lambda load: load.accepted_per_s),
    ("CPU-ms", 2, lambda load: load.cpu_ms_per_message),
    ("written ×", 2, lambda load: load.written_bytes_per_message / load.size_bytes),
    ("on disk ×", 2, lambda load: _times(load.disk_bytes_per_message, load.size_bytes)),
    ("disk flushes", 2, lambda load: load.disk_flushes_per_message),
    ("others' cores", 2, lambda load: load.foreign_cpu_cores),
)
RATIOS = 6  # So many of the figures, from the first, have a ratio.


def load_line(result: LoadResult) -> str:
    """Return one load's figures in one line."""
    disturbed = "  DISTURBED" if result.foreign_cpu_cores > FOREIGN_CPU_CORES_MAX else ""
    return (
        f"round {result.round}  {result.system:<18} {result.load:<36}"
        f" {result.delivered_per_s:6.0f} delivered/s {result.accepted_per_s:6.0f} accepted/s"
        f" {result.cpu_ms_per_message:6.2f} CPU-ms"
        f"  others {result.foreign_cpu_cores:.2f} cores{disturbed}"
    )


def push_line(result: PushResult) -> str:
    """Return one round's push latencies in one line."""
    p50, p95, p99 = percentiles(result.latency_ms)
    return (
        f"round {result.round}  {result.system:<18} 250 → push  "
        f"p50 {p50:.1f} ms  p95 {p95:.1f} ms  p99 {p99:.1f} ms  ({len(result.latency_ms)} messages)"
    )


def load_table(
    loads: Sequence[LoadResult], label: str, flushes: Sequence[FlushResult] = (), *, note: str = ""
) -> str:
    """Return a row of medians for each system and, for two systems, a row of ratios."""
    chosen = [load for load in loads if load.load == label]
    systems = list(dict.fromkeys(load.system for load in loads))
    rows = []
    for system in systems:
        own = [load for load in chosen if load.system == system]
        calls = [f for f in flushes if (f.system, f.load) == (system, label)]
        cells = [number(median_or_none(map(figure, own)), digits) for _, digits, figure in FIGURES]
        rows.append([system, *cells, number(calls[0].per_message, 2) if calls else "–"])
    pairs = paired_rounds(chosen)
    if pairs:
        cells = [number(ratio(pairs, figure), 2) for _, _, figure in FIGURES[:RATIOS]]
        rows.append([f"ratio, median of {len(pairs)}", *cells])
    return markdown([label + note, *(name for name, _, _ in FIGURES), "flush calls"], rows)


def paired_rounds(loads: Sequence[LoadResult]) -> list[tuple[LoadResult, LoadResult]]:
    """Return one load's results, Heliograph's with the rival's of the same round.

    The two of one round ran within minutes of each other, so that slow changes of the machine
    (neighbours, temperature) cancel out in their ratio.
    """
    rivals = {load.round: load for load in loads if load.system != "Heliograph"}
    return [
        (load, rivals[load.round])
        for load in loads
        if load.system == "Heliograph" and load.round in rivals
    ]


def ratio(pairs: Sequence[tuple[LoadResult, LoadResult]], figure: Figure) -> float | None:
    """Return the median over the rounds of the ratio of a figure."""
    values = [(figure(first), figure(second)) for first, second in pairs]
    return median_or_none(
        first / second if first is not None and second else None for first, second in values
    )


def push_table(pushes: Sequence[PushResult]) -> str:
    """Return the percentiles over all rounds."""
    rows = []
    for system in dict.fromkeys(push.system for push in pushes):
        latency_ms = [ms for push in pushes if push.system == system for ms in push.latency_ms]
        rows.append(
            [system, *(f"{value:.1f}" for value in percentiles(latency_ms)), str(len(latency_ms))]
        )
    return markdown(["250 → push", "p50 ms", "p95 ms", "p99 ms", "messages"], rows)


def part_text(report: PartReport, environment: Mapping[str, str]) -> str:
    """Return a part's report in Markdown."""
    facts = {**environment, "versions": "; ".join(report.versions.values())}
    blocks = [f"### {report.title}", markdown(["what", "value"], map(list, facts.items()))]
    blocks += report.tables
    if report.targets:
        blocks.append(targets_table(report.targets))
    return "\n\n".join(blocks)


def write_part(report: PartReport, environment: Mapping[str, str], directory: Path) -> None:
    """Write PART.json, with every single figure, and PART.md below `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    figures = {
        "part": report.part,
        "environment": dict(environment),
        "versions": report.versions,
        "targets": [asdict(one) | {"reached": one.reached} for one in report.targets],
        "figures": report.figures,
    }
    text = json.dumps(figures, indent=2, ensure_ascii=False)
    (directory / f"{report.part}.json").write_text(text + "\n")
    (directory / f"{report.part}.md").write_text(part_text(report, environment) + "\n")


def _times(value_bytes: float | None, size_bytes: int) -> float | None:
    return None if value_bytes is None else value_bytes / size_bytes
