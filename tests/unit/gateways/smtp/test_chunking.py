"""BDAT: the command, and the octets of chunks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateways.smtp.chunking import Chunks, UnreadableChunk, read_bdat
from mail.errors import MessageTooLarge, Overloaded


@pytest.mark.parametrize(
    ("argument", "read"),
    [
        ("0", (0, False)),
        ("0 LAST", (0, True)),
        ("86", (86, False)),
        ("00086  last", (86, True)),
        ("99999999999999999999", (99999999999999999999, False)),
    ],
)
def test_read_bdat(argument: str, read: tuple[int, bool]) -> None:
    assert read_bdat(argument) == read


@pytest.mark.parametrize(
    "argument", ["", "LAST", "x", "-1", "+1", "1 FIRST", "1LAST", "1.0", "٣", "1" * 21]
)
def test_what_has_no_length_is_refused(argument: str) -> None:
    with pytest.raises(UnreadableChunk):
        read_bdat(argument)


@given(st.lists(st.binary(max_size=50)))
def test_the_message_is_its_chunks(pieces: list[bytes]) -> None:
    chunks = Chunks(10_000)
    for piece in pieces:
        chunks.announce(len(piece))
        chunks.feed(piece)
    assert chunks.size_bytes == sum(map(len, pieces))
    assert chunks.message() == b"".join(pieces)


def test_too_large_is_known_before_the_octets_come() -> None:
    chunks = Chunks(10)
    chunks.announce(10)
    chunks.feed(b"x" * 10)
    chunks.announce(0)
    assert chunks.failure is None
    chunks.announce(1)
    assert isinstance(chunks.failure, MessageTooLarge)


def test_after_a_failure_octets_are_counted_and_not_kept() -> None:
    chunks = Chunks(10)
    chunks.feed(b"abc")
    chunks.fail(Overloaded())
    chunks.feed(b"x" * 1000)
    chunks.announce(1000)
    assert chunks.size_bytes == 1003
    assert isinstance(chunks.failure, Overloaded)  # The first one is told.
    assert chunks._octets.getvalue() == b""
