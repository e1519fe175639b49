"""CliProgress: what long commands show: steps and counts on stderr, facts on stdout."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.status import Status

PLAIN_EVERY_S = 5.0


class CliProgress:
    """A moving line on a terminal, plain lines elsewhere."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._status: Status | None = None
        self._began = time.monotonic()
        self._last = ""
        self._facts: TextIO = sys.stdout

    def step(self, text: str) -> None:
        """Say what is being done now."""
        if not self._console.is_terminal:
            kind = text.partition(":")[0]  # Of a counted step the first line is enough.
            if kind != self._last:
                print(f"helio: {self._seconds} {text}", file=sys.stderr, flush=True)
            self._last = kind
            return
        if self._status is None:
            self._status = self._console.status(text)
            self._status.start()
        self._status.update(f"{text} [dim]{self._seconds}[/dim]")

    def note(self, text: str) -> None:
        """Say something that stays on the screen."""
        print(f"helio: {text}", file=sys.stderr, flush=True)

    def end(self) -> None:
        """Nothing is being done any more."""
        if self._status is not None:
            self._status.stop()
            self._status = None

    def say(self, line: str) -> None:
        """Print a line of facts."""
        self.end()
        print(line, file=self._facts, flush=True)

    def divert(self, file: Path) -> None:
        """Keep stdout for `say`: whatever else is printed there goes to `file`."""
        sys.stdout.flush()
        self._facts = os.fdopen(os.dup(sys.stdout.fileno()), "w")
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
        os.dup2(handle, sys.stdout.fileno())
        os.close(handle)

    def restore(self) -> None:
        """Undo `divert`."""
        sys.stdout.flush()
        self._facts.flush()
        os.dup2(self._facts.fileno(), sys.stdout.fileno())

    @property
    def _seconds(self) -> str:
        return f"{time.monotonic() - self._began:.1f} s"


class CountProgress:
    """A bar on a terminal, a line every few seconds elsewhere; nothing at all when quiet."""

    def __init__(self, noun: str, total: int = 0, *, quiet: bool = False) -> None:
        """Begin at 0; `total` 0 while it is not known."""
        self._noun = noun
        self._total = total
        self._done = 0
        self._quiet = quiet
        self._said_at = time.monotonic()
        console = Console(stderr=True, highlight=False)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        shown = console.is_terminal and not quiet
        self._bar = Progress(*columns, console=console) if shown else None
        self._task = self._bar.add_task(noun, total=total or None) if self._bar else None

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, count: int) -> None:
        """So many more are done."""
        self.reach(self._done + count, self._total)

    def reach(self, done: int, total: int) -> None:
        """So many are done, of so many."""
        self._done, self._total = done, total
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done, total=total or None)
        elif not self._quiet and time.monotonic() - self._said_at >= PLAIN_EVERY_S:
            self._said_at = time.monotonic()
            print(
                f"helio: {self._done:,} of {self._total:,} {self._noun}",
                file=sys.stderr,
                flush=True,
            )
