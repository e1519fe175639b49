"""Replicas: what three copies cost, how long a failover takes, how quickly a replica catches up.

Three nodes on one machine share its processors and its disk, which three machines would not: the
ratio of three copies to one is the worst that it can be. With one copy the shards are spread over
the same three nodes; so what is compared is the replication, and nothing else.
"""

from __future__ import annotations

import contextlib
import os
import signal
import smtplib
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.bench.figures import Target, percentile
from tests.bench.load import (
    LARGE_BYTES,
    SESSIONS_PER_GENERATOR,
    SMALL_BYTES,
    Body,
    Load,
    Mode,
    run_load,
)
from tests.bench.stage import PartReport, Stage, say
from tests.bench.system import SENDER, USERS, BenchError
from tests.bench.table import markdown, number
from tests.faults.nodes import NUMBERS, Nodes, NotWhole, primary_pid

RATIO_MIN = 0.4
RATIO_AIM = 0.5
PROCESS_S_MAX = 2.5
NODE_S_MAX = 4.0
CATCH_UP_BYTES_PER_S_MIN = 30e6
WRITES_MIN = 0.5  # of their speed before
WARM_UP = 40  # messages of each generator
NEXT_S_MAX = 60.0
LAG_MESSAGES = 200  # of each generator, 100 KB each: for less than a mute process may live
LEVEL_ENTRIES = 64  # mail goes on, so that a replica is never quite level
BEFORE_S = 10.0
SHORT = Load(Mode.KEPT, LARGE_BYTES, SESSIONS_PER_GENERATOR, Body.WORDS)
SETTINGS = {"HELIO_MAILBOX_ACTORS_PER_NODE": "4", "HELIO_REPLICATION__REPLACE_AFTER_S": "3600"}


@dataclass(frozen=True, slots=True)
class Rate:
    """One load on three nodes."""

    copies: int
    round: int
    load: str
    delivered_per_s: float


@dataclass(frozen=True, slots=True)
class CatchUp:
    """Replicas that had stood still went on while mail came."""

    lag_bytes: int
    seconds: float  # until none lagged
    before_per_s: float  # messages, with all of them
    beside_per_s: float  # messages, while they caught up

    @property
    def bytes_per_s(self) -> float:
        return self.lag_bytes / self.seconds


def measure(stage: Stage) -> PartReport:
    """Return rates with one and three copies, times of failovers, and of catching up."""
    report = PartReport("replicas", "Three nodes on this machine, three copies")
    if not stage.with_heliograph:
        return report
    rates: list[Rate] = []
    for round_number in range(1, stage.sizes.rounds + 1):
        for copies in (3, 1) if round_number % 2 else (1, 3):
            rates += _rates(stage, round_number, copies)
    failovers: dict[str, list[float]] = {"process": [], "node": []}
    with running(stage, copies=3) as nodes:
        _fail_processes(nodes, stage.sizes.failovers, failovers["process"])
        catch_up = _catch_up(nodes)
        _fail_nodes(nodes, stage.sizes.failovers, failovers["node"])
    report.tables = [_rate_table(rates), _failover_table(failovers), _catch_up_table(catch_up)]
    report.figures = {
        "rates": [asdict(one) for one in rates],
        "failovers_s": failovers,
        "catch_up": asdict(catch_up),
    }
    report.targets = _targets(rates, failovers, catch_up)
    return report


@contextlib.contextmanager
def running(stage: Stage, *, copies: int) -> Iterator[Nodes]:
    """Run three nodes with the users of the benchmark."""
    settings = SETTINGS | {"HELIO_REPLICATION__FACTOR": str(copies)}
    with tempfile.TemporaryDirectory(prefix="bench-", dir=stage.directory) as directory:
        nodes = Nodes(Path(directory), settings=settings)
        try:
            nodes.start_all()
            nodes.add_accounts(USERS, copies=copies)
            yield nodes
        except NotWhole as error:
            raise BenchError(f"not whole: {error}") from None
        finally:
            nodes.close()


def _deliver(nodes: Nodes, load: Load, node: int = 1) -> float:
    """Send a load to one node's gateway; return messages/s. 250 says that they are stored."""
    outcome = run_load(load, port=nodes.smtp(node)[1])
    return outcome.messages / outcome.accepted_s


def _rates(stage: Stage, round_number: int, copies: int) -> list[Rate]:
    sizes = stage.sizes
    found = []
    with running(stage, copies=copies) as nodes:
        for mode in Mode:
            _deliver(nodes, Load(mode, SMALL_BYTES, WARM_UP))
        for load in (
            Load(Mode.CONNECTION_PER_MESSAGE, SMALL_BYTES, sizes.messages, Body.WORDS),
            Load(Mode.KEPT, SMALL_BYTES, sizes.messages, Body.WORDS),
            Load(Mode.CONNECTION_PER_MESSAGE, LARGE_BYTES, sizes.large_messages, Body.WORDS),
        ):
            rate = Rate(copies, round_number, load.label, _deliver(nodes, load))
            say(
                f"round {round_number}  {copies} copies  {load.label}  {rate.delivered_per_s:.0f}/s"
            )
            found.append(rate)
    return found


# Failovers


def _fail_processes(nodes: Nodes, count: int, found: list[float]) -> None:
    """Kill the primary of a mailbox's shard again and again."""
    for turn in range(count):
        nodes.wait_whole()
        user = USERS[turn % len(USERS)]
        shard = nodes.shard_of(user)
        survivor = _survivor(nodes, shard)
        os.kill(primary_pid(shard), signal.SIGKILL)
        found.append(_next_delivery_s(nodes, survivor, user))
        say(f"process {turn + 1}: {found[-1]:.2f} s")


def _fail_nodes(nodes: Nodes, count: int, found: list[float]) -> None:
    """Kill the node of the primary of a mailbox's shard, the head as well; start it again."""
    for turn in range(count):
        nodes.wait_whole()
        user = USERS[turn % len(USERS)]
        shard = nodes.shard_of(user)
        lost = nodes.number_of(shard["primary"])
        survivor = _survivor(nodes, shard)
        what = "head's node" if nodes.is_head(lost) else "node"
        for process in nodes.family(lost):
            process.kill()
        found.append(_next_delivery_s(nodes, survivor, user))
        say(f"{what} {turn + 1}: {found[-1]:.2f} s")
        nodes.kill(lost)
        nodes.start(lost)


def _survivor(nodes: Nodes, shard: dict[str, Any]) -> int:
    lost = nodes.number_of(shard["primary"])
    return next(one for one in NUMBERS if one != lost)


def _next_delivery_s(nodes: Nodes, node: int, user: str) -> float:
    """Return the seconds until a message to `user` is accepted, which is tried without pause."""
    began_s = time.monotonic()
    text = f"From: {SENDER}\r\nTo: {user}\r\nSubject: next\r\n\r\nA body.\r\n"
    while time.monotonic() - began_s < NEXT_S_MAX:
        with contextlib.suppress(OSError, smtplib.SMTPException):
            with smtplib.SMTP(*nodes.smtp(node), timeout=NEXT_S_MAX) as peer:
                peer.sendmail(SENDER, [user], text)
            return time.monotonic() - began_s
        time.sleep(0.02)
    raise BenchError(f"no mail is taken for {NEXT_S_MAX:.0f} s")


# Catching up


def _catch_up(nodes: Nodes) -> CatchUp:
    """Stop the followers of one node, deliver, and go on delivering when they go on."""
    nodes.wait_whole()
    before_per_s = _rate_of(nodes, BEFORE_S)
    node, pids = max(_followers(nodes).items(), key=lambda one: len(one[1]))
    via = next(one for one in NUMBERS if one != node)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        _deliver(nodes, Load(Mode.KEPT, LARGE_BYTES, LAG_MESSAGES, Body.WORDS), via)
        lag_bytes = sum(_lags(nodes, pids)) * LARGE_BYTES
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    began_s = time.monotonic()
    level = threading.Event()
    seconds = [0.0]

    def watch() -> None:
        nodes.wait(lambda: max(_lags(nodes, pids)) < LEVEL_ENTRIES, 300.0)
        seconds[0] = time.monotonic() - began_s
        level.set()

    watcher = threading.Thread(target=watch)
    watcher.start()
    taken = 0
    while not level.is_set():
        taken += run_load(SHORT, port=nodes.smtp(via)[1]).messages
    beside_s = time.monotonic() - began_s
    watcher.join()
    return CatchUp(lag_bytes, seconds[0], before_per_s, taken / beside_s)


def _rate_of(nodes: Nodes, at_least_s: float) -> float:
    """Return the messages/s of short loads, one after the other."""
    began_s = time.monotonic()
    taken = 0
    while time.monotonic() - began_s < at_least_s:
        taken += run_load(SHORT, port=nodes.smtp(1)[1]).messages
    return taken / (time.monotonic() - began_s)


def _followers(nodes: Nodes) -> dict[int, list[int]]:
    """Return the processes of all followers of mailbox shards, by node."""
    found: dict[int, list[int]] = {}
    for shard in nodes.mailbox_shards():
        for replica in shard["replicas"]:
            if replica["role"] == "follower":
                found.setdefault(nodes.number_of(replica["node"]), []).append(replica["pid"])
    return found


def _lags(nodes: Nodes, pids: list[int]) -> list[int]:
    """Return by how many entries, nearly all of one message, some replicas are behind."""
    return [
        replica["lag_entries"]
        for shard in nodes.mailbox_shards()
        for replica in shard["replicas"]
        if replica["pid"] in pids
    ]


# What is shown


def _rate_table(rates: list[Rate]) -> str:
    loads = list(dict.fromkeys(one.load for one in rates))
    rows = []
    for load in loads:
        of = {copies: _of(rates, load, copies) for copies in (1, 3)}
        rows.append([load, *(number(statistics.median(of[one])) for one in (1, 3))])
        rows[-1].append(number(_ratio(rates, load), 2))
    return markdown(["load", "one copy, delivered/s", "three copies", "ratio"], rows)


def _of(rates: list[Rate], load: str, copies: int) -> list[float]:
    return [one.delivered_per_s for one in rates if one.load == load and one.copies == copies]


def _ratio(rates: list[Rate], load: str) -> float:
    """Return the median of the rounds' ratios."""
    pairs = zip(_of(rates, load, 3), _of(rates, load, 1), strict=True)
    return statistics.median(three / one for three, one in pairs)


def _failover_table(failovers: dict[str, list[float]]) -> str:
    rows = [
        [
            f"SIGKILL of a primary's {what}",
            *(
                f"{value:.2f}"
                for value in (statistics.median(times), percentile(times, 95), max(times))
            ),
            str(len(times)),
        ]
        for what, times in failovers.items()
        if times
    ]
    return markdown(["until the next delivery", "median s", "p95 s", "worst s", "times"], rows)


def _catch_up_table(catch_up: CatchUp) -> str:
    row = [
        number(catch_up.lag_bytes / 1e6),
        f"{catch_up.seconds:.1f}",
        number(catch_up.bytes_per_s / 1e6, 1),
        number(catch_up.before_per_s),
        number(catch_up.beside_per_s),
    ]
    return markdown(
        ["MB behind", "s until level", "MB/s", "100 KB messages/s before", "meanwhile"], [row]
    )


def _targets(
    rates: list[Rate], failovers: dict[str, list[float]], catch_up: CatchUp
) -> list[Target]:
    first = _ratio(rates, rates[0].load)
    mb_per_s = catch_up.bytes_per_s / 1e6
    writes = catch_up.beside_per_s / catch_up.before_per_s
    least_mb_per_s = CATCH_UP_BYTES_PER_S_MIN / 1e6
    worst = {what: max(times) for what, times in failovers.items()}
    return [
        Target("delivered/s, three copies to one", "≥", RATIO_MIN, "×", first),
        Target("the same, what is aimed for", "≥", RATIO_AIM, "×", first),
        Target("next delivery, process killed, worst", "<", PROCESS_S_MAX, "s", worst["process"]),
        Target("next delivery, node killed, worst", "<", NODE_S_MAX, "s", worst["node"]),
        Target("a lagging replica catches up", "≥", least_mb_per_s, "MB/s", mb_per_s),
        Target("writes meanwhile, to before", "≥", WRITES_MIN, "×", writes),
    ]
