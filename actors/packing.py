"""Packing: which shard a new mailbox goes to. Pure (architecture: elastic packing).

A mailbox gets an actor of its own while there are fewer than the limit; after that new
mailboxes share the least loaded ones. One policy, no modes.
"""

from __future__ import annotations

from collections.abc import Sequence

from actors.commands import ShardId, ShardRow


def choose_shard(rows: Sequence[ShardRow], *, actors_max: int) -> ShardId | None:
    """Return the shard for one more mailbox, or None when it gets a new one.

    A shard whose mailboxes were all removed is used again before a new one is made.
    """
    shards = [row for row in rows if row.kind == "mailbox"]
    least = min(shards, key=lambda row: (row.mailboxes, row.shard), default=None)
    if least is None or (least.mailboxes > 0 and len(shards) < actors_max):
        return None
    return least.shard
