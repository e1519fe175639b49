"""ReplicaCore: the order of one replica's log, without I/O (R1-R5, R12-R16).

Inputs go to `step`; each answers with Effects, whose order the driver obeys. The core knows
no clock, disk or network. Its replica set has one voter in this release: the quorum is
counted all the same, so that more voters add messages and change no rule.

State       hard: promised epoch (hard state file), the log.  soft: everything in here.
On success  an entry in `Effects.committed` is durable on a quorum, in this epoch.
On failure  an entry that was proposed but not committed may still commit in a later epoch;
            its caller repeats by request id.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import NewType, TypeAlias, assert_never

from mail.errors import NotPrimary
from storage.records import ENTRY_EPOCH, Entry

ReplicaId = NewType("ReplicaId", bytes)  # 16 octets, born with the replica's directory


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """Where a log ends: epoch first, so that positions compare as elections need (R4)."""

    epoch: int
    index: int


@dataclass(frozen=True, slots=True)
class Promise:
    """An epoch, and the one candidate that it was promised to (R14)."""

    epoch: int
    candidate: ReplicaId


class Role(Enum):
    FOLLOWER = "follower"
    CANDIDATE = "candidate"
    PRIMARY = "primary"


# Inputs -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Campaign:
    """A supervisor's hint: stand for election now."""

    at_ms: int


@dataclass(frozen=True, slots=True)
class PromiseKept:
    """The driver has persisted this promise."""

    promise: Promise


@dataclass(frozen=True, slots=True)
class Propose:
    """Turns to be put in order. Epoch and index of the entries are filled in here."""

    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Flushed:
    """A flush that began after `index` was written has ended well."""

    index: int


Input: TypeAlias = Campaign | PromiseKept | Propose | Flushed


@dataclass(frozen=True, slots=True)
class Effects:
    """What the driver must do, in this order. ReplicaCore itself does nothing.

    1. persist `promise`, then say PromiseKept
    2. append to the log and flush, then say Flushed
    3. apply `committed`, in index order, then answer the waiters
    """

    promise: Promise | None = None
    append: tuple[Entry, ...] = ()
    committed: tuple[Entry, ...] = ()


def quorum(voters: int) -> int:
    """Return how many of `voters` are a majority."""
    assert voters >= 1
    return voters // 2 + 1


def commit_index(match_index: Mapping[ReplicaId, int]) -> int:
    """Return the highest index that a quorum holds, the primary included."""
    held = sorted(match_index.values(), reverse=True)
    return held[quorum(len(held)) - 1]


@dataclass(slots=True)
class ReplicaCore:
    """One replica's part in ordering the log."""

    replica: ReplicaId
    voters: frozenset[ReplicaId]
    promised: Promise
    last: Position
    committed_index: int  # what the replica has applied when it starts
    role: Role = Role.FOLLOWER
    _uncommitted: list[Entry] = field(default_factory=list)
    _match: dict[ReplicaId, int] = field(default_factory=dict)
    _promises: set[ReplicaId] = field(default_factory=set)
    _first_of_reign: int = 0  # index of the empty entry of the own epoch

    def recover(self, tail: Sequence[Entry]) -> None:
        """Take the log's entries after `committed_index`, in order, before anything else."""
        assert not self._uncommitted
        assert all(entry.index == self.committed_index + 1 + n for n, entry in enumerate(tail))
        self._uncommitted.extend(tail)

    @property
    def epoch(self) -> int:
        return self.promised.epoch

    @property
    def serving(self) -> bool:
        """Say whether the primary's own empty entry is committed: only then it serves."""
        return self.role is Role.PRIMARY and self.committed_index >= self._first_of_reign

    def step(self, message: Input) -> Effects:
        """Take one input. Raises NotPrimary for a proposal that this replica may not order."""
        match message:
            case Campaign():
                return self._campaign()
            case PromiseKept(promise):
                return self._promise_kept(promise)
            case Propose(entries):
                return self._propose(entries)
            case Flushed(index):
                return self._flushed(index)
            case _:
                assert_never(message)

    def _campaign(self) -> Effects:
        epoch = max(self.promised.epoch, self.last.epoch) + 1
        self.role = Role.CANDIDATE
        self._promises = set()
        return Effects(promise=Promise(epoch, self.replica))

    def _promise_kept(self, promise: Promise) -> Effects:
        assert promise.epoch > self.promised.epoch, "an epoch is promised once"
        self.promised = promise
        if self.role is not Role.CANDIDATE or promise.candidate != self.replica:
            return Effects()
        self._promises.add(self.replica)
        if len(self._promises) < quorum(len(self.voters)):
            return Effects()
        return self._lead()

    def _lead(self) -> Effects:
        """Begin the reign with an empty entry: older ones commit only together with it (R4)."""
        self.role = Role.PRIMARY
        self._match = dict.fromkeys(self.voters, 0)
        self._first_of_reign = self.last.index + 1
        return self._append(
            (Entry(0, 0, mailbox=0, request_id=b"", recorded_at_ms=0, kind=ENTRY_EPOCH),)
        )

    def _propose(self, entries: tuple[Entry, ...]) -> Effects:
        if not self.serving:
            raise NotPrimary
        return self._append(entries)

    def _append(self, drafts: Sequence[Entry]) -> Effects:
        entries = tuple(
            _numbered(draft, self.epoch, self.last.index + 1 + n) for n, draft in enumerate(drafts)
        )
        self._uncommitted.extend(entries)
        self.last = Position(self.epoch, entries[-1].index)
        return Effects(append=entries)

    def _flushed(self, index: int) -> Effects:
        if self.role is not Role.PRIMARY:
            return Effects()
        assert index <= self.last.index
        self._match[self.replica] = max(self._match[self.replica], index)
        reached = commit_index(self._match)
        # Only entries of the own epoch commit by counting; the older ones come with them.
        if reached <= self.committed_index or reached < self._first_of_reign:
            return Effects()
        count = reached - self.committed_index
        committed = tuple(self._uncommitted[:count])
        del self._uncommitted[:count]
        self.committed_index = reached
        assert committed[-1].index == reached
        return Effects(committed=committed)


def _numbered(draft: Entry, epoch: int, index: int) -> Entry:
    return Entry(
        epoch=epoch,
        index=index,
        mailbox=draft.mailbox,
        request_id=draft.request_id,
        recorded_at_ms=draft.recorded_at_ms,
        puts=draft.puts,
        deletes=draft.deletes,
        blobs=draft.blobs,
        kind=draft.kind,
        emails=draft.emails,
        dropped=draft.dropped,
    )
