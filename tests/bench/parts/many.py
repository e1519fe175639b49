"""Many: ten thousand mailboxes on one node, each receives in turn, beside the rival.

Two passes, a message for every mailbox in each: the first makes the mailbox's folders or Maildir,
the second finds them. Afterwards every mailbox is counted.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict

from tests.bench.figures import Target, median_or_none
from tests.bench.load import SMALL_BYTES, Load, Mode, numbered_users
from tests.bench.measure import LoadResult, await_quiet, measure_load, send_to_many
from tests.bench.memory import ProcessMemory, read_memory, total_pss_bytes, total_rss_bytes
from tests.bench.report import load_line, load_table
from tests.bench.stage import PartReport, Stage, say
from tests.bench.system import MAILBOXES, BenchError, SystemUnderTest
from tests.bench.table import markdown, mebibytes

PASSES = ("; the first of each mailbox", "; the second of each mailbox")
MEMORY_BYTES_MAX = 4 << 30


def measure(stage: Stage) -> PartReport:
    """Return delivered/s and memory of both systems with many mailboxes."""
    report = PartReport("many", f"{stage.sizes.mailboxes:,} mailboxes, round robin")
    results: list[LoadResult] = []
    memory: dict[str, list[ProcessMemory]] = {}
    for system in stage.in_round(1):
        _measure_system(system, stage, report, results, memory)
    report.tables = [
        load_table([one for one in results if one.round == number], results[0].load, note=note)
        for number, note in enumerate(PASSES, 1)
    ]
    report.tables.append(_memory_table(memory))
    if stage.with_heliograph:
        report.tables.append(_role_table(memory["Heliograph"]))
    report.figures = {
        "loads": [asdict(one) for one in results],
        "memory": {name: [asdict(one) for one in found] for name, found in memory.items()},
    }
    ours = memory.get("Heliograph")
    received = Target(
        "mailboxes of Heliograph that received all their mail",
        "≥",
        stage.sizes.mailboxes,
        "",
        stage.sizes.mailboxes if ours else None,  # Else the part has ended with an error.
    )
    pss_mib = total_pss_bytes(ours) / (1 << 20) if ours else None
    limit_mib = MEMORY_BYTES_MAX / (1 << 20)
    report.targets = [
        received,
        Target("memory (PSS) of all processes", "<", limit_mib, "MiB", pss_mib),
    ]
    return report


def _measure_system(
    system: SystemUnderTest,
    stage: Stage,
    report: PartReport,
    results: list[LoadResult],
    memory: dict[str, list[ProcessMemory]],
) -> None:
    users = numbered_users(stage.sizes.mailboxes)
    load = Load(
        Mode.CONNECTION_PER_MESSAGE, SMALL_BYTES, stage.sizes.mailboxes // MAILBOXES, numbered=True
    )
    with stage.running(system, users) as directory:
        report.versions[system.name] = system.version()
        for number in range(1, len(PASSES) + 1):
            await_quiet(system, timeout_s=stage.quiet_wait_s)
            result = measure_load(
                system, load, directory=directory, number=number, send=send_to_many
            )
            results.append(result)
            say(load_line(result))
        memory[system.name] = read_memory(system.pids(), system.roles())
        _check_all_received(system)


def _check_all_received(system: SystemUnderTest) -> None:
    counts = system.counts()
    wrong = {user: count for user, count in counts.items() if count != len(PASSES)}
    if wrong:
        some = ", ".join(f"{user} has {count}" for user, count in list(wrong.items())[:5])
        raise BenchError(
            f"{system.name}: {len(wrong)} mailboxes have not {len(PASSES)} messages: {some}"
        )
    say(f"{system.name}: each of {len(counts)} mailboxes has its {len(PASSES)} messages")


def _memory_table(memory: dict[str, list[ProcessMemory]]) -> str:
    rows = [
        [
            name,
            str(len(found)),
            mebibytes(total_pss_bytes(found)),
            mebibytes(total_rss_bytes(found)),
        ]
        for name, found in memory.items()
    ]
    return markdown(["after the load", "processes", "PSS MiB", "sum of RSS MiB"], rows)


def _role_table(found: list[ProcessMemory]) -> str:
    """Return the memory by kind of process; mailbox actors are one kind."""
    kinds = Counter(_kind(process) for process in found)
    rows = []
    for kind, count in kinds.items():
        own = [process for process in found if _kind(process) == kind]
        median = median_or_none(process.rss_bytes for process in own)
        rows.append([kind, str(count), mebibytes(total_pss_bytes(own)), mebibytes(median)])
    return markdown(["Heliograph's processes", "number", "PSS MiB", "median RSS MiB"], rows)


def _kind(process: ProcessMemory) -> str:
    return "mailbox actors" if process.role.startswith("mailbox ") else process.role
