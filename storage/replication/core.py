"""ReplicaCore: one replica's part in ordering a shard's log, without I/O (R1-R6, R12-R16).

Inputs go to `step` and time to `tick`; each answers with Effects, whose order the driver
obeys. The core knows no clock, disk or network: `now_ms` is the replica's own monotonic
clock, and messages may be lost, late, repeated or overtaken. Here are the elections and who
may do what; the log's two sides are `reign.py` (primary) and `following.py` (follower).

State       hard: promised epoch and high-water mark (hard state file), the log.  soft: the rest.
On success  an entry in `Effects.committed` is durable on a quorum, in this epoch.
On failure  an entry that was proposed but not committed may still commit in a later epoch;
            its caller repeats by request id.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import assert_never

from mail.errors import Invalid, NotPrimary
from storage.records import ENTRY_EPOCH, ENTRY_MEMBERS, Entry, Members
from storage.replication.effects import (
    Campaign,
    ChangeMembers,
    Effects,
    Fetched,
    Flushed,
    Input,
    Outbox,
    PromiseKept,
    Propose,
    Received,
    Release,
    RenewLease,
    SnapshotEnded,
)
from storage.replication.election import ASK_AGAIN_MS, ELECTION_MS, Candidacy
from storage.replication.following import Following
from storage.replication.members import check_change
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
from storage.replication.reign import LEASE_MS, Reign
from storage.replication.tail import Tail


class Role(Enum):
    FOLLOWER = "follower"
    CANDIDATE = "candidate"
    PRIMARY = "primary"


class ReplicaCore:
    """One replica. `tail` are the log's entries after `committed`, all of them flushed."""

    def __init__(
        self,
        replica: ReplicaId,
        *,
        members: Members,
        members_index: int,
        promised: Promise,
        committed: Position,
        tail: Sequence[Entry],
        high_water: int,
        now_ms: int,
    ) -> None:
        self.replica = replica
        self.promised = promised
        self.primary: ReplicaId | None = None  # whom this replica last heard to lead
        self.reign: Reign | None = None
        self._out = Outbox()
        self._tail = Tail(committed, members=members, members_index=members_index)
        self._tail.extend(tail)
        self._following = Following(
            self._tail, self._out, high_water=high_water, promised_epoch=promised.epoch
        )
        self._candidacy: Candidacy | None = None
        # A restarted replica may have granted a lease before (R5).
        self._granted_until_ms = now_ms + LEASE_MS
        self._after_promise: tuple[ReplicaId, AskPromise | Append] | None = None
        self._seen_epoch = 0  # others have promised as much
        self._now_ms = now_ms

    # What may be asked at any time

    @property
    def last(self) -> Position:
        """Return where the log ends, flushed or not."""
        return self._tail.last

    @property
    def committed(self) -> Position:
        return self._tail.committed

    @property
    def flushed_index(self) -> int:
        """Return up to where the log is on this replica's disk."""
        return self._following.flushed_index

    @property
    def uncommitted(self) -> tuple[Entry, ...]:
        """Return the entries whose fate is not known yet."""
        return self._tail.uncommitted

    @property
    def epoch(self) -> int:
        return self.promised.epoch

    @property
    def role(self) -> Role:
        if self.reign is not None:
            return Role.PRIMARY
        return Role.FOLLOWER if self._candidacy is None else Role.CANDIDATE

    @property
    def members(self) -> Members:
        """Return the replica set in force: the latest in the log, committed or not."""
        return self._tail.members

    @property
    def members_index(self) -> int:
        return self._tail.members_index

    @property
    def suspect(self) -> bool:
        """Say whether this replica lost what it had acknowledged: it counts in no majority."""
        return self._following.suspect

    @property
    def serving(self) -> bool:
        """Say whether the primary's own empty entry is committed: only then it serves."""
        return self.reign is not None and self.committed.index >= self.reign.first_index

    def may_answer(self, now_ms: int) -> bool:
        """Say whether what was read before `now_ms` may leave: the lease holds (R5, R15)."""
        return self.reign is not None and self.serving and now_ms < self.reign.lease_until_ms()

    # Inputs

    def step(self, message: Input, now_ms: int) -> Effects:
        """Take one input.

        Raises NotPrimary for what only a serving primary does; Invalid for a replica set that
        may not follow on the one in force, or a successor that is none.
        """
        self._now_ms = now_ms
        match message:
            case Received(sender, peer_message):
                self._receive(sender, peer_message)
            case Propose(entries):
                self._serving_reign().append(entries, now_ms)
            case Flushed(position):
                self._flushed(position)
            case Fetched():
                if self.reign is not None:
                    self.reign.fetched(message, now_ms)
            case PromiseKept(promise):
                self._promise_kept(promise)
            case Campaign():
                self._campaign()
            case RenewLease():
                self._serving_reign().renew_lease(now_ms)
            case ChangeMembers(members, based_on):
                self._change_members(members, based_on)
            case Release(successor):
                self._release(successor)
            case SnapshotEnded(follower, index):
                if self.reign is not None:
                    self.reign.snapshot_ended(follower, index, now_ms)
            case _:
                assert_never(message)
        return self._out.take()

    def tick(self, now_ms: int) -> Effects:
        """Take note that time has passed; at least every 100 ms while anything is under way."""
        self._now_ms = now_ms
        candidacy = self._candidacy
        if candidacy is not None:
            if now_ms - candidacy.began_ms > ELECTION_MS:
                self._candidacy = None
            elif now_ms - candidacy.asked_ms >= ASK_AGAIN_MS:
                self._ask_voters(candidacy)
        if self.reign is not None:
            if self.reign.is_lost(now_ms):
                self._demote()
            else:
                self.reign.tick(now_ms)
        return self._out.take()

    def _receive(self, sender: ReplicaId, message: AnyMessage) -> None:
        match message:
            case Append():
                self._received_append(sender, message)
            case Appended():
                if self.reign is not None:
                    self.reign.received_appended(sender, message, self._now_ms)
            case Gap():
                if self.reign is not None:
                    self.reign.received_gap(sender, message, self._now_ms)
            case Stale(epoch):
                self._seen_epoch = max(self._seen_epoch, epoch)
                if self.reign is not None and epoch > self.reign.epoch:
                    self._demote()
            case AskPromise():
                self._asked_for_promise(sender, message)
            case Promised():
                self._received_promise(sender, message)
            case Refused():
                self._seen_epoch = max(self._seen_epoch, message.promised_epoch)
            case Released():
                self._released(sender, message)
            case _:
                assert_never(message)

    def _serving_reign(self) -> Reign:
        if self.reign is None or not self.serving:
            raise NotPrimary
        return self.reign

    # Elections: the candidate

    def _campaign(self) -> None:
        if self.reign is not None or self.suspect or self.replica not in self.members.voters:
            return
        if self.members.voters == (self.replica,):
            self._stand()
            return
        candidacy = self._begin_candidacy(trial=True)
        candidacy.answers[self.replica] = self._promised(self.epoch, trial=True)
        self._ask_voters(candidacy)

    def _begin_candidacy(self, *, trial: bool) -> Candidacy:
        epoch = max(self.promised.epoch, self.last.epoch, self._seen_epoch) + 1
        self._candidacy = Candidacy(epoch, trial, began_ms=self._now_ms, asked_ms=self._now_ms)
        return self._candidacy

    def _ask_voters(self, candidacy: Candidacy) -> None:
        candidacy.asked_ms = self._now_ms
        last = self.last
        ask = AskPromise(candidacy.epoch, last.epoch, last.index, candidacy.trial)
        for voter in self.members.voters:
            if voter not in candidacy.answers and voter != self.replica:
                self._out.send(ReplicaId(voter), ask)

    def _stand(self) -> None:
        """Promise a new epoch to ourselves; then ask the others for theirs."""
        if self._is_granted_to_another(self.replica):
            self._candidacy = None
            return
        candidacy = self._begin_candidacy(trial=False)
        self._out.promise = Promise(candidacy.epoch, self.replica)

    def _received_promise(self, sender: ReplicaId, promised: Promised) -> None:
        candidacy = self._candidacy
        if candidacy is None or candidacy.trial != promised.trial:
            return
        if promised.trial:
            self._seen_epoch = max(self._seen_epoch, promised.epoch)
        elif promised.epoch != candidacy.epoch:
            return
        candidacy.answers[sender] = promised
        self._lead_if_won(candidacy)

    def _lead_if_won(self, candidacy: Candidacy) -> None:
        if not candidacy.is_won(self.members, self.last.index):
            return
        if candidacy.trial:
            self._stand()
        elif self.replica in candidacy.answers:
            self._lead()

    def _lead(self) -> None:
        """Begin the reign with an empty entry: older ones commit only together with it (R4)."""
        self._candidacy = None
        self.primary = self.replica
        self.reign = Reign(self.replica, self.epoch, self._tail, self._out, now_ms=self._now_ms)
        self.reign.own_match = self._following.flushed_index
        draft = Entry(0, 0, mailbox=0, request_id=b"", recorded_at_ms=0, kind=ENTRY_EPOCH)
        self.reign.append((draft,), self._now_ms)

    # Elections: the voter

    def _asked_for_promise(self, sender: ReplicaId, ask: AskPromise) -> None:
        """Promise an epoch, or refuse: it is promised, a lease runs, or our log is longer."""
        repeated = self.promised == Promise(ask.epoch, sender)
        refused = (
            (not ask.trial and ask.epoch <= self.promised.epoch and not repeated)
            or Position(ask.last_epoch, ask.last_index) < self.last
            or self._is_granted_to_another(sender)
            or (self.reign is not None and self._now_ms < self.reign.lease_until_ms())
        )
        if refused:
            self._out.send(sender, Refused(ask.epoch, self.promised.epoch, ask.trial))
        elif ask.trial:
            self._out.send(sender, self._promised(self.epoch, trial=True))
        elif repeated:
            self._out.send(sender, self._promised(ask.epoch, trial=False))
        else:
            self._turn_to(sender, ask)

    def _turn_to(self, sender: ReplicaId, message: AskPromise | Append) -> None:
        """Have the sender's newer epoch promised to it; answer once that is on disk."""
        if self.reign is not None:
            self._demote()
        self._candidacy = None
        self._after_promise = (sender, message)
        self._out.promise = Promise(message.epoch, sender)

    def _promise_kept(self, promise: Promise) -> None:
        assert promise.epoch > self.promised.epoch, "an epoch is promised once"
        self.promised = promise
        after, self._after_promise = self._after_promise, None
        candidacy = self._candidacy
        if after is not None:
            sender, message = after
            if isinstance(message, Append):
                self._received_append(sender, message)
            else:
                self._out.send(sender, self._promised(promise.epoch, trial=False))
        elif candidacy is not None and promise == Promise(candidacy.epoch, self.replica):
            candidacy.answers[self.replica] = self._promised(promise.epoch, trial=False)
            self._ask_voters(candidacy)
            self._lead_if_won(candidacy)

    def _promised(self, epoch: int, *, trial: bool) -> Promised:
        return Promised(epoch, trial, self.suspect, self._following.high_water)

    def _is_granted_to_another(self, candidate: ReplicaId) -> bool:
        """Say whether a lease runs that another primary may rely on."""
        if self.members.voters == (self.replica,) == (candidate,):
            return False  # There is nobody else to whom it could have been granted.
        return self._now_ms < self._granted_until_ms and self.primary != candidate

    # Reigns end

    def _demote(self) -> None:
        """End the reign. What was proposed in it has an unknown outcome (R12)."""
        self.reign = None
        self.primary = None
        self._out.demoted = True

    def _release(self, successor: ReplicaId) -> None:
        """Give up the lease at once, so that a planned move does not wait for its end."""
        reign = self._serving_reign()
        progress = reign.followers.get(successor)
        if (
            progress is None
            or successor not in self.members.voters
            or progress.match_index != self.last.index
        ):
            raise Invalid("the successor is a voter that has the whole log")
        for follower in reign.followers:
            self._out.send(follower, Released(reign.epoch, successor))
        self._demote()

    def _released(self, sender: ReplicaId, message: Released) -> None:
        if message.epoch != self.promised.epoch or self.primary != sender:
            return
        self._granted_until_ms = self._now_ms
        self.primary = None
        if message.successor == self.replica and not self.suspect:
            self._stand()

    # The log

    def _received_append(self, sender: ReplicaId, message: Append) -> None:
        if message.epoch < self.promised.epoch:
            self._out.send(sender, Stale(self.promised.epoch))
        elif message.epoch > self.promised.epoch:
            # The others have elected it: from here on nobody older is heard.
            self._turn_to(sender, message)
        else:
            assert self.reign is None, "an epoch has one primary"
            self._candidacy = None
            self.primary = sender
            self._granted_until_ms = self._now_ms + LEASE_MS
            self._following.receive(sender, message)

    def _flushed(self, position: Position) -> None:
        if not self._following.flushed(position):
            return
        if self.reign is not None:
            self.reign.own_match = self._following.flushed_index
            self.reign.commit_durable(self._now_ms)
        else:
            self._following.answer_owed(self.promised.epoch)

    def _change_members(self, members: Members, based_on: int) -> None:
        """Put a new replica set into the log (R6)."""
        reign = self._serving_reign()
        if based_on != self.members_index or self.members_index > self.committed.index:
            raise Invalid("the replica set has changed, or is changing")
        caught_up = frozenset(
            follower
            for follower, progress in reign.followers.items()
            if progress.match_index >= self.committed.index and not progress.suspect
        )
        check_change(self.members, members, caught_up)
        if self.replica not in members.voters:
            raise Invalid("a primary does not remove itself")
        draft = Entry(
            0, 0, mailbox=0, request_id=b"", recorded_at_ms=0, kind=ENTRY_MEMBERS, members=members
        )
        reign.append((draft,), self._now_ms)
