"""Email/get (RFC 8621 §4.1, §4.2)."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.jmap.email_body import truncate
from actors.jmap.email_properties import utc_date
from actors.jmap.ids import read_blob
from tests.unit.actors.jmap.memory_access import NOW_MS, MemoryAccess, message

RICH = "\r\n".join(
    [
        "Received: one",
        "Received: two",
        'From: "Joe Bloggs" <joe@example.test>, =?utf-8?q?J=C3=BCrgen?= <j@example.test>',
        "To: Friends: jane@example.test, john@example.test;, solo@example.test",
        "Cc: cc@example.test",
        "Reply-To: reply@example.test",
        "Sender: sender@example.test",
        "Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=",
        "Date: Mon, 13 Nov 2023 09:00:00 -0500",
        "Message-ID: <m1@example.test>",
        "In-Reply-To: <m0@example.test>",
        "References: <m-1@example.test> <m0@example.test>",
        "List-Post: <mailto:list@example.test>",
        "X-Custom:  folded",
        "  value",
        "MIME-Version: 1.0",
        "Content-Type: multipart/mixed; boundary=outer",
        "",
        "--outer",
        "Content-Type: multipart/alternative; boundary=inner",
        "",
        "--inner",
        "Content-Type: text/plain; charset=iso-8859-1",
        "Content-Transfer-Encoding: quoted-printable",
        "",
        "Gr=FC=DFe",
        "zweite Zeile",
        "--inner",
        "Content-Type: text/html; charset=utf-8",
        "",
        "<p>Hallo <a href='https://example.test'>Welt</a></p>",
        "--inner--",
        "--outer",
        "Content-Type: application/pdf; name=report.pdf",
        "Content-Disposition: attachment; filename=report.pdf",
        "Content-Transfer-Encoding: base64",
        "Content-Language: de, en",
        "Content-ID: <cid1@example.test>",
        "X-Part: yes",
        "",
        "cGRm",
        "--outer--",
        "",
    ]
).encode()  # fmt: skip
BLOB = f"G{hashlib.sha256(RICH).hexdigest()}"


async def _get(access: MemoryAccess, email: str, *properties: str, **arguments: Any) -> Any:
    result = await access.call("Email/get", ids=[email], properties=[*properties], **arguments)
    [found] = result["list"]
    assert found.pop("id") == email
    assert list(found) == [name for name in found if name in properties]
    return found


async def test_metadata_without_reading_the_message(access: MemoryAccess) -> None:
    email = access.add(RICH, folders=(1, 6), keywords=("$seen", "x"), received_at_ms=NOW_MS + 50)
    access.memory_blobs.reads = 0
    result = await access.call(
        "Email/get",
        ids=[email],
        properties=[
            "id", "blobId", "threadId", "mailboxIds", "keywords", "size", "receivedAt",
            "messageId", "inReplyTo", "references", "sender", "from", "to", "cc", "bcc",
            "replyTo", "subject", "sentAt", "hasAttachment", "preview",
        ],
    )  # fmt: skip
    assert access.memory_blobs.reads == 0
    assert result["state"] == str(access.reader().info.email_modseq)
    assert result["list"] == [
        {
            "id": "M1",
            "blobId": BLOB,
            "threadId": "T1",
            "mailboxIds": {"F1": True, "F6": True},
            "keywords": {"$seen": True, "x": True},
            "size": len(RICH),
            "receivedAt": "2023-11-14T22:13:20.05Z",
            "messageId": ["m1@example.test"],
            "inReplyTo": ["m0@example.test"],
            "references": ["m-1@example.test", "m0@example.test"],
            "sender": [{"name": None, "email": "sender@example.test"}],
            "from": [
                {"name": "Joe Bloggs", "email": "joe@example.test"},
                {"name": "Jürgen", "email": "j@example.test"},
            ],
            "to": [
                {"name": None, "email": "jane@example.test"},
                {"name": None, "email": "john@example.test"},
                {"name": None, "email": "solo@example.test"},
            ],
            "cc": [{"name": None, "email": "cc@example.test"}],
            "bcc": None,
            "replyTo": [{"name": None, "email": "reply@example.test"}],
            "subject": "Grüße",
            "sentAt": "2023-11-13T09:00:00-05:00",
            "hasAttachment": True,
            "preview": "Grüße zweite Zeile",
        }
    ]


def test_utc_date() -> None:
    """A fraction only where it is not zero (RFC 8620 §1.4)."""
    assert utc_date(0) == "1970-01-01T00:00:00Z"
    assert utc_date(1) == "1970-01-01T00:00:00.001Z"
    assert utc_date(100) == "1970-01-01T00:00:00.1Z"
    assert utc_date(1_700_000_000_000) == "2023-11-14T22:13:20Z"
    assert utc_date(253_402_300_799_999) == "9999-12-31T23:59:59.999Z"


async def test_default_properties(access: MemoryAccess) -> None:
    email = access.add(RICH)
    result = await access.call("Email/get", ids=[email])
    [found] = result["list"]
    assert set(found) == {
        "id", "blobId", "threadId", "mailboxIds", "keywords", "size", "receivedAt", "messageId",
        "inReplyTo", "references", "sender", "from", "to", "cc", "bcc", "replyTo", "subject",
        "sentAt", "hasAttachment", "preview", "bodyValues", "textBody", "htmlBody",
        "attachments",
    }  # fmt: skip
    assert found["bodyValues"] == {}


async def test_ids(access: MemoryAccess) -> None:
    one, two = access.add(message("1")), access.add(message("2"))
    result = await access.call(
        "Email/get", ids=[two, "M99", one, two, "Mx"], properties=["subject"]
    )
    assert result["list"] == [{"id": two, "subject": "2"}, {"id": one, "subject": "1"}]
    assert result["notFound"] == ["M99", "Mx"]
    everything = await access.call("Email/get", ids=None, properties=[])
    assert sorted(item["id"] for item in everything["list"]) == [one, two]


async def test_body_parts(access: MemoryAccess) -> None:
    email = access.add(RICH)
    found = await _get(access, email, "textBody", "htmlBody", "attachments")
    plain = {
        "partId": "1.1", "blobId": f"{BLOB}-1_1", "size": 19, "name": None, "type": "text/plain",
        "charset": "iso-8859-1", "disposition": None, "cid": None, "language": None,
        "location": None,
    }  # fmt: skip
    assert found["textBody"] == [plain]
    assert [part["partId"] for part in found["htmlBody"]] == ["1.2"]
    assert found["attachments"] == [
        {
            "partId": "2", "blobId": f"{BLOB}-2", "size": 3, "name": "report.pdf",
            "type": "application/pdf", "charset": None, "disposition": "attachment",
            "cid": "cid1@example.test", "language": ["de", "en"], "location": None,
        }
    ]  # fmt: skip
    octets = read_blob(access.reader(), access.blobs, f"{BLOB}-2", now_ms=NOW_MS)
    assert octets == b"pdf"


async def test_body_structure(access: MemoryAccess) -> None:
    email = access.add(RICH)
    found = await _get(
        access, email, "bodyStructure", bodyProperties=["partId", "type", "subParts"]
    )
    assert found["bodyStructure"] == {
        "partId": None,
        "type": "multipart/mixed",
        "subParts": [
            {
                "partId": None,
                "type": "multipart/alternative",
                "subParts": [
                    {"partId": "1.1", "type": "text/plain", "subParts": None},
                    {"partId": "1.2", "type": "text/html", "subParts": None},
                ],
            },
            {"partId": "2", "type": "application/pdf", "subParts": None},
        ],
    }
    flat = await _get(access, email, "bodyStructure", bodyProperties=["type", "blobId"])
    assert flat["bodyStructure"] == {"type": "multipart/mixed", "blobId": None}
    default = await _get(access, email, "bodyStructure")
    assert len(default["bodyStructure"]["subParts"]) == 2


async def test_part_headers(access: MemoryAccess) -> None:
    email = access.add(RICH)
    found = await _get(
        access, email, "attachments",
        bodyProperties=["headers", "header:X-Part", "header:x-part:asText:all", "header:None"],
    )  # fmt: skip
    [part] = found["attachments"]
    assert part["header:X-Part"] == " yes"
    assert part["header:x-part:asText:all"] == ["yes"]
    assert part["header:None"] is None
    assert part["headers"][-1] == {"name": "X-Part", "value": " yes"}
    assert len(part["headers"]) == 6


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        ({}, []),
        ({"fetchTextBodyValues": True}, ["1.1"]),
        ({"fetchHTMLBodyValues": True}, ["1.2"]),
        ({"fetchAllBodyValues": True}, ["1.1", "1.2"]),
        ({"fetchTextBodyValues": True, "fetchHTMLBodyValues": True}, ["1.1", "1.2"]),
    ],
)
async def test_body_values(access: MemoryAccess, flags: dict[str, bool], parts: list[str]) -> None:
    found = await _get(access, access.add(RICH), "bodyValues", **flags)
    assert sorted(found["bodyValues"]) == parts
    if "1.1" in parts:
        assert found["bodyValues"]["1.1"] == {
            "value": "Grüße\nzweite Zeile", "isEncodingProblem": False, "isTruncated": False,
        }  # fmt: skip


async def test_truncated_body_values(access: MemoryAccess) -> None:
    email = access.add(RICH)
    flags = {"fetchAllBodyValues": True}
    found = await _get(access, email, "bodyValues", maxBodyValueBytes=3, **flags)
    values = found["bodyValues"]
    assert values["1.1"] == {"value": "Gr", "isEncodingProblem": False, "isTruncated": True}
    assert values["1.2"]["value"] == "<p>"
    found = await _get(access, email, "bodyValues", maxBodyValueBytes=20, **flags)
    assert found["bodyValues"]["1.2"]["value"] == "<p>Hallo "
    assert found["bodyValues"]["1.1"]["isTruncated"] is False


async def test_large_body_is_not_decoded_to_its_end(access: MemoryAccess) -> None:
    email = access.add(message(body="ä" * 500_000, more="Content-Type: text/plain; charset=utf-8"))
    flags = {"fetchTextBodyValues": True, "maxBodyValueBytes": 101}
    found = await _get(access, email, "bodyValues", **flags)
    assert found["bodyValues"]["1"] == {
        "value": "ä" * 50, "isEncodingProblem": False, "isTruncated": True,
    }  # fmt: skip


async def test_bodies_too_large_for_one_answer(access: MemoryAccess) -> None:
    emails = [access.add(message(f"{n}", body="x" * (10 << 20))) for n in range(5)]
    arguments = {"properties": ["bodyValues"], "fetchTextBodyValues": True}
    assert await access.refusal("Email/get", ids=emails, **arguments) == "requestTooLarge"
    assert len((await access.call("Email/get", ids=emails[:4], **arguments))["list"]) == 4


@given(st.text(st.sampled_from("aé한😀<>/ \n"), max_size=40), st.integers(1, 60), st.booleans())
def test_truncate(text: str, bytes_max: int, is_html: bool) -> None:
    cut, truncated = truncate(text, bytes_max, is_html=is_html)
    assert text.startswith(cut)
    assert len(cut.encode()) <= bytes_max
    assert truncated == (len(text.encode()) > bytes_max)
    if truncated and not is_html:
        assert len(text[: len(cut) + 1].encode()) > bytes_max


def test_truncate_never_inside_a_tag() -> None:
    text = 'a < b <b>c</b> <a title="x < y" href="z">link</a>'
    for bytes_max in range(1, len(text)):
        cut, _ = truncate(text, bytes_max, is_html=True)
        rest = cut[cut.rfind(">") + 1 :]
        assert not any(rest[i : i + 2] in ("<b", "</", "<a") for i in range(len(rest)))


HEADERS = [
    ("header:X-Custom", "  folded\r\n  value"),
    ("header:X-Custom:asRaw", "  folded\r\n  value"),
    ("header:x-custom:asText", "folded  value"),
    ("header:Subject:asText", "Grüße"),
    ("header:Subject", " =?utf-8?q?Gr=C3=BC=C3=9Fe?="),
    ("header:Received", " two"),
    ("header:RECEIVED:all", [" one", " two"]),
    ("header:None", None),
    ("header:None:all", []),
    ("header:None:asAddresses", None),
    ("header:Cc:asAddresses", [{"name": None, "email": "cc@example.test"}]),
    ("header:Cc:asAddresses:all", [[{"name": None, "email": "cc@example.test"}]]),
    ("header:Message-ID:asMessageIds", ["m1@example.test"]),
    ("header:Date:asDate", "2023-11-13T09:00:00-05:00"),
    ("header:List-POST:asURLs", ["mailto:list@example.test"]),
    ("header:X-Custom:asDate", None),
    ("header:X-Custom:asURLs", None),
    (
        "header:To:asGroupedAddresses",
        [
            {
                "name": "Friends",
                "addresses": [
                    {"name": None, "email": "jane@example.test"},
                    {"name": None, "email": "john@example.test"},
                ],
            },
            {"name": None, "addresses": [{"name": None, "email": "solo@example.test"}]},
        ],
    ),
]


@pytest.mark.parametrize(("name", "value"), HEADERS)
async def test_header_properties(access: MemoryAccess, name: str, value: object) -> None:
    """The name comes back exactly as it was asked for (RFC 8621 §4.2)."""
    assert await _get(access, access.add(RICH), name) == {name: value}


async def test_headers(access: MemoryAccess) -> None:
    found = await _get(access, access.add(RICH), "headers", "header:Received")
    assert found["headers"][0] == {"name": "Received", "value": " one"}
    assert len(found["headers"]) == 16


FORMS = ("Raw", "Text", "Addresses", "GroupedAddresses", "MessageIds", "Date", "URLs")
ALLOWED = {
    "Subject": {"Raw", "Text"},
    "Comments": {"Raw", "Text"},
    "Keywords": {"Raw", "Text"},
    "From": {"Raw", "Addresses", "GroupedAddresses"},
    "Resent-Bcc": {"Raw", "Addresses", "GroupedAddresses"},
    "References": {"Raw", "MessageIds"},
    "Resent-Message-ID": {"Raw", "MessageIds"},
    "Date": {"Raw", "Date"},
    "Resent-Date": {"Raw", "Date"},
    "List-Unsubscribe": {"Raw", "URLs"},
    "Received": {"Raw"},
    "Return-Path": {"Raw"},
    "List-Id": set(FORMS),
    "X-Anything": set(FORMS),
}


@pytest.mark.parametrize("field", sorted(ALLOWED))
@pytest.mark.parametrize("form", FORMS)
async def test_forms_are_for_their_fields(access: MemoryAccess, field: str, form: str) -> None:
    """A form that makes no sense for a field is refused (RFC 8621 §4.1.2)."""
    name = f"header:{field.swapcase()}:as{form}"
    if form in ALLOWED[field]:
        await access.call("Email/get", ids=[], properties=[name])
    else:
        refused = await access.refusal("Email/get", ids=[], properties=[name])
        assert refused == "invalidArguments"


@pytest.mark.parametrize(
    "name",
    [
        "nope", "Subject", "header:", "header:a b", "header:a:b", "header:X:asNope",
        "header:X:astext", "header:X:all:asText", "header:X:asText:All", "header:ä", "header:X:",
        "header::all", "subParts", "partId",
    ],
)  # fmt: skip
async def test_unknown_properties(access: MemoryAccess, name: str) -> None:
    assert await access.refusal("Email/get", ids=[], properties=[name]) == "invalidArguments"


async def test_unknown_body_properties(access: MemoryAccess) -> None:
    for name in ("nope", "subject", "header:From:asDate", "header:"):
        refused = await access.refusal("Email/get", ids=[], bodyProperties=[name])
        assert refused == "invalidArguments"


async def test_only_the_header_is_read_for_header_fields(access: MemoryAccess) -> None:
    """Unless it holds octets that the body may explain; the results are the same."""
    plain = access.add(message("a", more="X-A: b", body="x" * 500_000))
    assert await _get(access, plain, "header:X-A") == {"header:X-A": " b"}
    raw = (
        b"Subject: Gr\xfc\xdfe\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
        b"--b\r\nContent-Type: text/plain; charset=iso-8859-2\r\n\r\nx\r\n--b--\r\n"
    )
    found = await _get(access, access.add(raw), "subject", "header:Subject:asText")
    assert found["header:Subject:asText"] == found["subject"] == "Grüße"


@pytest.mark.parametrize(
    "raw", [b"", b"\r\n", b"\n\nbody", b"Subject: x", b"Subject: x\n\nb", b"\x00\xff", b"no header"]
)
async def test_odd_messages(access: MemoryAccess, raw: bytes) -> None:
    email = access.add(raw)
    found = await _get(
        access, email, "subject", "header:Subject:asText", "headers", "bodyStructure",
        "bodyValues", "textBody", fetchAllBodyValues=True,
    )  # fmt: skip
    only_header = await _get(access, email, "header:Subject:asText", "headers")
    assert found["subject"] == found["header:Subject:asText"]
    assert only_header["headers"] == found["headers"]


async def test_refusals(access: MemoryAccess) -> None:
    for arguments in (
        {"maxBodyValueBytes": -1},
        {"maxBodyValueBytes": None},
        {"fetchTextBodyValues": None},
        {"fetchAllBodyValues": 1},
        {"properties": ["id"] * 201},
        {"bodyProperties": "size"},
        {"ids": [""]},
        {"ids": ["x" * 256]},
        {"ids": {}},
    ):
        assert await access.refusal("Email/get", **arguments) == "invalidArguments"
    ids = [f"M{n:x}" for n in range(501)]
    assert await access.refusal("Email/get", ids=ids) == "requestTooLarge"
