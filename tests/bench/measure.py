"""Measuring: one system, one load. The same code for every system under test."""

from __future__ import annotations

import os
import signal
import smtplib
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.accounting import (
    DiskCounters,
    Usage,
    bench_cpu_s,
    busy_cpu_s,
    disk_counters,
    process_usage,
)
from tests.bench.load import SMALL_BYTES, Load, LoadOutcome, run_load
from tests.bench.system import SENDER, BenchError, SystemUnderTest

DELIVERED_MAX_S = 600.0
DELIVERED_POLL_S = 0.05
SETTLE_S = 2.0  # Work left over after the delivery (indexes, queue files) is counted as well.
# Files are written until nothing more comes: compactions, queue files that are taken away.
WRITTEN_SETTLE_MAX_S = 30.0
WRITTEN_QUIET_S = 3.0
WRITTEN_QUIET_BYTES = 256 * 1024  # Logs go on for ever.

FOREIGN_CPU_CORES_MAX = 0.2  # Above this a run is called disturbed.
QUIET_SAMPLE_S = 2.0

PROBE_MAX_S = 40.0  # Dovecot without inotify looks every 30 s.
PROBE_PAUSE_S = 0.03  # Lets a second notice of the same message pass before the next one.
WARM_UP_PROBES = 2

PERF = Path("/usr/bin/perf")
PERF_ATTACH_S = 3.0
PERF_ATTEMPTS = 3  # It gives up when one of the processes has just ended.
PERF_END_MAX_S = 30.0
# The tracepoints' names are in tracefs, which is mounted in a name space of our own if need be.
PERF_SCRIPT = """\
[ -d /sys/kernel/tracing/events ] || mount -t tracefs tracefs /sys/kernel/tracing || exit 1
exec "$@"
"""
FLUSH_CALLS = ("fsync", "fdatasync", "syncfs")


@dataclass(frozen=True, slots=True)
class LoadResult:
    """One load on one system."""

    system: str
    load: str
    size_bytes: int
    round: int
    messages: int
    accepted_per_s: float
    delivered_per_s: float
    cpu_ms_per_message: float
    written_bytes_per_message: float
    disk_bytes_per_message: float | None  # None where the disk has no counters.
    disk_flushes_per_message: float | None
    foreign_cpu_cores: float  # What others took meanwhile: near 0 in a run that is worth something.


@dataclass(frozen=True, slots=True)
class PushResult:
    """The times from the sender's 250 to the notice; below 0 where the notice was first."""

    system: str
    round: int
    latency_ms: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class FlushResult:
    """The system calls that make data durable, counted in a run that is not timed."""

    system: str
    load: str
    messages: int
    calls: dict[str, int]

    @property
    def per_message(self) -> float:
        """Return the calls of every kind together, per message."""
        return sum(self.calls.values()) / self.messages


@dataclass(frozen=True, slots=True)
class Reading:
    """What the counters show at one moment."""

    usage: Usage
    bench_cpu_s: float
    busy_cpu_s: float
    at_s: float


def send_and_await(system: SystemUnderTest, load: Load) -> LoadOutcome:
    """Send the load to few mailboxes and return when all of it is there."""
    before = system.delivered()
    outcome = run_load(load, port=system.smtp_port)
    await_delivered(system, before + outcome.messages)
    return outcome


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


def await_empty_queues(system: SystemUnderTest) -> None:
    """Return as soon as nothing that was accepted waits. Raises BenchError if not in time."""
    deadline_s = time.monotonic() + DELIVERED_MAX_S
    while waiting := system.backlog():
        if time.monotonic() > deadline_s:
            raise BenchError(f"{system.name}: {waiting} accepted messages were not delivered")
        time.sleep(DELIVERED_POLL_S)


def send_to_many(system: SystemUnderTest, load: Load) -> LoadOutcome:
    """Send the load to many mailboxes and return when nothing of it waits any more."""
    outcome = run_load(load, port=system.smtp_port)
    await_empty_queues(system)
    return outcome


def measure_load(
    system: SystemUnderTest,
    load: Load,
    *,
    directory: Path,
    number: int,
    send: Callable[[SystemUnderTest, Load], LoadOutcome] = send_and_await,
) -> LoadResult:
    """Run one load and return its figures."""
    os.sync()  # What is dirty before our window shall not be written inside it.
    disk, first = disk_counters(directory), read_counters(system)
    outcome = send(system, load)
    delivered_s = time.monotonic() - outcome.started_s
    time.sleep(SETTLE_S)
    last = read_counters(system)
    written_bytes = settled_written_bytes(system) - first.usage.written_bytes
    os.sync()  # The disk's counter sees a page only when it is written.
    disk_bytes, disk_flushes = _disk_per_message(disk, disk_counters(directory), outcome.messages)

    cpu_s = last.usage.cpu_s - first.usage.cpu_s
    return LoadResult(
        system=system.name,
        load=load.label,
        size_bytes=load.size_bytes,
        round=number,
        messages=outcome.messages,
        accepted_per_s=outcome.messages / outcome.accepted_s,
        delivered_per_s=outcome.messages / delivered_s,
        cpu_ms_per_message=cpu_s * 1000 / outcome.messages,
        written_bytes_per_message=written_bytes / outcome.messages,
        disk_bytes_per_message=disk_bytes,
        disk_flushes_per_message=disk_flushes,
        foreign_cpu_cores=_foreign_cores(first, last),
    )


def settled_written_bytes(system: SystemUnderTest) -> int:
    """Return what the system has written, once it has finished writing."""
    deadline_s = time.monotonic() + WRITTEN_SETTLE_MAX_S
    before = process_usage(system.pids()).written_bytes
    while time.monotonic() < deadline_s:
        time.sleep(WRITTEN_QUIET_S)
        now = process_usage(system.pids()).written_bytes
        if now - before < WRITTEN_QUIET_BYTES:
            return now
        before = now
    return before


def await_quiet(system: SystemUnderTest, *, timeout_s: float) -> None:
    """Wait until others leave the processors alone; give up silently, the result shows it."""
    deadline_s = time.monotonic() + timeout_s
    while time.monotonic() < deadline_s:
        first = read_counters(system)
        time.sleep(QUIET_SAMPLE_S)
        if _foreign_cores(first, read_counters(system)) <= FOREIGN_CPU_CORES_MAX:
            return


def _foreign_cores(first: Reading, last: Reading) -> float:
    ours_s = last.usage.cpu_s - first.usage.cpu_s + last.bench_cpu_s - first.bench_cpu_s
    return max(0.0, (last.busy_cpu_s - first.busy_cpu_s - ours_s) / (last.at_s - first.at_s))


def read_counters(system: SystemUnderTest) -> Reading:
    """Return what the counters show now."""
    return Reading(process_usage(system.pids()), bench_cpu_s(), busy_cpu_s(), time.monotonic())


def _disk_per_message(
    first: DiskCounters | None, last: DiskCounters | None, messages: int
) -> tuple[float | None, float | None]:
    if first is None or last is None:
        return None, None
    return (
        (last.written_bytes - first.written_bytes) / messages,
        (last.flushes - first.flushes) / messages,
    )


def measure_push(system: SystemUnderTest, *, probes: int, number: int) -> PushResult:
    """Send `probes` messages one by one to a listened-to mailbox; time each 250 → notice."""
    latency_ms = []
    text = b"Subject: probe\r\n\r\n" + (b"x" * 70 + b"\r\n") * (SMALL_BYTES // 72)
    with (
        system.push_listener(system.users[0]) as log,
        smtplib.SMTP(
            "127.0.0.1",
            system.smtp_port,
            local_hostname="load.example.test",
            timeout=PROBE_MAX_S,
        ) as client,
    ):
        for probe in range(WARM_UP_PROBES + probes):
            known = log.count()
            client.sendmail(SENDER, system.users[0], text)  # Returns when the 250 is read.
            answered_s = time.monotonic()
            noticed_s = log.wait_for(known, timeout_s=PROBE_MAX_S)
            if noticed_s is None:
                raise BenchError(f"{system.name}: no notice within {PROBE_MAX_S:.0f} s of the 250")
            if probe >= WARM_UP_PROBES:
                latency_ms.append((noticed_s - answered_s) * 1000)
            time.sleep(PROBE_PAUSE_S)
    return PushResult(system.name, number, tuple(latency_ms))


def measure_flushes(system: SystemUnderTest, load: Load) -> FlushResult | None:
    """Count the flushing system calls of one load; None where perf is missing or not allowed."""
    for _ in range(PERF_ATTEMPTS if PERF.exists() else 0):
        if (result := _count_flushes(system, load)) is not None:
            return result
    return None


def _count_flushes(system: SystemUnderTest, load: Load) -> FlushResult | None:
    with tempfile.NamedTemporaryFile("r") as summary:
        with _perf(system, Path(summary.name)) as attached:
            if not attached:
                return None
            outcome = send_and_await(system, load)
            time.sleep(SETTLE_S)
        calls = parse_perf(summary.read())
    return FlushResult(system.name, load.label, outcome.messages, calls) if calls else None


@contextmanager
def _perf(system: SystemUnderTest, summary: Path) -> Iterator[bool]:
    """Count in every process of the system and its future children; yield whether that works.

    The kernel counts at its tracepoints. strace would stop every system call, and a slow system
    gathers fewer messages into a flush: it would count a system that nobody runs.
    """
    events = ",".join(f"syscalls:sys_enter_{call}" for call in FLUSH_CALLS)
    pids = ",".join(str(pid) for pid in system.pids())
    command = ["unshare", "--mount", "sh", "-c", PERF_SCRIPT, "sh", str(PERF), "stat", "-x", ","]
    tracer = subprocess.Popen(
        [*command, "-o", str(summary), "-e", events, "-p", pids],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    time.sleep(PERF_ATTACH_S)
    try:
        yield tracer.poll() is None
    finally:
        if tracer.poll() is None:
            tracer.send_signal(signal.SIGINT)  # perf writes its summary and ends.
        try:
            tracer.wait(timeout=PERF_END_MAX_S)
        except subprocess.TimeoutExpired:
            tracer.kill()
            tracer.wait()


def parse_perf(summary: str) -> dict[str, int]:
    """Return the calls by name from `perf stat -x ,`: count, unit, event, …"""
    calls = {}
    for line in summary.splitlines():
        fields = line.split(",")
        if len(fields) > 2 and fields[0].isdigit():
            calls[fields[2].rpartition("sys_enter_")[2]] = int(fields[0])
    return calls
