"""Upload and download (RFC 8620 §6): bounds, the owner alone, nothing that a browser runs."""

from __future__ import annotations

import asyncio
import hashlib
import random
from typing import Any

import httpx

from mail.errors import Unavailable
from tests.protocol.http_fakes import (
    ALICE,
    ALICE_ID,
    BOB_AUTH,
    BOB_ID,
    PATIENCE_S,
    Client,
    House,
    running,
)

UPLOAD = f"/jmap/upload/{ALICE_ID}/"


async def put(client: Client, octets: bytes, content_type: str = "text/plain") -> str:
    headers = {"Content-Type": content_type}
    answer = await client.post(UPLOAD, content=octets, headers=headers)
    assert answer.status_code == 201
    return str(answer.json()["blobId"])


def path(blob_id: str, name: str = "a.txt", accept: str = "text/plain") -> str:
    return f"/jmap/download/{ALICE_ID}/{blob_id}/{name}?accept={accept}"


async def test_upload_answers_with_the_blob() -> None:
    async with running() as house, house.client() as client:
        answer = await client.post(UPLOAD, content=b"hello", headers={"Content-Type": "Image/PNG"})
        assert answer.status_code == 201
        blob_id = "G" + hashlib.sha256(b"hello").hexdigest()
        expected = {"accountId": ALICE_ID, "blobId": blob_id, "type": "image/png", "size": 5}
        assert answer.json() == expected
        assert house.mail.blobs == {(ALICE.mailbox, blob_id): b"hello"}
        without_slash = await client.post(UPLOAD.rstrip("/"), content=b"")
        assert without_slash.json()["type"] == "application/octet-stream"
        assert without_slash.json()["size"] == 0


async def test_upload_has_a_size() -> None:
    async def chunks(count: int) -> Any:
        for _ in range(count):
            yield b"x" * 100

    async with running(size_upload_bytes_max=1_000) as house, house.client() as client:
        assert (await client.post(UPLOAD, content=b"x" * 1_000)).status_code == 201
        assert (await client.post(UPLOAD, content=chunks(10))).status_code == 201
        for body in (b"x" * 1_001, chunks(11)):
            answer = await client.post(UPLOAD, content=body)
            assert answer.status_code == 413
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["type"] == "urn:ietf:params:jmap:error:limit"
            assert answer.json()["limit"] == "maxSizeUpload"
        assert len(house.mail.blobs) == 1


async def test_another_account_does_not_exist() -> None:
    async with running() as house, house.client() as client, house.client(BOB_AUTH) as bob:
        blob_id = await put(client, b"mine")
        assert (await client.get(path(blob_id))).status_code == 200
        for account_id in (ALICE_ID, "A0", "Afffffffffffffffff", "x", "A0a11ce", "AA11CE"):
            got = await bob.get(f"/jmap/download/{account_id}/{blob_id}/a")
            sent = await bob.post(f"/jmap/upload/{account_id}/", content=b"x")
            for answer in (got, sent):
                assert answer.status_code == 404
                assert answer.json()["title"] == "accountNotFound"
        assert (await bob.get(f"/jmap/download/{BOB_ID}/{blob_id}/a")).status_code == 404
        assert all(mailbox == ALICE.mailbox for mailbox, _ in house.mail.blobs)


async def test_download_is_safe_to_open() -> None:
    async with running() as house, house.client() as client:
        blob_id = await put(client, b"<script>alert(1)</script>", "text/html")
        for method in ("GET", "HEAD"):
            answer = await client.request(method, path(blob_id, "page.html", "text/html"))
            headers = answer.headers
            assert answer.status_code == 200
            assert headers["content-type"] == "text/html"
            assert headers["content-disposition"].startswith("attachment; ")
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["content-security-policy"] == "sandbox; default-src 'none'"
            assert headers["cache-control"] == "private, immutable, max-age=31536000"
            assert headers["content-length"] == "25"
            assert "transfer-encoding" not in headers
            assert answer.content == (b"<script>alert(1)</script>" if method == "GET" else b"")


async def test_names_of_all_kinds() -> None:
    names = {
        "report.pdf": ("report.pdf", "report.pdf"),
        "%EA%B9%80%20%EB%B3%B4%EA%B3%A0.pdf": ("_ __.pdf", "%EA%B9%80%20%EB%B3%B4%EA%B3%A0.pdf"),
        "..%2F..%2Fetc%2Fpasswd": ("_.._etc_passwd", "_.._etc_passwd"),
        "a%22%3B%20filename%3Db.exe": ("a__ filename_b.exe", "a_%3B%20filename%3Db.exe"),
        "a%0DSet-Cookie%3A%20x%3D1": ("a_Set-Cookie_ x_1", "a_Set-Cookie_%20x%3D1"),
        "%E2%80%AEfdp.exe": ("_fdp.exe", "_fdp.exe"),
        "...": ("download", "download"),
    }
    async with running() as house, house.client() as client:
        blob_id = await put(client, b"x")
        for name, (plain, extended) in names.items():
            answer = await client.get(path(blob_id, name))
            disposition = answer.headers["content-disposition"]
            expected = f"attachment; filename=\"{plain}\"; filename*=UTF-8''{extended}"
            assert disposition == expected
            assert "set-cookie" not in answer.headers
        broken = await client.get(path(blob_id, "a%0D%0ASet-Cookie:%20x=1"))
        assert broken.status_code == 404
        assert "set-cookie" not in broken.headers
        long = await client.get(path(blob_id, "x" * 3_000 + ".pdf"))
        assert long.headers["content-disposition"].count("x") <= 402
        assert long.headers["content-disposition"].endswith(".pdf")


async def test_types_of_all_kinds() -> None:
    octets = "application/octet-stream"
    types = {
        "image/png": "image/png",
        "TEXT/Plain;charset=UTF-8": "text/plain; charset=utf-8",
        "message/rfc822": "message/rfc822",
        "multipart/mixed": octets,
        "text/html%0D%0ASet-Cookie:x": octets,
        "text/html%0A%0A<script>": octets,
        "text": octets,
        "%00/x": octets,
        "text/plain;%20x=y": octets,
        "": octets,
        "a/" + "b" * 500: octets,
    }
    async with running() as house, house.client() as client:
        blob_id = await put(client, b"x")
        for accept, expected in types.items():
            answer = await client.get(path(blob_id, accept=accept))
            assert answer.headers["content-type"] == expected, accept
            assert "set-cookie" not in answer.headers
        without = await client.get(f"/jmap/download/{ALICE_ID}/{blob_id}/a")
        assert without.headers["content-type"] == octets


async def test_no_such_blob() -> None:
    async with running() as house, house.client() as client:
        for blob_id in ("G00", "..", "a.b", "x" * 300, "%0d%0a"):
            answer = await client.get(path(blob_id))
            assert answer.status_code == 404
            assert answer.headers["content-type"] == "application/problem+json"


async def test_large_blob_comes_whole_in_pieces() -> None:
    octets = random.Random(25).randbytes(25_000_000)
    async with running() as house, house.client() as client:
        blob_id = await put(client, octets)
        house.mail.offsets.clear()
        digest = hashlib.sha256()
        async with client.stream("GET", path(blob_id)) as answer:
            assert answer.headers["content-length"] == "25000000"
            async for chunk in answer.aiter_bytes():
                digest.update(chunk)
        assert digest.hexdigest() == hashlib.sha256(octets).hexdigest()
        assert house.mail.offsets == [i << 22 for i in range(6)]
        house.mail.offsets.clear()
        head = await client.head(path(blob_id))
        assert head.headers["content-length"] == "25000000"
        assert house.mail.offsets == [0]


async def test_empty_blob() -> None:
    async with running() as house, house.client() as client:
        answer = await client.get(path(await put(client, b"")))
        assert (answer.status_code, answer.content) == (200, b"")
        assert answer.headers["content-length"] == "0"


async def test_a_download_that_fails_midway_is_broken_off() -> None:
    async with running() as house, house.client() as client:
        blob_id = await put(client, b"x" * (5 << 20))
        house.mail.failure, house.mail.fail_from_offset = Unavailable(), 1
        failure = await stream_failure(house, blob_id)
        assert isinstance(failure, httpx.RemoteProtocolError)
        house.mail.fail_from_offset = 0
        assert (await client.get(path(blob_id))).status_code == 503


async def stream_failure(house: House, blob_id: str) -> Exception | None:
    async with house.client() as client:
        try:
            await client.get(path(blob_id))
        except httpx.HTTPError as error:
            return error
    return None


async def test_an_upload_that_cannot_be_stored_now() -> None:
    async with running() as house, house.client() as client:
        house.mail.failure = Unavailable()
        answer = await client.post(UPLOAD, content=b"x")
        assert answer.status_code == 503
        assert "retry-after" in answer.headers
        house.mail.failure = None
        assert (await client.post(UPLOAD, content=b"x")).status_code == 201


async def test_blobs_need_sign_in() -> None:
    async with running() as house, house.client(None) as client:
        assert (await client.post(UPLOAD, content=b"x")).status_code == 401
        assert (await client.get(path("G00"))).status_code == 401
        assert house.mail.blobs == {}


async def test_uploads_at_once_have_a_limit() -> None:
    async with running(concurrent_uploads_max=1) as house, house.client() as client:
        begun, go_on = asyncio.Event(), asyncio.Event()

        async def slowly() -> Any:
            yield b"x"
            begun.set()
            await go_on.wait()
            yield b"y"

        first = asyncio.create_task(client.post(UPLOAD, content=slowly()))
        await begun.wait()
        async with asyncio.timeout(PATIENCE_S):
            while (answer := await client.post(UPLOAD, content=b"z")).status_code == 201:
                pass  # the first one's head has not been read yet
        assert answer.json()["limit"] == "maxConcurrentUpload"
        go_on.set()
        assert (await first).json()["size"] == 2
