"""Accounting: what processes and the disk have used, from /proc and /sys of Linux.

A process's figures include those of its children that have ended and were waited for: the
kernel adds CPU time (proc(5), cutime and cstime) and I/O on reaping. So the sum over all living
processes of a tree is complete, although Postfix and Dovecot start and end processes all the time.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
SECTOR_BYTES = 512  # /sys/block/*/stat counts these, whatever the device's own sectors are.
MARK_VARIABLE = "BENCH_SYSTEM_MARK"


@dataclass(frozen=True, slots=True)
class Usage:
    """What a set of processes has used since each of them began."""

    cpu_s: float
    written_bytes: int  # File pages made dirty, without the file system's journal.


@dataclass(frozen=True, slots=True)
class DiskCounters:
    """What a whole disk has done since the machine started, for everyone on the machine."""

    written_bytes: int
    flushes: int


def process_usage(pids: Iterable[int]) -> Usage:
    """Return the sum over `pids`; a process that is gone counts nothing, its parent has it."""
    ticks = 0
    written_bytes = 0
    for pid in pids:
        try:
            # utime, stime, cutime, cstime are fields 14 to 17; 13 fields stand behind the name.
            ticks += sum(int(field) for field in _stat_fields(pid)[11:15])
            written_bytes += _written_bytes(pid)
        except (FileNotFoundError, ProcessLookupError):
            continue
    return Usage(ticks / TICKS_PER_S, written_bytes)


def process_tree(roots: Sequence[int], mark: str | None = None) -> list[int]:
    """Return `roots`, their living descendants, and whoever carries `mark` in its environment.

    The mark finds processes whose parent has ended, as daemons and Ray's workers do.
    """
    parents: dict[int, int] = {}
    marked: set[int] = set(roots)
    wanted = f"{MARK_VARIABLE}={mark}".encode()
    for entry in PROC.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            parents[int(entry.name)] = int(_stat_fields(int(entry.name))[1])
            if mark is not None and wanted in (entry / "environ").read_bytes().split(b"\0"):
                marked.add(int(entry.name))
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return sorted(pid for pid in parents if _descends(pid, marked, parents))


def _descends(pid: int, ancestors: set[int], parents: dict[int, int]) -> bool:
    for _ in range(len(parents)):  # Bounded: the snapshot is not atomic, pids may be reused.
        if pid in ancestors:
            return True
        if pid not in parents:
            return False
        pid = parents[pid]
    return False


def _stat_fields(pid: int) -> list[str]:
    """Return the fields of /proc/pid/stat behind the name: state, ppid, …"""
    return (PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()


def _written_bytes(pid: int) -> int:
    for line in (PROC / str(pid) / "io").read_text().splitlines():
        if line.startswith("write_bytes:"):
            return int(line.split()[1])
    return 0


def disk_counters(directory: Path) -> DiskCounters | None:
    """Return the counters of the disk under `directory`, or None where there is no block device."""
    device = os.stat(directory).st_dev
    path = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").resolve()
    if (path / "partition").exists():
        path = path.parent  # Flushes are counted for whole disks only.
    try:
        fields = (path / "stat").read_text().split()
    except FileNotFoundError:
        return None  # Such as tmpfs, overlayfs, btrfs.
    flushes = int(fields[15]) if len(fields) > 15 else 0  # Since Linux 5.5.
    return DiskCounters(int(fields[6]) * SECTOR_BYTES, flushes)


def busy_cpu_s() -> float:
    """Return the CPU time that the whole machine has spent, what the hypervisor took included."""
    fields = (PROC / "stat").read_text().split("\n", 1)[0].split()[1:9]
    user, nice, system, _idle, _iowait, irq, softirq, steal = (int(field) for field in fields)
    return (user + nice + system + irq + softirq + steal) / TICKS_PER_S


def bench_cpu_s() -> float:
    """Return the CPU time of the benchmark itself and of the load generators that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
