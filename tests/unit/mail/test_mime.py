"""The tree of parts: structure, names, bounds, and broken input."""

from __future__ import annotations

import email
import hashlib
from email.message import Message as StdlibMessage
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mail.mime import DEPTH_MAX, FIELDS_MAX, OCTETS, PARTS_MAX, Part, Tree
from tests.unit.mail.samples import MESSAGES_DIR, REAL_PATHS, attachment, message, multipart, real


def shape(part: Part) -> object:
    """Return a part as its type, or a multipart as a list of its type and its parts."""
    return [part.type, *map(shape, part.subparts)] if part.subparts else part.type


def tree(raw: bytes) -> Part:
    """Return the root part."""
    return Tree(raw).root


def test_part_ids() -> None:
    inner = multipart(b"\r\nb", b"\r\nc", boundary=b"in")
    root = tree(multipart(b"\r\na", inner, b"\r\nd"))
    assert [(p.part_id, p.body_bytes) for p in root.walk() if p.part_id] == [
        ("1", b"a"),
        ("2.1", b"b"),
        ("2.2", b"c"),
        ("3", b"d"),
    ]
    assert [p.part_id for p in root.walk() if p.is_multipart] == [None, None]
    assert tree(b"Subject: x\r\n\r\nhi").part_id == "1"


def test_header_and_body_are_slices() -> None:
    raw = b"A: 1\r\nB:2\r\n\r\nbody"
    root = tree(raw)
    assert (root.header_bytes, root.body_bytes) == (b"A: 1\r\nB:2\r\n\r\n", b"body")
    assert root.headers == (("A", b" 1"), ("B", b"2"))
    assert root.header("b") == b"2"
    assert root.header("c") is None


def test_fields_keep_folds_and_case() -> None:
    root = tree(b"SubJect: a\r\n b\r\n\tc\nX : y\r\nX: z\r\n\r\n")
    assert root.headers == (("SubJect", b" a\r\n b\r\n\tc"), ("X", b" y"), ("X", b" z"))
    assert root.header("x") == b" y"


@pytest.mark.parametrize(
    ("raw", "names", "body"),
    [
        (b"", [], b""),
        (b"\r\nbody", [], b"body"),
        (b"\nbody", [], b"body"),
        (b"just text", [], b"just text"),
        (b"just text\nmore: text\n\nend", [], b"just text\nmore: text\n\nend"),
        (b"A: 1", ["A"], b""),
        (b"A: 1\n", ["A"], b""),
        (b"A: 1\nbody starts here\n\nend", ["A"], b"body starts here\n\nend"),
        (b"A: 1\njunk line\nSubject: x\n\nend", ["A", "Subject"], b"end"),
        (b"A: 1\njunk\njunk\nC: 2\nFrom: x\n\nend", ["A", "C", "From"], b"end"),
        (b"From alice Mon Sep 17\nA: 1\n\nend", ["A"], b"end"),
        (b">From alice Mon Sep 17\nA: 1\n\nend", ["A"], b"end"),
        (b"A: 1\n\n\nend", ["A"], b"\nend"),
        (b"\xed\x95\x9c: 1\nSubject: x\n\nend", ["Subject"], b"end"),
    ],
)
def test_headers_of_every_kind(raw: bytes, names: list[str], body: bytes) -> None:
    root = tree(raw)
    assert [name for name, _ in root.headers] == names
    assert root.body_bytes == body


def test_delimiters() -> None:
    head = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
    for body, parts in (
        (b"--b\r\n\r\nx\r\n--b--\r\n", [b"x"]),
        (b"pre\r\n--b\r\n\r\nx\r\n--b--\r\nepilogue\r\n--b\r\n\r\nno", [b"x"]),
        (b"--b\n\nx\n--b--", [b"x"]),
        (b"--b \t\r\n\r\nx\r\n--b-- \r\n", [b"x"]),
        (b"--b\r\n\r\nx\r\n\r\n--b--", [b"x\r\n"]),
        (b"--b\r\n\r\nx", [b"x"]),
        (b"--b\r\n\r\nx\r\n--b\r\n\r\ny", [b"x", b"y"]),
        (b"--b\r\n\r\nx--b\r\n--bb\r\n --b\r\n--b--", [b"x--b\r\n--bb\r\n --b"]),
        (b"--b\r\n--b\r\n\r\n--b--", [b"", b""]),
        (b"--b\r\nA: 1\r\n--b--", [b""]),
        (b"--b\r\nno header here\r\n--b--", [b"no header here"]),
        (b"--b\r\n\r\n\xff\x00\r\r\n--b--", [b"\xff\x00\r"]),
        (b"--b", [b""]),
    ):
        assert [p.body_bytes for p in tree(head + body).subparts] == parts


def test_boundaries_that_begin_alike() -> None:
    inner = multipart(b"\r\nx", boundary=b"b-1")
    root = tree(multipart(inner, b"\r\ny", boundary=b"b"))
    assert shape(root) == ["multipart/mixed", ["multipart/mixed", "text/plain"], "text/plain"]


def test_an_inner_multipart_ends_with_the_outer_one() -> None:
    inner = b"Content-Type: multipart/mixed; boundary=in\r\n\r\n--in\r\n\r\nx"
    root = tree(multipart(inner, b"\r\ny"))
    assert shape(root) == ["multipart/mixed", ["multipart/mixed", "text/plain"], "text/plain"]
    assert [p.body_bytes for p in root.walk() if p.part_id] == [b"x", b"y"]


def test_lost_boundaries() -> None:
    body = b"--abcd\r\n\r\nx\r\n--abcd\r\n\r\ny\r\n--abcd--\r\n"
    for content_type in (b"multipart/mixed", b"multipart/mixed; boundary=other"):
        root = tree(message(b"Content-Type: " + content_type, body=body))
        assert [p.body_bytes for p in root.subparts] == [b"x", b"y"]
    root = tree(message(b"Content-Type: multipart/mixed; boundary=b", body=b"no delimiter"))
    assert (root.type, root.part_id, root.body_bytes) == ("text/plain", "1", b"no delimiter")
    root = tree(message(b"Content-Type: multipart/mixed; boundary=b", body=b"text\r\n--b--\r\n"))
    assert (root.type, root.body_bytes) == ("text/plain", b"text\r\n--b--\r\n")


@pytest.mark.parametrize(
    ("field", "type_", "charset"),
    [
        (None, "text/plain", "us-ascii"),
        (b"text/html", "text/html", "us-ascii"),
        (b"TEXT/Plain; CHARSET=UTF-8", "text/plain", "UTF-8"),
        (b"text/plain; charset*=us-ascii'en'utf-8", "text/plain", "utf-8"),
        (b"image/png", "image/png", None),
        (b"application/x; charset=x", "application/x", "x"),
        (b"text", "text/plain", "us-ascii"),
        (b"garbage here", "text/plain", "us-ascii"),
        (b"", "text/plain", "us-ascii"),
        (b"application", OCTETS, None),
        (b"text / html (c)", "text/html", "us-ascii"),
    ],
)
def test_types(field: bytes | None, type_: str, charset: str | None) -> None:
    raw = b"\r\n" if field is None else message(b"Content-Type: " + field)
    root = tree(raw)
    assert (root.type, root.charset) == (type_, charset)


def test_digest() -> None:
    root = tree(
        multipart(b"\r\nFrom: x\r\n", b"Content-Type: text/plain\r\n\r\n", subtype=b"digest")
    )
    assert shape(root) == ["multipart/digest", "message/rfc822", "text/plain"]
    assert root.subparts[0].charset is None


def test_properties() -> None:
    root = tree(
        message(
            b"Content-Type: image/png; name=a.png",
            b"Content-Disposition: Inline (x)",
            b"Content-ID: (c) <x@y>",
            b"Content-Language: ko, en-GB",
            b"Content-Location: http://x/\r\n y",
            b"Content-Transfer-Encoding: BASE64",
            body=b"QUJD",
        )
    )
    assert (root.disposition, root.cid, root.location) == ("inline", "x@y", "http://x/y")
    assert root.language == ("ko", "en-GB")
    assert (root.name, root.encoding, root.size, root.decoded()) == ("a.png", "base64", 3, b"ABC")
    assert root.is_inline_media
    assert not root.is_attachment
    bare = tree(b"\r\nabc")
    assert (bare.disposition, bare.cid, bare.location, bare.language) == (None,) * 4
    assert (bare.name, bare.size) == (None, 3)


def test_a_multipart_has_no_encoding() -> None:
    raw = multipart(b"\r\nx").replace(b"MIME-", b"Content-Transfer-Encoding: base64\r\nMIME-")
    assert [p.body_bytes for p in tree(raw).subparts] == [b"x"]


def test_text() -> None:
    def text(*fields: bytes, body: bytes) -> tuple[str, bool]:
        return tree(message(*fields, body=body)).text()

    assert text(body=b"a\r\nb\rc\n") == ("a\nb\rc\n", False)
    assert text(b"Content-Type: text/plain; charset=euc-kr", body="한글".encode("cp949")) == (
        "한글",
        False,
    )
    assert text(body="한글 메일입니다".encode("cp949")) == ("한글 메일입니다", False)
    assert text(b"Content-Type: text/plain; charset=utf-8", body=b"\xef\xbb\xbfx") == ("x", False)
    assert text(b"Content-Transfer-Encoding: x-odd", body=b"x") == ("x", True)
    meta = '<meta http-equiv="Content-Type" content="text/html; charset=iso-8859-2">żółć'
    assert text(b"Content-Type: text/html", body=meta.encode("iso8859_2"))[0].endswith("żółć")


def test_text_of_the_beginning_only() -> None:
    for encoding, body in (
        (b"8bit", "한글".encode() * 1000),
        (b"quoted-printable", b"=ED=95=9C=EA=B8=80" * 1000),
        (b"base64", b"7ZWc6riA" * 1000),
    ):
        fields = b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: "
        part = tree(fields + encoding + b"\r\n\r\n" + body)
        for bytes_max in range(100, 124):
            start, problem = part.text(bytes_max)
            assert start == ("한글" * 100)[: len(start)]
            assert not problem
        assert part.text() == ("한글" * 1000, False)
        assert part.text(10) == part.text()  # Kept from the full reading.


def test_raw_names_take_the_charset_of_the_message() -> None:
    korean = b"Content-Type: text/plain; charset=iso-8859-2\r\n\r\nx"
    named = b'Content-Type: application/x; name="' + "żółć".encode("iso8859_2") + b'"\r\n\r\n'
    assert tree(multipart(korean, named)).subparts[1].name == "żółć"


FILES = {
    "한글 문서.hwp": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(range(256)) * 40,
    "노래.mp3": b"ID3\x04\x00" + bytes(reversed(range(256))) * 33 + b"\xff\xfb",
    "빈 파일.txt": b"",
    "메모.txt": "똠방각하의 메모\r\n둘째 줄\r\n".encode("cp949"),
    "\r\n.bin": b"\r\n--=_b\r\n\r\n.\r\n",
}


@pytest.mark.parametrize("name", sorted(FILES))
@pytest.mark.parametrize("codec", ["utf-8", "cp949"])
def test_attachments_come_out_as_they_went_in(name: str, codec: str) -> None:
    data, label = FILES[name], codec.replace("cp949", "euc-kr").encode()
    octets = name.encode(codec)
    quoted = octets.replace(b"\r\n", b"")
    percent = b"".join(b"%%%02X" % octet for octet in octets)
    q_word = b"=?" + label + b"?Q?" + percent.replace(b"%", b"=") + b"?="
    raw = multipart(
        b"\r\nhello",
        attachment(data, disposition=b'attachment; filename="' + quoted + b'"'),
        attachment(data, disposition=b'attachment; filename="' + q_word + b'"'),
        attachment(data, disposition=b"attachment; filename*=" + label + b"'ko'" + percent),
        attachment(
            data,
            disposition=b"attachment;\r\n filename*0*=" + label + b"''" + percent[:9]
            + b";\r\n filename*1*=" + percent[9:],
        ),
        attachment(data, disposition=b"attachment", content_type=b'a/b; name="' + q_word + b'"'),
        attachment(data, disposition=b"attachment", content_type=b'a/b; name="' + quoted + b'"'),
    )  # fmt: skip
    digest = hashlib.sha256(data).hexdigest()
    parts = tree(raw).subparts[1:]
    assert len(parts) == 6
    for part in parts:
        assert hashlib.sha256(part.decoded()).hexdigest() == digest
        assert part.size == len(data)
        assert part.name == name.replace("\r\n", "")


def test_binary_and_8bit_parts_are_exact() -> None:
    data = bytes(range(256)).replace(b"\n", b"") * 3
    for encoding in (b"binary", b"8bit", b"x-none"):
        raw = multipart(b"Content-Transfer-Encoding: " + encoding + b"\r\n\r\n" + data)
        assert tree(raw).subparts[0].decoded() == data


def test_25_megabytes() -> None:
    data = hashlib.shake_256(b"seed").digest(1 << 20) * 25
    raw = multipart(b"\r\nhi", attachment(data, disposition=b"attachment; filename=big.bin"))
    part = tree(raw).subparts[1]
    assert hashlib.sha256(part.decoded()).digest() == hashlib.sha256(data).digest()


def test_bounds() -> None:
    deep = b"".join(
        b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (i, i)
        for i in range(DEPTH_MAX + 20)
    )
    parts = list(tree(deep).walk())
    assert len(parts) == DEPTH_MAX + 1
    assert (parts[-1].type, parts[-1].part_id) == (OCTETS, ".".join("1" * DEPTH_MAX))
    many = multipart(*[b"\r\nx"] * (PARTS_MAX + 500))
    root = tree(many)
    assert PARTS_MAX <= len(root.subparts) <= PARTS_MAX + 1
    assert root.subparts[-1].body_bytes.count(b"x") >= 500
    fields = tree(b"a: b\r\n" * (FIELDS_MAX + 10) + b"\r\nbody")
    assert len(fields.headers) == FIELDS_MAX
    assert fields.body_bytes == b"body"


@pytest.mark.parametrize(
    "raw",
    [
        b"a:\n" * 300_000,
        b"x\n" * 300_000 + b"From: a\n\n",
        b"Content-Type: multipart/mixed; boundary=a\n\n" + b"\n--a" * 200_000,
        b"Content-Type: multipart/mixed; boundary=a\n\n" + b"\n--ab" * 200_000,
        b"".join(b"Content-Type: multipart/a; boundary=b%d\n\n--b%d\n" % (i, i) for i in range(60))
        + b"\n--b" * 200_000,
        b"Content-Type: a/b" + b"; a=b" * 200_000 + b"\n\n",
        b"Content-Disposition: a" + b"".join(b"; filename*%d=x" % i for i in range(20_000)),
        b"--\n" * 300_000,
        b"\x00" * 1_000_000,
        b"\n" * 1_000_000,
    ],
    ids=range(10),
)
def test_hostile_messages_take_linear_time(raw: bytes) -> None:
    for part in tree(raw).walk():
        assert part.name is None or part.name


def stdlib_leaves(entity: StdlibMessage) -> list[tuple[str, bytes | None]]:
    """Return types and decoded octets of the leaves as the standard library sees them."""
    if entity.get_content_maintype() == "message" and entity.is_multipart():
        return [(entity.get_content_type(), None)]
    if entity.is_multipart():
        return [leaf for part in entity.get_payload() for leaf in stdlib_leaves(part)]  # type: ignore[arg-type]
    payload = entity.get_payload(decode=True)
    return [(entity.get_content_type(), payload if isinstance(payload, bytes) else None)]


# Where we differ from the standard library, on purpose.
DIFFERENT = {
    "flanker/bilingual-simple.eml": "trailing blanks of quoted-printable are dropped",
    "mikel/attachment_emails/attachment_message_rfc822_inline_image.eml": "likewise",
    "flanker/false-multipart.eml": "a multipart without parts is text",
    "flanker/mailformed-headers.eml": "likewise",
    "flanker/missing-final-boundary.eml": "the last line end stays",
    "mikel/mime_emails/raw_email4.eml": "likewise",
    "mikel/plain_emails/raw_email_incorrect_header.eml": "a junk line does not end the header",
    "mikel/rfc2822/example13.eml": "likewise",
}


@pytest.mark.parametrize("path", REAL_PATHS, ids=lambda path: path.name)
def test_real_messages_as_the_standard_library_reads_them(path: Path) -> None:
    raw = path.read_bytes()
    ours = [(p.type, p.decoded()) for p in tree(raw).walk() if not p.is_multipart]
    assert all(part.text() for part in tree(raw).walk())
    if str(path.relative_to(MESSAGES_DIR)) not in DIFFERENT:
        theirs = stdlib_leaves(email.message_from_bytes(raw))
        assert [(t, None if t[:8] == "message/" else data) for t, data in ours] == [
            (t, None if t[:8] == "message/" else data) for t, data in theirs
        ]


def test_real_attachments() -> None:
    root = tree(real("flanker/mailgun-pic.eml"))
    picture = next(part for part in root.walk() if part.name == "mailgun.png")
    assert picture.decoded().startswith(b"\x89PNG")
    assert picture.decoded().endswith(b"IEND\xaeB`\x82")


FRAGMENTS = st.sampled_from(
    [b"Content-Type: multipart/mixed; boundary=b", b"Content-Type: text/html", b"\r\n", b"\n",
     b"--b", b"--b--", b"\r\n\r\n", b"Subject: x", b"Content-Type: message/rfc822", b":", b" ",
     b"Content-Transfer-Encoding: base64", b"QUJD", b"Content-Transfer-Encoding: quoted-printable",
     b"=3D=\r\n", b"Content-Type: text/plain; charset=euc-kr", b"\xc7\xd1", b"\x00", b"begin 644 x",
     b"Content-Disposition: attachment; filename*0*=utf-8''%ed", b"boundary=c", b"--c"]
)  # fmt: skip


@given(st.lists(FRAGMENTS | st.binary(max_size=4), max_size=30).map(b"".join))
def test_any_octets_are_a_tree(raw: bytes) -> None:
    root = tree(raw)
    end = 0
    for part in root.walk():
        assert (part.part_id is None) == part.is_multipart == bool(part.subparts)
        assert raw.count(part.header_bytes + part.body_bytes) or part.is_multipart
        if not part.is_multipart:
            assert part._start >= end
            end = part._end
            assert part.size == len(part.decoded())
        part.text()[0].encode()
        (part.name or "").encode()
    assert root.header_bytes + root.body_bytes == raw
