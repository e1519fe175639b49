"""The system under test: the one face that the measuring code sees of either side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from tests.bench.push import ArrivalLog

MAILBOXES = 10  # One per load generator.
DOMAIN = "example.test"
SENDER = f"sender@{DOMAIN}"
USERS: tuple[str, ...] = tuple(f"user{number}@{DOMAIN}" for number in range(MAILBOXES))
PASSWORD = "bench-9f1c-loopback-only"

START_MAX_S = 180.0
STOP_MAX_S = 60.0


class BenchError(Exception):
    """The benchmark cannot give a figure; the text says why."""


class SystemUnderTest(Protocol):
    """One mail system with empty mailboxes, all of it on 127.0.0.1.

    `start` returns when SMTP answers and every mailbox exists; `stop` leaves no
    process behind, also after a failed `start`. Both raise BenchError and are bounded in time.
    """

    @property
    def name(self) -> str:
        """Return the name for the tables."""

    @property
    def smtp_port(self) -> int:
        """Return the port where messages are handed in."""

    @property
    def users(self) -> Sequence[str]:
        """Return the addresses of the mailboxes."""

    def start(self, directory: Path, users: Sequence[str]) -> None:
        """Start with all data in `directory`, which exists and is empty, and these mailboxes."""

    def stop(self) -> None:
        """Stop every process that `start` started."""

    def version(self) -> str:
        """Return the versions of what runs; valid while started."""

    def delivered(self) -> int:
        """Return how many messages lie in all mailboxes together; for few mailboxes."""

    def backlog(self) -> int:
        """Return how many accepted messages are not in their mailbox yet; cheap."""

    def counts(self) -> Mapping[str, int]:
        """Return the number of messages of each mailbox; slow for many."""

    def pids(self) -> Sequence[int]:
        """Return every process of the system that lives now."""

    def roles(self) -> Mapping[int, str]:
        """Return what a process is for, where its name alone does not say it."""

    def push_listener(self, user: str) -> AbstractContextManager[ArrivalLog]:
        """Open a client connection that is told of new mail for `user`, and log each notice."""
