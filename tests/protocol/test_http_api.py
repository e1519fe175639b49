"""`/jmap/api`: one request is one call, passed on and back; refusals of RFC 8620 §3.6.1."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from actors.commands import JmapAnswer
from mail.errors import NotPrimary, OutcomeUnknown, Unavailable
from tests.protocol.http_fakes import ALICE, ALICE_AUTH, PATIENCE_S, basic, exchange, running

REQUEST = {
    "using": ["urn:ietf:params:jmap:core"],
    "methodCalls": [
        ["Core/echo", {"a": 1}, "0"],
        ["Core/echo", {"#b": {"resultOf": "0", "name": "Core/echo", "path": "/a"}}, "1"],
    ],
}
JSON = {"Content-Type": "application/json"}


async def test_whole_request_is_one_call() -> None:
    async with running() as house, house.client() as client:
        answer = await client.post("/jmap/api", json=REQUEST)
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.json()["methodResponses"] == REQUEST["methodCalls"]
        assert [account for account, _ in house.mail.requests] == [ALICE]


async def test_octets_pass_unchanged_both_ways() -> None:
    async with running() as house, house.client() as client:
        house.mail.answer = JmapAnswer(200, b'{ "methodResponses" : [] }')
        body = '{"using": [],\n "methodCalls": [], "x": "é"}'.encode()
        answer = await client.post("/jmap/api", content=body, headers=JSON)
        assert answer.content == b'{ "methodResponses" : [] }'
        assert house.mail.requests[0][1] == body


async def test_problem_of_the_actor_is_passed_on() -> None:
    async with running() as house, house.client() as client:
        house.mail.answer = JmapAnswer(400, b'{"type":"urn:ietf:params:jmap:error:notRequest"}')
        answer = await client.post("/jmap/api", content=b"[]", headers=JSON)
        assert answer.status_code == 400
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["type"] == "urn:ietf:params:jmap:error:notRequest"


async def test_other_content_types_are_not_json() -> None:
    async with running() as house, house.client() as client:
        for content_type in ("text/plain", "", "application/jsonx", "multipart/x"):
            headers = {"Content-Type": content_type}
            answer = await client.post("/jmap/api", content=b"{}", headers=headers)
            assert answer.status_code == 400
            assert answer.json()["type"] == "urn:ietf:params:jmap:error:notJSON"
        assert house.mail.requests == []


async def test_content_type_may_have_parameters() -> None:
    async with running() as house, house.client() as client:
        headers = {"Content-Type": "Application/JSON; charset=utf-8"}
        answer = await client.post("/jmap/api", content=b"{}", headers=headers)
        assert answer.status_code == 200


async def test_request_has_a_size() -> None:
    async with running(request_bytes_max=100) as house, house.client() as client:
        exact = b'{"methodCalls":[' + b" " * 82 + b"]}"
        assert len(exact) == 100
        assert (await client.post("/jmap/api", content=exact, headers=JSON)).status_code == 200
        answer = await client.post("/jmap/api", content=b" " * 101, headers=JSON)
        assert answer.status_code == 400
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["type"] == "urn:ietf:params:jmap:error:limit"
        assert answer.json()["limit"] == "maxSizeRequest"
        chunked = await client.post("/jmap/api", content=pieces(b" " * 10, 20), headers=JSON)
        assert chunked.json()["limit"] == "maxSizeRequest"
        assert len(house.mail.requests) == 1


async def pieces(octets: bytes, count: int) -> Any:
    for _ in range(count):
        yield octets


async def test_what_is_temporary_is_503() -> None:
    async with running() as house, house.client() as client:
        for failure in (Unavailable(), NotPrimary(), OutcomeUnknown()):
            house.mail.failure = failure
            answer = await client.post("/jmap/api", json=REQUEST)
            assert answer.status_code == 503
            assert int(answer.headers["retry-after"]) >= 1
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["title"] == "serverUnavailable"


async def test_what_we_do_not_know_is_temporary_and_tells_nothing() -> None:
    async with running() as house, house.client() as client:
        house.mail.failure = ValueError("the subject of a letter")
        answer = await client.post("/jmap/api", json=REQUEST)
        assert answer.status_code == 503
        assert "letter" not in answer.text


async def test_directory_that_cannot_be_asked_is_503() -> None:
    async with running() as house, house.client() as client:
        house.accounts.failure = Unavailable()
        assert (await client.post("/jmap/api", json=REQUEST)).status_code == 503


async def test_requests_at_once_have_a_limit() -> None:
    async with running(concurrent_requests_max=2) as house, house.client() as client:
        house.mail.hold = asyncio.Event()
        running_requests = [
            asyncio.create_task(client.post("/jmap/api", json=REQUEST)) for _ in range(2)
        ]
        for _ in range(2):
            await house.mail.entered.acquire()
        answer = await client.post("/jmap/api", json=REQUEST)
        assert answer.status_code == 400
        assert answer.json()["limit"] == "maxConcurrentRequests"
        house.mail.hold.set()
        answers = await asyncio.gather(*running_requests)
        assert [answer.status_code for answer in answers] == [200, 200]
        assert (await client.post("/jmap/api", json=REQUEST)).status_code == 200


async def test_pages_of_other_origins_are_refused() -> None:
    async with running() as house, house.client() as client:
        for origin in ("https://evil.test", "null", house.url + "0"):
            answer = await client.post("/jmap/api", json=REQUEST, headers={"Origin": origin})
            assert answer.status_code == 403
        answer = await client.post("/jmap/api", json=REQUEST, headers={"Origin": house.url})
        assert answer.status_code == 200


async def test_refused_body_is_not_read_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateways.http.connection.LINGER_S", 0.05)
    async with running() as house:
        reader, writer = await asyncio.open_connection("127.0.0.1", house.ports["http"])
        head = f"POST /jmap/api HTTP/1.1\r\nHost: a\r\nAuthorization: {basic(*ALICE_AUTH)}\r\n"
        writer.write(f"{head}Content-Length: 99999999\r\nContent-Type: text/a\r\n\r\nxx".encode())
        async with asyncio.timeout(PATIENCE_S):
            assert b" 400 " in await reader.readline()
            await reader.read()  # until we are cut off
        writer.close()


async def test_slow_body_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateways.http.body.GRACE_S", 0.05)
    async with running() as house:
        head = f"POST /jmap/api HTTP/1.1\r\nHost: a\r\nAuthorization: {basic(*ALICE_AUTH)}\r\n"
        rest = "Content-Length: 50\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n{"
        answer = await exchange(house.ports["http"], (head + rest).encode())
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert house.mail.requests == []


async def test_bodies_in_memory_have_a_bound() -> None:
    limits: Any = {
        "bodies_bytes_max": 1_000,
        "request_bytes_max": 800,
        "size_upload_bytes_max": 800,
    }
    async with running(**limits) as house, house.client() as client:
        house.mail.hold = asyncio.Event()
        body = b"[" + b" " * 700 + b"]"
        house.mail.answer = JmapAnswer(200, b"{}")
        first = asyncio.create_task(client.post("/jmap/api", content=body, headers=JSON))
        await house.mail.entered.acquire()
        second = await client.post("/jmap/api", content=body, headers=JSON)
        assert second.status_code == 503
        house.mail.hold.set()
        assert (await first).status_code == 200
        assert (await client.post("/jmap/api", content=body, headers=JSON)).status_code == 200
