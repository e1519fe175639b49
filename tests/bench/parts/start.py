"""Start: from `helio up` to its ready line, and the first answer of a mailbox that rests.

Starts on a new data directory and on one with ten filled mailboxes alternate, so that a change
of the machine touches both alike.
"""

from __future__ import annotations

import json
import statistics
import time
from pathlib import Path

from tests.bench.figures import Target, percentile
from tests.bench.heliograph import Heliograph
from tests.bench.load import SMALL_BYTES, Load, Mode
from tests.bench.measure import send_and_await
from tests.bench.stage import PartReport, Stage, say
from tests.bench.system import USERS, BenchError
from tests.bench.table import markdown

READY_S_MAX = 10.0
FIRST_ANSWER_S_MAX = 1.0
FILL_MESSAGES = 100  # A mailbox.
IDLE_SETTING = "HELIO_IDLE_ACTOR_S"
IDLE_S = 2.0
REST_MAX_S = 90.0
REST_POLL_S = 0.5
LIST_NEWEST = {"sort": [{"property": "receivedAt", "isAscending": False}], "limit": 50}


def measure(stage: Stage) -> PartReport:
    """Return the times of starts and of first answers."""
    report = PartReport("start", "Start-up, and the first answer of a resting mailbox")
    if not stage.with_heliograph:
        return report
    ready_s: dict[str, list[float]] = {"new directory": [], "ten mailboxes": []}
    answers_s: list[float] = []
    with stage.scratch("the filled directory") as filled:
        _fill(filled, report)
        for number in range(1, stage.sizes.starts + 1):
            with stage.scratch("a new directory") as fresh:
                ready_s["new directory"].append(_start_once(fresh))
            ready_s["ten mailboxes"].append(_start_once(filled))
            shown = ", ".join(f"{name} {times[-1]:.2f} s" for name, times in ready_s.items())
            say(f"start {number}: {shown}")
        try:
            answers_s = _first_answers(filled, stage.sizes.starts)
        except BenchError as error:
            report.trouble = str(error)
    kinds = {f"`helio up` → `ready`, {name}": times for name, times in ready_s.items()}
    kinds["first JMAP answer, mailbox actor not running"] = answers_s
    report.tables = [_table(kinds)]
    report.figures = {"seconds": kinds}
    for kind, times in kinds.items():
        limit_s = READY_S_MAX if "ready" in kind else FIRST_ANSWER_S_MAX
        value = statistics.median(times) if times else None
        report.targets.append(Target(f"{kind}, median", "<", limit_s, "s", value))
    return report


def _fill(directory: Path, report: PartReport) -> None:
    system = Heliograph()
    try:
        system.start(directory, USERS)
        report.versions[system.name] = system.version()
        send_and_await(system, Load(Mode.KEPT, SMALL_BYTES, FILL_MESSAGES))
    finally:
        system.stop()


def _start_once(directory: Path) -> float:
    system = Heliograph()
    try:
        return system.launch(directory)
    finally:
        system.stop()


def _first_answers(directory: Path, count: int) -> list[float]:
    """Return how long a newest-50 takes in mailboxes whose actors have been sent to rest."""
    system = Heliograph({IDLE_SETTING: str(IDLE_S)})
    answers_s = []
    try:
        system.launch(directory)
        for number in range(count):
            user = USERS[number % len(USERS)]
            # Signs in beforehand: a password's first check takes its time on purpose, and the
            # directory is never at rest.
            system.account_id(user)
            _await_rest(system, system.shard(user))
            began_s = time.perf_counter()
            found = system.jmap(user, "Email/query", LIST_NEWEST)
            answers_s.append(time.perf_counter() - began_s)
            if len(found["ids"]) != LIST_NEWEST["limit"]:
                raise BenchError(f"the first answer of {user} is {json.dumps(found)[:200]}")
        return answers_s
    finally:
        system.stop()


def _await_rest(system: Heliograph, shard: int) -> None:
    deadline_s = time.monotonic() + REST_MAX_S
    while time.monotonic() < deadline_s:
        rows = {row["id"]: row for row in system.status()["shards"]}
        if rows[shard]["pid"] is None:
            return
        time.sleep(REST_POLL_S)
    raise BenchError(f"shard {shard} was not sent to rest within {REST_MAX_S:.0f} s")


def _table(kinds: dict[str, list[float]]) -> str:
    rows = [
        [
            kind,
            f"{statistics.median(times):.2f}",
            f"{min(times):.2f}",
            f"{percentile(times, 95):.2f}",
            f"{max(times):.2f}",
            str(len(times)),
        ]
        for kind, times in kinds.items()
        if times
    ]
    return markdown(["what", "median s", "least s", "p95 s", "most s", "runs"], rows)
