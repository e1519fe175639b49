"""The message façade: bodies and attachments, summary, search text."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mail.message import SEARCH_TEXT_CHARS_MAX, Message, parse
from mail.summary import EmailAddress
from mail.text import collapse
from tests.unit.mail.samples import REAL_PATHS, attachment, message, multipart, real


def texts(message: Message) -> tuple[list[str], list[str], list[str]]:
    """Return text body, HTML body and attachments by the content of their parts."""
    lists = (message.text_body, message.html_body, message.attachments)
    text, html, files = ([part.body_bytes.decode() for part in parts] for parts in lists)
    return text, html, files


def leaf(type_: str, content: str, disposition: str = "") -> bytes:
    """Return a part of that type and content."""
    field = f"Content-Disposition: {disposition}\r\n" if disposition else ""
    return f"Content-Type: {type_}\r\n{field}\r\n{content}".encode()


def node(subtype: str, *parts: bytes) -> bytes:
    """Return a multipart with a boundary that no other one has."""
    boundary = f"{subtype}{len(b''.join(parts))}".encode()
    return multipart(*parts, subtype=subtype.encode(), boundary=boundary)


def test_the_example_of_the_rfc() -> None:
    """RFC 8621 §4.1.4: a message from a mailing list with footer, decomposed."""
    raw = node(
        "mixed",
        leaf("text/plain", "A", "inline"),
        node(
            "mixed",
            node(
                "alternative",
                node(
                    "mixed",
                    leaf("text/plain", "B", "inline"),
                    leaf("image/jpeg", "C", "inline"),
                    leaf("text/plain", "D", "inline"),
                ),
                node("related", leaf("text/html", "E"), leaf("image/jpeg", "F")),
            ),
            leaf("image/jpeg", "G", "attachment"),
            leaf("application/x-excel", "H"),
            leaf("message/rfc822", "J"),
        ),
        leaf("text/plain", "K", "inline"),
    )
    assert texts(parse(raw)) == (list("ABCDK"), list("AEK"), list("CFGHJ"))


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"\r\nA", (["A"], ["A"], [])),
        (leaf("text/html", "A"), (["A"], ["A"], [])),
        (leaf("image/png", "A"), (["A"], ["A"], [])),
        (leaf("application/pdf", "A"), ([], [], ["A"])),
        (leaf("text/plain", "A", "attachment"), ([], [], ["A"])),
        (leaf("text/csv", "A"), ([], [], ["A"])),
        (node("alternative", leaf("text/plain", "A"), leaf("text/html", "B")), (["A"], ["B"], [])),
        (node("alternative", leaf("text/html", "B")), (["B"], ["B"], [])),
        (node("alternative", leaf("text/plain", "A")), (["A"], ["A"], [])),
        (
            node("alternative", leaf("text/plain", "A"), leaf("text/calendar", "C")),
            (["A"], ["A"], ["C"]),
        ),
        (
            node("mixed", leaf("text/plain", "A"), leaf('text/plain; name="n"', "B")),
            (["A"], ["A"], ["B"]),
        ),
        (
            node("mixed", leaf('text/plain; name="n"', "A"), leaf("text/plain", "B")),
            (["A", "B"], ["A", "B"], []),
        ),
        (
            node("related", leaf("text/html", "A"), leaf("text/plain", "B")),
            (["A"], ["A"], ["B"]),
        ),
        (
            node(
                "alternative", node("alternative", leaf("text/plain", "A")), leaf("text/html", "B")
            ),
            (["A"], ["A", "B"], []),
        ),
    ],
    ids=range(14),
)
def test_bodies(raw: bytes, expected: tuple[list[str], list[str], list[str]]) -> None:
    assert texts(parse(raw)) == expected


def test_parts_are_found_by_id() -> None:
    parsed = parse(node("mixed", leaf("text/plain", "A"), leaf("text/plain", "B")))
    part = parsed.part("2")
    assert part is not None
    assert part.body_bytes == b"B"
    assert parsed.part("3") is parsed.part("") is None
    assert len(list(parsed.parts())) == 3


def test_fields() -> None:
    parsed = parse(message(b"Subject: one", b"RECEIVED: a", b"subject: two", b"Received: b"))
    assert parsed.header("SUBJECT") == b" two"  # RFC 8621 §4.1.3: the last instance.
    assert parsed.header_all("subject") == (b" one", b" two")
    assert parsed.header("x") is None
    assert parsed.header_all("x") == ()
    assert parsed.received_count == 2
    assert parse(b"").received_count == 0


def test_summary() -> None:
    raw = message(
        "Subject: =?utf-8?B?7ZqM7J2Y?= 자료".encode(),
        b'From: "Hong, G." <hong@example.test>',
        b"To: a@example.test, B <b@example.test>",
        b"Cc: ",
        b"Reply-To: r@example.test",
        b"Date: Fri, 21 Nov 1997 09:55:06 +0900",
        b"Message-ID: <1@example.test>",
        b"In-Reply-To: <0@example.test>",
        b"References: <x@example.test> <0@example.test>",
        body="안녕하세요.\r\n\r\n  회의\t자료입니다.".encode("cp949"),
    )
    summary = parse(raw).summary
    assert summary.subject == "회의 자료"
    assert summary.from_ == (EmailAddress("Hong, G.", "hong@example.test"),)
    assert summary.to == (
        EmailAddress(None, "a@example.test"),
        EmailAddress("B", "b@example.test"),
    )
    assert (summary.cc, summary.bcc, summary.sender) == ((), None, None)
    assert summary.reply_to == (EmailAddress(None, "r@example.test"),)
    assert summary.sent_at == "1997-11-21T09:55:06+09:00"
    assert summary.message_id == ("1@example.test",)
    assert summary.in_reply_to == ("0@example.test",)
    assert summary.references == ("x@example.test", "0@example.test")
    assert summary.preview == "안녕하세요. 회의 자료입니다."
    assert not summary.has_attachment


def test_raw_fields_take_the_charset_of_the_body() -> None:
    raw = message(
        b"Subject: " + "żółć".encode("iso8859_2"),
        b"Content-Type: text/plain; charset=iso-8859-2",
    )
    assert parse(raw).summary.subject == "żółć"
    assert parse(raw).charset_hint == "iso-8859-2"


def test_previews() -> None:
    assert parse(leaf("text/html", "<style>x</style><p>a</p><p>b")).summary.preview == "a b"
    assert parse(b"\r\n" + b"word " * 100).summary.preview == ("word " * 100)[:256]
    assert len(parse(b"\r\n" + "😀".encode() * 999).summary.preview) == 256
    assert parse(
        node("mixed", leaf("text/plain", "a"), leaf("text/plain", "b"))
    ).summary.preview == ("a b")
    assert parse(leaf("application/pdf", "x")).summary.preview == ""
    assert parse(leaf("text/html", "<p>" + "<i></i>" * 20_000 + "late")).summary.preview == ""


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"\r\nx", False),
        (leaf("application/pdf", "x"), True),
        (node("mixed", leaf("text/plain", "x"), attachment(b"", disposition=b"attachment")), True),
        (node("mixed", leaf("text/plain", "x"), leaf("text/csv", "x", "inline")), False),
        (node("mixed", leaf("text/plain", "x"), leaf("image/png", "x")), False),
        (
            node(
                "related", leaf("text/html", "x"), b"Content-ID: <a>\r\n" + leaf("image/png", "x")
            ),
            False,
        ),
        (node("related", leaf("text/html", "x"), leaf("image/png", "x")), True),
        (node("signed", leaf("text/plain", "x"), leaf("application/pgp-signature", "x")), False),
    ],
    ids=range(8),
)
def test_has_attachment(raw: bytes, expected: bool) -> None:
    assert parse(raw).summary.has_attachment is expected


def test_search_text() -> None:
    nested = message(b"Subject: inner", b"From: Deep <deep@example.test>", body=b"nested words")
    raw = node(
        "mixed",
        node(
            "alternative",
            leaf("text/plain", "plain text"),
            leaf("text/html", "<p>rich <b>te</b>xt"),
        ),
        leaf("text/csv", "one,two", "attachment; filename=table.csv"),
        b"Content-Type: message/rfc822\r\n\r\n" + nested,
        leaf('text/plain; charset="euc-kr"', "").replace(
            b"\r\n\r\n", b"\r\n\r\n" + "메모".encode("cp949")
        ),
        attachment(b"x", disposition="attachment; filename=한글.hwp".encode()),
    ).replace(
        b"Subject: parts", b"Subject: parts\r\nTo: Bob <bob@example.test>\r\nCc: c@d\r\nBcc: e@f", 1
    )
    found = parse(raw).search_text
    assert found.subject == "parts"
    assert found.from_ == "alice@example.test"
    assert found.to == "Bob bob@example.test\nc@d\ne@f"
    assert found.names == "table.csv\n한글.hwp"
    for text in ("plain text", "rich text", "one,two", "inner", "Deep", "nested words", "메모"):
        assert text in found.body
    assert "<b>" not in found.body


def test_html_that_repeats_the_plain_text_is_not_kept_twice() -> None:
    raw = node(
        "alternative", leaf("text/plain", "the same text"), leaf("text/html", "<p>the same</p>text")
    )
    assert parse(raw).search_text.body == "the same text"


@pytest.mark.parametrize(
    ("charset", "codec", "text"),
    [
        ("euc-kr", "cp949", "똠방각하 회의"), ("ks_c_5601-1987", "cp949", "한글 회의"),
        ("iso-2022-jp", "iso2022_jp", "日本語の会議"), ("gb2312", "gb18030", "中文会议 㐀"),
        ("shift_jis", "cp932", "日本語①"), ("big5", "big5", "繁體中文"),
        ("utf-8", "utf-8", "😀 한"),
        ("", "cp949", "라벨이 없는 한글 편지"), ("x-none", "utf-8", "라벨이 이상한 편지"),
    ],
)  # fmt: skip
def test_text_in_any_charset_is_found(charset: str, codec: str, text: str) -> None:
    field = f"Content-Type: text/plain; charset={charset}" if charset else "X: y"
    parsed = parse(message(field.encode(), body=text.encode(codec)))
    assert parsed.search_text.body == text
    assert parsed.summary.preview == text


def test_search_text_is_bounded() -> None:
    assert len(parse(b"\r\n" + b"x" * 3_000_000).search_text.body) == SEARCH_TEXT_CHARS_MAX
    many = multipart(*[b"\r\n" + b"y" * 5000] * 500)
    assert len(parse(many).search_text.body) <= SEARCH_TEXT_CHARS_MAX
    nested = b"Content-Type: message/rfc822\r\n\r\n" * 500 + b"\r\ndeep"
    assert parse(nested).search_text.body == ""


GOLDEN = [
    # name, subject, sender, names of attachments, charset of the text body, preview begins
    ("flanker/8bitmime.eml", "2 RCPT MIME", "bob@example.com", [], "UTF-8", "Превел"),
    ("flanker/apache-message-news-mime.eml", "[Fwd: Netscape Enterprise vs. Apache Secure]",
     "hartill@lanl.gov", [None], "us-ascii", "Sameer..."),
    ("flanker/attached-pdf.eml", "test message via curl - extra content-type (_001_)", None,
     ["test.pdf"], "us-ascii", "Test - body content"),
    ("flanker/bilingual-simple.eml", "Simple text. How are you? Как ты поживаешь?",
     "hello@example.com", [], "utf-8", "This line is in English А эта линия по-русски."),
    ("flanker/bz2-attachment.eml", "hello", "alice@example.com", ["foo.txt.bz2"], "ascii", "hello"),
    ("flanker/dashed-boundaries.eml", "Hi", "me@example.com", [], "UTF-8", "Hi"),
    ("flanker/enclosed.eml", "Wow", "bob@example.net", ["thanks.eml"], "us-ascii", "Hello"),
    ("flanker/enclosed-broken-body.eml", "Wow", "bob@example.net", ["thanks.eml"], "us-ascii",
     "Hello"),
    ("flanker/encoded-header.eml", "hello", "foo.bar@example.com", [], "us-ascii", "hello, world"),
    ("flanker/false-multipart.eml", "Broken MIME", "broken.mime@notreallymultipart.com", [],
     "us-ascii", ""),
    ("flanker/from-encoding.eml", "Re: running server as root (Was: Re: PUT method)",
     "ingo@blank.pages.de", [], "us-ascii", "Marc Slemko wrote:"),
    ("flanker/mailgun-pic.eml", "Mailgun rocks!", "hello@example.com", ["mailgun.png"], "UTF-8",
     "Мейлган! Хахах!"),
    ("flanker/missing-final-boundary.eml", "Test", "me@example.com", [], "iso-8859-1", "Some body"),
    ("flanker/no-ctype.eml", "Testing message parsing", "bob@marley.com", [], "us-ascii", "Hello,"),
    ("flanker/signed.eml", "M2Crypto S/MIME testing", "sender@example.dom", [None, "smime.p7s"],
     None, ""),
    ("flanker/bounce/zed.eml", "Undelivered Mail Returned to Sender",
     "MAILER-DAEMON@example.com.com", [None, None], "us-ascii", "This is the mail system"),
    ("flanker/bounce/broken-mime.eml", "Undeliverable Mail", "postmaster@example.com", [],
     "us-ascii", "Delivery failed 10 attempts"),
    ("flanker/spam/broken-headers.eml", "Forget Asking For A Link Exchange…",
     "admin@advertise-bz.cn", [], "iso-8859-1", "Do you really know"),
    ("mikel/attachment_emails/attachment_nonascii_filename.eml", "testing", "foo@example.com",
     ["ciële.txt"], "ISO-8859-1", "This is the first part."),
    ("mikel/attachment_emails/attachment_with_base64_encoded_name.eml",
     "Fwd: Signed email causes file attachments", "xxxxxxxxx.xxxxxxx@gmail.com",
     ["This is a test.pdf"], "ISO-8859-1", "We should not include"),
    ("mikel/attachment_emails/attachment_with_unquoted_name.eml", "testing", "foo@example.com",
     ["This is a test.txt"], "ISO-8859-1", "This is the first part."),
    ("mikel/attachment_emails/attachment_pdf.eml", "Another PDF with 🎉 Unicode chars in it 🍿",
     "xxxx@xxxx.com", ["broken.pdf"], "ISO-8859-1", "Just attaching"),
    ("mikel/multi_charset/japanese.eml", "まみむめも", "raasdnil@gmail.com", [], "UTF-8",
     "かきくえこ"),
    ("mikel/multi_charset/japanese_iso_2022.eml", "まみむめも", "raasdnil@gmail.com", [],
     "iso-2022-jp", "すみません。"),
    ("mikel/multi_charset/japanese_shift_jis.eml", "test", "xxxxxxx@docomo.ne.jp", [], "Shift_JIS",
     "あいうえお このメールはテスト用"),
    ("mikel/multi_charset/japanese_attachment.eml", "testing", "raasdnil@gmail.com",
     ["てすと.txt"], "UTF-8", "testing"),
    ("mikel/multi_charset/japanese_attachment_long_name.eml", "まみむめも" * 10,
     "mikel@test.lindsaar.net", ["かきくけこ" * 5 + ".txt"], None, ""),
    ("mikel/multi_charset/ks_c_5601-1987.eml", "test", "from@example.com", [], "ks_c_5601-1987",
     "스티해"),
    ("mikel/rfc6532/utf8_headers.eml", "Säying Hello", "jdöe@mächine.example", [], "us-ascii",
     "body"),
    ("mikel/plain_emails/raw_email.eml", "NOTE: 한국말로 하는 것", "jamis@37signals.com", [],
     "EUC-KR", "대부분의 마찬가지로, 우리는 하나님을 믿습니다."),
    ("mikel/plain_emails/raw_email_with_partially_quoted_subject.eml",
     'Re: Test: "漢字" mid "漢字" tail', "jamis@37signals.com", [], "EUC-KR", "대부분의"),
    ("mikel/plain_emails/raw_email_incorrect_header.eml",
     "Stop adware/spyware once and for all. ", "xxx@xxx.xxx", [], "us-ascii", "You are infected"),
    ("mikel/plain_emails/raw_email_bad_time.eml", "[0]: XXXXXXX XXXXX XXXXX !",
     "yusuf75thu@auracom.net", [], "windows-1251", "Filter2: This message"),
    ("mikel/mime_emails/raw_email7.eml", "testing", "foo@example.com",
     ["test.rb", "test.pdf", "smime.p7s"], "ISO-8859-1", "This is the first part."),
    ("mikel/mime_emails/raw_email_with_illegal_boundary.eml", "Testing outlook",
     "email_test@me.nowhere", [], "iso-8859-1", "Hello This is an outlook test"),
    ("mikel/mime_emails/raw_email_encoded_stack_level_too_deep.eml",
     "Nicolas Fouché has accepted your invitation to Gmail", "gmail-noreply@google.com", [],
     "ISO-8859-1", "Nicolas Fouché has accepted"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "subject", "sender", "names", "charset", "start"), GOLDEN, ids=[g[0] for g in GOLDEN]
)
def test_golden(
    name: str, subject: str, sender: str | None, names: list[str], charset: str | None, start: str
) -> None:
    parsed = parse(real(name))
    summary = parsed.summary
    assert summary.subject == subject
    assert (summary.from_[0].email if summary.from_ else None) == sender
    assert [part.name for part in parsed.attachments] == names
    assert (parsed.text_body[0].charset if parsed.text_body else None) == charset
    assert summary.preview.startswith(start)
    assert start in collapse(parsed.search_text.body)


def check(raw: bytes) -> None:
    """Assert what holds for any octets: everything has an answer that JSON can carry."""
    parsed = parse(raw)
    assert parsed.raw == raw
    for record in (parsed.summary, parsed.search_text):
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(record), type=type(record)) == record
        assert b"\\u0000" not in msgspec.json.encode(record)
    assert len(parsed.summary.preview) <= 256
    listed = {part.part_id for part in (*parsed.text_body, *parsed.html_body, *parsed.attachments)}
    assert listed == {part.part_id for part in parsed.parts() if not part.is_multipart}


@pytest.mark.parametrize("path", REAL_PATHS, ids=lambda path: path.name)
def test_every_real_message(path: object) -> None:
    raw = path.read_bytes()  # type: ignore[attr-defined]
    check(raw)
    check(raw.replace(b"\r\n", b"\n"))
    check(raw[: len(raw) // 2])


EDITS = st.lists(
    st.tuples(
        st.floats(0, 1, exclude_max=True),
        st.integers(0, 60),
        st.binary(max_size=6) | st.sampled_from([b"\r\n", b"--", b'"', b"=?utf-8?B?", b"\x1b$B"]),
    ),
    min_size=1,
    max_size=8,
)
SMALL_PATHS = [path for path in REAL_PATHS if path.stat().st_size < 8000]


@given(st.sampled_from(SMALL_PATHS), EDITS)
def test_mutated_real_messages(path: object, edits: list[tuple[float, int, bytes]]) -> None:
    raw = path.read_bytes()  # type: ignore[attr-defined]
    for where, deleted, inserted in edits:
        at = int(where * len(raw))
        raw = raw[:at] + inserted + raw[at + deleted :]
    check(raw)


@given(st.binary(max_size=300))
def test_random_octets(raw: bytes) -> None:
    check(raw)
