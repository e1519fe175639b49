"""Growth: the resident set of every process while mail keeps coming, and the bytes it writes.

The messages are words, so that what is compressed and indexed is like mail; the run is long
enough for everything that is written later (memtables, compactions, segments of the index).
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass

from tests.bench.figures import Target
from tests.bench.heliograph import Heliograph
from tests.bench.load import SESSIONS_PER_GENERATOR, SMALL_BYTES, Body, Load, Mode, run_load
from tests.bench.measure import SETTLE_S, await_delivered, settled_written_bytes
from tests.bench.memory import Growth, ProcessMemory, growth, read_memory, total_pss_bytes
from tests.bench.stage import PartReport, Stage, say
from tests.bench.system import MAILBOXES, USERS, BenchError
from tests.bench.table import markdown, mebibytes, number

BLOCKS = 5  # The first warms up: 20,000 of 100,000.
GROWTH_MAX = 0.05
WRITTEN_TIMES_MAX = 3.0
INDEXED_MAX_S = 120.0


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What there was after so many deliveries."""

    messages: int
    delivered_per_s: float  # Of the block that has just ended.
    written_bytes: int
    memory: tuple[ProcessMemory, ...]


def measure(stage: Stage) -> PartReport:
    """Return the growth of each process from the first checkpoint to the last."""
    report = PartReport("growth", f"{stage.sizes.growth_messages:,} deliveries, one run")
    if not stage.with_heliograph:
        return report
    system = Heliograph()
    with stage.running(system, USERS):
        report.versions[system.name] = system.version()
        checkpoints = _checkpoints(system, stage.sizes.growth_messages)
    first, last = checkpoints[0], checkpoints[-1]
    grown = growth(first.memory, last.memory)
    report.tables = [_checkpoint_table(checkpoints), _growth_table(grown, first, last)]
    report.figures = {"checkpoints": [asdict(one) for one in checkpoints]}
    size_bytes = (last.messages - first.messages) * SMALL_BYTES
    written = (last.written_bytes - first.written_bytes) / size_bytes
    stayed = len(grown) == len(first.memory)
    worst = 100 * grown[0].share if grown else None
    label = f"RSS of every process, delivery {first.messages:,} to {last.messages:,}"
    report.targets = [
        Target(f"{label}: greatest growth", "<", 100 * GROWTH_MAX, "%", worst),
        Target("written to disk to message size", "≤", WRITTEN_TIMES_MAX, "×", written),
        Target("processes that lasted, of those at the start", "≥", 1.0, "", float(stayed)),
    ]
    return report


def _checkpoints(system: Heliograph, messages: int) -> list[Checkpoint]:
    found = []
    each = max(SESSIONS_PER_GENERATOR, messages // BLOCKS // MAILBOXES)
    before = system.delivered()
    for block in range(BLOCKS):
        mode = Mode.CONNECTION_PER_MESSAGE if block % 2 else Mode.KEPT
        outcome = run_load(Load(mode, SMALL_BYTES, each, Body.WORDS), port=system.smtp_port)
        before += outcome.messages
        await_delivered(system, before)
        delivered_s = time.monotonic() - outcome.started_s
        # Indexed as well: what that takes and gives back again depends on the moment.
        _await_indexed(system)
        written_bytes = settled_written_bytes(system)
        time.sleep(SETTLE_S)
        memory = tuple(read_memory(system.pids(), system.roles()))
        found.append(Checkpoint(before, outcome.messages / delivered_s, written_bytes, memory))
        say(
            f"{before:7d} deliveries  {found[-1].delivered_per_s:5.0f}/s"
            f"  PSS {mebibytes(total_pss_bytes(memory))} MiB"
        )
    return found


def _await_indexed(system: Heliograph) -> None:
    """Wait until all mail is indexed. Raises BenchError when that takes too long."""
    deadline_s = time.monotonic() + INDEXED_MAX_S
    while system.emails_to_index():
        if time.monotonic() > deadline_s:
            raise BenchError("the search index does not follow")
        time.sleep(SETTLE_S)


def _checkpoint_table(checkpoints: list[Checkpoint]) -> str:
    rows = [
        [
            f"{one.messages:,}",
            number(one.delivered_per_s),
            mebibytes(total_pss_bytes(one.memory)),
            number(one.written_bytes / one.messages / SMALL_BYTES, 2),
        ]
        for one in checkpoints
    ]
    return markdown(["deliveries", "delivered/s", "PSS MiB", "written × since start"], rows)


def _growth_table(grown: list[Growth], first: Checkpoint, last: Checkpoint) -> str:
    rows = [
        [
            one.role,
            str(one.pid),
            mebibytes(one.first_bytes),
            mebibytes(one.last_bytes),
            f"{100 * one.share:+.1f} %",
            mebibytes(one.first_anonymous_bytes),
            mebibytes(one.last_anonymous_bytes),
        ]
        for one in grown
    ]
    header = ["process", "pid", f"RSS MiB at {first.messages:,}", f"at {last.messages:,}", "growth"]
    return markdown([*header, "anonymous MiB", "then"], rows)
