"""Database: ordered families of keys on one disk; the border to RocksDB.

`Database` is what the shard needs; `RocksDatabase` is it on disk, and the simulator has one
in memory that loses what was not flushed. Only this module knows rocksdict, and its traps:
a synced write holds the GIL, so writes are unsynced and `flush` runs in a thread; iteration
through `items()` ends silently at a damaged block, so scans ask for the status at the end;
reading past damage raises Damaged, never less data.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from pathlib import Path
from typing import Protocol

from rocksdict import (
    AccessType,
    ColumnFamily,
    DBCompressionType,
    Options,
    Rdict,
    ReadOptions,
    WriteBatch,
)

from storage.records import Damaged


class Family(Enum):
    """The column families; `storage/keys.py` says what is in them."""

    STATE = "state"
    LOG = "log"
    BLOB = "blob"
    CTL = "ctl"


class Batch:
    """Writes that become visible together."""

    def __init__(self) -> None:
        self.operations: list[tuple[Family, bytes, bytes | None]] = []
        self.ranges: list[tuple[Family, bytes, bytes]] = []

    def put(self, family: Family, key: bytes, value: bytes) -> None:
        self.operations.append((family, key, value))

    def delete(self, family: Family, key: bytes) -> None:
        self.operations.append((family, key, None))

    def delete_range(self, family: Family, start: bytes, end: bytes) -> None:
        """Delete what lies in [start, end); applied before the single operations."""
        self.ranges.append((family, start, end))


class CannotOpen(Exception):
    """The database cannot be opened now and is not damaged: in use, or no room, or no handles."""


class WriteFailed(Exception):
    """A write or flush failed. This process must not write again: end it."""


class Database(Protocol):
    """Ordered keys and values in families."""

    def get(self, family: Family, key: bytes) -> bytes | None:
        """Return the value, or None. Raises Damaged."""

    def scan(
        self, family: Family, start: bytes, end: bytes, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Yield what lies in [start, end). Raises Damaged."""

    def write(self, batch: Batch) -> None:
        """Write, atomically, readable at once, durable with the next flush. Raises WriteFailed."""

    async def flush(self) -> None:
        """Make durable what was written before the call. Raises WriteFailed."""

    def close(self) -> None: ...


# Small, since every mailbox actor has its own; the memtables of one shard stay below 20 MB.
_STATE_BUFFER_BYTES = 4 << 20
_BLOB_BUFFER_BYTES = 8 << 20
_WAL_BYTES_MAX = 64 << 20
# Bodies go to blob files: compaction then moves references instead of bodies.
_BLOB_FILE_BYTES_MIN = 4096
_OPEN_FILES_MAX = 256
# Of RocksDB's messages, those that say nothing of the data.
_PASSING = (
    "lock hold by current process",
    "While lock file",
    "No space left on device",
    "Too many open files",
    "Cannot allocate memory",
    "Disk quota exceeded",
)


class RocksDatabase:
    """A RocksDB on disk. Opened by one process at a time."""

    def __init__(self, path: Path, *, create: bool) -> None:
        """Open. Raises Damaged when it is not there or cannot be read; CannotOpen."""
        options = _options(_STATE_BUFFER_BYTES)
        options.create_if_missing(create)
        options.create_missing_column_families(create)
        options.set_max_total_wal_size(_WAL_BYTES_MAX)
        options.set_keep_log_file_num(2)
        options.set_max_open_files(_OPEN_FILES_MAX)
        options.set_max_background_jobs(2)
        families = {
            Family.STATE.value: _options(_STATE_BUFFER_BYTES),
            Family.LOG.value: _options(_STATE_BUFFER_BYTES),
            Family.BLOB.value: _blob_options(),
            Family.CTL.value: _options(1 << 20),
        }
        try:
            self._db = Rdict(
                str(path),
                options,
                column_families=families,
                access_type=AccessType.read_write(),
            )
            self._families: dict[Family, Rdict] = {
                family: self._db.get_column_family(family.value) for family in Family
            }
            self._handles: dict[Family, ColumnFamily] = {
                family: self._db.get_column_family_handle(family.value) for family in Family
            }
        except Exception as error:  # rocksdict raises bare exceptions only.
            kind = CannotOpen if any(words in str(error) for words in _PASSING) else Damaged
            raise kind(f"database: {error}") from None
        self._flusher = ThreadPoolExecutor(1, thread_name_prefix="flush")

    def get(self, family: Family, key: bytes) -> bytes | None:
        try:
            value: bytes | None = self._families[family].get(key)
        except Exception as error:
            raise Damaged(f"database: {error}") from None
        return value

    def scan(
        self, family: Family, start: bytes, end: bytes, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        options = ReadOptions()
        options.set_iterate_upper_bound(end)
        iterator = self._families[family].iter(options)
        try:
            if reverse:
                iterator.seek_to_last()
            else:
                iterator.seek(start)
            while iterator.valid():
                key = iterator.key()
                if key < start:
                    return
                yield key, iterator.value()
                iterator.prev() if reverse else iterator.next()
            iterator.status()
        except GeneratorExit:
            raise
        except Exception as error:
            raise Damaged(f"database: {error}") from None

    def write(self, batch: Batch) -> None:
        writes = WriteBatch(raw_mode=True)
        for family, start, end in batch.ranges:
            writes.delete_range(start, end, self._handles[family])
        for family, key, value in batch.operations:
            if value is None:
                writes.delete(key, self._handles[family])
            else:
                writes.put(key, value, self._handles[family])
        try:
            self._db.write(writes)
        except Exception as error:
            raise WriteFailed(str(error)) from None

    async def flush(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._flusher, self._db.flush_wal, True)
        except Exception as error:
            raise WriteFailed(str(error)) from None

    def close(self) -> None:
        """Close. The lock is free only when every handle is gone too."""
        self._flusher.shutdown(wait=True)
        for family in self._families.values():
            family.close()
        self._families.clear()
        self._handles.clear()
        self._db.close()
        del self._db


def _options(buffer_bytes: int) -> Options:
    options = Options(raw_mode=True)
    options.set_write_buffer_size(buffer_bytes)
    options.set_compression_type(DBCompressionType.lz4())
    return options


def _blob_options() -> Options:
    options = _options(_BLOB_BUFFER_BYTES)
    options.set_enable_blob_files(True)
    options.set_min_blob_size(_BLOB_FILE_BYTES_MIN)
    options.set_blob_compression_type(DBCompressionType.lz4())
    options.set_enable_blob_gc(True)
    return options
