"""Effects: what goes into the core of a replica, and what it tells its driver to do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from storage.records import Entry, Members
from storage.replication.messages import AnyMessage, Position, Promise, ReplicaId

# Inputs -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Campaign:
    """A supervisor's hint: stand for election now."""


@dataclass(frozen=True, slots=True)
class PromiseKept:
    """The driver has persisted this promise."""

    promise: Promise


@dataclass(frozen=True, slots=True)
class Propose:
    """Turns to be put in order. Epoch and index of the entries are filled in by the core."""

    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Flushed:
    """A flush that began after the entry at `position` was written has ended well.

    The epoch is needed: what was written at that index may have been cut off meanwhile.
    """

    position: Position


@dataclass(frozen=True, slots=True)
class Received:
    """A message of another replica of the shard. The blobs that it names are present."""

    sender: ReplicaId
    message: AnyMessage


@dataclass(frozen=True, slots=True)
class Fetched:
    """What a Fetch asked for; `previous` is None when the log does not reach back so far."""

    follower: ReplicaId
    previous: Position | None
    entries: tuple[Entry, ...] = ()


@dataclass(frozen=True, slots=True)
class SnapshotEnded:
    """A follower holds the state of `index` now; 0: it does not, the transfer failed."""

    follower: ReplicaId
    index: int


@dataclass(frozen=True, slots=True)
class RenewLease:
    """Somebody waits for an answer and the lease is over, or nearly."""


@dataclass(frozen=True, slots=True)
class ChangeMembers:
    """Replace the replica set that log index `based_on` brought."""

    members: Members
    based_on: int


@dataclass(frozen=True, slots=True)
class Release:
    """Hand the shard to a successor: a planned move."""

    successor: ReplicaId


Input: TypeAlias = (
    Campaign
    | PromiseKept
    | Propose
    | Flushed
    | Received
    | Fetched
    | SnapshotEnded
    | RenewLease
    | ChangeMembers
    | Release
)

# Effects ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Fetch:
    """Read the log's entries after this index for a follower, as many as fit one message."""

    follower: ReplicaId
    after_index: int


@dataclass(frozen=True, slots=True)
class Effects:
    """What the driver must do, in this order. ReplicaCore itself does nothing.

    1. persist `promise`, then say PromiseKept
    2. write the high-water mark, and sync it where it is lowered: else a cut could outlive it, and
       the replica would be suspect; then cut the log and append to it, both in one write
    3. send: appends may leave before the flush, answers are given out only after it
    4. apply `committed`, in index order, then answer the waiters
    5. flush what was appended, then say Flushed; fetch and say Fetched; send snapshots
    """

    promise: Promise | None = None
    high_water: int | None = None
    cut_from: int = 0  # forget the entries from this index on; 0: none
    append: tuple[Entry, ...] = ()
    send: tuple[tuple[ReplicaId, AnyMessage], ...] = ()
    committed: tuple[Entry, ...] = ()
    fetch: tuple[Fetch, ...] = ()
    snapshot: tuple[ReplicaId, ...] = ()  # followers that the log cannot fill
    demoted: bool = False  # the reign is over: what was proposed has an unknown outcome


@dataclass(slots=True)
class Outbox:
    """Effects in the making."""

    promise: Promise | None = None
    high_water: int | None = None
    cut_from: int = 0
    append: list[Entry] = field(default_factory=list)
    sent: list[tuple[ReplicaId, AnyMessage]] = field(default_factory=list)
    committed: list[Entry] = field(default_factory=list)
    fetch: list[Fetch] = field(default_factory=list)
    snapshot: list[ReplicaId] = field(default_factory=list)
    demoted: bool = False

    def send(self, to: ReplicaId, message: AnyMessage) -> None:
        self.sent.append((to, message))

    def take(self) -> Effects:
        """Return what has come together, and begin anew."""
        effects = Effects(
            promise=self.promise,
            high_water=self.high_water,
            cut_from=self.cut_from,
            append=tuple(self.append),
            send=tuple(self.sent),
            committed=tuple(self.committed),
            fetch=tuple(self.fetch),
            snapshot=tuple(self.snapshot),
            demoted=self.demoted,
        )
        self.__init__()  # type: ignore[misc]
        return effects
