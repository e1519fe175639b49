"""Hostile requests over HTTP and WebSocket: the protocol's own error, and all others go on."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from actors.jmap.ids import account_id_of
from actors.jmap.methods import METHODS
from mail.errors import DiskFull
from tests.contract.hostile import USING, Siege, besieged, check_problem, check_response
from tests.protocol.http_fakes import basic

JSON = {"Content-Type": "application/json"}

# Bodies and the problem that each of them is, or None for a Response.
BODIES: tuple[tuple[bytes, str | None], ...] = (
    (b"", "notJSON"),
    (b"\xff\xfe", "notJSON"),
    (b'{"using": ["\xed\xa0\x80"], "methodCalls": []}', "notJSON"),
    (b'{"using": ["\\ud800"], "methodCalls": []}', "notJSON"),
    (b'{"using": [], "methodCalls": [["Core/echo", {"a": NaN}, "c"]]}', "notJSON"),
    (b'{"using": [], "methodCalls": [["Core/echo", {"a": -Infinity}, "c"]]}', "notJSON"),
    (b'{"using": [], "methodCalls": [["Core/echo", {"a": 1e400}, "c"]]}', "notJSON"),
    (b'{"using": [], "methodCalls": [["Core/echo", {"a": "\x00"}, "c"]]}', "notJSON"),
    (b"[" * 100_000, "notRequest"),
    (b"[" * 9_000_000, "limit"),
    (b'{"using":' + b'{"a":' * 2_000_000, "limit"),
    (b"1" * 9_000_000, "notJSON"),
    (b'"' + b"x" * 9_900_000 + b'"', "notRequest"),
    (b"x" * 50_000_000, "limit"),
    (b'{"using": ["a"], "methodCalls": []}', "unknownCapability"),
    (b'{"using": ["' + b"a" * 1_000_000 + b'"], "methodCalls": []}', "unknownCapability"),
    (b'{"using":[],"methodCalls":[' + b'["a",{},"c"],' * 9_999 + b'["a",{},"c"]]}', "limit"),
    (b'{"using":[],"methodCalls":[' + b'["a",{},"c"],' * 700_000 + b"1]}", "limit"),
    (b'{"using": [], "methodCalls": [], "using": [], "more": {"a": 18446744073709551616}}', None),
    (b'{"using": [], "methodCalls": [["Core/echo", {"a": "\\u0000", "a": 2}, ""]]}', None),
)


async def test_any_body_is_answered_and_others_are_served_meanwhile(tmp_path: Path) -> None:
    async with besieged(tmp_path / "h", "alice") as siege:
        await siege.house.deliver(b"Subject: here\r\n\r\nhi\r\n", siege.accounts[0])
        for body, problem in BODIES:
            (status, value), found = await asyncio.gather(
                siege.post(body), siege.call("Email/query")
            )
            assert found["ids"] == ["M1"]
            if problem is None:
                assert status == 200, value
            else:
                assert check_problem(value) == problem, (body[:60], value)
        answer = await siege.client.post("/jmap/api", content=b"{}")
        assert (answer.status_code, check_problem(answer.json())) == (400, "notJSON")


async def test_hostile_calls(tmp_path: Path) -> None:
    async with besieged(tmp_path / "h", "alice") as siege:
        await siege.house.deliver(b"Subject: here\r\n\r\nhi\r\n", siege.accounts[0])
        deep: Any = {"text": "a"}
        for _ in range(200):
            deep = {"operator": "NOT", "conditions": [deep]}
        wide = {"operator": "OR", "conditions": [{"text": "a"}] * 10_000}
        for name, arguments, kind in (
            ("Email/query", {"filter": deep}, "unsupportedFilter"),
            ("Email/query", {"filter": wide}, "unsupportedFilter"),
            ("Email/query", {"sort": [{"property": "size"}] * 10_000}, "unsupportedSort"),
            ("Email/query", {"filter": {"text": "a" * 5_000_000}}, None),
            ("Email/query", {"filter": {"text": '"\\' * 500}}, None),
            ("Email/query", {"position": 2**53 - 1, "limit": 2**53 - 1}, None),
            ("Email/query", {"position": 2**53}, "invalidArguments"),
            ("Email/query", {"anchor": "M1", "anchorOffset": 1 - 2**53, "limit": 0}, None),
            ("Email/get", {"ids": [f"M{n:x}" for n in range(100_000)]}, "requestTooLarge"),
            ("Email/get", {"ids": ["M1"] * 100_000}, None),
            ("Email/get", {"properties": ["header:"]}, "invalidArguments"),
            ("Email/get", {"properties": ["header:a:asRaw:all:all"]}, "invalidArguments"),
            ("Email/get", {"properties": ["header:Subject:asDate"]}, "invalidArguments"),
            ("Email/get", {"properties": ["header:é"]}, "invalidArguments"),
            ("Email/get", {"properties": ["header:" + "a" * 1_000_000]}, None),
            ("Email/get", {"properties": [f"header:x{n}" for n in range(500)]}, "invalidArguments"),
            ("Email/get", {"maxBodyValueBytes": 2**70}, "invalidArguments"),
            ("Email/set", {"update": {"M1": {"/".join("a" * 100_000): 1}}}, None),
            ("Email/set", {"destroy": ["M" + "f" * 16, "#x", "", "é", "M" * 1000]}, None),
            ("Email/changes", {"sinceState": "9" * 100_000}, "cannotCalculateChanges"),
            ("Email/changes", {"sinceState": "0", "maxChanges": 0}, "invalidArguments"),
        ):
            given = {"accountId": siege.account} | arguments
            ((answered, value, _),) = await siege.calls([name, given, "c"])
            if kind is None:
                assert answered == name, value
            else:
                assert (answered, value["type"]) == ("error", kind), name


async def test_what_is_others_does_not_exist(tmp_path: Path) -> None:
    async with besieged(tmp_path / "h", "alice", "bob") as siege:
        alice, bob = siege.accounts
        await siege.house.deliver(b"Subject: for bob\r\n\r\nsecret\r\n", bob)
        theirs = account_id_of(bob.mailbox)
        for method in sorted(set(METHODS) - {"Core/echo"}):
            for account in (theirs, "Affff", "nobody"):
                ((_, value, _),) = await siege.calls([method, {"accountId": account}, "c"])
                assert value == {"type": "accountNotFound"}
        siege.client.auth = httpx.BasicAuth(bob.address, "secret")
        request = [
            ["Email/query", {"accountId": theirs}, "a"],
            ["Email/get", {
                "accountId": theirs,
                "#ids": {"resultOf": "a", "name": "Email/query", "path": "/ids"},
            }, "b"],
        ]  # fmt: skip
        (email,) = (await siege.calls(*request))[1][1]["list"]
        assert (await siege.client.get(f"/jmap/download/{theirs}/{email['blobId']}/x")).is_success
        siege.client.auth = httpx.BasicAuth(alice.address, "secret")
        answers = []
        for account in (siege.account, theirs):
            for blob_id in (email["blobId"], "G" + "0" * 64):
                path = f"/jmap/download/{account}/{blob_id}/x"
                answers.append(await siege.client.get(path))
        assert {answer.status_code for answer in answers} == {404}
        assert answers[0].content == answers[1].content, "theirs looks like one that is not"
        assert answers[2].content == answers[3].content
        upload = await siege.client.post(f"/jmap/upload/{theirs}", content=b"x")
        assert upload.status_code == 404


PATHS = (
    "/jmap/download/{account}/{blob}/a%0d%0aSet-Cookie:%20x=1?accept=text/html%0d%0aX-Evil:%201",
    "/jmap/download/{account}/{blob}/..%2f..%2fetc%2fpasswd?accept=a/b;c=%22",
    "/jmap/download/{account}/{blob}/%00%ff%fe%22%5c.html?accept=" + "a" * 5000,
    "/jmap/download/{account}/{blob}/" + "n" * 5000,
    "/jmap/download/{account}/{blob}-1/x",
    "/jmap/download/{account}/{blob}-999999999/x",
    "/jmap/download/{account}/{blob}-1_1_1_1_1_1_1_1_1_1_1/x",
    "/jmap/download/{account}/" + "G" * 255 + "/x",
    "/jmap/download/{account}/" + "G" * 6000 + "/x",
    "/jmap/download/{account}/%2e%2e/x",
    "/jmap/download/%00/{blob}/x",
    "/jmap/eventsource?types=" + "a," * 1000,
    "/jmap/eventsource?closeafter=never",
    "/jmap/eventsource?ping=99999999999999999999",
    "/jmap/eventsource?ping=-1",
    "/jmap/eventsource?ping=%D9%A1",
)


async def test_odd_paths_and_uploads(tmp_path: Path) -> None:
    async with besieged(tmp_path / "h", "alice") as siege:
        content = b"<script>alert(1)</script>"
        kinds: tuple[Any, ...] = (
            "text/html;\tx", "a" * 5000, 'text/html; charset="x"; a=b', "", "/", "é".encode(),
        )  # fmt: skip
        blob = ""
        for kind in kinds:
            answer = await siege.client.post(
                f"/jmap/upload/{siege.account}", content=content, headers={"Content-Type": kind}
            )
            assert answer.status_code == 201, (kind, answer.content)
            blob = answer.json()["blobId"]
        for path in PATHS:
            answer = await siege.client.get(path.format(account=siege.account, blob=blob))
            assert answer.status_code in (200, 400, 404), (path[:80], answer.status_code)
            assert "set-cookie" not in answer.headers
            assert "x-evil" not in answer.headers
            if answer.status_code == 200:
                assert answer.headers["content-disposition"].startswith("attachment;")
                assert answer.headers["x-content-type-options"] == "nosniff"
                assert "sandbox" in answer.headers["content-security-policy"]
        empty = await siege.client.post(f"/jmap/upload/{siege.account}", content=b"")
        assert (empty.status_code, empty.json()["size"]) == (201, 0)
        huge = await siege.client.post(f"/jmap/upload/{siege.account}", content=b"x" * 50_000_001)
        assert (huge.status_code, huge.json()["limit"]) == (413, "maxSizeUpload")


async def test_a_full_disk_is_told_and_reads_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with besieged(tmp_path / "h", "alice") as siege:
        await siege.house.deliver(b"Subject: before\r\n\r\nhi\r\n", siege.accounts[0])
        shard = siege.house.mailboxes[siege.accounts[0].shard].shard
        monkeypatch.setattr(shard, "has_room", lambda: False)
        with pytest.raises(DiskFull):
            await siege.house.deliver(b"Subject: full\r\n\r\nhi\r\n", siege.accounts[0])
        assert (await siege.send(b"Subject: full\r\n\r\nhi\r\n")).startswith("452 4.3.1 ")
        found = await siege.call("Email/query", filter={"text": "before"})
        (email,) = (await siege.call("Email/get", ids=found["ids"]))["list"]
        assert await siege.download(email["blobId"])
        update = {"accountId": siege.account, "update": {"M1": {"keywords/$seen": True}}}
        body = msgspec.json.encode({"using": USING, "methodCalls": [["Email/set", update, "c"]]})
        answer = await siege.client.post("/jmap/api", content=body, headers=JSON)
        ((name, value, _),) = answer.json()["methodResponses"]
        assert (name, value["type"]) == ("error", "serverUnavailable")
        upload = await siege.client.post(f"/jmap/upload/{siege.account}", content=b"x")
        assert (upload.status_code, upload.json()["title"]) == (503, "serverUnavailable")
        assert upload.headers["retry-after"]
        monkeypatch.undo()
        assert (await siege.send(b"Subject: after\r\n\r\nhi\r\n")).startswith("250 ")


async def exchange(socket: Any, text: str) -> Any:
    await socket.send(text)
    async with asyncio.timeout(30):
        return msgspec.json.decode(await socket.recv())


def wrapped(body: bytes) -> str:
    """Return a body as the client of a WebSocket sends it, whatever it is."""
    return body.decode("utf-8", "replace").replace("{", '{"@type": "Request", "id": "r", ', 1)


async def test_the_same_through_a_websocket(tmp_path: Path) -> None:
    async with besieged(tmp_path / "h", "alice") as siege:
        async with _socket(siege) as socket:
            for body, problem in BODIES:
                if len(body) > 9_500_000:
                    continue  # The frame itself is too large: the socket is closed (RFC 6455).
                answer = await exchange(socket, wrapped(body))
                if answer["@type"] == "Response":
                    assert problem is None, (body[:60], answer)
                    check_response(answer)
                else:
                    assert answer["@type"] == "RequestError"
                    check_problem(answer)
            for text in ("", "1", "[]", "{}", '{"@type": 1}', '{"@type": "Response"}', "\x00",
                         '{"@type": "Request", "id": {}}', '{"@type": "Request"}',
                         '{"@type": "WebSocketPushEnable", "dataTypes": 1}',
                         '{"@type": "WebSocketPushEnable", "dataTypes": [["Email"]]}',
                         '{"@type": "Request", "id": "' + "x" * 1_000_000 + '"}'):  # fmt: skip
                answer = await exchange(socket, text)
                assert answer["@type"] == "RequestError", text[:60]
                check_problem(answer)
            echo = {"@type": "Request", "using": USING, "methodCalls": [["Core/echo", {}, "c"]]}
            answer = await exchange(socket, msgspec.json.encode(echo).decode())
            assert answer["methodResponses"] == [["Core/echo", {}, "c"]]


def _socket(siege: Siege) -> connect:
    return connect(
        f"ws://127.0.0.1:{siege.http_port}/jmap/ws",
        proxy=None,
        subprotocols=[Subprotocol("jmap")],
        additional_headers={"Authorization": basic(siege.accounts[0].address, "secret")},
    )
