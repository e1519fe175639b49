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
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import Protocol

from rocksdict import (
    AccessType,
    BlockBasedOptions,
    BottommostLevelCompaction,
    Cache,
    Checkpoint,
    ColumnFamily,
    CompactOptions,
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


class NoRoom(CannotOpen):
    """The disk is full: it can be opened for reading only."""


class WriteFailed(Exception):
    """A write or flush failed. This process must not write again: end it."""


class DiskWentFull(WriteFailed):
    """A write or flush met a full disk. What is there can still be read."""


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

    def view(self) -> View:
        """Return the state family as it is now, whatever is written later."""

    async def write_out(self) -> None:
        """Write to files what is in memory, which is free then. Raises WriteFailed."""

    async def rewrite(self, *, blobs: bool) -> None:
        """Rewrite the files, so that what was deleted is on the disk no more.

        Reads everything: with `blobs` they must all be readable. Raises WriteFailed.
        """

    async def checkpoint(self, path: Path) -> None:
        """Make a copy of the database as it is now, of hard links, at `path`, which is made."""

    def counts(self) -> dict[str, float]:
        """Return what the cache of blocks holds, in octets, and how often it was of use."""

    def close(self) -> None: ...


class View(Protocol):
    """The state family at one moment. Close it: it keeps old files."""

    def get(self, key: bytes) -> bytes | None:
        """Return the value, or None. Raises Damaged."""

    def scan(
        self, start: bytes, end: bytes, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Yield what lies in [start, end), one scan at a time. Raises Damaged."""

    def close(self) -> None: ...


class FamilyState:
    """The state family as a transaction's lowest layer."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, key: bytes) -> bytes | None:
        return self._database.get(Family.STATE, key)

    def scan(
        self, start: bytes, end: bytes, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        return self._database.scan(Family.STATE, start, end, reverse=reverse)


# Small, since every mailbox actor has its own; the memtables of one shard stay below 10 MB.
# Writes that wait in memory: how much is there at a moment goes up and down by as much.
_STATE_BUFFER_BYTES = 2 << 20
_BLOB_BUFFER_BYTES = 4 << 20
# Small tables are merged twice as many at a time, or more would be written.
_TABLES_MERGED = 8
_WAL_BYTES_MAX = 64 << 20
# Bodies go to blob files: compaction then moves references instead of bodies.
_BLOB_FILE_BYTES_MIN = 4096
_OPEN_FILES_MAX = 256
# Blocks that were read from disk, of all families together.
CACHE_BYTES = 8 << 20
_BLOOM_BITS = 10  # a key: one in a hundred is looked for in vain
_CACHE_TICKERS = {
    "rocksdb.block.cache.hit": "block_cache_hits_total",
    "rocksdb.block.cache.miss": "block_cache_misses_total",
}
# While files are rewritten, every body that is left goes to a new one.
_REWRITING = {
    "enable_blob_garbage_collection": "true",
    "blob_garbage_collection_age_cutoff": "1.0",
}
_RESTING = {"enable_blob_garbage_collection": "false"}
# Of RocksDB's messages, those that say nothing of the data.
_PASSING = (
    "lock hold by current process",
    "While lock file",
    "Too many open files",
    "Cannot allocate memory",
)
_FULL = ("No space left on device", "Disk quota exceeded")


def is_full(error: BaseException) -> bool:
    """Say whether the disk was full; RocksDB and Tantivy tell it in their text only."""
    return any(words in str(error) for words in _FULL)


class RocksDatabase:
    """A RocksDB on disk. Opened by one process at a time."""

    def __init__(
        self, path: Path, *, create: bool, read_only: bool = False, cache_bytes: int = CACHE_BYTES
    ) -> None:
        """Open. Raises Damaged when it is not there or cannot be read; CannotOpen, NoRoom.

        Read-only nothing on the disk is touched; the write-ahead log is read into memory.
        """
        self._cache = Cache(cache_bytes)
        options = self._options = _options(_STATE_BUFFER_BYTES, self._cache)
        options.enable_statistics()
        options.create_if_missing(create)
        options.create_missing_column_families(create)
        options.set_max_total_wal_size(_WAL_BYTES_MAX)
        options.set_keep_log_file_num(2)
        options.set_max_open_files(_OPEN_FILES_MAX)
        options.set_max_background_jobs(2)
        families = {
            Family.STATE.value: _options(_STATE_BUFFER_BYTES, self._cache),
            Family.LOG.value: _options(_STATE_BUFFER_BYTES, self._cache),
            Family.BLOB.value: _blob_options(self._cache),
            Family.CTL.value: _options(1 << 20, self._cache),
        }
        try:
            self._db = Rdict(
                str(path),
                options,
                column_families=families,
                access_type=AccessType.read_only(False) if read_only else AccessType.read_write(),
            )
            self._families: dict[Family, Rdict] = {
                family: self._db.get_column_family(family.value) for family in Family
            }
            self._handles: dict[Family, ColumnFamily] = {
                family: self._db.get_column_family_handle(family.value) for family in Family
            }
        except Exception as error:  # rocksdict raises bare exceptions only.
            kind: type[Exception] = Damaged
            if is_full(error):
                kind = NoRoom
            elif any(words in str(error) for words in _PASSING):
                kind = CannotOpen
            raise kind(f"database: {error}") from None
        self._flusher = ThreadPoolExecutor(1, thread_name_prefix="flush")
        self._rewriter = ThreadPoolExecutor(1, thread_name_prefix="rewrite")
        self._rewriting = False

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
            raise _write_failure(error) from None

    async def flush(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._flusher, self._db.flush_wal, True)
        except Exception as error:
            raise _write_failure(error) from None

    def view(self) -> View:
        return _RocksView(self._families[Family.STATE])

    async def write_out(self) -> None:
        try:
            for family in self._families.values():
                await asyncio.to_thread(family.flush)
        except Exception as error:
            raise _write_failure(error) from None

    async def rewrite(self, *, blobs: bool) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._rewriter, self._rewrite, blobs)
        except Exception as error:
            raise _write_failure(error) from None

    def _rewrite(self, blobs: bool) -> None:
        self._rewriting = True
        every = CompactOptions()
        every.set_bottommost_level_compaction(BottommostLevelCompaction.force())
        for family in self._families.values():
            family.flush()  # A log file goes when no family needs it any more.
        for name, family in self._families.items():
            if name is not Family.BLOB:
                family.compact_range(None, None, every)
            elif blobs:
                family.set_options(_REWRITING)
                try:
                    family.compact_range(None, None, every)
                finally:
                    family.set_options(_RESTING)
        self._rewriting = False
        if self._db.property_int_value("rocksdb.background-errors"):
            raise WriteFailed("rewrite: a file cannot be read or written")

    async def checkpoint(self, path: Path) -> None:
        """Make a copy of hard links (`Database.checkpoint`). Raises WriteFailed."""
        try:
            # What is in memory goes to files first, without the GIL: a checkpoint would hold it.
            await self.write_out()
            Checkpoint(self._db).create_checkpoint(str(path))
        except WriteFailed:
            raise
        except Exception as error:
            raise _write_failure(error) from error

    def counts(self) -> dict[str, float]:
        found: dict[str, float] = {"block_cache_bytes": self._cache.get_usage()}
        for line in (self._options.get_statistics() or "").splitlines():
            ticker, _, count = line.partition(" COUNT : ")
            if ticker in _CACHE_TICKERS:
                found[_CACHE_TICKERS[ticker]] = float(count)
        return found

    def close(self) -> None:
        """Close. The lock is free only when every handle is gone too."""
        self._flusher.shutdown(wait=True)
        if self._rewriting:
            self._db.cancel_all_background(True)
        self._rewriter.shutdown(wait=True)
        for handle in (*self._families.values(), self._db):
            with suppress(Exception):  # After a failed write it repeats that failure.
                handle.close()
        self._families.clear()
        self._handles.clear()
        del self._db, handle


def _write_failure(error: Exception) -> WriteFailed:
    return (DiskWentFull if is_full(error) else WriteFailed)(str(error))


class _RocksView:
    """A snapshot for single keys and an iterator for ranges, both of the same moment.

    An iterator made from rocksdict's snapshot of a family is not of the snapshot.
    """

    def __init__(self, family: Rdict) -> None:
        self._snapshot = family.snapshot()
        self._iterator = family.iter(ReadOptions())
        self._scanning = False

    def get(self, key: bytes) -> bytes | None:
        try:
            value: bytes = self._snapshot[key]
        except Exception as error:
            if str(error) == "key not found":
                return None
            raise Damaged(f"database: {error}") from None
        return value

    def scan(
        self, start: bytes, end: bytes, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        assert not self._scanning, "one scan of a view at a time"
        assert not reverse, "a view is read forward"
        self._scanning = True
        iterator = self._iterator
        try:
            iterator.seek(start)
            while iterator.valid() and iterator.key() < end:
                yield iterator.key(), iterator.value()
                iterator.next()
            iterator.status()
        except GeneratorExit:
            raise
        except Exception as error:
            raise Damaged(f"database: {error}") from None
        finally:
            self._scanning = False

    def close(self) -> None:
        del self._snapshot, self._iterator


def _options(buffer_bytes: int, cache: Cache) -> Options:
    options = Options(raw_mode=True)
    blocks = BlockBasedOptions()
    blocks.set_block_cache(cache)
    # Most keys that a delivery looks for are not there: it reads no block to learn that.
    blocks.set_bloom_filter(_BLOOM_BITS, False)
    options.set_block_based_table_factory(blocks)
    options.set_write_buffer_size(buffer_bytes)
    options.set_level_zero_file_num_compaction_trigger(_TABLES_MERGED)
    options.set_compression_type(DBCompressionType.lz4())
    return options


def _blob_options(cache: Cache) -> Options:
    options = _options(_BLOB_BUFFER_BYTES, cache)
    options.set_enable_blob_files(True)
    options.set_min_blob_size(_BLOB_FILE_BYTES_MIN)
    options.set_blob_compression_type(DBCompressionType.lz4())
    # Only `rewrite` moves bodies to other files: one that cannot be read would end every write.
    options.set_enable_blob_gc(False)
    return options
