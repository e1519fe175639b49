"""Hostile mail through the whole house: refused with a reply, or stored and readable as it came."""

from __future__ import annotations

import asyncio
import hashlib
import io
import resource
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.contract.hostile import Siege, besieged
from tests.unit.mail.hostile_samples import HOSTILE, MIB
from tests.unit.mail.samples import attachment, message, multipart

# The largest of these messages is 50 MB; with all that is made of it, and its JSON, this is
# what the process may grow by.
MEMORY_BYTES_MAX = 1_500 * MIB
PROPERTIES = [
    "id", "blobId", "size", "subject", "from", "to", "preview", "hasAttachment", "headers",
    "bodyStructure", "bodyValues", "textBody", "htmlBody", "attachments", "header:Subject:asText",
    "header:To:asGroupedAddresses:all", "header:References:asMessageIds", "header:X-F:all",
]  # fmt: skip
BODY_PROPERTIES = [
    "partId", "blobId", "size", "headers", "name", "type", "charset", "disposition", "cid",
    "language", "location", "subParts", "header:Content-Type:asRaw",
]  # fmt: skip
# All that differ in what becomes of them here; `tests/unit/mail` looks at every one.
NAMES = (
    "10,000 parts", "10,000 files", "5,000 levels", "5,000 levels alike", "5,000 forwarded",
    "49 MB folded", "1 MB lines", "NULs in fields", "a billionth piece",
    "pieces", "empty groups", "comments", "quotes", "ids", "dates", "forged boundaries",
    "boundaries of boundaries", "uuencode", "half a closing tag", "an endless number", "utf-7",
    "shifts that fail", "utf-16", "an unknown charset", "a ligature of eighteen",
)  # fmt: skip
MARK = b"Subject: hailstone\r\nMessage-ID: <mark@x.test>\r\n"


def zip_bomb() -> bytes:
    """Return a file of 50 KB that unpacks to 50 MB."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("zeros", b"\0" * 50 * MIB)
    return packed.getvalue()


def marked(raw: bytes) -> bytes:
    """Return a message that a search finds, unless its header is too long for that."""
    if len(raw) > 45 * MIB:
        return raw
    return MARK + (b"\n" + raw).replace(b"\nSubject: ", b"\nX-Subject: ")[1:]


async def email_of(siege: Siege, number: int) -> dict[str, Any]:
    """Return the newest email, after it was seen in the query and read in every way."""
    found = await siege.call("Email/query", calculateTotal=True)
    assert found["total"] == len(found["ids"]) == number
    ids = found["ids"][:1]
    wanted = {"accountId": siege.account, "ids": ids, "bodyProperties": BODY_PROPERTIES}
    brief = wanted | {"properties": ["id", "subject", "preview", "blobId", "size"]}
    both = {"fetchAllBodyValues": True, "maxBodyValueBytes": 100_000}
    responses = await siege.calls(
        ["Email/get", brief, "a"],
        ["Email/get", wanted | both | {"properties": PROPERTIES}, "b"],
        ["Email/get", {"accountId": siege.account, "ids": ids}, "c"],
    )
    email: dict[str, Any] = responses[0][1]["list"][0]
    for name, value, _ in responses[1:]:
        # RFC 8620 §5.1: what makes an answer of more than 48 MB is refused as such.
        assert name == "Email/get" or value["type"] == "requestTooLarge", value
    return email


async def test_hostile_mail(tmp_path: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    async with besieged(tmp_path / "h", "alice") as siege:
        for number, name in enumerate(NAMES, 1):
            raw = marked(HOSTILE[name]())
            reply = await siege.send(raw)
            assert reply.startswith("250 2.0.0 "), (name, reply)
            email = await email_of(siege, number)
            octets = await siege.download(email["blobId"])
            assert email["size"] == len(octets)
            assert as_sent(octets) == hashlib.sha256(raw + b"\r\n").hexdigest(), name
            if raw.startswith(MARK):
                assert email["subject"] == "hailstone", name
            del octets, raw
        await siege.send(b"Subject: sunshine after hailstone\r\n\r\nat last\r\n")
        ids = (await siege.call("Email/query"))["ids"]
        last = await siege.call("Email/query", filter={"text": "sunshine"})
        assert last["ids"] == ids[:1]
        every = await siege.call("Email/query", filter={"subject": "hailstone"})
        assert len(every["ids"]) > len(NAMES) // 2
        assert siege.house.mailboxes[siege.accounts[0].shard].indexer.failed == 0
        assert siege.house.mailboxes[siege.accounts[0].shard].indexer.pending == 0
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    assert after - before < MEMORY_BYTES_MAX


def as_sent(octets: bytes) -> str:
    """Return the digest of what was received, without the trace that we put before it."""
    end = octets.index(b"\r\nReceived: ")
    end = octets.index(b"+0000\r\n", end) + 7
    return hashlib.sha256(octets[end:]).hexdigest()


async def test_others_are_served_while_hostile_mail_comes_in(tmp_path: Path) -> None:
    async with besieged(tmp_path / "h", "alice", "bob") as siege:
        hostile = [HOSTILE[name] for name in ("1 MB lines", "half a closing tag", "empty groups")]
        sending = [asyncio.create_task(siege.send(make())) for make in hostile]
        answered = 0
        while not all(task.done() for task in sending):
            await siege.call("Mailbox/get", ids=[])
            answered += 1
            await asyncio.sleep(0.05)
        assert [task.result()[:4] for task in sending] == ["250 "] * 3
        assert answered > 5


async def test_a_zip_bomb_goes_through_untouched(tmp_path: Path) -> None:
    bomb = zip_bomb()
    async with besieged(tmp_path / "h", "alice") as siege:
        await siege.send(multipart(attachment(bomb, disposition=b"attachment; filename=a.zip")))
        (email,) = (await siege.call("Email/get", ids=["M1"]))["list"]
        (part,) = email["attachments"]
        assert (part["name"], part["size"]) == ("a.zip", len(bomb))
        assert await siege.download(part["blobId"]) == bomb
        assert (await siege.call("Email/query", filter={"text": "a.zip"}))["ids"] == ["M1"]


@pytest.mark.parametrize(
    "make",
    [
        lambda: b"Received: from a by b\r\n" * 100 + b"\r\nloops",
        lambda: message(b"Subject: too large", body=b"x" * 80 * MIB),
    ],
    ids=["loops", "too large"],
)
async def test_what_is_refused_is_refused_for_good(
    tmp_path: Path, make: Callable[[], bytes]
) -> None:
    async with besieged(tmp_path / "h", "alice") as siege:
        reply = await siege.send(make())
        assert reply.startswith("5"), reply
        assert (await siege.call("Email/query"))["ids"] == []
        assert (await siege.send(b"Subject: a good one\r\n\r\nhi\r\n")).startswith("250 ")
