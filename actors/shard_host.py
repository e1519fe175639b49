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
import itertools
import os
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog

from actors import wire
from actors.commands import Command, Done, Drain, Failed, Reply, ShardShown, ShowShard
from actors.options import ShardOptions
from actors.ports import Notices
from actors.request_ids import new_request_id
from actors.upkeep_commands import ReleaseShard, ReopenShard
from mail.errors import (
    Invalid,
    MailError,
    NotPrimary,
    OutcomeUnknown,
    ShardDamaged,
    Unavailable,
)
from storage.database import WriteFailed, is_full
from storage.records import Damaged
from storage.replica import Replica
from storage.replica_directory import ReplicaDirectory, ReplicaName
from storage.replica_ports import Applying, NoPeers, Peers
from storage.replication.frames import (
    AnyFrame,
    addressee,
    encode_frame,
)
from storage.salvage_lock import is_being_salvaged
from storage.shard import Shard
from storage.snapshot_files import FilesSink, FilesSource
from storage.snapshots import SnapshotReceiver, SnapshotSender, connect

log = structlog.get_logger()

_DISK_CHECK_S = 1.0
READ_ONLY = "the disk is full, mail is only read"


def _is_read(command: Command, reply: Reply) -> bool:
    """Say whether a reply tells of the shard, and not only of this replica of it."""
    if isinstance(command, (ShowShard, Drain, ReleaseShard, ReopenShard)):
        return False
    return not (isinstance(reply, Failed) and reply.error == NotPrimary.__name__)


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
        self.peers: Peers = NoPeers()  # set before the start where there are any
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
        self._grown = False
        self._sender: SnapshotSender | None = None
        self._receiver: SnapshotReceiver | None = None
        self.changed: Callable[[], None] = lambda: None  # something is worth a report
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

    @property
    def replica(self) -> Replica | None:
        """Return the replica, None while the shard is not open."""
        return None if self._shard is None else self._shard.replica

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
                await self._directory.make(name, new_request_id, founds=self.options.founds)
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
            peers=self.peers,
            has_room=self.has_room,
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
        shard.replica.on_applied = self.applied
        shard.replica.on_changed = self.changed
        shard.replica.on_damaged = self.out_of_service
        self._shard = shard
        self._exchange_snapshots(shard.replica)
        self.changed()

    def _exchange_snapshots(self, replica: Replica) -> None:
        """Fill followers that lag too far, and be filled (R6)."""
        files = self._directory
        sender = self._sender = SnapshotSender(
            replica.replica,
            lambda: FilesSource.take(replica.database, files.snapshots / "sent"),
            replica.send_frame,
            replica.step,
            new_request_id,
        )
        if self._receiver is None:
            sink = FilesSink(files.incoming, self._install)
            self._receiver = SnapshotReceiver(
                replica.replica, sink, self._send_frame, self._promised_epoch
            )
        connect(replica, sender, self._receiver)

    def _promised_epoch(self) -> int:
        replica = self.replica
        return 0 if replica is None else replica.core.epoch

    def receive(self, frame: bytes) -> None:
        """Take a frame of another replica; whatever it meets, the link goes on."""
        if self._shard is None:
            return
        try:
            self._shard.replica.receive(frame)
        except WriteFailed:
            return  # Who has to know was told.
        except Damaged as error:
            self.out_of_service(str(error))
            self.changed()
        except Exception as error:
            log.exception("frame not taken", shard=self.options.shard)
            self._end_process(f"replica: {error!r}")

    def _send_frame(self, frame: AnyFrame) -> None:
        self.peers.send(addressee(frame), encode_frame(frame))

    async def _install(self) -> None:
        """Go on with the snapshot that has arrived in the database's place.

        Raises Damaged while it cannot be read: then what was there goes on.
        """
        name = ReplicaName(self.options.cluster_id, self.options.shard, self.options.kind)
        suspect = self.replica is not None and self.replica.core.suspect
        await self._directory.check_incoming()
        await self.close()
        try:
            await self._directory.install(name, suspect=suspect)
            await self._open(name)
        except Damaged as error:
            self.out_of_service(str(error))
        except Exception as error:
            # Nothing is open now; a fresh process opens what is there.
            self._end_process(f"snapshot: {error!r}")

    async def opened(self, shard: Shard) -> None:
        """Make what goes with an open shard. For subclasses. Raises Damaged."""

    def applied(self, entries: Sequence[Applying]) -> None:
        """Take note of applied entries. For subclasses."""

    def know_nodes(self, nodes: tuple[str, ...], silent: tuple[str, ...], factor: int) -> None:
        """Take note of the nodes that are alive, and of those that are not. For subclasses."""

    def busy(self) -> bool:
        """Say whether there is work that nobody waits for. For subclasses."""
        return False

    def out_of_service(self, trouble: str) -> None:
        """Refuse everything from now on but ShowShard, which names the trouble."""
        self.trouble = trouble
        if self._shard is not None:
            self._shard.take_out()
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

    def has_room(self) -> bool:
        """Say whether more is free on the disk than recovery may need (R16), as of a second ago."""
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
        shard = self._shard
        reign = None if shard is None else shard.core.reign
        if len(commands) == 1:
            replies = [await self._answer(commands[0])]
        else:
            replies = await asyncio.gather(*map(self._answer, commands))
        told = zip(commands, replies, strict=True)
        if shard is not None and not self.trouble and any(itertools.starmap(_is_read, told)):
            try:
                # Whatever was read is still true as long as nobody else may lead (R5, R15).
                await shard.replica.confirm_lease(reign)
            except MailError as error:
                replies = [wire.failed(OutcomeUnknown(error.text))] * len(replies)
        return wire.encode(replies)

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
                    if not self.shard.leads or not self._is_grown():
                        raise NotPrimary
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

    def _is_grown(self) -> bool:
        """Say whether the shard has the replicas that it is to have before its first turn.

        What it takes while it has fewer would be lost with one node.
        """
        if not self._grown:
            voters = len(self.shard.core.members.voters)
            is_empty = next(self.shard.state.scan(b"", b"\xff" * 16), None) is None
            self._grown = voters >= self.options.voters_at_birth or not is_empty
        return self._grown

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

    @property
    def state(self) -> str:
        """Return "damaged", "recovering", "serving", "following" or "reading"."""
        shard = self._shard
        if self.trouble:
            return "damaged"
        if shard is None:
            return "recovering"
        if shard.leads:
            return "serving"
        return "reading" if shard.read_only else "following"

    def shown(self) -> ShardShown:
        """Return what this replica knows of itself."""
        shard = self._shard
        state = self.state
        return ShardShown(
            shard=self.options.shard,
            kind=self.options.kind,
            state=state,
            epoch=shard.core.epoch if shard else 0,
            last_index=shard.core.last.index if shard else 0,
            commit_index=shard.core.committed.index if shard else 0,
            applied_index=shard.applied.index if shard else 0,
            indexed_index=shard.replica.indexed_index if shard else 0,
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
        counts, replica = self._shard.counts, self._shard.replica
        return {
            "turns_total": counts.turns,
            "flushes_total": replica.counts.flushes,
            "entries_total": replica.counts.entries,
            "repeats_total": counts.repeats,
            **self._shard.database.counts(),
        }

    async def close(self) -> None:
        """Finish what was accepted and close the shard."""
        if self._sender is not None:
            self._sender.close()
        if self._waiting is not None:
            self._waiting.cancel()
        shard, self._shard = self._shard, None
        if shard is not None:
            await shard.close()
