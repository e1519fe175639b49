"""BlobReader: pieces of blobs for downloads.

A whole message is read in ranges. One part of it has to be decoded whole; the last ones stay,
bounded in octets, since a large one is fetched in several pieces.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict

from actors.commands import BlobData, GetBlob
from actors.jmap.ids import BlobName, read_blob, resolve_blob
from storage.mailbox_reader import Blobs, MailboxReader

DECODED_BYTES_MAX = 64 << 20
# Below this a part is decoded at once; above it in a thread, so that others are served.
INLINE_BYTES_MAX = 1 << 20


class BlobReader:
    """Reads the blobs of one shard."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._decoded: OrderedDict[BlobName, bytes] = OrderedDict()
        self._decoded_bytes = 0

    async def read(self, reader: MailboxReader, command: GetBlob, *, now_ms: int) -> BlobData:
        """Return a piece of a blob that this mailbox may read. Raises NotFound."""
        name = resolve_blob(reader, self._blobs, command.blob_id, now_ms=now_ms)
        offset, length = max(0, command.offset), command.length_max
        size = self._blobs.size(name.digest) or 0
        if name.part_id is None:
            return BlobData(self._blobs.read(name.digest, offset, length), size)
        octets = self._decoded.get(name)
        if octets is None:

            def decode() -> bytes:
                return read_blob(reader, self._blobs, command.blob_id, now_ms=now_ms)

            octets = decode() if size <= INLINE_BYTES_MAX else await asyncio.to_thread(decode)
            self._keep(name, octets)
        return BlobData(octets[offset : offset + length], len(octets))

    def _keep(self, name: BlobName, octets: bytes) -> None:
        if name in self._decoded or len(octets) > DECODED_BYTES_MAX:
            return
        self._decoded[name] = octets
        self._decoded_bytes += len(octets)
        while self._decoded_bytes > DECODED_BYTES_MAX:
            _, oldest = self._decoded.popitem(last=False)
            self._decoded_bytes -= len(oldest)
