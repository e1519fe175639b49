"""Refused: what an operator is told in one line, and the exit code that goes with it."""

from __future__ import annotations

EXIT_FAILED = 1
EXIT_USAGE = 2


class Refused(Exception):
    """A command cannot be carried out; the text says why and what to do, in one line."""

    def __init__(self, text: str, exit_code: int = EXIT_FAILED) -> None:
        super().__init__(text)
        self.text = text
        self.exit_code = exit_code
