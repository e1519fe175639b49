"""Re-encoding: 7-bit lines, the same content, or a refusal that says why."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mail.errors import ConversionRefused, NeedsSmtputf8, smtp_reply
from mail.message import Message, parse
from mail.mime import Part
from mail.reencode import MESSAGES_DEPTH_MAX, is_7bit, reencode
from tests.properties import EXAMPLES, IN_A_HURRY, examples
from tests.unit.mail.hostile_samples import HOSTILE
from tests.unit.mail.samples import REAL_PATHS, attachment, message, multipart

CPU_S_MAX = 30.0  # Ten times what an idle machine takes for 50 MB.
KOREAN = "안녕하세요, 세계.\r\n".encode()


def leaves(parsed: Message) -> list[tuple[str, bytes]]:
    """Return type and decoded content of every leaf, those of messages in messages too."""
    found: list[tuple[str, bytes]] = []
    for part in parsed.parts():
        if part.is_multipart:
            continue
        if part.type == "message/rfc822" and part.encoding in ("", "7bit", "8bit", "binary"):
            found += leaves(parse(part.decoded()))
        else:
            found.append((part.type, part.decoded()))
    return found


def converted(raw: bytes) -> Message:
    """Re-encode; assert what holds of every message that is not refused."""
    done = reencode(raw)
    assert done.isascii()
    assert b"\0" not in done
    assert reencode(done) == done
    before, after = parse(raw), parse(done)
    assert [kind for kind, _ in leaves(after)] == [kind for kind, _ in leaves(before)]
    for (_, was), (_, is_now) in zip(leaves(before), leaves(after), strict=True):
        assert is_now in (was, was + b"\r\n")[: 1 if was.isascii() else 2]
    for part in after.parts():
        assert is_7bit(part.body_bytes) or part.is_multipart
        assert part.header("content-transfer-encoding") not in (b" 8bit", b" binary") or (
            part.body_bytes in raw
        )
    return after


def text(*fields: bytes, body: bytes = KOREAN, charset: bytes = b"utf-8") -> bytes:
    return message(b"Content-Type: text/plain; charset=" + charset, *fields, body=body)


@pytest.mark.parametrize("raw", [b"", b"plain", message(b"A: b", body=b"x" * 998 + b"\r\n")])
def test_7bit_messages_stay(raw: bytes) -> None:
    assert is_7bit(raw)
    assert reencode(raw) is raw


@pytest.mark.parametrize("octets", [b"\x80", b"\0", b"x" * 1000, b"a\r\n" + b"x" * 1000 + b"\r\n"])
def test_what_is_not_7bit(octets: bytes) -> None:
    assert not is_7bit(octets)
    assert not is_7bit(b"\r\n" * 3000 + octets)


def test_text_becomes_the_shorter_one() -> None:
    after = converted(text(b"MIME-Version: 1.0", b"content-transfer-encoding: 8bit", b"Subject: x"))
    assert after.root.encoding == "base64"
    assert after.root.header_bytes.count(b"ransfer-") == 1
    assert after.header("subject") == b" x"
    german = "Viele Grüße aus dem Süden, und alles Gute zum Geburtstag.\r\n".encode() * 3
    after = converted(text(body=german))
    assert after.root.encoding == "quoted-printable"
    assert after.root.decoded() == german


def test_a_message_without_mime_gets_it() -> None:
    after = converted(message(b"Subject: x", body=KOREAN))
    assert after.header("mime-version") == b" 1.0"
    assert after.root.charset == "utf-8"
    assert after.root.text()[0] == KOREAN.decode().replace("\r\n", "\n")
    assert converted(message(b"Subject: x", body=b"caf\xe9\r\n")).root.charset == "unknown-8bit"
    assert converted("no header at all: 안녕".encode()).root.decoded()
    assert converted("안녕".encode()).root.decoded().strip() == "안녕".encode()


def test_parts_that_need_nothing_are_copied() -> None:
    plain, file = message(b"Content-Type: text/html", body=b"<p>"), attachment(b"data" * 50)
    raw = multipart(plain, text(b"Content-Transfer-Encoding: 8bit"), file)
    done = reencode(raw)
    assert plain in done
    assert file in done
    assert raw[: raw.index(b"--=_b")] == done[: raw.index(b"--=_b")]
    assert converted(raw).root.subparts[1].encoding == "base64"


def test_binary_is_base64() -> None:
    picture = message(
        b"Content-Type: image/png", b"Content-Transfer-Encoding: binary", body=b"abc" * 40 + b"\0"
    )
    after = converted(multipart(picture))
    assert after.root.subparts[0].encoding == "base64"


def test_long_lines_are_broken() -> None:
    for content_type in (b"text/plain", b"application/json"):
        raw = message(b"Content-Type: " + content_type, body=b"word " * 1000 + b"\r\n")
        assert is_7bit(reencode(raw))
        converted(raw)


def test_encoded_parts_with_stray_octets() -> None:
    for encoding, body in ((b"quoted-printable", b"=41\xff\r\n"), (b"base64", b"QUJD\xff\r\n")):
        converted(text(b"Content-Transfer-Encoding: " + encoding, body=body))


def test_no_delimiter_is_forged() -> None:
    body = b"x" * 75 + b"--=_b--\r\n" + b"\xe9--=_b"
    after = converted(multipart(text(body=body), attachment(b"end")))
    assert [part.decoded() for part in after.root.subparts] == [body, b"end"]


def test_messages_in_messages() -> None:
    inner = message(
        "Subject: 안녕".encode(), b"From: a@b.test", b"Content-Transfer-Encoding: 8bit", body=KOREAN
    )
    raw = multipart(
        message(b"Content-Type: message/rfc822", b"Content-Transfer-Encoding: 8bit", body=inner)
    )
    after = converted(raw)
    assert after.root.subparts[0].header("content-transfer-encoding") == b" 7bit"
    nested = parse(after.root.subparts[0].decoded())
    assert nested.summary.subject == "안녕"
    assert nested.root.decoded().rstrip() == KOREAN.rstrip()
    digest = multipart(b"\r\n" + inner, subtype=b"digest")
    assert parse(converted(digest).root.subparts[0].decoded()).summary.subject == "안녕"


def test_a_global_message_is_encoded_whole() -> None:
    inner = message("From: 홍@b.test".encode(), body=KOREAN)
    after = converted(multipart(message(b"Content-Type: message/global", body=inner)))
    assert after.root.subparts[0].encoding == "base64"
    assert after.root.subparts[0].decoded() == inner


def nested(depth: int) -> bytes:
    return b"Content-Type: message/rfc822\r\n\r\n" * depth + message(b"A: b", body=KOREAN)


def test_depth_has_a_bound() -> None:
    converted(nested(MESSAGES_DEPTH_MAX))
    with pytest.raises(ConversionRefused, match="deep"):
        reencode(nested(MESSAGES_DEPTH_MAX + 1))
    with pytest.raises(ConversionRefused, match="deep"):
        reencode(HOSTILE["5,000 levels"]() + KOREAN)


def signed(part: bytes) -> bytes:
    signature = message(b"Content-Type: application/pgp-signature", body=b"sig")
    return multipart(part, signature, subtype=b"signed", boundary=b"=_s")


def test_signed_parts_are_not_touched() -> None:
    with pytest.raises(ConversionRefused) as refused:
        reencode(signed(text()))
    assert smtp_reply(refused.value).startswith("554 5.6.3 ")
    with pytest.raises(ConversionRefused):
        reencode(multipart(signed(message("Content-Description: 안".encode(), body=b"x"))))
    whole = message(b"Content-Transfer-Encoding: 8bit", body=b"long " * 500)
    raw = signed(multipart(whole)).replace(b"Subject: parts", "Subject: 안녕".encode(), 1)
    done = reencode(raw)
    assert whole in done
    assert parse(done).summary.subject == "안녕"


def test_preambles_are_emptied() -> None:
    raw = message(
        b"Content-Type: multipart/mixed; boundary=b",
        body="머리말\r\nplain\r\n--b\r\n\r\nx\r\n--b--\r\n꼬리말\r\n".encode(),
    )
    assert reencode(raw).endswith(b"\r\n\r\n\r\nplain\r\n--b\r\n\r\nx\r\n--b--\r\n\r\n")


def test_an_emptied_line_makes_no_delimiter() -> None:
    odd = b"--=_b\r\xff\nContent-Type: text/html\r\n\r\nnot shown\r\n"
    raw = multipart(b"\r\nshown").replace(b"--=_b", odd + b"--=_b", 1)
    assert len(parse(raw).root.subparts) == 1
    assert [part.type for part in converted(raw).root.subparts] == ["text/plain"]


@pytest.mark.parametrize(
    "part",
    [
        b"Content-Type: multipart/mixed; boundary=none\r\n\r\n" + KOREAN,
        b"Content-Type: message/partial; id=x\r\n\r\n" + KOREAN,
        b"Content-Type: message/external-body\r\n\r\n" + KOREAN,
        b"Content-Transfer-Encoding: x-strange\r\n\r\n" + KOREAN,
        b"Content-Transfer-Encoding: x-uuencode\r\n\r\n" + KOREAN,
    ],
)
def test_broken_parts_are_refused(part: bytes) -> None:
    for raw in (part, multipart(part)):
        with pytest.raises(ConversionRefused) as refused:
            reencode(raw)
        assert not isinstance(refused.value, NeedsSmtputf8)


@pytest.mark.parametrize("path", [p for p in REAL_PATHS if not is_7bit(p.read_bytes())])
def test_real_messages(path: Path) -> None:
    raw = path.read_bytes()
    try:
        after = converted(raw)
    except ConversionRefused:
        return
    before = parse(raw)
    assert after.summary.subject == before.summary.subject
    assert [p.name for p in after.parts()] == [p.name for p in before.parts()]


BODIES = st.lists(
    st.sampled_from([b"--=_b", b"--c", b"\r\n", b"\n", b"\xff", KOREAN, b"x" * 1100, b"\0", b"--",
                     b"Content-Type: message/rfc822\r\n\r\n", b"word ", b"=_b--", b"\r"]),
    max_size=10,
).map(b"".join)  # fmt: skip
PARTS = st.builds(
    lambda kind, encoding, body: message(kind, encoding, body=body),
    st.sampled_from([b"Content-Type: text/plain", b"Content-Type: image/png", b"X: y", b"no field",
                     b"Content-Type: message/rfc822", b"Content-Type: message/delivery-status",
                     b"Content-Type: multipart/mixed; boundary=c",
                     "Content-Description: 안".encode(),
                     "Content-Disposition: a; filename=안.txt".encode()]),
    st.sampled_from([b"Content-Transfer-Encoding: 8bit", b"Content-Transfer-Encoding: base64",
                     b"Content-Transfer-Encoding: quoted-printable", b"A: b"]),
    BODIES,
)  # fmt: skip


def shape(part: Part) -> object:
    return part.type, part.name, [shape(child) for child in part.subparts]


@given(st.lists(PARTS, min_size=1, max_size=3), st.booleans())
@examples(EXAMPLES)
def test_any_parts(parts: list[bytes], alone: bool) -> None:
    raw = parts[0] if alone else multipart(*parts)
    try:
        done = reencode(raw)
    except ConversionRefused:
        return
    assert done.isascii()
    assert shape(parse(done).root) == shape(parse(raw).root)
    if b"rfc822" not in raw:
        for was, now in zip(parse(raw).parts(), parse(done).parts(), strict=True):
            assert was.is_multipart or now.decoded() == was.decoded()


@given(st.binary(max_size=300))
@examples(EXAMPLES)
def test_any_octets(raw: bytes) -> None:
    try:
        assert reencode(raw).isascii()
    except ConversionRefused:
        return


@pytest.mark.parametrize("name", list(HOSTILE)[:: 8 if IN_A_HURRY else 1])
def test_hostile_messages(name: str) -> None:
    raw = HOSTILE[name]() + b"\xff"
    begun = time.process_time()
    with contextlib.suppress(ConversionRefused):
        assert reencode(raw).isascii()
    assert time.process_time() - begun < CPU_S_MAX
