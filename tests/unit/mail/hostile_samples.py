"""Messages made to hurt, by name: each a function, since some are large."""

from __future__ import annotations

import base64
from collections.abc import Callable

from tests.unit.mail.samples import attachment, message, multipart

MIB = 1 << 20


def levels(depth: int, *, alike: bool) -> bytes:
    names = [b"b" if alike else b"b%d" % n for n in range(depth)]
    return b"".join(
        b"Content-Type: multipart/mixed; boundary=" + name + b"\r\n\r\n--" + name + b"\r\n"
        for name in names
    )


def forwarded(depth: int) -> bytes:
    return b"Content-Type: message/rfc822\r\n\r\n" * depth + b"Subject: in\r\n\r\nhello"


def html(unit: bytes) -> bytes:
    return message(b"Content-Type: text/html", body=unit * (16 * MIB // len(unit)))


def text_in(label: bytes, unit: bytes) -> bytes:
    content_type = b"Content-Type: text/plain; charset=" + label
    return message(content_type, body=unit * (8 * MIB // len(unit)))


def encoded_as(encoding: bytes, body: bytes) -> bytes:
    return message(
        b"Content-Type: text/plain", b"Content-Transfer-Encoding: " + encoding, body=body
    )


HOSTILE: dict[str, Callable[[], bytes]] = {
    "10,000 parts": lambda: multipart(*[b"\r\npart"] * 10_000),
    "10,000 files": lambda: multipart(*[attachment(b"x", disposition=b"a; filename=x")] * 10_000),
    "5,000 levels": lambda: levels(5000, alike=False),
    "5,000 levels alike": lambda: levels(5000, alike=True),
    "5,000 forwarded": lambda: forwarded(5000),
    "49 MB in one line": lambda: message(b"Subject: " + b"x" * 49 * MIB, body=b"hi"),
    "49 MB folded": lambda: message(b"Subject: " + b"x\r\n " * (49 * MIB // 4), body=b"hi"),
    "49 MB of fields": lambda: b"X-F: 1\r\n" * (49 * MIB // 8) + b"\r\nhi",
    "49 MB of addresses": lambda: message(b"To: " + b"a@b.test, " * (49 * MIB // 10)),
    "49 MB of encoded-words": lambda: message(
        b"Subject: " + b"=?utf-7?q?+AAA-?= " * (49 * MIB // 20)
    ),
    "1 MB lines": lambda: message(*[b"X-%d: " % n + b"y" * MIB for n in range(20)]),
    "no fields": lambda: b"no colon in this line\r\n" * (20 * MIB // 23),
    "line ends": lambda: b"\n" * (20 * MIB),
    "NULs": lambda: b"\0" * (20 * MIB),
    "NULs in fields": lambda: message(b"Subject: a\0b", b"From: a\0@x.test", body=b"\0"),
    "parameters": lambda: message(b"Content-Type: text/plain" + b"; a=b" * (2 * MIB)),
    "a billionth piece": lambda: message(b"Content-Type: a/b; name*1000000000*=a; name*0=b"),
    "pieces": lambda: message(
        b"Content-Type: a/b" + b"".join(b"; name*%d=abc" % n for n in range(6000))
    ),
    "long names": lambda: multipart(
        *[b'Content-Type: a/b; name="' + b"=?utf-8?q?a?= " * 4000 + b'"\r\n\r\n'] * 800
    ),
    "long ids": lambda: multipart(
        *[b"Content-ID: " + b"=?utf-8?q?a?= " * 4000 + b"\r\n\r\n"] * 800
    ),
    "empty groups": lambda: message(
        *[name + b": " + b":" * 130_000 for name in (b"To", b"Cc", b"Bcc", b"From", b"Sender")]
    ),
    "comments": lambda: message(b"To: " + b"(" * 130_000, b"Cc: " + b"()" * 65_000),
    "quotes": lambda: message(b"To: " + b'"' * 130_000, b"Cc: " + b'"\\' * 65_000),
    "ids": lambda: message(b"References: " + b"<" * 130_000, b"Message-ID: " + b"(" * 130_000),
    "dates": lambda: message(b"Date: " + b"1" * 100_000),
    "forged boundaries": lambda: multipart(b"\r\n--=_b-x\r\n--=_bx\r\n--=_b \t x" * 400_000),
    "boundaries of boundaries": lambda: b"".join(
        b"--" + b"a" * n + b"\nContent-Type: multipart/a; boundary=" + b"a" * (n + 1) + b"\n\n"
        for n in range(500)
    ),
    "blank tails": lambda: multipart((b"--=_b" + b" " * 1000 + b"X\r\n") * 20_000),
    "multiparts without": lambda: multipart(
        *[b"Content-Type: multipart/a; boundary=z\r\n\r\n" + b"x" * 20_000] * 999
    ),
    "base64": lambda: encoded_as(b"base64", base64.encodebytes(b"hello world " * (2 * MIB))),
    "base64 padding": lambda: encoded_as(b"base64", b"=A" * (10 * MIB)),
    "quoted-printable": lambda: encoded_as(b"quoted-printable", b"=\r\n" * (8 * MIB)),
    "quoted blanks": lambda: encoded_as(b"quoted-printable", b" \t" * (5 * MIB) + b"x \n"),
    "uuencode": lambda: encoded_as(b"x-uuencode", b"begin 644 a \n" + b"#AAAA\n" * (2 * MIB)),
    "uuencode begins": lambda: encoded_as(b"x-uuencode", b"begin 644 \t" * MIB),
    "deep markup": lambda: html(b"<div>"),
    "open tags": lambda: html(b'<a "'),
    "open brackets": lambda: html(b"<"),
    "open comments": lambda: html(b"<!--"),
    "open scripts": lambda: html(b"<script>"),
    "half a closing tag": lambda: message(
        b"Content-Type: text/html", body=b"<script>" + b"</script" * (2 * MIB)
    ),
    "entities": lambda: html(b"&NotEqualTilde;"),
    "half entities": lambda: html(b"&#9"),
    "an endless number": lambda: message(b"Content-Type: text/html", body=b"&#" + b"9" * 4 * MIB),
    "utf-7": lambda: text_in(b"utf-7", b"+AAA-"),
    "hz": lambda: text_in(b"hz", b"~{!!~}"),
    "shifts": lambda: text_in(b"iso-2022-jp", b"\x1b$B\x1b(B"),
    "shifts that fail": lambda: text_in(b"iso-2022-jp", b"\xa4\xa2\x1b$Baa~"),
    "kanji beyond the standard": lambda: text_in(b"iso-2022-jp", b"\x1b$B\x2d\x21\x1b(B"),
    "utf-16": lambda: text_in(b"utf-16", b"\xff\xfe\x80"),
    "an unknown charset": lambda: text_in(b"x-nobody-knows", b"\xa4\xa2\x1b$Baa~"),
    "a ligature of eighteen": lambda: message(body="\ufdfa".encode() * MIB),
    "accents": lambda: message(body=("a" + "\u0301\u0323" * MIB).encode()),
}  # fmt: skip
