"""Progress: what a long command tells its operator, shown by `cluster/cli_progress.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol


class Progress(Protocol):
    """Where the operator sees what happens."""

    def step(self, text: str) -> None:
        """Say what is being done now."""

    def note(self, text: str) -> None:
        """Say something that stays on the screen."""

    def end(self) -> None:
        """Nothing is being done any more."""

    def say(self, line: str) -> None:
        """Print a line of facts, for programs as well: `ready …`."""

    def divert(self, file: Path) -> None:
        """Keep stdout for `say`: whatever else is printed there goes to `file`."""

    def restore(self) -> None:
        """Undo `divert`."""
