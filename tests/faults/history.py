"""History: what clients asked of the cluster, when, and what they were told.

Times are seconds of one monotonic clock; an outcome is what the client may conclude from the
answer. Whoever reads the history (`checker.py`) needs nothing else.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum


class Outcome(Enum):
    DONE = "done"  # acknowledged: it happened
    REFUSED = "refused"  # it did not happen, and shall not
    UNKNOWN = "unknown"  # no answer, or one that says that nobody knows


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try to deliver a message."""

    began_s: float
    ended_s: float
    node: int
    outcome: Outcome
    text: str = ""


@dataclass(slots=True)
class Sent:
    """One message, with all tries to deliver it, the last of which is `DONE` if it was taken."""

    token: str  # its Message-ID, without the brackets
    recipients: tuple[str, ...]
    octets_sha256: str
    octets_length: int
    attempts: list[Attempt] = field(default_factory=list)

    @property
    def taken_s(self) -> float | None:
        """Return when its sender had read 250."""
        done = [one.ended_s for one in self.attempts if one.outcome is Outcome.DONE]
        return done[0] if done else None

    @property
    def began_s(self) -> float:
        return self.attempts[0].began_s

    def may_be(self, outcome: Outcome) -> int:
        return sum(one.outcome is outcome for one in self.attempts)


@dataclass(frozen=True, slots=True)
class Change:
    """A client set the keywords of an email to `v<version>`, or destroyed it (version None)."""

    address: str
    email_id: str
    version: int | None
    began_s: float
    ended_s: float
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Sync:
    """A reader has followed `/changes` to its end: what was new to it, what was reported gone."""

    address: str
    reader: str
    node: int
    began_s: float
    ended_s: float
    known: tuple[tuple[str, str], ...]  # (email id, token)
    gone: tuple[str, ...]  # email ids
    whole: bool = False  # it had to begin anew: `known` is all there is


@dataclass(frozen=True, slots=True)
class Look:
    """A reader asked for emails by their ids: the version of each, None for one that is gone."""

    address: str
    reader: str
    node: int
    began_s: float
    ended_s: float
    versions: tuple[tuple[str, int | None], ...]  # 0 is an email without a version


@dataclass(frozen=True, slots=True)
class Stored:
    """One email as the cluster holds it in the end."""

    email_id: str
    token: str
    version: int
    octets_sha256: str  # of its last `octets_length` octets, as they were sent


@dataclass(slots=True)
class History:
    """Everything that was recorded. Safe for threads."""

    sent: list[Sent] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    syncs: list[Sync] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, record: Change | Sync | Look) -> None:
        with self.lock:
            match record:
                case Change():
                    self.changes.append(record)
                case Sync():
                    self.syncs.append(record)
                case Look():
                    self.looks.append(record)

    def begin(self, message: Sent) -> None:
        with self.lock:
            self.sent.append(message)

    def add_attempt(self, message: Sent, attempt: Attempt) -> None:
        with self.lock:
            message.attempts.append(attempt)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Nothing is recorded meanwhile."""
        with self.lock:
            yield


def now_s() -> float:
    return time.monotonic()
