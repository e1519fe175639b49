"""SnapshotFiles: a replica's database as files, to be sent, and such files as they arrive.

Tables and blob files never change once they are written: those of the same origin, name and size
are the same, and a transfer that broke off goes on with them. The others (manifest, log) are
fetched anew. What has arrived takes the database's place only when all of it is on disk; a mark
in the replica's directory says so, and whoever opens it next finishes what a crash interrupted.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from storage.database import Database
from storage.files import sync_directory
from storage.replication.frames import SnapshotFile
from storage.replication.messages import ReplicaId

UNCHANGING = (".sst", ".blob")


class FilesSource:
    """A checkpoint in a directory of its own (`storage.snapshots.Source`)."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.files = tuple(
            SnapshotFile(file.name, file.stat().st_size, modified=file.suffix not in UNCHANGING)
            for file in sorted(path.iterdir())
            if file.is_file() and file.name != "LOCK"
        )

    @classmethod
    async def take(cls, database: Database, path: Path) -> FilesSource:
        """Take a checkpoint of an open database at `path`, whatever was there."""
        shutil.rmtree(path, ignore_errors=True)
        path.parent.mkdir(exist_ok=True)
        await database.checkpoint(path)
        return cls(path)

    def read(self, name: str, offset: int, length: int) -> bytes:
        file = os.open(self._path / name, os.O_RDONLY)
        try:
            return os.pread(file, length, offset)
        finally:
            os.close(file)

    def close(self) -> None:
        shutil.rmtree(self._path, ignore_errors=True)


class FilesSink:
    """Where files arrive (`storage.snapshots.Sink`)."""

    def __init__(self, path: Path, install: Callable[[], Awaitable[None]]) -> None:
        """Collect below `path`; `install` is called when all is there and flushed."""
        self._path = path
        self._origin = path.with_name(f"{path.name}.origin")
        self._install = install

    def begin(self, origin: ReplicaId, files: tuple[SnapshotFile, ...]) -> dict[str, int]:
        with suppress(OSError):
            if self._origin.read_bytes() != origin:
                shutil.rmtree(self._path, ignore_errors=True)
        self._path.mkdir(exist_ok=True)
        self._origin.write_bytes(origin)
        wanted = {file.name: file for file in files}
        have = {}
        for here in self._path.iterdir():
            file = wanted.get(here.name)
            size = here.stat().st_size
            if file is None or file.modified or size > file.size_bytes:
                here.unlink()
            else:
                have[here.name] = size
        for file in files:
            if "/" in file.name or file.name.startswith("."):
                raise ValueError(f"a snapshot's file is called {file.name!r}")
            if not file.size_bytes:
                (self._path / file.name).touch()
        return have

    def write(self, name: str, offset: int, octets: bytes) -> None:
        file = os.open(self._path / name, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.pwrite(file, octets, offset)
        finally:
            os.close(file)

    async def install(self) -> None:
        for here in self._path.iterdir():
            file = os.open(here, os.O_RDONLY)
            try:
                os.fsync(file)
            finally:
                os.close(file)
        sync_directory(self._path)
        await self._install()
        self._origin.unlink(missing_ok=True)
