"""Replicas in transcripts: a core whose driver obeys at once, and what it said, readable."""

from __future__ import annotations

from collections.abc import Sequence

from storage.records import Entry, Members
from storage.replication.core import ReplicaCore
from storage.replication.effects import (
    Campaign,
    Effects,
    Flushed,
    Input,
    PromiseKept,
    Propose,
    Received,
)
from storage.replication.members import members_of
from storage.replication.messages import (
    AnyMessage,
    Append,
    Appended,
    AskPromise,
    Gap,
    Position,
    Promise,
    Promised,
    Refused,
    Released,
    ReplicaId,
    Stale,
)
from storage.replication.reign import LEASE_MS

A, B, C, D, E = (ReplicaId(letter * 16) for letter in (b"A", b"B", b"C", b"D", b"E"))
ALONE = members_of((A,))
THREE = members_of((A, B, C))

START_MS = 1_000
LATER_MS = START_MS + LEASE_MS  # a restarted replica may promise from here on


def entry(epoch: int, index: int, request_id: bytes = b"", members: Members | None = None) -> Entry:
    return Entry(epoch, index, 1, request_id, 5, members=members)


def draft(request_id: bytes) -> Entry:
    return entry(0, 0, request_id)


def name(replica: bytes) -> str:
    return replica[:1].decode()


def _said_of(message: AnyMessage) -> str:
    match message:
        case Append():
            entries = " ".join(f"{one.epoch}.{one.index}" for one in message.entries)
            after = f"{message.previous_epoch}.{message.previous_index}"
            return f"append [{entries}] after {after}, commit {message.commit_index}"
        case Appended():
            return f"appended {message.match_index}{' suspect' if message.suspect else ''}"
        case Gap():
            return f"gap from {message.next_index}{' suspect' if message.suspect else ''}"
        case Stale():
            return f"stale, promised {message.epoch}"
        case AskPromise():
            return f"{'try' if message.trial else 'ask'} {message.epoch}"
        case Promised():
            suspect = f" suspect up to {message.high_water}" if message.suspect else ""
            return f"{'would promise' if message.trial else 'promised'} {message.epoch}{suspect}"
        case Refused():
            return f"refused {message.epoch}, promised {message.promised_epoch}"
        case Released():
            return f"released {message.epoch} to {name(message.successor)}"


def transcript(effects: Effects) -> list[str]:
    """Return effects as lines, in the order in which the driver obeys them."""
    said: list[str] = []
    if effects.promise is not None:
        said.append(f"promise {effects.promise.epoch} to {name(effects.promise.candidate)}")
    if effects.high_water is not None:
        said.append(f"high water {effects.high_water}")
    if effects.cut_from:
        said.append(f"cut from {effects.cut_from}")
    said += [f"write {one.epoch}.{one.index}" for one in effects.append]
    said += [f"to {name(to)}: {_said_of(message)}" for to, message in effects.send]
    said += [f"commit {one.epoch}.{one.index}" for one in effects.committed]
    said += [f"fetch after {one.after_index} for {name(one.follower)}" for one in effects.fetch]
    said += [f"snapshot for {name(follower)}" for follower in effects.snapshot]
    return [*said, "demoted"] if effects.demoted else said


class Replica:
    """A core, its clock, and a driver that keeps promises at once and flushes when told."""

    def __init__(
        self,
        replica: ReplicaId = A,
        members: Members = THREE,
        *,
        tail: Sequence[Entry] = (),
        committed: tuple[int, int] = (0, 0),
        promised: tuple[int, ReplicaId] = (0, A),
        high_water: int = 0,
        waited: bool = True,
    ) -> None:
        self.now_ms = START_MS
        self.core = ReplicaCore(
            replica,
            members=members,
            members_index=0,
            promised=Promise(*promised),
            committed=Position(*committed),
            tail=tail,
            high_water=high_water,
            now_ms=START_MS,
        )
        if waited:
            self.now_ms = LATER_MS

    def step(self, message: Input) -> list[str]:
        """Take one input; a promise is kept at once, and what then follows is told too."""
        effects = self.core.step(message, self.now_ms)
        said = transcript(effects)
        if effects.promise is not None:
            said += transcript(self.core.step(PromiseKept(effects.promise), self.now_ms))
        return said

    def hear(self, sender: ReplicaId, message: AnyMessage) -> list[str]:
        return self.step(Received(sender, message))

    def flush(self) -> list[str]:
        return self.step(Flushed(self.core.last))

    def tick(self, after_ms: int) -> list[str]:
        self.now_ms += after_ms
        return transcript(self.core.tick(self.now_ms))

    def propose(self, *request_ids: bytes) -> list[str]:
        return self.step(Propose(tuple(draft(one) for one in request_ids)))

    def appended(self, sender: ReplicaId, match_index: int, *, suspect: bool = False) -> list[str]:
        answer = Appended(self.core.epoch, match_index, self.now_ms, 0, suspect)
        return self.hear(sender, answer)

    def append(
        self,
        sender: ReplicaId,
        epoch: int,
        previous: tuple[int, int],
        *entries: Entry,
        commit: int = 0,
    ) -> list[str]:
        """Hear an append with these entries."""
        return self.hear(sender, Append(epoch, *previous, entries, commit, 7))


def promised(epoch: int, *, trial: bool = False, suspect_upto: int | None = None) -> Promised:
    return Promised(epoch, trial, suspect_upto is not None, suspect_upto or 0)


def primary(members: Members = THREE, **found: object) -> Replica:
    """Return replica A as a serving primary; B has its empty entry, the others have nothing."""
    replica = Replica(A, members, **found)  # type: ignore[arg-type]
    replica.step(Campaign())
    for voter in members.voters[1:]:
        replica.hear(ReplicaId(voter), promised(replica.core.epoch, trial=True))
    for voter in members.voters[1:]:
        replica.hear(ReplicaId(voter), promised(replica.core.epoch))
    replica.flush()
    if len(members.voters) > 1:
        replica.appended(B, replica.core.last.index)
    for voter in members.voters[2 : len(members.voters) // 2 + 1]:
        replica.appended(ReplicaId(voter), replica.core.last.index)
    assert replica.core.serving
    return replica
