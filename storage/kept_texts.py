"""KeptTexts: texts of new emails until they are indexed, outside the heap.

Thousands of texts of ten kilobytes that come and go leave holes in the heap, between what stays,
and a process of that size grows with each burst of mail. Here they lie one behind the other
in pieces of memory which the C library maps, and gives back whole when their last text goes.
"""

from __future__ import annotations

import msgspec

from mail.summary import SearchText

# Larger than the C library's threshold for mappings; what is longer has a piece for itself.
PIECE_BYTES = 1 << 20

EmailKey = tuple[int, int]  # mailbox, email

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(SearchText)


class _Piece:
    __slots__ = ("octets", "texts", "used_bytes")

    def __init__(self, size_bytes: int) -> None:
        self.octets = bytearray(size_bytes)
        self.used_bytes = 0
        self.texts = 0  # that are still kept


class KeptTexts:
    """Texts by email, of `bytes_max` octets together."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._held_bytes = 0  # by the pieces
        self._places: dict[EmailKey, tuple[_Piece, int, int]] = {}
        self._current: _Piece | None = None

    def __contains__(self, key: EmailKey) -> bool:
        return key in self._places

    def __len__(self) -> int:
        return len(self._places)

    @property
    def held_bytes(self) -> int:
        """Return how much memory the texts take, what is free between them included."""
        return self._held_bytes

    def put(self, key: EmailKey, text: SearchText) -> bool:
        """Keep the text of an email that has none here; False when there is no room for it."""
        octets = _encoder.encode(text)
        piece = self._current
        if piece is None or piece.used_bytes + len(octets) > len(piece.octets):
            size_bytes = max(PIECE_BYTES, len(octets))
            if self._held_bytes + size_bytes > self._bytes_max:
                return False
            piece = self._current = _Piece(size_bytes)
            self._held_bytes += size_bytes
        start = piece.used_bytes
        piece.octets[start : start + len(octets)] = octets
        piece.used_bytes += len(octets)
        piece.texts += 1
        self._places[key] = (piece, start, piece.used_bytes)
        return True

    def get(self, key: EmailKey) -> SearchText | None:
        place = self._places.get(key)
        if place is None:
            return None
        piece, start, end = place
        return _decoder.decode(memoryview(piece.octets)[start:end])

    def size_bytes(self, key: EmailKey) -> int | None:
        """Return how long a text is, None when it is not kept."""
        place = self._places.get(key)
        return None if place is None else place[2] - place[1]

    def drop(self, key: EmailKey) -> None:
        """Keep a text no longer."""
        place = self._places.pop(key, None)
        if place is None:
            return
        piece = place[0]
        piece.texts -= 1
        if piece.texts == 0:
            self._held_bytes -= len(piece.octets)
            if piece is self._current:
                self._current = None
