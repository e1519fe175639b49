"""Reign: the primary's side of the log: what its followers have, lack and are sent.

Soft state of one epoch: it ends with the reign (R12). Each follower has one append with
entries on its way at a time; what waits meanwhile goes together with the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from storage.records import Entry
from storage.replication.effects import Fetch, Fetched, Outbox
from storage.replication.members import commit_index, quorum
from storage.replication.messages import Append, Appended, Gap, Position, ReplicaId
from storage.replication.tail import Tail

# A follower promises no new epoch for so long after it heard its primary; the primary trusts
# it for nine tenths of that, counted from before it asked: clocks may differ in speed by 10 %.
LEASE_MS = 600
NEVER_MS = -(1 << 60)
FOREVER_MS = 1 << 60

APPEND_ENTRIES_MAX = 256  # of one message; the driver bounds its octets
RESEND_MS = 300  # an append without an answer is sent again
TELL_COMMIT_MS = 100  # a follower with nothing to receive learns within this what is committed
STEP_DOWN_MS = 1500  # entries that do not commit, or a lease that is not renewed, end the reign


@dataclass(slots=True)
class Progress:
    """How far one follower is."""

    next_index: int  # the first entry that it may lack
    match_index: int = 0  # it has flushed everything up to here
    matched_ms: int = NEVER_MS  # when the append that said so was sent
    commit_index: int = 0  # it knows that much to be committed
    heard_ms: int = NEVER_MS  # when the newest append that it answered was sent
    sent_ms: int = NEVER_MS  # when the newest append was sent
    waiting_ms: int | None = None  # entries are on their way since then
    reading: bool = False  # the driver reads older entries, or sends a snapshot
    suspect: bool = False  # it lost what it had acknowledged, and counts in no majority


class Reign:
    """One primary's reign."""

    def __init__(
        self, replica: ReplicaId, epoch: int, tail: Tail, out: Outbox, *, now_ms: int
    ) -> None:
        self.replica = replica
        self.epoch = epoch
        self.first_index = tail.last.index + 1  # of the empty entry of the own epoch
        self.followers: dict[ReplicaId, Progress] = {}
        self.own_match = 0
        self._tail = tail
        self._out = out
        self._progress_ms = now_ms  # when something was committed last, or nothing was waiting
        self._renewing_ms: int | None = None  # somebody waits for the lease since then
        self.meet_followers()

    # Leases and what is durable

    def lease_until_ms(self) -> int:
        """Return until when no majority can have promised a newer epoch (R5)."""
        voters = self._tail.members.voters
        needed = quorum(len(voters)) - 1  # beside the primary itself
        if needed == 0:
            return FOREVER_MS
        heard = sorted(
            NEVER_MS if progress.suspect else progress.heard_ms
            for follower, progress in self.followers.items()
            if follower in voters
        )
        return heard[-needed] + LEASE_MS * 9 // 10

    def renew_lease(self, now_ms: int) -> None:
        """Ask the followers whether this is still their primary."""
        if now_ms < self.lease_until_ms():
            self._renewing_ms = None  # It only ends soon: nobody waits yet.
        elif self._renewing_ms is None:
            self._renewing_ms = now_ms
        for follower, progress in self.followers.items():
            self._send_renewal(follower, progress, now_ms)

    def commit_durable(self, now_ms: int) -> None:
        """Commit what a majority of the voters has flushed."""
        matches = {ReplicaId(voter): self._match(voter) for voter in self._tail.members.voters}
        reached = min(commit_index(matches), self._tail.last.index)
        # Only entries of the own epoch commit by counting; the older ones come with them.
        if reached > self._tail.committed.index and reached >= self.first_index:
            self._progress_ms = now_ms
            self._out.committed.extend(self._tail.commit(reached))

    def _match(self, voter: bytes) -> int:
        if voter == self.replica:
            return self.own_match
        progress = self.followers[ReplicaId(voter)]
        return 0 if progress.suspect else progress.match_index

    def is_lost(self, now_ms: int) -> bool:
        """Say whether no majority answers any more, while somebody waits for one."""
        stuck = self._tail.committed.index < self._tail.last.index and (
            now_ms - self._progress_ms > STEP_DOWN_MS
        )
        unheard = self._renewing_ms is not None and now_ms - self._renewing_ms > STEP_DOWN_MS
        return stuck or (unheard and now_ms >= self.lease_until_ms())

    # Sending

    def append(self, drafts: Sequence[Entry], now_ms: int) -> None:
        """Give the entries their place, and send them on."""
        last = self._tail.last.index
        if self._tail.committed.index == last:
            self._progress_ms = now_ms
        entries = [
            replace(draft, epoch=self.epoch, index=last + 1 + place)
            for place, draft in enumerate(drafts)
        ]
        self._tail.extend(entries)
        self._out.append.extend(entries)
        self.meet_followers()
        for follower, progress in self.followers.items():
            self._feed(follower, progress, now_ms)

    def meet_followers(self) -> None:
        """Follow the replica set in force."""
        members = self._tail.members
        others = {ReplicaId(one) for one in (*members.voters, *members.learners)} - {self.replica}
        for gone in set(self.followers) - others:
            del self.followers[gone]
        for new in sorted(others - set(self.followers)):
            self.followers[new] = Progress(next_index=self._tail.last.index + 1)

    def tick(self, now_ms: int) -> None:
        """Send again what was not answered; tell those who are idle what is committed."""
        for follower, progress in self.followers.items():
            since_ms = now_ms - progress.sent_ms
            if progress.waiting_ms is not None and since_ms > RESEND_MS:
                progress.waiting_ms = None
                self._feed(follower, progress, now_ms)
            elif progress.commit_index < self._tail.committed.index and since_ms > TELL_COMMIT_MS:
                self._send_renewal(follower, progress, now_ms)

    def _feed(self, follower: ReplicaId, progress: Progress, now_ms: int) -> None:
        """Send what a follower lacks, unless something is on its way to it."""
        last = self._tail.last.index
        if progress.waiting_ms is not None or progress.reading or progress.next_index > last:
            return
        before = progress.next_index - 1
        epoch = self._tail.epoch_at(before)
        if epoch is None:
            progress.reading = True
            self._out.fetch.append(Fetch(follower, before))
            return
        entries = self._tail.between(before, min(last, before + APPEND_ENTRIES_MAX))
        self._send(follower, progress, Position(epoch, before), entries, now_ms)

    def _send_renewal(self, follower: ReplicaId, progress: Progress, now_ms: int) -> None:
        """Send an append without entries: it renews the lease and tells what is committed."""
        before = min(progress.next_index - 1, self._tail.last.index)
        epoch = self._tail.epoch_at(before)
        previous = self._tail.base if epoch is None else Position(epoch, before)
        self._send(follower, progress, previous, (), now_ms)

    def _send(
        self,
        follower: ReplicaId,
        progress: Progress,
        previous: Position,
        entries: tuple[Entry, ...],
        now_ms: int,
    ) -> None:
        commit = self._tail.committed.index
        self._out.send(
            follower,
            Append(self.epoch, previous.epoch, previous.index, entries, commit, now_ms),
        )
        progress.sent_ms = now_ms
        if entries:
            progress.waiting_ms = now_ms

    # What comes back

    def received_appended(self, sender: ReplicaId, answer: Appended, now_ms: int) -> None:
        progress = self.followers.get(sender)
        if answer.epoch != self.epoch or progress is None:
            return
        assert answer.match_index <= self._tail.last.index
        self._heard(progress, answer.sent_at_ms, suspect=answer.suspect, now_ms=now_ms)
        progress.next_index = max(progress.next_index, answer.match_index + 1)
        if answer.match_index >= progress.match_index:
            progress.match_index = answer.match_index
            progress.matched_ms = max(progress.matched_ms, answer.sent_at_ms)
        progress.commit_index = max(progress.commit_index, answer.commit_index)
        self.commit_durable(now_ms)
        self._feed(sender, progress, now_ms)

    def received_gap(self, sender: ReplicaId, gap: Gap, now_ms: int) -> None:
        progress = self.followers.get(sender)
        if gap.epoch != self.epoch or progress is None:
            return
        self._heard(progress, gap.sent_at_ms, suspect=gap.suspect, now_ms=now_ms)
        if gap.next_index <= progress.match_index:
            if gap.sent_at_ms <= progress.matched_ms:
                return  # Late: it has answered better since.
            progress.match_index = 0  # Its disk lost what it had.
            progress.commit_index = 0
        progress.next_index = max(1, min(gap.next_index, self._tail.last.index + 1))
        self._feed(sender, progress, now_ms)

    def _heard(self, progress: Progress, sent_at_ms: int, *, suspect: bool, now_ms: int) -> None:
        assert sent_at_ms <= now_ms
        if sent_at_ms >= progress.heard_ms:  # Else it was overtaken, and tells what was before.
            progress.heard_ms = sent_at_ms
            progress.suspect = suspect
        if progress.waiting_ms is not None and sent_at_ms >= progress.waiting_ms:
            progress.waiting_ms = None
        if now_ms < self.lease_until_ms():
            self._renewing_ms = None

    def fetched(self, fetched: Fetched, now_ms: int) -> None:
        """Take what was read of the older log; without it only a snapshot helps."""
        progress = self.followers.get(fetched.follower)
        if progress is None or not progress.reading:
            return
        if fetched.previous is None:
            self._out.snapshot.append(fetched.follower)
            return
        progress.reading = False
        # What was read of the uncommitted end may be of an earlier reign, and cut off since.
        committed = self._tail.committed.index
        entries = tuple(entry for entry in fetched.entries if entry.index <= committed)
        if fetched.previous.index == progress.next_index - 1 and entries:
            self._send(fetched.follower, progress, fetched.previous, entries, now_ms)
        else:
            self._feed(fetched.follower, progress, now_ms)

    def snapshot_ended(self, follower: ReplicaId, index: int, now_ms: int) -> None:
        progress = self.followers.get(follower)
        if progress is None:
            return
        progress.reading = False
        progress.waiting_ms = None
        if index:
            progress.next_index = min(index, self._tail.last.index) + 1
        self._send_renewal(follower, progress, now_ms)
