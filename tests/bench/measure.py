"""Measuring: one system, one load. The same code for every system under test."""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import smtplib
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench.accounting import busy_cpu_s, disk_counters, process_usage
from tests.bench.load import MESSAGE_BYTES, Mode, run_load
from tests.bench.system import SENDER, USERS, BenchError, SystemUnderTest

DELIVERED_MAX_S = 600.0
DELIVERED_POLL_S = 0.05
SETTLE_S = 2.0  # Work left over after the delivery (indexes, queue files) is counted as well.

PROBE_MAX_S = 40.0  # Dovecot without inotify looks every 30 s.
PROBE_PAUSE_S = 0.03  # Lets a second notice of the same message pass before the next one.

STRACE = Path("/usr/bin/strace")
STRACE_END_MAX_S = 30.0
FLUSH_CALLS = ("fsync", "fdatasync", "sync_file_range", "msync", "syncfs", "sync")


@dataclass(frozen=True, slots=True)
class LoadResult:
    """One load on one system. Every figure `…_per_message` has the messages as its divisor."""

    system: str
    mode: str
    round: int
    messages: int
    accepted_per_s: float
    delivered_per_s: float
    cpu_ms_per_message: float
    written_bytes_per_message: float
    disk_bytes_per_message: float | None
    disk_flushes_per_message: float | None
    foreign_cpu_cores: float  # What others took meanwhile: near 0 in a run that is worth something.


@dataclass(frozen=True, slots=True)
class PushResult:
    """The time from the sender's 250 to the notice at a waiting client; below 0 if it was first."""

    system: str
    round: int
    latency_ms: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class FlushResult:
    """System calls that make data durable, counted by strace in a run that is not timed."""

    system: str
    mode: str
    messages: int
    calls: dict[str, int]
    durable_bytes_per_flush: float = 0.0

    @property
    def per_message(self) -> float:
        """Return all the calls together, per message."""
        return sum(self.calls.values()) / self.messages


def warm_up(system: SystemUnderTest, *, messages: int) -> None:
    """Send a little of each mode, so that processes, mailboxes and caches are there."""
    for mode in Mode:
        before = system.delivered()
        outcome = run_load(port=system.smtp_port, recipients=USERS, messages=messages, mode=mode)
        await_delivered(system, before + outcome.messages)


def await_delivered(system: SystemUnderTest, wanted: int) -> None:
    """Return as soon as `wanted` messages lie in the mailboxes. Raises BenchError if not in time.

    Nobody looks while the load runs: asking would cost the system under test.
    """
    deadline_s = time.monotonic() + DELIVERED_MAX_S
    while (count := system.delivered()) < wanted:
        if time.monotonic() > deadline_s:
            raise BenchError(f"{system.name}: {wanted - count} accepted messages did not arrive")
        time.sleep(DELIVERED_POLL_S)
    if count > wanted:
        raise BenchError(f"{system.name}: {count - wanted} messages more than were sent")


def measure_load(
    system: SystemUnderTest, *, directory: Path, messages: int, mode: Mode, number: int
) -> LoadResult:
    """Run one load (`messages` to each mailbox) and return its figures."""
    before = system.delivered()
    os.sync()  # What others left dirty shall not be written during our window.
    usage, disk, ours_s, busy_s = _counters(system, directory)
    started_s = time.monotonic()
    outcome = run_load(port=system.smtp_port, recipients=USERS, messages=messages, mode=mode)
    await_delivered(system, before + outcome.messages)
    delivered_s = time.monotonic() - started_s
    time.sleep(SETTLE_S)
    window_s = time.monotonic() - started_s
    usage_end, _, ours_end_s, busy_end_s = _counters(system, directory)
    os.sync()  # The counter of the disk sees a page only when it is written.
    disk_end = disk_counters(directory)

    count = outcome.messages
    cpu_s = usage_end.cpu_s - usage.cpu_s
    foreign_s = (busy_end_s - busy_s) - cpu_s - (ours_end_s - ours_s)
    counted = disk is not None and disk_end is not None
    return LoadResult(
        system=system.name,
        mode=mode.value,
        round=number,
        messages=count,
        accepted_per_s=count / outcome.accepted_s,
        delivered_per_s=count / delivered_s,
        cpu_ms_per_message=cpu_s * 1000 / count,
        written_bytes_per_message=(usage_end.written_bytes - usage.written_bytes) / count,
        disk_bytes_per_message=(
            (disk_end.written_bytes - disk.written_bytes) / count if counted else None
        ),
        disk_flushes_per_message=(disk_end.flushes - disk.flushes) / count if counted else None,
        foreign_cpu_cores=max(0.0, foreign_s / window_s),
    )
