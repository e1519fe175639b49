"""ReplicaDirectory: the directory of one replica, and opening it without guessing.

    hard_state   identity, promise and high-water mark (`storage/hard_state.py`)
    db/          RocksDB
    index/       Tantivy; may be thrown away and is made again
    found/       the write-ahead log as it was found, until the shard has recovered
    incoming/    a primary's snapshot while it arrives; `installing` says that it is whole
    snapshots/   checkpoints for followers that lag, while they are sent

A directory is made once, on purpose. One that is empty, incomplete or another's is refused:
an empty shard in the place of a full one would answer "no such mail" (R16).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from storage import keys, records
from storage.database import CACHE_BYTES, Batch, Family, RocksDatabase
from storage.files import sync_directory
from storage.hard_state import HardState
from storage.log import read_through
from storage.records import Applied, Damaged, Identity, Members, MembersRecord
from storage.replication.messages import ReplicaId

# Beside the log: a manifest, options, the log's first block.
OPENING_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class ReplicaName:
    """Whose data a directory must hold."""

    cluster: str
    shard: int
    kind: str


class ReplicaDirectory:
    """Paths of one replica's files."""

    def __init__(self, path: Path, *, cache_bytes: int = CACHE_BYTES) -> None:
        self.path = path
        self._cache_bytes = cache_bytes
        self.hard_state = path / "hard_state"
        self.database = path / "db"
        self.index = path / "index"
        self.found = path / "found"
        self.incoming = path / "incoming"
        self.snapshots = path / "snapshots"
        self._installing = path / "installing"

    @property
    def is_made(self) -> bool:
        """Say whether the directory was completely made."""
        return self.hard_state.exists()

    async def make(
        self, name: ReplicaName, new_id: Callable[[], bytes], *, founds: bool = True
    ) -> None:
        """Make an empty replica, durably; repeatable after a crash half-way.

        One that `founds` its shard is the whole replica set; any other belongs to none, and
        waits until a primary takes it in. The hard state is written last, under its final name
        only when all else is flushed.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        replica = ReplicaId(new_id())
        database = RocksDatabase(self.database, create=True)
        if database.get(Family.CTL, keys.APPLIED) is not None:
            database.close()
            raise Damaged(f"{self.path.name}: a used database without its hard state")
        batch = Batch()
        identity = Identity(name.cluster, name.shard, name.kind, replica)
        batch.put(Family.CTL, keys.IDENTITY, records.encode(identity))
        members = MembersRecord(0, Members((replica,) if founds else ()))
        batch.put(Family.CTL, keys.MEMBERS, records.encode(members))
        database.write(batch)
        await database.flush()
        database.close()
        draft = self.path / "hard_state.new"
        draft.unlink(missing_ok=True)
        HardState.create(
            draft, cluster=name.cluster, shard=name.shard, kind=name.kind, replica=replica
        )
        draft.rename(self.hard_state)
        sync_directory(self.path)
        sync_directory(self.path.parent)

    def open(
        self, name: ReplicaName, *, read_only: bool = False
    ) -> tuple[RocksDatabase, HardState]:
        """Open what `make` made. Raises Damaged when it is not wholly this replica's; CannotOpen.

        Read-only a full disk is no obstacle; else it raises NoRoom.
        """
        if not self.is_made:
            raise Damaged(f"{self.path.name}: no replica here")
        shutil.rmtree(self.snapshots, ignore_errors=True)
        if self._installing.exists():
            self._finish_installing()
        hard = HardState(self.hard_state)
        found = ReplicaName(hard.record.cluster, hard.record.shard, hard.record.kind)
        if found != name:
            hard.close()
            raise Damaged(f"{self.path.name}: holds {found}, not {name}")
        database = None
        self._keep_log()
        try:
            database = RocksDatabase(
                self.database, create=False, read_only=read_only, cache_bytes=self._cache_bytes
            )
            octets = database.get(Family.CTL, keys.IDENTITY)
            if octets is None or records.decode(octets, Identity).replica != hard.record.replica:
                raise Damaged(f"{self.path.name}: database and hard state are not of one replica")
        except BaseException:
            if database is not None:
                database.close()
            hard.close()
            raise
        return database, hard

    async def check_incoming(self) -> None:
        """Read what the snapshot in `incoming` says of the shard. Raises Damaged."""
        database = RocksDatabase(
            self.incoming, create=False, read_only=True, cache_bytes=self._cache_bytes
        )
        try:
            await read_through(database, Family.STATE)
        finally:
            database.close()

    async def install(self, name: ReplicaName, *, suspect: bool) -> None:
        """Put the snapshot in `incoming` in the database's place; the shard is closed.

        The replica stays who it is, and so does its hard state (R16), but for the high-water
        mark: what the primary does not have was not committed, and counts no more, unless this
        replica is `suspect` to have lost what it acknowledged to that very primary. Raises
        Damaged when it is not a snapshot of this shard; then nothing has changed.
        """
        hard = HardState(self.hard_state)
        replica, high_water = hard.record.replica, hard.record.high_water
        hard.close()
        last_index = 0
        database = RocksDatabase(self.incoming, create=False, cache_bytes=self._cache_bytes)
        try:
            octets = database.get(Family.CTL, keys.IDENTITY)
            found = None if octets is None else records.decode(octets, Identity)
            if found is None or (found.cluster, found.shard, found.kind) != (
                name.cluster,
                name.shard,
                name.kind,
            ):
                raise Damaged(f"{self.path.name}: a snapshot of something else has arrived")
            batch = Batch()
            identity = Identity(name.cluster, name.shard, name.kind, replica)
            batch.put(Family.CTL, keys.IDENTITY, records.encode(identity))
            database.write(batch)
            await database.flush()
            last_index = _last_index(database)
        finally:
            database.close()
        sync_directory(self.incoming)
        self._installing.touch()
        sync_directory(self.path)
        self._finish_installing()
        if high_water > last_index and not suspect:
            hard = HardState(self.hard_state)
            hard.set_high_water(last_index)
            hard.close()

    def _finish_installing(self) -> None:
        """Swap the databases; repeatable after a crash at any moment."""
        before = self.path / "db.before"
        if self.incoming.exists():
            if self.database.exists():
                shutil.rmtree(before, ignore_errors=True)
                self.database.rename(before)
            self.incoming.rename(self.database)
            sync_directory(self.path)
        shutil.rmtree(before, ignore_errors=True)
        shutil.rmtree(self.index, ignore_errors=True)
        self._installing.unlink()
        sync_directory(self.path)

    def has_room_to_open(self, floor_bytes: int) -> bool:
        """Say whether the disk has room to open a database for writing: the log, once more.

        It is tried, since a quota may be what is full. Blocks.
        """
        logs = sum(file.stat().st_size for file in self.database.glob("*.log"))
        wanted = logs + OPENING_BYTES
        if shutil.disk_usage(self.path).free < max(wanted, floor_bytes):
            return False
        trial = self.path / "trial"
        handle = os.open(trial, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.posix_fallocate(handle, 0, wanted)
        except OSError:
            return False
        finally:
            os.close(handle)
            trial.unlink()
        return True

    def _keep_log(self) -> None:
        """Link the write-ahead log aside: RocksDB drops what lies behind a damage when it opens.

        What lies there may be acknowledged mail, to be saved by hand.
        """
        with suppress(OSError):  # A file system without links: then not.
            self.found.mkdir(exist_ok=True)
            for file in self.database.glob("*.log"):
                with suppress(FileExistsError):
                    os.link(file, self.found / file.name)

    def forget_log(self) -> None:
        """Let go of what was linked aside: the shard has recovered."""
        shutil.rmtree(self.found, ignore_errors=True)


def _last_index(database: RocksDatabase) -> int:
    """Return where the log of a database ends."""
    for key, _ in database.scan(Family.LOG, b"", keys.LOG_END, reverse=True):
        return int.from_bytes(key, "big")
    octets = database.get(Family.CTL, keys.APPLIED)
    return 0 if octets is None else records.decode(octets, Applied).index
