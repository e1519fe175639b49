"""Memory: resident and proportional set size of processes, by what they are for.

RSS counts a page that several processes share in each of them; PSS divides it among them, so that
the sum over all processes is what the system really takes (proc(5), smaps_rollup).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class ProcessMemory:
    """One process at one moment."""

    pid: int
    role: str
    rss_bytes: int
    pss_bytes: int
    anonymous_bytes: int  # The proportional part that no file can take back.


@dataclass(frozen=True, slots=True)
class Growth:
    """The resident set of one process at two moments."""

    pid: int
    role: str
    first_bytes: int
    last_bytes: int
    first_anonymous_bytes: int
    last_anonymous_bytes: int

    @property
    def share(self) -> float:
        """Return by what part it grew; 0.05 is 5 %."""
        return self.last_bytes / self.first_bytes - 1


def read_memory(pids: Iterable[int], roles: Mapping[int, str]) -> list[ProcessMemory]:
    """Return the memory of each process that still lives."""
    found = []
    for pid in pids:
        try:
            sizes = parse_rollup((PROC / str(pid) / "smaps_rollup").read_text())
            role = roles.get(pid) or _role(pid)
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        if "Rss" in sizes:  # A zombie has none.
            found.append(
                ProcessMemory(pid, role, sizes["Rss"], sizes["Pss"], sizes.get("Pss_Anon", 0))
            )
    return found


def parse_rollup(text: str) -> dict[str, int]:
    """Return the sizes of /proc/PID/smaps_rollup by name, in bytes."""
    sizes = {}
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        words = value.split()
        if colon and len(words) == 2 and words[1] == "kB":
            sizes[name] = int(words[0]) * 1024
    return sizes


def growth(first: Sequence[ProcessMemory], last: Sequence[ProcessMemory]) -> list[Growth]:
    """Return the growth of each process that was there both times, the greatest first."""
    before = {process.pid: process for process in first}
    grown = [
        Growth(
            process.pid,
            process.role,
            earlier.rss_bytes,
            process.rss_bytes,
            earlier.anonymous_bytes,
            process.anonymous_bytes,
        )
        for process in last
        if (earlier := before.get(process.pid)) is not None
    ]
    return sorted(grown, key=lambda one: one.share, reverse=True)


def total_pss_bytes(processes: Iterable[ProcessMemory]) -> int:
    """Return what the processes take together."""
    return sum(process.pss_bytes for process in processes)


def total_rss_bytes(processes: Iterable[ProcessMemory]) -> int:
    """Return the sum of the resident sets, shared pages counted again in each."""
    return sum(process.rss_bytes for process in processes)


def _role(pid: int) -> str:
    """Return the name under which a process shows itself."""
    words = (PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace").split("\0")
    title = words[0].split(" ")[0]
    if title.startswith("ray::"):
        return title.partition(".")[0]
    name = Path(title).name
    if name.startswith("python") and len(words) > 1:
        return Path(words[1]).name or name
    return name or (PROC / str(pid) / "comm").read_text().strip()
