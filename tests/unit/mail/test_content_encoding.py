"""Content encodings: exact, in short lines, and never like a delimiter."""

from __future__ import annotations

import base64
import binascii
import quopri
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mail.content_encoding import encode_base64, encode_quoted_printable, encode_shorter
from mail.transfer import decode
from tests.properties import EXAMPLES, examples

PIECES = st.lists(
    st.sampled_from(
        [b"--", b"-", b".", b"From ", b"=", b" ", b"\t", b"\r\n", b"\r", b"\n", b"\0", b"a" * 60,
         "가나다".encode(), b"\xff", b"word ", b"-" * 80, b"." * 80, b"=" * 30]
    ),
    max_size=40,
).map(b"".join)  # fmt: skip


@given(st.one_of(PIECES, st.binary(max_size=400)))
@examples(EXAMPLES)
def test_round_trip(data: bytes) -> None:
    for encoding, encoded in (
        ("quoted-printable", encode_quoted_printable(data)),
        ("base64", encode_base64(data)),
        encode_shorter(data),
    ):
        assert decode(encoded, encoding) == data
        assert encoded.isascii()
        for line in encoded.split(b"\r\n"):
            assert len(line) <= 76
            assert line.translate(None, b"\t" + bytes(range(32, 127))) == b""
            assert not line.startswith((b"--", b".", b"From "))
            assert line[-1:] not in (b" ", b"\t")
    assert base64.b64decode(encode_base64(data)) == data
    if b"\n" in encode_quoted_printable(data):  # The standard library agrees.
        assert quopri.decodestring(encode_quoted_printable(data)) == binascii.a2b_qp(
            encode_quoted_printable(data)
        )


@given(st.one_of(PIECES, st.binary(max_size=400)))
@examples(EXAMPLES)
def test_the_shorter_one_is_taken(data: bytes) -> None:
    sizes = len(encode_quoted_printable(data)), len(encode_base64(data))
    assert len(encode_shorter(data)[1]) == min(sizes)


@pytest.mark.parametrize(
    ("data", "encoded"),
    [
        ("Grüße\r\n", "Gr=C3=BC=C3=9Fe\r\n"),
        ("a=b \r\nc\t", "a=3Db=20\r\nc=09"),
        ("one\ntwo\rthree", "one=0Atwo=0Dthree"),
        ("--b\r\n-\r\n.\r\nFrom x\r\nFrom", "=2D-b\r\n-\r\n=2E\r\n=46rom x\r\nFrom"),
        ("", ""),
    ],
)
def test_quoted_printable(data: str, encoded: str) -> None:
    assert encode_quoted_printable(data.encode()) == encoded.encode()


@pytest.mark.parametrize("unit", [b"\r\n", b"\n", b"\xff", b"-", b"a", b" ", b"=", b"a \r\n"])
def test_large_content_takes_linear_time(unit: bytes) -> None:
    data = unit * (8_000_000 // len(unit))
    begun = time.process_time()
    encode_shorter(data)
    encode_quoted_printable(data)
    assert time.process_time() - begun < 30
