"""Snapshots: a follower that the log cannot fill gets the primary's files instead (R6).

The primary takes a checkpoint (hard links to files that never change) and offers it. The
follower asks for it slice by slice, so that neither side holds more than a few slices, and a
transfer that broke off goes on where it was: a table of the same name and size is the same
table. When all is here it is installed in one go; the rest comes from the log.

State       hard: files in the follower's `incoming` directory.  soft: who sends what to whom.
On failure  nothing has changed; the primary offers again as long as the follower lags.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import structlog

from storage.replication.core import ReplicaCore
from storage.replication.effects import SnapshotEnded
from storage.replication.frames import AnyFrame, Offer, Slice, SnapshotFile, Wanted
from storage.replication.messages import Position, ReplicaId

if TYPE_CHECKING:
    from storage.replica import Replica

log = structlog.get_logger()

SLICE_BYTES = 512 << 10
ASK_AGAIN_S = 1.0  # a slice that did not come is asked for again
SENDER_IDLE_S = 20.0  # a follower that asks for nothing so long is given up
FILES_MAX = 100_000


class Source(Protocol):
    """A checkpoint of a replica's database, held open until it is closed."""

    files: tuple[SnapshotFile, ...]

    def read(self, name: str, offset: int, length: int) -> bytes: ...

    def close(self) -> None: ...


class Sink(Protocol):
    """Where a follower puts what arrives."""

    def begin(self, origin: ReplicaId, files: tuple[SnapshotFile, ...]) -> dict[str, int]:
        """Keep what is here of these files of `origin`; return how many octets of each."""

    def write(self, name: str, offset: int, octets: bytes) -> None:
        """Write octets of a file."""

    async def install(self) -> None:
        """Put the snapshot in the place of the replica's database, durably. Raises Damaged."""


class SnapshotSender:
    """The primary's side: one transfer a follower at a time."""

    def __init__(
        self,
        replica: ReplicaId,
        take: Callable[[], Awaitable[Source]],
        send: Callable[[AnyFrame], None],
        ended: Callable[[SnapshotEnded], None],
        new_id: Callable[[], bytes],
    ) -> None:
        self._replica = replica
        self._take = take
        self._send = send
        self._ended = ended
        self._new_id = new_id
        self._transfers: dict[ReplicaId, _Sending] = {}
        self._starting: dict[ReplicaId, asyncio.Task[None]] = {}

    def begin(self, follower: ReplicaId, describe: Callable[[], Described]) -> None:
        """Take a checkpoint for a follower and offer it."""
        if follower in self._transfers or follower in self._starting:
            return
        task = asyncio.create_task(self._begin(follower, describe), name="snapshot")
        self._starting[follower] = task
        task.add_done_callback(lambda _: self._starting.pop(follower, None))

    async def _begin(self, follower: ReplicaId, describe: Callable[[], Described]) -> None:
        described = describe()  # Before it is taken: it holds so much at least.
        try:
            source = await self._take()
        except Exception:
            log.exception("no checkpoint")
            self._ended(SnapshotEnded(follower, 0))
            return
        sending = _Sending(self._new_id(), source, described)
        self._transfers[follower] = sending
        sending.timer = asyncio.get_running_loop().call_later(SENDER_IDLE_S, self._end, follower, 0)
        self._offer(follower, sending)

    def _offer(self, follower: ReplicaId, sending: _Sending) -> None:
        described = sending.described
        self._send(
            Offer(
                follower,
                self._replica,
                sending.snapshot,
                described.epoch,
                described.applied.epoch,
                described.applied.index,
                sending.source.files,
            )
        )

    def wanted(self, follower: ReplicaId, wanted: Wanted) -> None:
        """Answer a follower that asks for octets, or says that it has all."""
        sending = self._transfers.get(follower)
        if sending is None or sending.snapshot != wanted.snapshot:
            return
        if not wanted.name:
            self._end(follower, sending.described.applied.index)
            return
        if all(file.name != wanted.name for file in sending.source.files):
            return
        if sending.timer is not None:
            sending.timer.cancel()
        sending.timer = asyncio.get_running_loop().call_later(SENDER_IDLE_S, self._end, follower, 0)
        octets = sending.source.read(wanted.name, wanted.offset, SLICE_BYTES)
        self._send(
            Slice(
                follower,
                self._replica,
                wanted.snapshot,
                wanted.name,
                wanted.offset,
                octets,
                zlib.crc32(octets),
            )
        )

    def _end(self, follower: ReplicaId, index: int) -> None:
        sending = self._transfers.pop(follower, None)
        if sending is None:
            return
        if sending.timer is not None:
            sending.timer.cancel()
        sending.source.close()
        self._ended(SnapshotEnded(follower, index))

    def close(self) -> None:
        """Give up every transfer: the reign is over."""
        for task in self._starting.values():
            task.cancel()
        for sending in self._transfers.values():
            if sending.timer is not None:
                sending.timer.cancel()
            sending.source.close()
        self._transfers.clear()


def needs(core: ReplicaCore, offer: Offer) -> bool:
    """Say whether an offered snapshot may take the place of what a replica has.

    Only the primary that is followed has every entry that was acknowledged here, and only what
    is not known to be committed may be missing in a snapshot of its.
    """
    return (
        offer.epoch == core.epoch
        and core.reign is None
        and offer.applied_index > core.committed.index
    )


@dataclass(frozen=True, slots=True)
class Described:
    """What a checkpoint holds, from the log's point of view."""

    epoch: int
    applied: Position


@dataclass(slots=True)
class _Sending:
    snapshot: bytes
    source: Source
    described: Described
    timer: asyncio.TimerHandle | None = None


class SnapshotReceiver:
    """The follower's side: the newest offer is the one that counts."""

    def __init__(
        self,
        replica: ReplicaId,
        sink: Sink,
        send: Callable[[AnyFrame], None],
        epoch: Callable[[], int],
    ) -> None:
        """Put what arrives into `sink`; `epoch` is the one that is promised now."""
        self._replica = replica
        self._epoch = epoch
        self._sink = sink
        self._send = send
        self._receiving: _Receiving | None = None
        self._installing: asyncio.Task[None] | None = None

    def offered(self, sender: ReplicaId, offer: Offer) -> None:
        """Begin to fetch a snapshot, or go on with what is here of it."""
        if self._installing is not None or len(offer.files) > FILES_MAX:
            return
        if offer.epoch < self._epoch():
            return  # Of a primary that is none any more.
        self._stop()
        have = self._sink.begin(sender, offer.files)
        self._receiving = _Receiving(sender, offer, have)
        self._ask()

    def arrived(self, sender: ReplicaId, piece: Slice) -> None:
        receiving = self._receiving
        if receiving is None or (sender, piece.snapshot) != (receiving.sender, receiving.snapshot):
            return
        if (piece.name, piece.offset) != receiving.next():
            return  # A repeat.
        if zlib.crc32(piece.octets) != piece.crc32 or not piece.octets:
            return  # Asked for again after a while.
        try:
            self._sink.write(piece.name, piece.offset, piece.octets)
        except OSError as error:
            log.error("snapshot given up", error=str(error))
            self._stop()  # The disk is full. The primary gives up, too, and will offer again.
            return
        receiving.have[piece.name] = piece.offset + len(piece.octets)
        self._ask()

    def _ask(self) -> None:
        receiving = self._receiving
        assert receiving is not None
        if receiving.timer is not None:
            receiving.timer.cancel()
        wanted = receiving.next()
        if wanted is None:
            self._installing = asyncio.create_task(self._install(receiving), name="install")
            return
        name, offset = wanted
        self._send(Wanted(receiving.sender, self._replica, receiving.snapshot, name, offset))
        receiving.timer = asyncio.get_running_loop().call_later(ASK_AGAIN_S, self._ask_again)

    def _ask_again(self) -> None:
        receiving = self._receiving
        if receiving is None:
            return
        receiving.tries += 1
        if receiving.tries * ASK_AGAIN_S > SENDER_IDLE_S:
            self._stop()  # The primary has given up, too, and will offer again.
        else:
            self._ask()

    async def _install(self, receiving: _Receiving) -> None:
        try:
            if receiving.offer.epoch < self._epoch():
                return  # A later primary has been heard since, and what it sent is acknowledged.
            await self._sink.install()
        except Exception:
            log.exception("snapshot not installed")
            return
        finally:
            self._receiving = None
            self._installing = None
        self._send(Wanted(receiving.sender, self._replica, receiving.snapshot, "", 0))

    def _stop(self) -> None:
        receiving, self._receiving = self._receiving, None
        if receiving is not None and receiving.timer is not None:
            receiving.timer.cancel()

    async def close(self) -> None:
        self._stop()
        if self._installing is not None:
            self._installing.cancel()
            await asyncio.gather(self._installing, return_exceptions=True)


@dataclass(slots=True)
class _Receiving:
    sender: ReplicaId
    offer: Offer
    have: dict[str, int]
    timer: asyncio.TimerHandle | None = None
    tries: int = 0
    _position: int = field(default=0)

    @property
    def snapshot(self) -> bytes:
        return self.offer.snapshot

    def next(self) -> tuple[str, int] | None:
        """Return the file and offset that are missing first; None when all is here."""
        while self._position < len(self.offer.files):
            file = self.offer.files[self._position]
            have = self.have.get(file.name, 0)
            if have < file.size_bytes:
                return file.name, have
            self._position += 1
        return None


def connect(replica: Replica, sender: SnapshotSender, receiver: SnapshotReceiver) -> None:
    """Have a replica fill followers that lag too far, and be filled itself."""

    def arrived(peer: ReplicaId, frame: Offer | Wanted | Slice) -> None:
        match frame:
            case Offer():
                receiver.offered(peer, frame)
            case Slice():
                receiver.arrived(peer, frame)
            case Wanted():
                sender.wanted(peer, frame)

    replica.on_snapshot = arrived
    replica.on_lagging = lambda follower: sender.begin(follower, replica.described)
