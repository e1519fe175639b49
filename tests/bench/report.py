"""Report: the figures as tables for a terminal and for docs/benchmarks.md, and as JSON."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.bench.load import MESSAGE_BYTES, SESSIONS_PER_GENERATOR, Mode
from tests.bench.measure import FOREIGN_CPU_CORES_MAX, FlushResult, LoadResult, PushResult
from tests.bench.system import MAILBOXES

FSYNC_PROBES = 200
FSYNC_PROBE_BYTES = 4096


# Column, digits after the point, where the figure comes from. The table shows its median.
FIGURES: tuple[tuple[str, int, Callable[[LoadResult], float | None]], ...] = (
    ("delivered/s", 0, lambda load: load.delivered_per_s),
    ("accepted/s", 0, lambda load: load.accepted_per_s),
    ("CPU-ms", 2, lambda load: load.cpu_ms_per_message),
    ("KB written", 1, lambda load: _kilobytes(load.written_bytes_per_message)),
    ("KB on disk", 1, lambda load: _kilobytes(load.disk_bytes_per_message)),
    ("disk flushes", 2, lambda load: load.disk_flushes_per_message),
    ("others' cores", 2, lambda load: load.foreign_cpu_cores),
)
RATIOS = 6  # So many of the figures, from the first, have a ratio.


@dataclass(slots=True)
class Results:
    """Everything that one run has measured, in the order in which it came."""

    environment: dict[str, str]
    versions: dict[str, str] = field(default_factory=dict)
    loads: list[LoadResult] = field(default_factory=list)
    pushes: list[PushResult] = field(default_factory=list)
    flushes: list[FlushResult] = field(default_factory=list)


def environment(directory: Path) -> dict[str, str]:
    """Return what the figures depend on besides the systems: machine, disk, load."""
    return {
        "date": time.strftime("%Y-%m-%d"),
        "processor": f"{os.cpu_count()} cores, {_processor()}",
        "kernel": platform.release(),
        "file system": _file_system(directory),
        "fdatasync": f"{fsync_ms(directory):.2f} ms (median, append of 4 KB)",
        "load": f"{MAILBOXES} smtp-source, {SESSIONS_PER_GENERATOR} sessions each, "
        f"{MESSAGE_BYTES // 1024} KB",
    }


def fsync_ms(directory: Path) -> float:
    """Return the median time of an append and `fdatasync` in `directory`."""
    path = directory / "fsync-probe"
    times_ms = []
    with path.open("wb", buffering=0) as file:
        for _ in range(FSYNC_PROBES):
            started_s = time.perf_counter()
            file.write(bytes(FSYNC_PROBE_BYTES))
            os.fdatasync(file.fileno())
            times_ms.append((time.perf_counter() - started_s) * 1000)
    path.unlink()
    return statistics.median(times_ms)


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _file_system(directory: Path) -> str:
    """Return the type of the mount that holds `directory`."""
    mounts = (line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines())
    resolved = directory.resolve()
    holding = [(point, kind) for point, kind in mounts if resolved.is_relative_to(point)]
    return max(holding, key=lambda mount: len(mount[0]))[1]


def load_line(result: LoadResult) -> str:
    """Return one load's figures in one line."""
    disturbed = "  DISTURBED" if result.foreign_cpu_cores > FOREIGN_CPU_CORES_MAX else ""
    return (
        f"round {result.round}  {result.system:<18} {result.mode:<23}"
        f" {result.delivered_per_s:6.0f} delivered/s {result.accepted_per_s:6.0f} accepted/s"
        f" {result.cpu_ms_per_message:6.2f} CPU-ms"
        f"  others {result.foreign_cpu_cores:.2f} cores{disturbed}"
    )


def push_line(result: PushResult) -> str:
    """Return one round's push latencies in one line."""
    p50, p95, p99 = percentiles_ms(result.latency_ms)
    return (
        f"round {result.round}  {result.system:<18} 250 → push  "
        f"p50 {p50:.1f} ms  p95 {p95:.1f} ms  p99 {p99:.1f} ms  ({len(result.latency_ms)} messages)"
    )


def percentiles_ms(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the 50th, 95th and 99th percentile; values are observed ones (nearest rank)."""
    assert values
    ordered = sorted(values)
    # Nearest rank: the smallest value that at least `percent` per cent do not exceed.
    p50, p95, p99 = (ordered[-(-percent * len(ordered) // 100) - 1] for percent in (50, 95, 99))
    return p50, p95, p99


def tables(results: Results) -> str:
    """Return the summary in Markdown: medians of the rounds, ratios, push, environment."""
    systems = list(results.versions)
    blocks = [_facts(results)]
    blocks += [_load_table(results, mode, systems) for mode in Mode]
    if results.pushes:
        blocks.append(_push_table(results, systems))
    return "\n\n".join(blocks)


def _facts(results: Results) -> str:
    facts = {**results.environment, "versions": "; ".join(results.versions.values())}
    return _markdown(["what", "value"], ([name, value] for name, value in facts.items()))


def _load_table(results: Results, mode: Mode, systems: Sequence[str]) -> str:
    """Return a row of medians for each system and, for two systems, a row of ratios."""
    rows = []
    for system in systems:
        loads = [r for r in results.loads if (r.system, r.mode) == (system, mode.value)]
        calls = [f for f in results.flushes if (f.system, f.mode) == (system, mode.value)]
        if loads:
            cells = [
                _median_or_dash((figure(load) for load in loads), digits)
                for _, digits, figure in FIGURES
            ]
            rows.append([system, *cells, f"{calls[0].per_message:.2f}" if calls else "–"])
    if len(systems) == 2:
        pairs = paired_rounds(results.loads, mode, first=systems[0], second=systems[1])
        cells = [_ratio_or_dash(pairs, figure) for _, _, figure in FIGURES[:RATIOS]]
        rows.append([f"ratio, median of {len(pairs)}", *cells])
    return _markdown([mode.value, *(name for name, _, _ in FIGURES), "flush calls"], rows)


def paired_rounds(
    loads: Sequence[LoadResult], mode: Mode, *, first: str, second: str
) -> list[tuple[LoadResult, LoadResult]]:
    """Return the loads of the two systems in this mode, paired by round.

    The two of one round ran within minutes of each other, so that slow changes of the machine
    (neighbours, temperature) cancel out in their ratio.
    """
    found = {(load.system, load.round): load for load in loads if load.mode == mode.value}
    return [
        (load, found[second, number])
        for (system, number), load in found.items()
        if system == first and (second, number) in found
    ]


def _ratio_or_dash(
    pairs: Sequence[tuple[LoadResult, LoadResult]], figure: Callable[[LoadResult], float | None]
) -> str:
    values = [(figure(first), figure(second)) for first, second in pairs]
    ratios = (first / second if first is not None and second else None for first, second in values)
    return _median_or_dash(ratios, 2)


def _push_table(results: Results, systems: Sequence[str]) -> str:
    rows = []
    for system in systems:
        latency_ms = [
            ms for push in results.pushes if push.system == system for ms in push.latency_ms
        ]
        if latency_ms:
            cells = [f"{value:.1f}" for value in percentiles_ms(latency_ms)]
            rows.append([system, *cells, str(len(latency_ms))])
    return _markdown(["250 → push", "p50 ms", "p95 ms", "p99 ms", "messages"], rows)


def _kilobytes(value_bytes: float | None) -> float | None:
    return None if value_bytes is None else value_bytes / 1024


def _median_or_dash(values: Iterable[float | None], digits: int) -> str:
    known = [value for value in values if value is not None]
    return f"{statistics.median(known):.{digits}f}" if known else "–"


def _markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    filled = [list(header), *([*row, *[""] * (len(header) - len(row))] for row in rows)]
    widths = [max(len(row[column]) for row in filled) for column in range(len(header))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in filled
    ]
    lines.insert(1, "| " + " | ".join("-" * width for width in widths) + " |")
    return "\n".join(lines)


def write_json(results: Results, path: Path) -> None:
    """Write everything, every single round, to `path`."""
    path.write_text(json.dumps(asdict(results), indent=2, ensure_ascii=False) + "\n")
