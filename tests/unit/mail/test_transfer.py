"""Transfer encodings: exact for good input, tolerant of bad."""

from __future__ import annotations

import base64
import binascii
import quopri

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mail.transfer import decode, is_known


@given(st.binary(max_size=300))
def test_good_input_is_exact(data: bytes) -> None:
    assert decode(base64.encodebytes(data).replace(b"\n", b"\r\n"), "base64") == data
    assert decode(quopri.encodestring(data, quotetabs=True), "quoted-printable") == data
    lines = [binascii.b2a_uu(data[i : i + 45]) for i in range(0, len(data), 45)]
    uu = b"begin 644 a b.txt\n" + b"".join(lines) + b"`\nend\n"
    assert decode(uu, "x-uuencode") == data
    for encoding in ("", "7bit", "8bit", "binary", "x-unknown"):
        assert decode(data, encoding) == data


@given(st.binary(max_size=300), st.sampled_from(["base64", "quoted-printable", "x-uuencode"]))
def test_bad_input_does_not_raise(data: bytes, encoding: str) -> None:
    decode(data, encoding)
    decode(b"begin 644 x\n" + data, encoding)


@pytest.mark.parametrize(
    ("encoded", "decoded"),
    [
        (b"SGVsbG8", b"Hello"),  # no padding
        (b"SGVsbG8=\r\n-- \r\nlist footer", b"Hello"),
        (b"SGVs\r\n*!* bG8=", b"Hello"),  # junk between
        (b"SGVsbG8hX", b"Hello!"),  # one letter too many
        (b"", b""),
        (b"====", b""),
        (b"\xff\xfe", b""),
    ],
)
def test_base64(encoded: bytes, decoded: bytes) -> None:
    assert decode(encoded, "base64") == decoded


@pytest.mark.parametrize(
    ("encoded", "decoded"),
    [
        (b"a=3Db", b"a=b"),
        (b"a=3db", b"a=b"),
        (b"soft=\r\nbreak", b"softbreak"),
        (b"soft=\nbreak", b"softbreak"),
        (b"blank=  \r\nbreak", b"blankbreak"),
        (b"trailing \t\r\nblanks", b"trailing\r\nblanks"),
        (b"kept=20\r\n", b"kept \r\n"),
        (b"=ZZ = x", b"=ZZ = x"),
        (b"end=", b"end"),
        (b"raw \xed\x95\x9c", b"raw \xed\x95\x9c"),
    ],
)
def test_quoted_printable(encoded: bytes, decoded: bytes) -> None:
    assert decode(encoded, "quoted-printable") == decoded


def test_uuencode_without_begin_stays() -> None:
    assert decode(b"hello", "uuencode") == b"hello"
    assert is_known("uuencode")
    assert not is_known("x-strange")
