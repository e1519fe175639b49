"""Host: one process with a replica in it, as `actors/shard_host.py` keeps one.

It opens the shard, answers, exchanges snapshots, reports to supervisors and follows their
orders; a damaged replica is out of service, one with a full disk is only read. All of it runs
the production Shard, Replica and snapshots.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import msgspec

from actors.commands import ShardId
from actors.reporting import report_of
from actors.reports import Report
from mail.errors import Invalid, MailError, NotPrimary, OutcomeUnknown, Unavailable
from storage.database import DiskWentFull, Family
from storage.records import Damaged
from storage.replica import Replica
from storage.replication.effects import Input
from storage.replication.frames import (
    AnyFrame,
    SnapshotFile,
    addressee,
    encode_frame,
)
from storage.replication.messages import ReplicaId
from storage.shard import Shard
from storage.snapshots import SnapshotReceiver, SnapshotSender, connect
from tests.sim.disk import Crashed, Families, SimDatabase
from tests.sim.virtual_time import Process

if TYPE_CHECKING:
    from tests.sim.simulator import Node, Simulator

T = TypeVar("T")
SHARD = ShardId(2)
TABLE_KEYS = 16  # of a snapshot's file


@dataclass(frozen=True)
class Options:
    """What a report needs of `actors.options.ShardOptions`."""

    node: str
    shard: ShardId = SHARD
    kind: str = "mailbox"


class Host:
    """One process, from its start to its end."""

    idle_s = 0.0

    def __init__(self, simulator: Simulator, node: Node) -> None:
        self.simulator = simulator
        self.node = node
        self.disk = node.disk
        self.process = Process(simulator.loop)
        self.options = Options(node.name)
        self.trouble = ""
        self.shard: Shard | None = None
        self._waiting = False
        self._sender: SnapshotSender | None = None
        self._receiver: SnapshotReceiver | None = None
        self.last_report: Report | None = None

    def begin(self) -> None:
        self.process.spawn(self._open())

    @property
    def replica(self) -> Replica | None:
        return None if self.shard is None else self.shard.replica

    @property
    def state(self) -> str:
        shard = self.shard
        if self.trouble:
            return "damaged"
        if shard is None:
            return "recovering"
        if shard.leads:
            return "serving"
        return "reading" if shard.read_only else "following"

    def has_room(self) -> bool:
        return not self.disk.full

    def _operation(self) -> None:
        if self.process.dead:
            raise Crashed
        try:
            self.disk.operation()
        except Crashed:
            self.simulator.crash(self.node)
            raise

    # Opening

    async def _open(self) -> None:
        try:
            await self._open_shard(read_only=False)
        except DiskWentFull:
            await self._open_shard(read_only=True)
            self._read_only("")
        except Damaged as error:
            self.out_of_service(str(error))

    async def _open_shard(self, *, read_only: bool) -> None:
        simulator = self.simulator
        shard = simulator.classes.shard(
            SimDatabase(self.disk, self._operation),
            simulator.classes.hard_state(self.disk, self._operation),
            clock_ms=simulator.clock_ms,
            boot_ms=self.node.boot_ms,
            peers=_Peers(self),
            on_fatal=self._fatal,
            on_full=self._read_only,
            read_only=read_only,
        )
        replica = shard.replica
        replica.has_index = simulator.has_index
        replica.on_changed = lambda: self._changed(replica)
        try:
            await shard.recover()
        except Exception:
            await shard.abandon()
            raise
        self._exchange_snapshots(replica)
        replica.on_damaged = self.out_of_service
        self.shard = shard

    def _changed(self, replica: Replica) -> None:
        if replica.core.reign is not None:
            history = self.simulator.history
            history.see_reign(self.node.name, self.process, replica.core.reign.epoch)

    def _exchange_snapshots(self, replica: Replica) -> None:
        sender = self._sender = SnapshotSender(
            replica.replica,
            self._take,
            replica.send_frame,
            replica.step,
            lambda: self.simulator.rng.randbytes(16),
        )
        if self._receiver is None:
            self._receiver = self.simulator.classes.receiver(
                replica.replica, _Sink(self), self._send_frame, self._promised_epoch
            )
        connect(replica, sender, self._receiver)

    def _promised_epoch(self) -> int:
        return 0 if self.replica is None else self.replica.core.epoch

    def _send_frame(self, frame: AnyFrame) -> None:
        self.simulator.send(self, addressee(frame), encode_frame(frame))

    async def _take(self) -> _Source:
        await asyncio.sleep(self.simulator.rng.random() * 0.02)
        assert self.shard is not None
        database = self.shard.database
        assert isinstance(database, SimDatabase)
        return _Source(database.contents())

    async def install(self) -> None:
        """Go on with the snapshot that has arrived, as ShardHost and ReplicaDirectory do."""
        shard, self.shard = self.shard, None
        if self._sender is not None:
            self._sender.close()
        if shard is not None:
            await shard.close()
        self._operation()
        self.simulator.snapshots += 1
        before = self.disk.applied_index
        self.disk.swap(_families_of(self.disk.arriving))
        self.simulator.history.see_snapshot(self.node.name, before, self.disk)
        self._operation()
        await self._open()

    # Trouble

    def out_of_service(self, trouble: str) -> None:
        if not self.trouble:
            self.trouble = trouble
            shard, self.shard = self.shard, None
            if shard is not None:
                shard.take_out()
            self.simulator.see_damage(self.node, trouble)

    def _fatal(self, reason: str) -> None:
        self.simulator.history.problem(f"{self.node.name} ends: {reason}")
        self.simulator.crash(self.node)

    def _read_only(self, reason: str) -> None:
        if not self._waiting:
            self._waiting = True
            self.process.spawn(self._await_room())

    async def _await_room(self) -> None:
        while True:
            await asyncio.sleep(0.1)
            if not self.disk.full:
                self.simulator.crash(self.node)  # Nothing after it runs.

    # What arrives

    def receive(self, frame: bytes) -> None:
        if self.replica is not None:
            self.replica.receive(frame)

    def order(self, message: Input) -> None:
        """Do what a supervisor says, as `actors.reporting.Reporter` does."""
        replica = self.replica
        if replica is not None and replica.failed is None and not replica.read_only:
            try:
                replica.step(message)
            except MailError:
                return

    async def handle(self, work: Callable[[Shard], Awaitable[T]]) -> T:
        """Answer one command, as ShardHost.handle does. Raises MailError."""
        shard = self.shard
        if shard is None:
            raise Unavailable
        if not shard.leads:
            raise NotPrimary
        reign = shard.core.reign
        refusal: MailError | None = None
        reply: T | None = None
        try:
            reply = await work(shard)
        except MailError as error:
            refusal = error
        except Damaged as error:
            if self.shard is not shard:
                raise Unavailable from None
            self.out_of_service(str(error))
            raise Unavailable from None
        try:
            await shard.replica.confirm_lease(reign)
        except MailError:
            raise OutcomeUnknown from None
        if refusal is not None:
            raise refusal
        return reply  # type: ignore[return-value]

    def report(self) -> Report:
        """Return what this process says of itself; while it is stopped, what it said last."""
        if not self.process.stopped or self.last_report is None:
            self.last_report = report_of(self, None)  # type: ignore[arg-type]
        return self.last_report


class _Peers:
    """See `storage.replica.Peers`."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def send(self, to: ReplicaId, frame: bytes) -> None:
        self._host.simulator.send(self._host, to, frame)


class _Source:
    """A checkpoint as files: tables that never change, and a manifest that names them."""

    def __init__(self, families: Families) -> None:
        rows = [
            (family.value, key, families.values[family][key])
            for family in Family
            for key in families.keys[family]
        ]
        tables = [
            msgspec.msgpack.encode(rows[first : first + TABLE_KEYS])
            for first in range(0, len(rows), TABLE_KEYS)
        ]
        self._octets = {f"{hashlib.sha256(one).hexdigest()[:16]}.sst": one for one in tables}
        self._octets["MANIFEST"] = msgspec.msgpack.encode(list(self._octets))
        self.files = tuple(
            SnapshotFile(name, len(octets), modified=name == "MANIFEST")
            for name, octets in self._octets.items()
        )

    def read(self, name: str, offset: int, length: int) -> bytes:
        return self._octets[name][offset : offset + length]

    def close(self) -> None:
        return


def _families_of(files: dict[str, bytes]) -> Families:
    families = Families()
    for name in msgspec.msgpack.decode(files["MANIFEST"], type=list[str]):
        rows = msgspec.msgpack.decode(files[name], type=list[tuple[str, bytes, bytes]])
        for family_name, key, value in rows:
            families.set(Family(family_name), key, value)
    return families


class _Sink:
    """Where the files arrive; what was written survives the process (`FilesSink`)."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._disk = host.disk

    def begin(self, origin: ReplicaId, files: tuple[SnapshotFile, ...]) -> dict[str, int]:
        disk = self._disk
        if disk.arriving_from != origin:
            disk.arriving.clear()
            disk.arriving_from = origin
        wanted = {file.name: file for file in files}
        for name in list(disk.arriving):
            file = wanted.get(name)
            if file is None or file.modified or len(disk.arriving[name]) > file.size_bytes:
                del disk.arriving[name]
        self._host.simulator.resumed += any(disk.arriving.values())
        return {name: len(octets) for name, octets in disk.arriving.items()}

    def write(self, name: str, offset: int, octets: bytes) -> None:
        self._host._operation()
        if self._disk.full:
            raise OSError("no space left on a simulated disk")
        self._disk.arriving[name] = self._disk.arriving.get(name, b"")[:offset] + octets

    async def install(self) -> None:
        self._host._operation()
        await self._host.install()


__all__ = ["SHARD", "Host", "Invalid"]
