"""HardState: what a replica must not forget, in a small file outside RocksDB.

Two slots of one checksummed block each are written in turn, so that a torn write leaves the
other. It holds whose directory this is, the promised epoch (flushed before the promise is
used, R14) and the high-water mark of acknowledged entries. The mark is written without a
flush of its own: losing the newest of it costs detection, never mail. It is never copied
with a checkpoint (R16).
"""

from __future__ import annotations

import os
import zlib
from pathlib import Path

from msgspec.structs import replace

from storage.records import Damaged, Record, decode, encode
from storage.replication.messages import Promise, ReplicaId

SLOT_BYTES = 4096  # a disk's sector: a torn write tears one slot
_LENGTH_BYTES, _CRC_BYTES = 2, 4


class HardRecord(Record, frozen=True, array_like=True):
    """One slot. The slot with the greater `serial` is the newer."""

    serial: int
    cluster: str
    shard: int
    kind: str
    replica: bytes
    promised_epoch: int
    promised_candidate: bytes
    high_water: int  # every entry up to this index was acknowledged


class HardState:
    """The file, open for writing. Raises Damaged when neither slot can be read."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR)
        records = [record for slot in (0, 1) if (record := self._read(slot)) is not None]
        if not records:
            os.close(self._file)
            raise Damaged("hard state: no readable slot")
        self.record = max(records, key=lambda record: record.serial)

    @staticmethod
    def create(path: Path, *, cluster: str, shard: int, kind: str, replica: ReplicaId) -> None:
        """Write a new file, durably. Raises FileExistsError."""
        record = HardRecord(1, cluster, shard, kind, replica, 0, replica, 0)
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.pwrite(file, _block(record) * 2, 0)
            os.fsync(file)
        finally:
            os.close(file)

    def _read(self, slot: int) -> HardRecord | None:
        block = os.pread(self._file, SLOT_BYTES, slot * SLOT_BYTES)
        length = int.from_bytes(block[:_LENGTH_BYTES], "big")
        start = _LENGTH_BYTES + _CRC_BYTES
        payload = block[start : start + length]
        if zlib.crc32(payload) != int.from_bytes(block[_LENGTH_BYTES:start], "big"):
            return None
        try:
            return decode(payload, HardRecord)
        except Damaged:
            return None

    def _write(self, record: HardRecord) -> None:
        os.pwrite(self._file, _block(record), (record.serial % 2) * SLOT_BYTES)
        self.record = record

    def keep_promise(self, promise: Promise) -> None:
        """Persist a promise. It holds once this returns."""
        changes = {"promised_epoch": promise.epoch, "promised_candidate": promise.candidate}
        self._write(_next(self.record, **changes))
        os.fdatasync(self._file)
        # Then the other slot too: one slot that rots must not take a promise with it.
        self._write(_next(self.record, **changes))

    def set_high_water(self, index: int) -> None:
        """Note that every entry up to `index`, and none beyond that counts, was acknowledged.

        A lower mark is flushed: the log is cut behind it next, and would seem to have lost what
        the old mark names.
        """
        lower = index < self.record.high_water
        self._write(_next(self.record, high_water=index))
        if lower:
            os.fdatasync(self._file)

    def close(self) -> None:
        os.fdatasync(self._file)
        os.close(self._file)


def _next(record: HardRecord, **changes: object) -> HardRecord:
    return replace(record, serial=record.serial + 1, **changes)


def _block(record: HardRecord) -> bytes:
    payload = encode(record)
    head = len(payload).to_bytes(_LENGTH_BYTES, "big") + zlib.crc32(payload).to_bytes(
        _CRC_BYTES, "big"
    )
    assert len(head) + len(payload) <= SLOT_BYTES
    return (head + payload).ljust(SLOT_BYTES, b"\0")
