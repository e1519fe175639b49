"""Messages made to hurt: everything that is asked of them is answered, in bounded time and size.

Time is that of the processor, and the bounds are ten times what an idle machine takes: they are
there to find what grows with the square of its input.
"""

from __future__ import annotations

import hashlib
import time

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mail import charset, headers
from mail.encoded import PARAMETER_BYTES_MAX
from mail.message import SEARCH_TEXT_CHARS_MAX, Message, parse
from mail.mime import DEPTH_MAX, PARTS_MAX
from mail.text import html_to_text
from tests.properties import EXAMPLES, IN_A_HURRY
from tests.unit.mail.hostile_samples import HOSTILE, levels
from tests.unit.mail.samples import message, multipart

CPU_S_MAX = 6.0
FUZZ = settings(max_examples=EXAMPLES, deadline=None)
# Subject, six lists of addresses, three of ids, each of VALUE_BYTES_MAX at most.
SUMMARY_BYTES_MAX = 10 * 2 * headers.VALUE_BYTES_MAX
SEARCH_BYTES_MAX = 4 * SEARCH_TEXT_CHARS_MAX + SUMMARY_BYTES_MAX


def look_at_all(raw: bytes) -> Message:
    """Ask everything of a message; assert the bounds and that octets come out as they went in."""
    begun = time.process_time()
    parsed = parse(raw)
    assert len(msgspec.msgpack.encode(parsed.summary)) <= SUMMARY_BYTES_MAX
    assert len(msgspec.msgpack.encode(parsed.search_text)) <= SEARCH_BYTES_MAX
    msgspec.json.encode((parsed.summary, parsed.search_text)).decode()
    for count, part in enumerate(parsed.parts()):
        assert count <= 3 * PARTS_MAX
        assert 0 <= part._start <= part._body_start <= part._end <= len(raw)
        named = (part.type, part.name, part.charset, part.cid, part.language, part.location)
        msgspec.json.encode((named, part.disposition, part.size, part.encoding)).decode()
        if part.type.startswith("text/"):
            part.text()[0].encode()
    for parts in (parsed.text_body, parsed.html_body, parsed.attachments):
        assert len(parts) <= 3 * PARTS_MAX
    assert time.process_time() - begun < CPU_S_MAX
    assert hashlib.sha256(parsed.raw).digest() == hashlib.sha256(raw).digest()
    return parsed


@pytest.mark.parametrize("name", list(HOSTILE)[:: 8 if IN_A_HURRY else 1])
def test_hostile_messages(name: str) -> None:
    look_at_all(HOSTILE[name]())


def test_what_is_deeper_or_later_is_one_leaf() -> None:
    deep = look_at_all(levels(5000, alike=False))
    leaves = [part for part in deep.parts() if not part.is_multipart]
    depth = str(leaves[0].part_id).count("1")
    assert [part.part_id for part in leaves] == [".".join("1" * depth)]
    assert 5 < depth <= DEPTH_MAX
    assert b"b4999" in leaves[0].decoded()
    wide = look_at_all(multipart(*[b"\r\npart"] * 10_000))
    assert wide.root.subparts[-1].body_bytes.count(b"part") > 10_000 - PARTS_MAX - 2


def test_a_file_name_has_a_bound() -> None:
    for field in (
        b'Content-Disposition: attachment; filename="' + b"n" * 10_000 + b'"',
        b"Content-Disposition: attachment; filename*=utf-8''" + b"n" * 10_000,
        b"Content-Disposition: attachment"
        + b"".join(b"; filename*%d=" % n + b"n" * 60 for n in range(160)),
    ):
        name = look_at_all(message(field)).root.name
        assert name is not None
        assert PARAMETER_BYTES_MAX - 100 < len(name) <= PARAMETER_BYTES_MAX + 100


def test_references_by_endless_numbers_are_no_characters() -> None:
    assert html_to_text(f"a&#{'9' * 5000};b &#65; &#x{'f' * 5000};c &#{'0' * 50}66;") == (
        "a\ufffdb A \ufffdc B"
    )


def test_a_script_whose_closing_tag_does_not_end() -> None:
    assert html_to_text("a<script>x</script b=c>d<script>y</script") == "ad"


def test_the_largest_text_in_vendor_kanji_is_read() -> None:
    octets = b"\x1b$B\x2d\x21\x1b(B" * 1000
    assert charset.decode(octets, "iso-2022-jp") == ("①" * 1000, False)


BUILDING_BLOCKS = st.sampled_from(
    (
        b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"--b", b"--b--", b"--bb", b"--", b"\0", b"\t", b" ",
        b"Content-Type: multipart/mixed; boundary=b\r\n", b"Content-Type: message/rfc822\r\n\r\n",
        b"Content-Type: multipart/digest; boundary=bb\r\n", b"Content-Type: text/html\r\n",
        b"Content-Type: text/plain; charset=iso-2022-jp\r\n", b"Content-Type:", b"; name*0*=",
        b"Content-Transfer-Encoding: base64\r\n", b"Content-Transfer-Encoding: x-uuencode\r\n",
        b"Content-Transfer-Encoding: quoted-printable\r\n", b"=?utf-7?b?", b"?=", b"=?a?q?=ff?=",
        b"To: ", b"From: ", b"Date: ", b"References: <", b"Subject: ", b'"', b"(", b")", b"\\",
        b"<", b">", b":", b";", b",", b"&#", b"<script>", b"</script", b"<!--", b"=\r\n", b"=C",
        b"begin 644 a\n", b"#AAAA\n", b"\x1b$B", b"\x1b(B", b"~{", b"\xff\xfe", b"\xed\xa0\x80",
        b"+2D0-", b"ab@c.test", b"1 Jan 2026 00:00", b"filename*=utf-8''%ff", b"AAAA",
    )
)  # fmt: skip


@FUZZ
@given(st.lists(BUILDING_BLOCKS | st.binary(max_size=4), max_size=60).map(b"".join))
def test_any_mixture_of_what_mail_is_made_of(raw: bytes) -> None:
    look_at_all(raw)
    look_at_all(multipart(raw, b"\r\n" + raw))


@FUZZ
@given(st.lists(BUILDING_BLOCKS | st.binary(max_size=4), max_size=40).map(b"".join))
def test_any_field_has_every_form(value: bytes) -> None:
    for hint in (None, "iso-2022-jp", "utf-7", "nonsense"):
        forms = (
            headers.as_raw(value), headers.as_text(value, hint), headers.as_addresses(value, hint),
            headers.as_grouped_addresses(value, hint), headers.as_message_ids(value),
            headers.as_date(value), headers.as_urls(value),
        )  # fmt: skip
        msgspec.json.encode(forms).decode()
