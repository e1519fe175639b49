"""ReplicaPorts: what a replica asks of what is around it, and what it tells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeAlias

from storage.hard_state import HardRecord
from storage.replication import frames
from storage.replication.messages import Promise, ReplicaId

SnapshotFrame: TypeAlias = frames.Offer | frames.Wanted | frames.Slice


class Peers(Protocol):
    """The way to the other replicas of the shard."""

    def send(self, to: ReplicaId, frame: bytes) -> None:
        """Send a frame, or lose it. Never waits."""


class NoPeers:
    """For a replica that has no others."""

    def send(self, to: ReplicaId, frame: bytes) -> None:
        return


class HardStateFile(Protocol):
    """What a replica must not forget: `storage/hard_state.py`."""

    @property
    def record(self) -> HardRecord: ...

    def keep_promise(self, promise: Promise) -> None: ...

    def set_high_water(self, index: int) -> None: ...

    def close(self) -> None: ...


@dataclass(slots=True)
class Applying:
    """What listeners learn of an entry once it is applied."""

    mailbox: int
    emails: tuple[int, ...]
    index: int


@dataclass(slots=True)
class ReplicaCounts:
    """What a replica counts since it was opened."""

    flushes: int = 0
    entries: int = 0
