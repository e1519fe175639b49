"""The DATA scanner against a naive model that reads line by line."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateways.smtp.data_scanner import DataScanner

SIZE_MAX = 1 << 20

# Few letters, so that every few octets look like an end of data that is not one.
wire = st.lists(
    st.sampled_from([b"\r", b"\n", b".", b"\r\n", b"\r\n.", b"\r\n.\r\n", b"a", b"\0", b"\xff"])
).map(b"".join)


def naive(octets: bytes) -> tuple[bytes, bytes] | None:
    """Return (message, rest) by RFC 5321 §4.5.2 read literally, None while it has not ended."""
    message, position = b"", 0
    while (end := octets.find(b"\r\n", position)) >= 0:
        line = octets[position:end]
        position = end + 2
        if line == b".":
            return message, octets[position:]
        message += (line[1:] if line.startswith(b".") else line) + b"\r\n"
    return None


def scan(octets: bytes, cuts: list[int]) -> tuple[bytes, bytes] | None:
    scanner = DataScanner(SIZE_MAX)
    edges = [0, *sorted(cut % (len(octets) + 1) for cut in cuts), len(octets)]
    for start, stop in itertools.pairwise(edges):
        if (rest := scanner.feed(octets[start:stop])) is not None:
            return scanner.message(), rest + octets[stop:]
    return None


@given(wire, st.lists(st.integers(min_value=0), max_size=12))
def test_agrees_with_the_naive_model_for_every_split(octets: bytes, cuts: list[int]) -> None:
    assert scan(octets, cuts) == naive(octets)


@given(wire)
def test_octet_by_octet(octets: bytes) -> None:
    assert scan(octets, list(range(len(octets)))) == naive(octets)


@pytest.mark.parametrize(
    "terminator",
    [
        b"\n.\n",
        b"\n.\r\n",
        b"\r\n.\n",
        b"\r.\r",
        b"\r\n.\r",
        b"\r.\r\n",
        b"\r\n\0.\r\n",
        b"\n\r.\r\n",
    ],
)
def test_nothing_but_crlf_dot_crlf_ends_the_data(terminator: bytes) -> None:
    smuggled = b"first" + terminator + b"MAIL FROM:<evil@example.test>"
    message, rest = scan(smuggled + b"\r\n.\r\n", []) or (b"", b"")
    assert rest == b""
    assert b"MAIL FROM" in message


def test_the_first_line_may_be_the_end() -> None:
    assert scan(b".\r\nQUIT\r\n", []) == (b"", b"QUIT\r\n")


def test_the_rest_comes_back_for_pipelining() -> None:
    assert scan(b"a\r\n.\r\nMAIL FROM:<>\r\n", []) == (b"a\r\n", b"MAIL FROM:<>\r\n")


def test_beyond_the_limit_nothing_is_kept_and_the_end_is_still_found() -> None:
    scanner = DataScanner(10)
    for _ in range(100):
        assert scanner.feed(b"x" * 1000) is None
        assert scanner._pieces == []
    assert scanner.feed(b"\r\n.\r\nNOOP\r\n") == b"NOOP\r\n"
    assert scanner.too_large
    assert scanner.size_bytes == 100_002


def test_the_limit_counts_the_message_without_stuffing() -> None:  # RFC 1870 §3
    scanner = DataScanner(3)
    assert scanner.feed(b"..\r\n.\r\n") == b""
    assert scanner.message() == b".\r\n"
    assert not scanner.too_large


def test_discard_on_demand_keeps_counting() -> None:
    scanner = DataScanner(1000)
    scanner.feed(b"abc")
    scanner.discard()
    assert scanner.feed(b"d\r\n.\r\n") == b""
    assert scanner.size_bytes == 6
    assert not scanner.too_large
