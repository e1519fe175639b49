"""Overlays against a naive model."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from storage.transaction import Overlay

KEYS = st.binary(min_size=1, max_size=2)
WRITES = st.lists(st.tuples(KEYS, st.none() | st.binary(max_size=2)), max_size=20)


class Bottom:
    def __init__(self, values: dict[bytes, bytes]) -> None:
        self.values = values

    def get(self, key: bytes) -> bytes | None:
        return self.values.get(key)

    def scan(
        self, start: bytes, end: bytes, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        for key in sorted(self.values, reverse=reverse):
            if start <= key < end:
                yield key, self.values[key]


@given(st.dictionaries(KEYS, st.binary(max_size=2)), WRITES, WRITES, KEYS, KEYS, st.booleans())
def test_an_overlay_reads_like_the_written_state(
    below: dict[bytes, bytes],
    first: list[tuple[bytes, bytes | None]],
    second: list[tuple[bytes, bytes | None]],
    start: bytes,
    end: bytes,
    reverse: bool,
) -> None:
    model = dict(below)
    lower = Overlay(Bottom(below))
    upper = Overlay(lower)
    for overlay, writes in ((lower, first), (upper, second)):
        for key, value in writes:
            if value is None:
                overlay.delete(key)
                model.pop(key, None)
            else:
                overlay.put(key, value)
                model[key] = value
    expected = sorted((k, v) for k, v in model.items() if start <= k < end)
    if reverse:
        expected.reverse()
    assert list(upper.scan(start, end, reverse=reverse)) == expected
    assert all(upper.get(key) == model.get(key) for key in (start, end, *below, *model))
    lower.absorb(upper)
    assert list(lower.scan(start, end, reverse=reverse)) == expected
