"""Processes: which ones belong to a Ray that has died, and ending exactly those.

A killed `helio up` takes Ray's own processes with it (they share its fate in the kernel), but
workers and agents go on for seconds. Every one of them logs below Ray's runtime directory,
which is made anew for each start: who holds a file open there is one of them, and nobody else.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Process:
    """A process, told from a later one of the same number by when it was started."""

    pid: int
    started_ticks: int

    @classmethod
    def of(cls, pid: int) -> Process | None:
        """Return the running process of that number; a zombie runs no more."""
        try:
            stat = (PROC / str(pid) / "stat").read_text()
        except OSError:
            return None
        state, *fields = stat.rpartition(")")[2].split()
        return None if state in "ZX" else cls(pid, int(fields[18]))  # proc(5): starttime is 22nd

    @property
    def runs(self) -> bool:
        return Process.of(self.pid) == self

    def kill(self) -> None:
        """Send SIGKILL if it is still the same process."""
        if self.runs:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)


def holders(directory: Path) -> list[Process]:
    """Return the other processes that hold a file below `directory`, or are told of it."""
    prefix = f"{directory}/"
    found = []
    for entry in PROC.iterdir() if PROC.exists() else ():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        if _holds(entry, prefix) and (process := Process.of(int(entry.name))) is not None:
            found.append(process)
    return found


def _holds(entry: Path, prefix: str) -> bool:
    try:
        if prefix.encode() in (entry / "cmdline").read_bytes():
            return True
        for link in os.scandir(entry / "fd"):
            with contextlib.suppress(OSError):
                if os.readlink(link.path).startswith(prefix):
                    return True
    except OSError:  # Gone meanwhile, or another user's.
        return False
    return False


def end_holders(directory: Path, timeout_s: float) -> bool:
    """Kill whoever holds files below `directory`; say whether nobody is left."""
    deadline = time.monotonic() + timeout_s
    while left := holders(directory):
        for process in left:
            process.kill()
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_S)
    return True
