"""Commands to a shard about its upkeep: audit, index, garbage, a damaged shard's directory.

Work that takes longer than a call is begun by `BeginUpkeep` and watched with `ShowUpkeep`.
(See `actors/commands.py`.)
"""

from __future__ import annotations

import msgspec

from actors.commands import Command, MailboxId, Reply

AUDIT, REINDEX, COLLECT = "audit", "reindex", "collect"
WORKS = (AUDIT, REINDEX, COLLECT)
RUNNING, DONE, FAILED = "running", "done", "failed"


class BeginUpkeep(Command, frozen=True):
    """Begin work on a shard. The same work, while it runs, is not begun twice."""

    work: str  # one of WORKS
    mailbox: MailboxId = MailboxId(0)  # an audit of one; 0: all of the shard
    repair: bool = False  # what an audit finds and is derived
    dry_run: bool = False  # a collection that deletes nothing


class ShowUpkeep(Command, frozen=True):
    """Tell how far work is. NotFound once it is forgotten: the last jobs are remembered."""

    job: int


class FindingShown(msgspec.Struct, frozen=True, array_like=True):
    """One disagreement that an audit found. No names, subjects or addresses."""

    mailbox: MailboxId
    kind: str
    text: str
    email: int = 0
    folder: int = 0
    thread: int = 0
    repaired: bool = False


class UpkeepShown(Reply, frozen=True):
    """How far a job is, and what it has found."""

    job: int
    work: str
    state: str  # RUNNING, DONE or FAILED
    done: int = 0  # emails, or blobs
    total: int = 0  # 0: not known
    counts: tuple[tuple[str, int], ...] = ()
    findings: tuple[FindingShown, ...] = ()
    error: str = ""


class ReleaseShard(Command, frozen=True):
    """Let go of the files of a damaged shard, to be salvaged; Invalid for a sound one."""


class ReopenShard(Command, frozen=True):
    """Open the shard that `ReleaseShard` closed."""
