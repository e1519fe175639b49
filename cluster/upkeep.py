"""Upkeep: what an operator asks of shards beside mail: audits, the index, garbage, salvage."""

from __future__ import annotations

from typing import Any

import msgspec

from actors.asking import ask
from actors.commands import Done, MailboxId, ShardId
from actors.ports import Transport
from actors.upkeep_commands import (
    BeginUpkeep,
    ReleaseShard,
    ReopenShard,
    ShowUpkeep,
    UpkeepShown,
)


class ShardUpkeep:
    """Carries upkeep to the shards."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def begin(
        self, shard: ShardId, work: str, *, mailbox: int, repair: bool, dry_run: bool
    ) -> dict[str, Any]:
        """Begin work on a shard; return how far it is. Raises Invalid, Unavailable."""
        command = BeginUpkeep(work, MailboxId(mailbox), repair=repair, dry_run=dry_run)
        return _facts(await ask(self._transport, shard, command, UpkeepShown))

    async def show(self, shard: ShardId, job: int) -> dict[str, Any]:
        """Return how far work is. Raises NotFound."""
        return _facts(await ask(self._transport, shard, ShowUpkeep(job), UpkeepShown))

    async def release(self, shard: ShardId) -> None:
        """Have a damaged shard closed, to be salvaged. Raises Invalid for a sound one."""
        await ask(self._transport, shard, ReleaseShard(), Done)

    async def reopen(self, shard: ShardId) -> None:
        """Have a closed shard opened again."""
        await ask(self._transport, shard, ReopenShard(), Done)


def _facts(shown: UpkeepShown) -> dict[str, Any]:
    return {
        "job": shown.job,
        "work": shown.work,
        "state": shown.state,
        "done": shown.done,
        "total": shown.total,
        "counts": dict(shown.counts),
        "findings": [msgspec.structs.asdict(finding) for finding in shown.findings],
        "error": shown.error,
    }
