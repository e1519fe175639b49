"""Bugs to plant into the replication core or its driver, each of which the seeds must find."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from storage.records import Entry, Members
from storage.replication import core, members
from storage.replication.core import ReplicaCore
from storage.replication.effects import Effects, PromiseKept
from storage.replication.election import Candidacy
from storage.replication.following import Following
from storage.replication.members import commit_index, quorum
from storage.replication.messages import Append, Position, ReplicaId
from storage.replication.reign import Progress, Reign
from tests.sim.core_driver import Process

Plant = Callable[[pytest.MonkeyPatch], None]


def counts_itself_before_its_flush(plant: pytest.MonkeyPatch) -> None:
    original = Reign.append

    def append(self: Reign, drafts: Sequence[Entry], now_ms: int) -> None:
        original(self, drafts, now_ms)
        self.own_match = self._tail.last.index
        self.commit_durable(now_ms)

    plant.setattr(Reign, "append", append)


def commits_older_epochs_by_counting(plant: pytest.MonkeyPatch) -> None:
    def commit_durable(self: Reign, now_ms: int) -> None:
        matches = {ReplicaId(voter): self._match(voter) for voter in self._tail.members.voters}
        reached = min(commit_index(matches), self._tail.last.index)
        if reached > self._tail.committed.index:
            self._progress_ms = now_ms
            self._out.committed.extend(self._tail.commit(reached))

    plant.setattr(Reign, "commit_durable", commit_durable)


def keeps_no_promise_on_disk(plant: pytest.MonkeyPatch) -> None:
    def keep_promise(self: Process, effects: Effects) -> None:
        assert effects.promise is not None
        self.step(PromiseKept(effects.promise))

    plant.setattr(Process, "keep_promise", keep_promise)


def promises_while_its_lease_runs(plant: pytest.MonkeyPatch) -> None:
    plant.setattr(ReplicaCore, "_is_granted_to_another", lambda self, candidate: False)


def forgets_its_lease_at_a_restart(plant: pytest.MonkeyPatch) -> None:
    original = ReplicaCore.__init__

    def init(self: ReplicaCore, replica: ReplicaId, **arguments: Any) -> None:
        original(self, replica, **arguments)
        self._granted_until_ms = arguments["now_ms"]

    plant.setattr(ReplicaCore, "__init__", init)


def trusts_the_lease_beyond_its_end(plant: pytest.MonkeyPatch) -> None:
    def lease_until_ms(self: Reign) -> int:
        return original(self) + 500

    original = Reign.lease_until_ms
    plant.setattr(Reign, "lease_until_ms", lease_until_ms)


def counts_the_lease_from_the_answer(plant: pytest.MonkeyPatch) -> None:
    """After a stall, answers that waited long renew the lease."""

    def heard(
        self: Reign, progress: Progress, sent_at_ms: int, *, suspect: bool, now_ms: int
    ) -> None:
        original(self, progress, sent_at_ms, suspect=suspect, now_ms=now_ms)
        progress.heard_ms = now_ms

    original = Reign._heard
    plant.setattr(Reign, "_heard", heard)


def cuts_what_may_be_committed(plant: pytest.MonkeyPatch) -> None:
    """A late, shorter append cuts off what came after it."""

    def merge(self: Following, message: Append) -> None:
        first = message.previous_index + 1
        if self._tail.committed.index < first <= self._tail.last.index:
            self._cut(first)
        original(self, message)

    original = Following._merge
    plant.setattr(Following, "_merge", merge)


def acknowledges_before_its_flush(plant: pytest.MonkeyPatch) -> None:
    def merge(self: Following, message: Append) -> None:
        original(self, message)
        self.flushed_index = self._tail.last.index

    original = Following._merge
    plant.setattr(Following, "_merge", merge)


def votes_though_suspect(plant: pytest.MonkeyPatch) -> None:
    original = Following.__init__

    def init(self: Following, *arguments: Any, **named: Any) -> None:
        original(self, *arguments, **named)
        self.suspect = False

    plant.setattr(Following, "__init__", init)


def changes_two_voters_at_once(plant: pytest.MonkeyPatch) -> None:
    plant.setattr(core, "check_change", lambda old, new, caught_up: None)


def lets_an_empty_replica_vote(plant: pytest.MonkeyPatch) -> None:
    def check_change(old: Members, new: Members, caught_up: frozenset[bytes]) -> None:
        learners = frozenset(old.learners)
        members.check_change(old, new, caught_up | learners)

    plant.setattr(core, "check_change", check_change)


def changes_members_before_the_last_change_commits(plant: pytest.MonkeyPatch) -> None:
    def change(self: ReplicaCore, new: Members, based_on: int) -> None:
        committed = self._tail.committed
        self._tail.committed = Position(committed.epoch, max(committed.index, self.members_index))
        try:
            original(self, new, self.members_index)
        finally:
            self._tail.committed = committed

    original = ReplicaCore._change_members
    plant.setattr(ReplicaCore, "_change_members", change)


def leads_with_too_few_promises(plant: pytest.MonkeyPatch) -> None:
    def is_won(self: Candidacy, members: Members, last_index: int) -> bool:
        return len(self.answers) >= max(1, quorum(len(members.voters)) - 1)

    plant.setattr(Candidacy, "is_won", is_won)


def promises_an_epoch_twice(plant: pytest.MonkeyPatch) -> None:
    def asked(self: ReplicaCore, sender: ReplicaId, ask: Any) -> None:
        if not ask.trial and ask.epoch == self.promised.epoch and self.reign is None:
            self._out.send(sender, self._promised(ask.epoch, trial=False))
        else:
            original(self, sender, ask)

    original = ReplicaCore._asked_for_promise
    plant.setattr(ReplicaCore, "_asked_for_promise", asked)


def promises_to_a_shorter_log(plant: pytest.MonkeyPatch) -> None:
    def asked(self: ReplicaCore, sender: ReplicaId, ask: Any) -> None:
        last = self.last
        forged = type(ask)(ask.epoch, last.epoch, last.index, ask.trial)
        original(self, sender, forged)

    original = ReplicaCore._asked_for_promise
    plant.setattr(ReplicaCore, "_asked_for_promise", asked)


def serves_before_its_own_entry(plant: pytest.MonkeyPatch) -> None:
    plant.setattr(ReplicaCore, "serving", property(lambda self: self.reign is not None))


def takes_logs_to_agree_unchecked(plant: pytest.MonkeyPatch) -> None:
    """A follower's log is taken to agree beyond what was compared."""

    def next_after(self: Following, message: Append) -> int | None:
        if message.previous_index > self._tail.last.index:
            return self._tail.last.index + 1
        return None

    plant.setattr(Following, "_next_after", next_after)


# Each with the faults that bring it out soonest; the seeds choose among all of them too.
LEASES = ("usurp", "campaign", "stop")
ELECTIONS = ("usurp", "campaign", "crash", "partition")
BUGS: Mapping[Plant, tuple[str, ...]] = {
    counts_itself_before_its_flush: ELECTIONS,
    commits_older_epochs_by_counting: ELECTIONS,
    keeps_no_promise_on_disk: ("campaign", "crash", "crash_soon", "blackout"),
    promises_while_its_lease_runs: LEASES,
    forgets_its_lease_at_a_restart: LEASES,
    trusts_the_lease_beyond_its_end: LEASES,
    counts_the_lease_from_the_answer: LEASES,
    cuts_what_may_be_committed: ("usurp", "campaign", "weather"),
    acknowledges_before_its_flush: ELECTIONS,
    votes_though_suspect: ("usurp", "campaign", "back_up", "roll_back", "partition"),
    changes_two_voters_at_once: ("usurp", "change_members", "partition"),
    lets_an_empty_replica_vote: ("change_members",),
    changes_members_before_the_last_change_commits: ("usurp", "change_members", "partition"),
    leads_with_too_few_promises: ELECTIONS,
    promises_an_epoch_twice: ("campaign", "blackout"),
    promises_to_a_shorter_log: ELECTIONS,
    serves_before_its_own_entry: ELECTIONS,
    takes_logs_to_agree_unchecked: ELECTIONS,
}
