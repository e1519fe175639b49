"""SearchSnippet/get (RFC 8621 §5)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.actors.jmap.memory_access import MemoryAccess, message

HTML = (
    "Content-Type: text/html; charset=utf-8\r\n\r\n<style>zebra</style><p>Caf&eacute; <b>Za"
    "nzibar</b> &lt;tag&gt;"
)
LONG = "opening words " * 40 + "the needle is deep & far <away>"


@pytest.fixture
def mail(access: MemoryAccess) -> MemoryAccess:
    access.add(message("Apple & <pie>", body="A plain apple, and a pear."))
    access.add(message("nothing", body=LONG))
    access.add(HTML_MESSAGE)
    access.add(message("회의 자료", body="내일 회의를 합니다"))
    return access


HTML_MESSAGE = b"Subject: page\r\nMIME-Version: 1.0\r\n" + HTML.encode()


async def _snippet(access: MemoryAccess, wanted: Any, email_id: str) -> tuple[Any, Any]:
    result = await access.call("SearchSnippet/get", filter=wanted, emailIds=[email_id])
    assert result["notFound"] is None
    [snippet] = result["list"]
    assert snippet.keys() == {"emailId", "subject", "preview"}
    assert snippet["emailId"] == email_id
    return snippet["subject"], snippet["preview"]


APPLE = ("<mark>Apple</mark> &amp; &lt;pie&gt;", "A plain <mark>apple</mark>, and a pear.")


@pytest.mark.parametrize(
    ("wanted", "email_id", "subject", "preview"),
    [
        ({"text": "apple"}, "M1", *APPLE),
        ({"subject": "appl"}, "M1", APPLE[0], None),
        ({"body": "APPLE"}, "M1", None, APPLE[1]),
        ({"header": ["Subject", "apple"]}, "M1", APPLE[0], None),
        ({"header": ["X-Other", "apple"]}, "M1", None, None),
        ({"from": "apple"}, "M1", None, None),
        ({"inMailbox": "F1", "text": "apple"}, "M1", *APPLE),
        ({"text": "apple bob"}, "M1", *APPLE),
        ({"text": "pear pie"}, "M1", "Apple &amp; &lt;<mark>pie</mark>&gt;",
         "A plain apple, and a <mark>pear</mark>."),
        ({"operator": "NOT", "conditions": [{"text": "apple"}]}, "M1", None, None),
        ({"operator": "NOT", "conditions": [
            {"operator": "NOT", "conditions": [{"subject": "apple"}]}]}, "M1", APPLE[0], None),
        ({"operator": "AND", "conditions": [
            {"subject": "apple"},
            {"operator": "OR", "conditions": [{"body": "pear"}, {"inMailbox": "F1"}]},
            {"operator": "NOT", "conditions": [{"body": "plain"}]},
        ]}, "M1", APPLE[0], "A plain apple, and a <mark>pear</mark>."),
        (None, "M1", None, None),
        ({"inMailbox": "F1"}, "M1", None, None),
        ({"text": " .. "}, "M1", None, None),
        ({"body": "absent"}, "M2", None, None),
        ({"body": "cafe"}, "M3", None, "<mark>Café</mark> Zanzibar &lt;tag&gt;"),
        ({"body": "zanz"}, "M3", None, "Café <mark>Zanzibar</mark> &lt;tag&gt;"),
        ({"body": "zebra"}, "M3", None, None),
        ({"text": "회의"}, "M4", "<mark>회의</mark> 자료", "내일 <mark>회의</mark>를 합니다"),
    ],
)  # fmt: skip
async def test_snippets(
    mail: MemoryAccess, wanted: Any, email_id: str, subject: Any, preview: Any
) -> None:
    assert await _snippet(mail, wanted, email_id) == (subject, preview)


async def test_what_lies_deep_in_a_text_is_shown_with_what_is_around_it(mail: MemoryAccess) -> None:
    _, preview = await _snippet(mail, {"body": "needle"}, "M2")
    assert preview.endswith("the <mark>needle</mark> is deep &amp; far &lt;away&gt;")
    assert len(preview.encode()) <= 255


async def test_a_word_in_the_stored_preview_reads_no_message(mail: MemoryAccess) -> None:
    mail.memory_blobs.reads = 0
    await _snippet(mail, {"text": "opening"}, "M2")
    assert mail.memory_blobs.reads == 0
    await _snippet(mail, {"text": "needle"}, "M2")
    assert mail.memory_blobs.reads == 1


async def test_the_last_word_of_a_stored_preview_may_be_cut(access: MemoryAccess) -> None:
    body = "x" * 252 + " cathedral"
    access.add(message("s", body=body))
    assert await _snippet(access, {"body": '"x cat"'}, "M1") == (None, None)
    assert await _snippet(access, {"body": '"cat"'}, "M1") == (None, None)


async def test_forwarded_messages_are_looked_through(access: MemoryAccess) -> None:
    inner = b"Subject: inner\r\nContent-Type: text/plain\r\n\r\nburied treasure\r\n"
    access.add(
        b"Subject: outer\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
        b"--b\r\n\r\nsee below\r\n--b\r\nContent-Type: message/rfc822\r\n\r\n"
        + inner
        + b"--b--\r\n"
    )
    _, preview = await _snippet(access, {"body": "treasure"}, "M1")
    assert "buried <mark>treasure</mark>" in preview


async def test_ids_that_are_not_there(mail: MemoryAccess) -> None:
    result = await mail.call(
        "SearchSnippet/get", filter={"text": "apple"}, emailIds=["M9", "M1", "x", "M9"]
    )
    assert result["notFound"] == ["M9", "x"]
    assert [snippet["emailId"] for snippet in result["list"]] == ["M1"]
    assert result["accountId"] == "A2a"
    result = await mail.call("SearchSnippet/get", filter=None, emailIds=[])
    assert (result["list"], result["notFound"]) == ([], None)


async def test_a_message_that_cannot_be_read_has_no_snippet(mail: MemoryAccess) -> None:
    mail.memory_blobs.octets.clear()
    assert await _snippet(mail, {"text": "pear pie needle"}, "M2") == (None, None)


async def test_refusals(mail: MemoryAccess) -> None:
    for arguments, kind in (
        ({"filter": {"text": "a"}}, "invalidArguments"),
        ({"filter": {"text": "a"}, "emailIds": None}, "invalidArguments"),
        ({"filter": {"text": "a"}, "emailIds": "M1"}, "invalidArguments"),
        ({"filter": {"text": "a"}, "emailIds": ["M1"], "ids": []}, "invalidArguments"),
        ({"filter": {"colour": "a"}, "emailIds": ["M1"]}, "unsupportedFilter"),
        ({"filter": {"text": 1}, "emailIds": ["M1"]}, "invalidArguments"),
        ({"filter": {}, "emailIds": [f"M{n:x}" for n in range(501)]}, "requestTooLarge"),
    ):
        assert await mail.refusal("SearchSnippet/get", **arguments) == kind, arguments


async def test_by_reference_from_a_query(mail: MemoryAccess) -> None:
    wanted = {"text": "apple"}
    responses = await mail.request(
        ("Email/query", {"accountId": "A2a", "filter": wanted}),
        (
            "SearchSnippet/get",
            {
                "accountId": "A2a",
                "filter": wanted,
                "#emailIds": {"resultOf": "c0", "name": "Email/query", "path": "/ids"},
            },
        ),
    )
    assert responses[1][1]["list"] == [{"emailId": "M1", "subject": APPLE[0], "preview": APPLE[1]}]
