"""Transaction: what one turn reads and writes, on top of what the turns before it wrote.

Turns of one batch are planned one after the other; each sees applied state plus the overlay
of the batch being formed (R12). A turn that fails leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from storage.replication.messages import Position

NOT_RECORDED = Position(0, 0)


class State(Protocol):
    """Ordered keys and values: the state family of a shard."""

    def get(self, key: bytes) -> bytes | None:
        """Return the value at `key`, or None."""

    def scan(
        self, start: bytes, end: bytes, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Yield what lies in [start, end), in key order or against it."""


class Overlay:
    """Writes that are not in the state below yet. None stands for a deleted key.

    `position` is the place in the log that the writes get if they are committed as planned:
    what is planned anew gets another one.
    """

    def __init__(self, below: State, position: Position = NOT_RECORDED) -> None:
        self.below = below
        self.position = position
        self.written: dict[bytes, bytes | None] = {}

    def get(self, key: bytes) -> bytes | None:
        if key in self.written:
            return self.written[key]
        return self.below.get(key)

    def scan(
        self, start: bytes, end: bytes, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        mine = sorted((k for k in self.written if start <= k < end), reverse=reverse)
        theirs = self.below.scan(start, end, reverse=reverse)
        if not mine:
            yield from theirs
            return
        yield from self._merged(mine, theirs, reverse=reverse)

    def _merged(
        self, mine: list[bytes], theirs: Iterator[tuple[bytes, bytes]], *, reverse: bool
    ) -> Iterator[tuple[bytes, bytes]]:
        snapshot = {key: self.written[key] for key in mine}
        position = 0
        for key, value in theirs:
            while position < len(mine) and _before(mine[position], key, reverse=reverse):
                yield from _present(mine[position], snapshot)
                position += 1
            if position < len(mine) and mine[position] == key:
                yield from _present(key, snapshot)
                position += 1
            else:
                yield key, value
        for key in mine[position:]:
            yield from _present(key, snapshot)

    def put(self, key: bytes, value: bytes) -> None:
        """Write `value` at `key`."""
        self.written[key] = value

    def delete(self, key: bytes) -> None:
        """Delete `key`; a key that is not there is no error."""
        self.written[key] = None

    def absorb(self, upper: Overlay) -> None:
        """Take over what a finished turn wrote on top of this overlay."""
        assert upper.below is self
        self.written.update(upper.written)


def _before(one: bytes, other: bytes, *, reverse: bool) -> bool:
    return one > other if reverse else one < other


def _present(key: bytes, written: dict[bytes, bytes | None]) -> Iterator[tuple[bytes, bytes]]:
    value = written[key]
    if value is not None:
        yield key, value
