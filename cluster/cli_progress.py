"""CliProgress: what `helio up` shows: steps on stderr, facts on stdout."""

from __future__ import annotations

import sys
import time

from rich.console import Console
from rich.status import Status


class CliProgress:
    """A moving line on a terminal, plain lines elsewhere."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._status: Status | None = None
        self._began = time.monotonic()
        self._last = ""

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
        print(line, flush=True)

    @property
    def _seconds(self) -> str:
        return f"{time.monotonic() - self._began:.1f} s"
