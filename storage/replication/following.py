"""Following: a replica's side of the log while another leads.

It takes the primary's entries where they follow on its own, cuts off what differs and was
never committed, and answers for what its own flush has made durable.
"""

from __future__ import annotations

from storage.replication.effects import Outbox
from storage.replication.messages import Append, Appended, Gap, Position, ReplicaId
from storage.replication.tail import Tail


class Following:
    """The log of one replica as others see it; outlives reigns."""

    def __init__(self, tail: Tail, out: Outbox, *, high_water: int, promised_epoch: int) -> None:
        self._tail = tail
        self._out = out
        self.flushed_index = tail.last.index
        self.high_water = high_water  # everything up to here was acknowledged
        # What lies on disk is less than was acknowledged: no vote, no ack until caught up (R16).
        self.suspect = tail.last.index < high_water
        self._first_promised_epoch = promised_epoch
        self._epoch = 0  # of the primary that is followed
        self._verified_index = 0  # up to here the log agrees with that primary's
        self._owed: tuple[ReplicaId, int] | None = None  # an answer that waits for a flush

    def receive(self, sender: ReplicaId, message: Append) -> None:
        """Take an append of the primary of the epoch that is promised."""
        if self._epoch != message.epoch:
            self._epoch = message.epoch
            self._verified_index = self._tail.committed.index
            self._owed = None
        next_index = self._next_after(message)
        if next_index is not None:
            gap = Gap(message.epoch, next_index, message.sent_at_ms, self.suspect)
            self._out.send(sender, gap)
            return
        self._merge(message)
        agreed = message.previous_index + len(message.entries)
        self._verified_index = max(self._verified_index, agreed)
        commit = min(message.commit_index, self._verified_index)
        if commit > self._tail.committed.index:
            self._out.committed.extend(self._tail.commit(commit))
        if self.flushed_index < self._verified_index:
            self._owed = (sender, message.sent_at_ms)
        else:
            self._answer(sender, message.sent_at_ms)

    def _next_after(self, message: Append) -> int | None:
        """Return from where on the primary must send; None when its entries follow on here."""
        before = message.previous_index
        if before <= self._tail.committed.index:
            return None  # What is committed is in the log of every later primary.
        if before > self._tail.last.index:
            return self._tail.last.index + 1
        if self._tail.epoch_at(before) != message.previous_epoch:
            return max(self._tail.committed.index + 1, before)
        return None

    def _merge(self, message: Append) -> None:
        """Take what is new; cut off what differs."""
        for place, entry in enumerate(message.entries):
            if entry.index <= self._tail.committed.index:
                continue
            if entry.index <= self._tail.last.index:
                if self._tail.epoch_at(entry.index) == entry.epoch:
                    continue
                self._cut(entry.index)
            new = message.entries[place:]
            self._out.append.extend(new)
            self._tail.extend(new)
            return

    def _cut(self, first: int) -> None:
        self._tail.cut(first)
        self.flushed_index = min(self.flushed_index, first - 1)
        self._verified_index = min(self._verified_index, first - 1)
        if not self.suspect and self.high_water >= first:
            self._set_high_water(first - 1)  # What lay there was not committed.
        self._out.cut_from = first

    def _set_high_water(self, index: int) -> None:
        self.high_water = index
        self._out.high_water = index

    def flushed(self, position: Position) -> bool:
        """Note that the log is durable up to `position`; False when that was cut off since."""
        epoch = self._tail.epoch_at(position.index)
        if epoch is None and position.index > self._tail.base.index:
            return False
        if epoch is not None and epoch != position.epoch:
            return False
        self.flushed_index = max(self.flushed_index, position.index)
        if not self.suspect and position.index > self.high_water:
            self._set_high_water(position.index)
        return True

    def answer_owed(self, promised_epoch: int) -> None:
        """Answer the append that waited for the flush, unless a newer epoch is promised."""
        if self._owed is None or self.flushed_index < self._verified_index:
            return
        (primary, sent_at_ms), self._owed = self._owed, None
        if self._epoch == promised_epoch:
            self._answer(primary, sent_at_ms)

    def _answer(self, primary: ReplicaId, sent_at_ms: int) -> None:
        match = min(self._verified_index, self.flushed_index)
        self._end_suspicion(match)
        commit = self._tail.committed.index
        self._out.send(primary, Appended(self._epoch, match, sent_at_ms, commit, self.suspect))

    def _end_suspicion(self, match: int) -> None:
        """Count again once nothing can be missing (R16).

        All that this replica may have acknowledged was of epochs that it had promised before
        it lost something. A primary of a later epoch has all of it that was committed.
        """
        if not self.suspect:
            return
        epoch = self._tail.epoch_at(match)
        if match >= self.high_water:
            self.suspect = False
        elif epoch is not None and epoch > self._first_promised_epoch:
            self.suspect = False
            self._set_high_water(match)
