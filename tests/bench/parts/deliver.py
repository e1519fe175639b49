"""Deliver: ten mailboxes, messages of 10 KB and 100 KB, beside the rival in rounds.

A round is, for each system: start on an empty directory, a warm-up, every load once, the push
probes, stop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace

from tests.bench.figures import Target, median_or_none, percentile
from tests.bench.load import LARGE_BYTES, SESSIONS_PER_GENERATOR, SMALL_BYTES, Body, Load, Mode
from tests.bench.measure import (
    FlushResult,
    LoadResult,
    PushResult,
    await_quiet,
    measure_flushes,
    measure_load,
    measure_push,
    send_and_await,
)
from tests.bench.report import load_line, load_table, paired_rounds, push_line, push_table, ratio
from tests.bench.stage import PartReport, Sizes, Stage, say
from tests.bench.system import USERS, SystemUnderTest

RATIO_MIN = 1.5
RATIO_AIM = 3.0
WRITTEN_TIMES_MAX = 3.0
PUSH_MS_MAX = 30.0
WARM_UP_MESSAGES = 20  # A mailbox and mode.
FLUSH_MESSAGES = 100  # A mailbox and mode, under perf.


@dataclass(slots=True)
class _Measured:
    loads: list[LoadResult] = field(default_factory=list)
    pushes: list[PushResult] = field(default_factory=list)
    flushes: list[FlushResult] = field(default_factory=list)


def loads(sizes: Sizes) -> tuple[Load, ...]:
    """Return the loads of a round; the first is the one that the ratio is wanted of."""
    small, large = sizes.messages, sizes.large_messages
    return (
        Load(Mode.CONNECTION_PER_MESSAGE, SMALL_BYTES, small),
        Load(Mode.KEPT, SMALL_BYTES, small),
        Load(Mode.CONNECTION_PER_MESSAGE, SMALL_BYTES, small, Body.WORDS),
        Load(Mode.CONNECTION_PER_MESSAGE, LARGE_BYTES, large),
        Load(Mode.KEPT, LARGE_BYTES, large),
    )


def measure(stage: Stage) -> PartReport:
    """Return delivered/s, cost and push latency of both systems."""
    report = PartReport("deliver", "Delivery into ten mailboxes")
    measured = _Measured()
    for number in range(1, stage.sizes.rounds + 1):
        for system in stage.in_round(number):
            _round(system, stage, report, measured, number)
    report.tables = [
        load_table(measured.loads, load.label, measured.flushes) for load in loads(stage.sizes)
    ]
    report.tables.append(push_table(measured.pushes))
    report.figures = {
        "loads": [asdict(one) for one in measured.loads],
        "pushes": [asdict(one) for one in measured.pushes],
        "flushes": [asdict(one) for one in measured.flushes],
    }
    report.targets = _targets(loads(stage.sizes), measured)
    return report


def _round(
    system: SystemUnderTest, stage: Stage, report: PartReport, measured: _Measured, number: int
) -> None:
    with stage.running(system, USERS) as directory:
        report.versions.setdefault(system.name, system.version())
        sizes = stage.sizes
        few = min(WARM_UP_MESSAGES, max(SESSIONS_PER_GENERATOR, sizes.messages))
        for mode in Mode:
            send_and_await(system, Load(mode, SMALL_BYTES, few))
        for load in loads(sizes):
            await_quiet(system, timeout_s=stage.quiet_wait_s)
            result = measure_load(system, load, directory=directory, number=number)
            measured.loads.append(result)
            say(load_line(result))
        push = measure_push(system, probes=sizes.probes, number=number)
        measured.pushes.append(push)
        say(push_line(push))
        if number == 1:  # Calls are counted, not timed: once is enough.
            for load in loads(sizes)[:2]:
                counted = replace(load, messages=min(FLUSH_MESSAGES, load.messages))
                if flushes := measure_flushes(system, counted):
                    measured.flushes.append(flushes)


def _targets(wanted: Sequence[Load], measured: _Measured) -> list[Target]:
    first = [load for load in measured.loads if load.load == wanted[0].label]
    rate = ratio(paired_rounds(first), lambda load: load.delivered_per_s)
    words = [
        load.written_bytes_per_message / load.size_bytes
        for load in measured.loads
        if load.system == "Heliograph" and load.load == wanted[2].label
    ]
    pushed_ms = [
        ms for push in measured.pushes if push.system == "Heliograph" for ms in push.latency_ms
    ]
    return [
        Target("delivered/s, a connection a message, to the rival", "≥", RATIO_MIN, "×", rate),
        Target("the same, what is aimed for", "≥", RATIO_AIM, "×", rate),
        Target(
            "written to disk to message size, words",
            "≤",
            WRITTEN_TIMES_MAX,
            "×",
            median_or_none(words),
        ),
        Target(
            "250 → push, p50",
            "<",
            PUSH_MS_MAX,
            "ms",
            percentile(pushed_ms, 50) if pushed_ms else None,
        ),
    ]
