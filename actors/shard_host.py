"""ShardHost: what every actor that owns a shard has in common.

Opens the shard, answers frames, keeps a damaged shard out of service without taking anything
else down, and ends its process when the disk has refused a write: after that RocksDB takes no
more, and a fresh process can. When the disk was full, it first goes on reading until there is
room; a shard that is opened on a full disk is only read, too.

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
from actors.upkeep_commands import ReleaseShard, ReopenShard
from mail.errors import Invalid, MailError, ShardDamaged, Unavailable
from storage.database import is_full
from storage.records import Damaged
from storage.replica_directory import ReplicaDirectory, ReplicaName
from storage.salvage_lock import is_being_salvaged
from storage.shard import Applying, Shard

log = structlog.get_logger()

_DISK_CHECK_S = 1.0
READ_ONLY = "the disk is full, mail is only read"


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
        self._directory = ReplicaDirectory(
            Path(options.path), cache_bytes=options.block_cache_bytes
        )
        self._end_process = end_process
        self._shard: Shard | None = None
        self._damaged: Shard | None = None  # what was open when damage was found
        self._room_checked_at = -_DISK_CHECK_S
        self._room = True
        self._waiting: asyncio.Task[None] | None = None
        self._started = False
        self._used_at = time.monotonic()

    @property
    def idle_s(self) -> float:
        """Return for how long nobody has asked for anything but how the shard is.

        0 while it has work of its own, or cannot serve: then its process is to stay.
        """
        if self._shard is None or self._shard.read_only or self.busy():
            return 0.0
        return time.monotonic() - self._used_at

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
            if is_being_salvaged(self._directory.path):
                raise Damaged("being salvaged")
            if self.options.create and not self._directory.is_made:
                await self._directory.make(name, new_request_id)
            await self._open(name)
        except Damaged as error:
            self.out_of_service(str(error))

    async def _open(self, name: ReplicaName) -> None:
        try:
            await self._open_shard(name, read_only=False)
        except Exception as error:
            if not is_full(error):
                raise
            await self._open_shard(name, read_only=True)
            self._read_only(str(error))

    async def _open_shard(self, name: ReplicaName, *, read_only: bool) -> None:
        database, hard = self._directory.open(name, read_only=read_only)
        shard = Shard(
            database,
            hard,
            clock_ms=lambda: time.time_ns() // 1_000_000,
            has_room=self._has_room,
            on_fatal=self._end_process,
            on_full=self._read_only,
            read_only=read_only,
        )
        try:
            await shard.recover()
            await self.opened(shard)
        except BaseException:
            await shard.abandon()
            raise
        if not read_only:
            self._directory.forget_log()
        shard.on_applied = self.applied
        self._shard = shard

    async def opened(self, shard: Shard) -> None:
        """Make what goes with an open shard. For subclasses. Raises Damaged."""

    def applied(self, entries: Sequence[Applying]) -> None:
        """Take note of applied entries. For subclasses."""

    def busy(self) -> bool:
        """Say whether there is work that nobody waits for. For subclasses."""
        return False

    def out_of_service(self, trouble: str) -> None:
        """Refuse everything from now on but ShowShard, which names the trouble."""
        self.trouble = trouble
        self._damaged, self._shard = self._shard or self._damaged, None
        log.error("shard damaged", shard=self.options.shard, trouble=trouble)

    def _read_only(self, trouble: str) -> None:
        log.error("disk full: reading only", shard=self.options.shard, trouble=trouble)
        if self._waiting is None:
            self._waiting = asyncio.create_task(self._await_room(), name="await room")

    async def _await_room(self) -> None:
        """End the process once there is room: a fresh one can write again."""
        floor = self.options.disk_floor_bytes
        has_room = False
        while not has_room:
            await asyncio.sleep(_DISK_CHECK_S)
            has_room = await asyncio.to_thread(self._directory.has_room_to_open, floor)
        self._end_process("the disk has room again")

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
                    return self.shown()
                case Drain():
                    await self.close()
                    return Done()
                case ReleaseShard():
                    return await self._release()
                case ReopenShard():
                    return await self._reopen()
                case _:
                    self._used_at = time.monotonic()
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

    async def _release(self) -> Reply:
        if not self.trouble:
            raise Invalid("the shard is not damaged")
        await self.close()
        shard, self._damaged = self._damaged, None
        if shard is not None:
            await shard.abandon()
        self.trouble = "closed to be salvaged"
        return Done()

    async def _reopen(self) -> Reply:
        if self.trouble:
            await self._release()
            self.trouble, self._started = "", False
            await self.start()
        return Done()

    async def answer(self, command: Command) -> Reply:
        """Answer one command. For subclasses. May raise MailError."""
        raise NotImplementedError

    def shown(self) -> ShardShown:
        """Return what this replica knows of itself."""
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
            trouble=READ_ONLY if shard is not None and shard.read_only else self.trouble,
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
            **self._shard.database.counts(),
        }

    async def close(self) -> None:
        """Finish what was accepted and close the shard."""
        if self._waiting is not None:
            self._waiting.cancel()
        shard, self._shard = self._shard, None
        if shard is not None:
            await shard.close()
