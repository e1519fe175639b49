"""ShardHost: what every actor that owns a shard has in common.

Opens the shard, answers frames, keeps a damaged shard out of service without taking anything
else down, and ends its process when the disk has refused a write: after that RocksDB takes no
more, and a fresh process can.

State       hard: the shard (`storage/shard.py`).
On failure  a command whose fate is unknown fails as OutcomeUnknown; repeat it by its id.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog

from actors import wire
from actors.commands import Command, Done, Drain, Reply, ShardShown, ShowShard
from actors.options import ShardOptions
from actors.ports import Notices
from actors.request_ids import new_request_id
from mail.errors import MailError, ShardDamaged, Unavailable
from storage.records import Damaged
from storage.replica_directory import ReplicaDirectory, ReplicaName
from storage.shard import Applying, Shard

log = structlog.get_logger()

_DISK_CHECK_S = 1.0


def _end_process(reason: str) -> None:
    log.critical("shard ended", reason=reason)
    os._exit(70)


class ShardHost:
    """Base of the actors that own a shard."""

    def __init__(
        self,
        options: ShardOptions,
        notices: Notices,
        *,
        end_process: Callable[[str], None] = _end_process,
    ) -> None:
        self.options = options
        self.notices = notices
        self.trouble = ""
        self._directory = ReplicaDirectory(Path(options.path))
        self._end_process = end_process
        self._shard: Shard | None = None
        self._room_checked_at = -_DISK_CHECK_S
        self._room = True
        self._started = False

    @property
    def shard(self) -> Shard:
        """Return the shard. Raises ShardDamaged or Unavailable while it does not serve."""
        if self._shard is None:
            raise ShardDamaged if self.trouble else Unavailable
        return self._shard

    async def start(self) -> None:
        """Open the shard; what is damaged is kept out of service and named, not raised.

        Raises CannotOpen and its like: a passing trouble, after which a new host may try again.
        """
        if self._started:
            return
        self._started = True
        name = ReplicaName(self.options.cluster_id, self.options.shard, self.options.kind)
        try:
            if self.options.create and not self._directory.is_made:
                await self._directory.make(name, new_request_id)
            await self._open(name)
        except Damaged as error:
            self.out_of_service(str(error))

    async def _open(self, name: ReplicaName) -> None:
        database, hard = self._directory.open(name)
        shard = Shard(
            database,
            hard,
            clock_ms=lambda: time.time_ns() // 1_000_000,
            has_room=self._has_room,
            on_fatal=self._end_process,
        )
        try:
            await shard.recover()
            await self.opened(shard)
        except BaseException:
            await shard.abandon()
            raise
        self._directory.forget_log()
        shard.on_applied = self.applied
        self._shard = shard

    async def opened(self, shard: Shard) -> None:
        """Make what goes with an open shard. For subclasses. Raises Damaged."""

    def applied(self, entries: Sequence[Applying]) -> None:
        """Take note of applied entries. For subclasses."""

    def out_of_service(self, trouble: str) -> None:
        """Refuse everything from now on but ShowShard, which names the trouble."""
        self.trouble = trouble
        self._shard = None
        log.error("shard damaged", shard=self.options.shard, trouble=trouble)

    def _has_room(self) -> bool:
        now = time.monotonic()
        if now - self._room_checked_at >= _DISK_CHECK_S:
            self._room_checked_at = now
            free = shutil.disk_usage(self.options.path).free
            self._room = free >= self.options.disk_floor_bytes
        return self._room

    async def handle(self, frame: bytes) -> bytes:
        """Answer every command of a frame, in its order."""
        try:
            commands = wire.decode_commands(frame)
        except MailError:
            # Of a newer release, while nodes are restarted in turn: not the sender's fault.
            return wire.encode([wire.failed(Unavailable("a frame that cannot be read here"))])
        if len(commands) == 1:
            return wire.encode([await self._answer(commands[0])])
        return wire.encode(await asyncio.gather(*map(self._answer, commands)))

    async def _answer(self, command: Command) -> Reply:
        try:
            match command:
                case ShowShard():
                    return self._shown()
                case Drain():
                    await self.close()
                    return Done()
                case _:
                    return await self.answer(command)
        except MailError as error:
            return wire.failed(error)
        except Damaged as error:
            if self._shard is None and not self.trouble:
                return wire.failed(Unavailable("the shard is closed"))
            self.out_of_service(str(error))
            return wire.failed(ShardDamaged())
        except Exception as error:
            log.exception("command failed", command=type(command).__name__)
            return wire.failed(error)

    async def answer(self, command: Command) -> Reply:
        """Answer one command. For subclasses. May raise MailError."""
        raise NotImplementedError

    def _shown(self) -> ShardShown:
        shard = self._shard
        state = "damaged" if self.trouble else "serving" if shard else "recovering"
        return ShardShown(
            shard=self.options.shard,
            kind=self.options.kind,
            state=state,
            epoch=shard.core.epoch if shard else 0,
            last_index=shard.core.last.index if shard else 0,
            commit_index=shard.core.committed_index if shard else 0,
            applied_index=shard.applied.index if shard else 0,
            indexed_index=shard.indexed_index if shard else 0,
            mailboxes=0,
            pid=os.getpid(),
            trouble=self.trouble,
            version=self.options.version,
            metrics=self.metrics(),
        )

    def metrics(self) -> dict[str, float]:
        """Return counters of this actor by name."""
        if self._shard is None:
            return {}
        counts = self._shard.counts
        return {
            "turns_total": counts.turns,
            "flushes_total": counts.flushes,
            "entries_total": counts.entries,
            "repeats_total": counts.repeats,
        }

    async def close(self) -> None:
        """Finish what was accepted and close the shard."""
        shard, self._shard = self._shard, None
        if shard is not None:
            await shard.close()
