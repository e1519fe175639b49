"""Stage: what every part of the benchmark is given, and what it hands back."""

from __future__ import annotations

import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.figures import Target
from tests.bench.heliograph import Heliograph
from tests.bench.load import SESSIONS_PER_GENERATOR
from tests.bench.rival import PostfixDovecot
from tests.bench.system import MAILBOXES, SystemUnderTest

# The first is the numerator of the ratio.
SYSTEMS: dict[str, Callable[[], SystemUnderTest]] = {
    "heliograph": Heliograph,
    "postfix": PostfixDovecot,
}
FSYNC_PROBES = 200
FSYNC_PROBE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured; docs/benchmarks.md has the table."""

    rounds: int = 3
    messages: int = 500  # A mailbox and load of 10 KB.
    large_messages: int = 100  # A mailbox and load of 100 KB.
    probes: int = 50  # Push, a round.
    mailboxes: int = 10_000  # Part many.
    mailbox_messages: int = 100_000  # Part jmap.
    loop_s: float = 5.0  # One loop of part jmap.
    growth_messages: int = 100_000  # Part growth.
    accounts: int = 1_000  # Part memory, the last step.
    starts: int = 10  # Part start, of each kind.
    failovers: int = 50  # Part replicas, of each kind.

    def scaled(self, factor: float) -> Sizes:
        """Return sizes for a trial: everything runs, the figures mean little."""
        return Sizes(
            rounds=max(1, round(self.rounds * factor)),
            messages=max(SESSIONS_PER_GENERATOR, round(self.messages * factor)),
            large_messages=max(SESSIONS_PER_GENERATOR, round(self.large_messages * factor)),
            probes=max(3, round(self.probes * factor)),
            mailboxes=MAILBOXES * max(4, round(self.mailboxes / MAILBOXES * factor)),
            mailbox_messages=max(400, round(self.mailbox_messages * factor)),
            loop_s=max(1.0, self.loop_s * factor),
            growth_messages=MAILBOXES * max(20, round(self.growth_messages / MAILBOXES * factor)),
            accounts=max(12, round(self.accounts * factor)),
            starts=max(2, round(self.starts * factor)),
            failovers=max(2, round(self.failovers * factor)),
        )


@dataclass(frozen=True, slots=True)
class Stage:
    """The options of one run of the benchmark."""

    sizes: Sizes
    systems: Sequence[str]
    directory: Path
    quiet_wait_s: float = 60.0
    keep: bool = False

    def in_round(self, number: int) -> list[SystemUnderTest]:
        """Return new systems; odd rounds forwards, even ones backwards: being first is no gain."""
        names = self.systems if number % 2 else self.systems[::-1]
        return [SYSTEMS[name]() for name in names]

    @property
    def with_heliograph(self) -> bool:
        return "heliograph" in self.systems

    @property
    def with_rival(self) -> bool:
        return "postfix" in self.systems

    @contextmanager
    def scratch(self, name: str) -> Iterator[Path]:
        """Make a directory on the measured disk; delete it whatever happens."""
        directory = Path(tempfile.mkdtemp(prefix="bench-", dir=self.directory))
        try:
            yield directory
        finally:
            if self.keep:
                print(f"data of {name}: {directory}", file=sys.stderr)
            else:
                shutil.rmtree(directory, ignore_errors=True)

    @contextmanager
    def running(self, system: SystemUnderTest, users: Sequence[str]) -> Iterator[Path]:
        """Run the system on a new directory; stop it whatever happens."""
        with self.scratch(system.name) as directory:
            began_s = time.monotonic()
            try:
                system.start(directory, users)
                took_s = time.monotonic() - began_s
                say(f"{system.name} runs, {len(users)} mailboxes: {took_s:.1f} s")
                yield directory
            finally:
                system.stop()


@dataclass(slots=True)
class PartReport:
    """What one part has measured: tables for people, figures for programs."""

    part: str
    title: str
    versions: dict[str, str] = field(default_factory=dict)
    tables: list[str] = field(default_factory=list)
    figures: dict[str, object] = field(default_factory=dict)
    targets: list[Target] = field(default_factory=list)
    trouble: str = ""  # Why a figure is missing; the others stand.


def say(text: str) -> None:
    """Tell what goes on, one line, at once."""
    print(text, flush=True)


def environment(directory: Path) -> dict[str, str]:
    """Return what the figures depend on besides the systems: machine, disk, load."""
    return {
        "date": time.strftime("%Y-%m-%d"),
        "processor": f"{os.cpu_count()} cores, {_processor()}",
        "kernel": platform.release(),
        "file system": _file_system(directory),
        "fdatasync": f"{_fsync_ms(directory):.2f} ms (median, append of 4 KB)",
        "load": f"{MAILBOXES} smtp-source, {SESSIONS_PER_GENERATOR} sessions each",
    }


def _fsync_ms(directory: Path) -> float:
    """Return the median time of an append and `fdatasync` in `directory`."""
    path = directory / "fsync-probe"
    times_ms = []
    with path.open("wb", buffering=0) as file:
        for _ in range(FSYNC_PROBES):
            started_s = time.perf_counter()
            file.write(bytes(FSYNC_PROBE_BYTES))
            os.fdatasync(file.fileno())
            times_ms.append((time.perf_counter() - started_s) * 1000)
    path.unlink()
    return statistics.median(times_ms)


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _file_system(directory: Path) -> str:
    """Return the type of the mount that holds `directory`."""
    mounts = (line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines())
    resolved = directory.resolve()
    holding = [(point, kind) for point, kind in mounts if resolved.is_relative_to(point)]
    return max(holding, key=lambda mount: len(mount[0]))[1]
