"""SalvageSource: reads all that can be read of a damaged shard's database, from a copy of it.

The copy shares the files that RocksDB never changes; the damaged directory itself is only read.
Opened without the checks that keep a damaged database out of service; where its list of files
is lost, RocksDB's repair makes another, and bodies are read from their files directly.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from rocksdict import AccessType, DBRecoveryMode, Options, Rdict, ReadOptions

from storage import keys, records
from storage.blobs import digest_of
from storage.database import Family
from storage.raw_files import blob_values, log_puts
from storage.records import Applied, Damaged, Entry

# Keys are compared as numbers of so many octets while the end of a damaged block is looked for.
_KEY_BYTES = 48
_CHUNK_KEY_BYTES = 36  # a digest and the number of the chunk
_LOG_KEY_BYTES = 8
_MANIFEST = re.compile(r"MANIFEST-\d+")


class SalvageSource:
    """A damaged database, opened as far as it can be. `losses` tells what could not be read."""

    def __init__(self, database: Path, found: Path, work: Path) -> None:
        """Copy and open. Raises Damaged when nothing at all can be read."""
        self.losses: list[str] = []
        self.gaps: list[tuple[Family, bytes, bytes]] = []  # [start, end) of what is not scanned
        self._work = work
        _copy(database, work)
        # RocksDB deletes from its copy what it takes for unused.
        self._blob_files = work.with_name(f"{work.name}.blobs")
        _copy(database, self._blob_files, suffix=".blob")
        self._logs = _logs(database, found)
        self._read_logs: list[tuple[bytes, bytes]] | None = None
        self._repaired = False
        self._db = self._open()
        self._families = {family: self._db.get_column_family(family.value) for family in Family}

    def _open(self) -> Rdict:
        try:
            return _opened(self._work)
        except Exception as error:
            self.losses.append(f"database: {error}")
        manifests = sorted(f.name for f in self._work.iterdir() if _MANIFEST.fullmatch(f.name))
        if manifests:
            (self._work / "CURRENT").write_text(f"{manifests[-1]}\n")
            try:
                return _opened(self._work)
            except Exception as error:
                self.losses.append(f"database: {error}")
        # RocksDB's repair takes bodies for lost: they are read from their files instead.
        self._repaired = True
        try:
            Rdict.repair(str(self._work), _options())
            return _opened(self._work)
        except Exception as error:
            raise Damaged(f"database: {error}") from None

    def close(self) -> None:
        """Close and remove the copy."""
        for family in self._families.values():
            family.close()
        self._families.clear()
        self._db.close()
        del self._db
        shutil.rmtree(self._work, ignore_errors=True)
        shutil.rmtree(self._blob_files, ignore_errors=True)

    # Records

    def get(self, family: Family, key: bytes) -> bytes | None:
        """Return a value; None too when it cannot be read."""
        try:
            value: bytes | None = self._families[family].get(key)
        except Exception:
            return None
        return value

    def scan(self, family: Family) -> Iterator[tuple[bytes, bytes]]:
        """Yield what can be read of a family, in order; what cannot is in `gaps` and `losses`."""
        start = b""
        while True:
            iterator = self._families[family].iter(ReadOptions())
            last: bytes | None = None
            try:
                iterator.seek(start)
                while iterator.valid():
                    key, value = iterator.key(), iterator.value()
                    yield key, value
                    last = key
                    iterator.next()
                iterator.status()
                return
            except GeneratorExit:
                raise
            except Exception as error:
                self.losses.append(f"{family.value}: {error}")
            start = start if last is None else last + b"\0"
            following = self._after_damage(family, start)
            self.gaps.append((family, start, following or b"\xff" * _KEY_BYTES))
            if following is None:
                return
            start = following

    def _after_damage(self, family: Family, start: bytes) -> bytes | None:
        """Return the first key from which a scan can go on, None when there is none."""
        low = int.from_bytes(start[:_KEY_BYTES].ljust(_KEY_BYTES, b"\0"), "big")
        high = 1 << 8 * _KEY_BYTES
        while high - low > 1:
            middle = (low + high) // 2
            if self._can_seek(family, middle.to_bytes(_KEY_BYTES, "big")):
                high = middle
            else:
                low = middle
        if high >> 8 * _KEY_BYTES:
            return None
        return high.to_bytes(_KEY_BYTES, "big")

    def _can_seek(self, family: Family, key: bytes) -> bool:
        try:
            iterator = self._families[family].iter(ReadOptions())
            iterator.seek(key)
            if iterator.valid():
                iterator.value()
            iterator.status()
        except Exception:
            return False
        return True

    def in_gap(self, family: Family, key: bytes) -> bool:
        """Say whether a scan could not have seen a key."""
        return any(of is family and start <= key < end for of, start, end in self.gaps)

    def applied(self) -> Applied:
        """Return how far the state is, (0, 0) when that is lost."""
        octets = self.get(Family.CTL, keys.APPLIED)
        found = None if octets is None else _decoded(octets, Applied)
        return found or Applied(0, 0)

    def entries(self) -> list[Entry]:
        """Return the log's entries that can be read, in order, each once."""
        found: dict[int, Entry] = {}
        for key, octets in (*self.scan(Family.LOG), *self._puts(_LOG_KEY_BYTES)):
            entry = _decoded(octets, Entry)
            if entry is None or keys.log(entry.index) != key:
                continue
            known = found.get(entry.index)
            if known is None or known.epoch <= entry.epoch:
                found[entry.index] = entry
        return [found[index] for index in sorted(found)]

    def _puts(self, key_bytes: int) -> Iterable[tuple[bytes, bytes]]:
        """Yield what the write-ahead logs put at keys of that length; 64 MiB at most."""
        if self._read_logs is None:
            self._read_logs = [put for file in self._logs for put in log_puts(file)]
        return (put for put in self._read_logs if len(put[0]) == key_bytes)

    # Bodies

    def blobs(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield (digest, octets) of every blob that is whole, each once and more."""
        yield from _whole(self.scan(Family.BLOB), self._chunk)
        yield from _whole(sorted(self._puts(_CHUNK_KEY_BYTES)), self._chunk)
        if self._repaired or any(family is Family.BLOB for family, _, _ in self.gaps):
            for file in sorted(self._blob_files.iterdir()):
                chunks = dict(blob_values(file))
                yield from _whole(sorted(chunks.items()), chunks.get)

    def body(self, digest: bytes) -> bytes | None:
        """Return one blob by its digest, if it is whole; finds what a scan could not pass."""
        pieces: list[bytes] = []
        while (piece := self._chunk(keys.blob_chunk(digest, len(pieces)))) is not None:
            pieces.append(piece)
        data = b"".join(pieces)
        return data if pieces and digest_of(data) == digest else None

    def _chunk(self, key: bytes) -> bytes | None:
        return self.get(Family.BLOB, key)


def _whole(
    chunks: Iterable[tuple[bytes, bytes]], find: Callable[[bytes], bytes | None]
) -> Iterator[tuple[bytes, bytes]]:
    """Put chunks that come in order together; what is missing between them is looked for."""
    digest, pieces = b"", [b""]

    def finish() -> Iterator[tuple[bytes, bytes]]:
        while digest and digest_of(b"".join(pieces)) != digest:
            more = find(keys.blob_chunk(digest, len(pieces)))
            if more is None:
                return
            pieces.append(more)
        if digest:
            yield digest, b"".join(pieces)

    for key, value in chunks:
        if len(key) != _CHUNK_KEY_BYTES:
            continue
        chunk = int.from_bytes(key[-4:], "big")
        if key[:32] != digest:
            yield from finish()
            digest, pieces = key[:32], []
        while len(pieces) < chunk:
            between = find(keys.blob_chunk(digest, len(pieces)))
            if between is None:
                break
            pieces.append(between)
        if len(pieces) == chunk:
            pieces.append(value)
    yield from finish()


def _decoded(octets: bytes, cls: type[records.RecordT]) -> records.RecordT | None:
    try:
        return records.decode(octets, cls)
    except Damaged:
        return None


def _copy(database: Path, work: Path, *, suffix: str = "") -> None:
    """Link what RocksDB never changes, copy the rest; the lock stays where it is."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    for file in database.iterdir():
        if not file.is_file() or file.name == "LOCK" or not file.name.endswith(suffix):
            continue
        if file.suffix in (".sst", ".blob"):
            try:
                os.link(file, work / file.name)
                continue
            except OSError:
                pass  # Another file system, or one without links.
        shutil.copyfile(file, work / file.name)


def _logs(database: Path, found: Path) -> list[Path]:
    """Return the write-ahead logs, those that were put aside included; each once."""
    logs = {file.name: file for file in sorted(database.glob("*.log"))}
    if found.is_dir():
        logs |= {file.name: file for file in sorted(found.glob("*.log"))}
    return [logs[name] for name in sorted(logs)]


def _options() -> Options:
    options = Options(raw_mode=True)
    options.set_paranoid_checks(False)
    options.create_missing_column_families(True)
    options.set_wal_recovery_mode(DBRecoveryMode.skip_any_corrupted_record())
    return options


def _opened(path: Path) -> Rdict:
    families = {family.value: Options(raw_mode=True) for family in Family}
    families[Family.BLOB.value].set_enable_blob_files(True)
    return Rdict(
        str(path), _options(), column_families=families, access_type=AccessType.read_write()
    )
