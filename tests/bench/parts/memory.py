"""Memory: what a mailbox costs, idle and at work, as a node fills up.

Up to the packing limit each mailbox brings a process; beyond it mailboxes share actors, and one
more costs what the actors remember of it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from tests.bench.figures import median_or_none
from tests.bench.heliograph import Heliograph
from tests.bench.load import SESSIONS_PER_GENERATOR, SMALL_BYTES, Body, Load, Mode
from tests.bench.measure import send_and_await
from tests.bench.memory import ProcessMemory, read_memory, total_pss_bytes, total_rss_bytes
from tests.bench.stage import PartReport, Stage, say
from tests.bench.system import DOMAIN, USERS
from tests.bench.table import markdown, mebibytes, number

STEPS = (0, 1, 8, 32)  # And the last one, a size.
REST_S = 3.0
ACTIVE_MESSAGES = 200  # A mailbox.
ACTIVE_QUERIES = 50


@dataclass(frozen=True, slots=True)
class Step:
    """The node with so many idle mailboxes."""

    accounts: int
    memory: tuple[ProcessMemory, ...]

    @property
    def pss_bytes(self) -> int:
        return total_pss_bytes(self.memory)


def measure(stage: Stage) -> PartReport:
    """Return the memory of a growing node and of its mailbox actors."""
    report = PartReport("memory", "Memory of idle and active mailboxes")
    if not stage.with_heliograph:
        return report
    wanted = sorted(
        {*(step for step in STEPS if step < stage.sizes.accounts), stage.sizes.accounts}
    )
    addresses = [*USERS, *(f"more{number}@{DOMAIN}" for number in range(stage.sizes.accounts))]
    system = Heliograph()
    steps = []
    with stage.running(system, ()):
        report.versions[system.name] = system.version()
        for accounts in wanted:
            system.add_accounts(addresses[len(system.users) : accounts])
            time.sleep(REST_S)
            steps.append(Step(accounts, tuple(read_memory(system.pids(), system.roles()))))
            pss = mebibytes(steps[-1].pss_bytes)
            say(f"{accounts:6d} mailboxes  {len(steps[-1].memory)} processes  PSS {pss} MiB")
    active = _active(stage, report)
    report.tables = [_step_table(steps), _actor_table(steps, active)]
    report.figures = {
        "steps": [asdict(step) for step in steps],
        "active": [asdict(process) for process in active],
    }
    return report


def _active(stage: Stage, report: PartReport) -> list[ProcessMemory]:
    """Return ten actors that have just received and answered."""
    system = Heliograph()
    with stage.running(system, USERS):
        few = max(SESSIONS_PER_GENERATOR, min(ACTIVE_MESSAGES, stage.sizes.messages))
        send_and_await(system, Load(Mode.KEPT, SMALL_BYTES, few, Body.WORDS))
        for user in USERS:
            for _ in range(ACTIVE_QUERIES // len(USERS) + 1):
                found = system.jmap(user, "Email/query", {"limit": 50})
                system.jmap(user, "Email/get", {"ids": found["ids"], "properties": ["subject"]})
        return read_memory(system.pids(), system.roles())


def _actors(memory: Iterable[ProcessMemory]) -> list[ProcessMemory]:
    return [process for process in memory if process.role.startswith("mailbox ")]


def _step_table(steps: list[Step]) -> str:
    rows = []
    before: Step | None = None
    for step in steps:
        added = step.accounts - before.accounts if before else 0
        more_kib = (step.pss_bytes - before.pss_bytes) / added / 1024 if before and added else None
        rows.append(
            [
                f"{step.accounts:,}",
                str(len(step.memory)),
                str(len(_actors(step.memory))),
                mebibytes(step.pss_bytes),
                mebibytes(total_rss_bytes(step.memory)),
                number(more_kib),
            ]
        )
        before = step
    header = ["idle mailboxes", "processes", "mailbox actors", "PSS MiB", "sum of RSS MiB"]
    return markdown([*header, "KiB more a mailbox"], rows)


def _actor_table(steps: list[Step], active: list[ProcessMemory]) -> str:
    kinds = {f"idle, {step.accounts:,} mailboxes": _actors(step.memory) for step in steps[1:]}
    kinds["active, ten mailboxes"] = _actors(active)
    rows = []
    for kind, found in kinds.items():
        figures = (
            median_or_none(process.pss_bytes for process in found),
            median_or_none(process.rss_bytes for process in found),
            median_or_none(process.anonymous_bytes for process in found),
        )
        rows.append([kind, *map(mebibytes, figures)])
    return markdown(["one mailbox actor (median)", "PSS MiB", "RSS MiB", "anonymous MiB"], rows)
