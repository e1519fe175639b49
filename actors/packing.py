"""Packing: which shard a new mailbox goes to. Pure (architecture: elastic packing).

A mailbox gets an actor of its own while there are fewer than the limit; after that new
mailboxes share the least loaded ones. One policy, no modes.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable

from actors.commands import ShardId, ShardRow


class Packing:
    """The mailbox shards and how many mailboxes each has, while new ones are placed."""

    def __init__(self, rows: Iterable[ShardRow], *, actors_max: int) -> None:
        self._loads = [(row.mailboxes, row.shard) for row in rows if row.kind == "mailbox"]
        heapq.heapify(self._loads)
        self._actors_max = actors_max

    def choose(self) -> ShardId | None:
        """Return the shard for one more mailbox, or None when it gets a new one.

        A shard whose mailboxes were all removed is used again before a new one is made.
        """
        if not self._loads or (self._loads[0][0] > 0 and len(self._loads) < self._actors_max):
            return None
        mailboxes, shard = self._loads[0]
        heapq.heapreplace(self._loads, (mailboxes + 1, shard))
        return shard

    def add(self, shard: ShardId) -> None:
        """Add the new shard that was made for a mailbox."""
        heapq.heappush(self._loads, (1, shard))


def choose_shard(rows: Iterable[ShardRow], *, actors_max: int) -> ShardId | None:
    """Return the shard for one more mailbox, or None when it gets a new one."""
    return Packing(rows, actors_max=actors_max).choose()
