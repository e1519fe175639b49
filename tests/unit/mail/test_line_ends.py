"""Line ends: LF becomes CRLF, what is mail already stays, and back."""

import pytest

from mail.line_ends import to_crlf, to_lf


@pytest.mark.parametrize(
    "octets, mail",
    [
        (b"", b""),
        (b"a", b"a"),
        (b"a\nb\n", b"a\r\nb\r\n"),
        (b"a\r\nb\nc\r\n", b"a\r\nb\nc\r\n"),
        (b"a\nb\r\nc\n", b"a\r\nb\r\nc\r\n"),
        (b"\na\n", b"\r\na\r\n"),
        (b"a\rb\n", b"a\rb\r\n"),
    ],
)
def test_to_crlf(octets: bytes, mail: bytes) -> None:
    assert to_crlf(octets) == mail


@pytest.mark.parametrize(
    "mail", [b"", b"a\r\nb\r\n", b"a\r\nb\nc\r\n", b"a\r\nb\r\r\n", b"a\r\nb\r", b"\r\n\r\n"]
)
def test_to_lf_loses_nothing(mail: bytes) -> None:
    assert to_crlf(to_lf(mail)) == mail
