"""ReplicaDirectory: the directory of one replica, and opening it without guessing.

    hard_state   identity, promise and high-water mark (`storage/hard_state.py`)
    db/          RocksDB
    index/       Tantivy; may be thrown away and is made again
    found/       the write-ahead log as it was found, until the shard has recovered

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
from storage.records import Damaged, Identity
from storage.replication.core import ReplicaId

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

    @property
    def is_made(self) -> bool:
        """Say whether the directory was completely made."""
        return self.hard_state.exists()

    async def make(self, name: ReplicaName, new_id: Callable[[], bytes]) -> None:
        """Make an empty replica, durably; repeatable after a crash half-way.

        The hard state is written last, under its final name only when all else is flushed.
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
