"""JMAP over WebSocket (RFC 8887): handshake, requests, errors, bounds, draining."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from actors.commands import JmapAnswer
from gateways.http.session import session_state
from gateways.http.settings import HttpSettings
from mail.errors import Unavailable
from tests.protocol.http_fakes import (
    ALICE,
    ALICE_ACCESS,
    ALICE_AUTH,
    BOB_AUTH,
    JMAP,
    PATIENCE_S,
    House,
    basic,
    make_certificate,
    receive,
    running,
    send,
)


def request(request_id: str | None, *calls: Any) -> dict[str, Any]:
    message = {"@type": "Request", "using": ["urn:ietf:params:jmap:core"], "methodCalls": calls}
    return message if request_id is None else message | {"id": request_id}


async def refusal(house: House, **options: Any) -> InvalidStatus:
    with pytest.raises(InvalidStatus) as refused:
        await house.websocket(**options)
    return refused.value


async def test_request_and_response() -> None:
    async with running() as house, house.websocket() as socket:
        assert socket.subprotocol == "jmap"
        assert socket.response is not None
        assert "Sec-WebSocket-Extensions" not in socket.response.headers
        await send(socket, request("R1", ["Core/echo", {"x": 1}, "0"]))
        assert await receive(socket) == {
            "@type": "Response",
            "requestId": "R1",
            "methodResponses": [["Core/echo", {"x": 1}, "0"]],
            "sessionState": session_state(ALICE_ACCESS, HttpSettings()),
        }
        [(account, body)] = house.mail.requests
        assert account == ALICE
        assert json.loads(body) == {
            "using": ["urn:ietf:params:jmap:core"],
            "methodCalls": [["Core/echo", {"x": 1}, "0"]],
        }


async def test_response_without_id_has_none() -> None:
    async with running() as house, house.websocket() as socket:
        await send(socket, request(None))
        assert "requestId" not in await receive(socket)


async def test_over_tls(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path)
    async with running(certificate=certificate) as house:
        url = f"wss://localhost:{house.ports['https']}/jmap/ws"
        headers = {
            "Authorization": basic(*BOB_AUTH),
            "Origin": f"https://localhost:{house.ports['https']}",
        }
        context = certificate.client_context()
        async with connect(
            url, ssl=context, additional_headers=headers, subprotocols=JMAP, proxy=None
        ) as socket:
            await send(socket, request("x"))
            assert (await receive(socket))["requestId"] == "x"


async def test_sign_in_is_in_the_handshake() -> None:
    async with running() as house:
        refused = await refusal(house, additional_headers={})
        assert refused.response.status_code == 401
        assert refused.response.headers["WWW-Authenticate"].startswith("Basic ")
        assert refused.response.headers["Content-Type"] == "application/problem+json"
        attempt = asyncio.create_task(
            refusal(house, additional_headers={"Authorization": basic("alice", "no")})
        )
        await house.clock.asleep.acquire()
        assert not attempt.done()
        house.clock.turn(60)
        assert (await attempt).response.status_code == 401
        asked = len(house.accounts.asked)
        url = f"ws://127.0.0.1:{house.ports['http']}/jmap/ws?access_token=x&authorization=y"
        with pytest.raises(InvalidStatus):
            await connect(url, subprotocols=JMAP, proxy=None)
        assert len(house.accounts.asked) == asked, "never by its URL"


async def test_subprotocol_is_required() -> None:
    async with running() as house:
        assert (await refusal(house, subprotocols=None)).response.status_code == 400
        assert (await refusal(house, subprotocols=["chat"])).response.status_code == 400
        async with house.websocket(subprotocols=["chat", "jmap"]) as socket:
            assert socket.subprotocol == "jmap"


async def test_origin_must_be_ours() -> None:
    async with running() as house:
        for origin in ("https://evil.test", house.url.replace("http", "https"), "null"):
            refused = await refusal(house, origin=origin)
            assert refused.response.status_code == 403
        assert house.accounts.asked == []
        async with house.websocket(origin=house.url) as socket:
            await send(socket, request("x"))
            await receive(socket)


async def test_directory_that_cannot_be_asked() -> None:
    async with running() as house:
        house.accounts.failure = Unavailable()
        assert (await refusal(house)).response.status_code == 503


async def test_broken_messages_are_answered_and_the_connection_goes_on() -> None:
    async with running() as house, house.websocket() as socket:
        for text, kind, request_id in (
            ("{", "notJSON", None),
            ("[]", "notRequest", None),
            ('{"id": "a"}', "notRequest", "a"),
            ('{"@type": "Response", "id": "b"}', "notRequest", "b"),
            ('{"@type": "Request", "id": 7}', "notRequest", None),
            ('{"@type": "WebSocketPushEnable", "dataTypes": "Email"}', "notRequest", None),
        ):
            await socket.send(text)
            error = await receive(socket)
            assert error["@type"] == "RequestError"
            assert error["requestId"] == request_id
            assert error["type"] == f"urn:ietf:params:jmap:error:{kind}"
            assert error["status"] == 400
        await send(socket, request("still here"))
        assert (await receive(socket))["requestId"] == "still here"


async def test_problems_of_the_actor_become_request_errors() -> None:
    async with running() as house, house.websocket() as socket:
        problem = b'{"type":"urn:ietf:params:jmap:error:unknownCapability","status":400}'
        house.mail.answer = JmapAnswer(400, problem)
        await send(socket, request("p"))
        assert await receive(socket) == {
            "@type": "RequestError",
            "requestId": "p",
            "type": "urn:ietf:params:jmap:error:unknownCapability",
            "status": 400,
        }
        for failure in (Unavailable(), ValueError("the subject of a letter")):
            house.mail.failure = failure
            await send(socket, request("q"))
            error = await receive(socket)
            assert (error["requestId"], error["status"]) == ("q", 503)
            assert error["title"] == "serverUnavailable"
            assert "letter" not in json.dumps(error)


async def test_binary_frames_close_with_1003() -> None:
    async with running() as house, house.websocket() as socket:
        await socket.send(b"{}")
        with pytest.raises(ConnectionClosed) as closed:
            await receive(socket)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1003


async def test_messages_have_a_size() -> None:
    async with running(request_bytes_max=1_000) as house, house.websocket() as socket:
        await send(socket, request("a" * 200))
        await receive(socket)
        await socket.send(" " * 1_001)
        with pytest.raises(ConnectionClosed) as closed:
            await receive(socket)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1009


async def test_answers_may_overtake_each_other() -> None:
    async with running() as house, house.websocket() as socket:
        hold = house.mail.hold = asyncio.Event()
        await send(socket, request("slow"))
        await house.mail.entered.acquire()
        house.mail.hold = None
        await send(socket, request("quick"))
        assert (await receive(socket))["requestId"] == "quick"
        hold.set()
        assert (await receive(socket))["requestId"] == "slow"


async def test_requests_at_once_have_a_limit() -> None:
    async with running(concurrent_requests_max=4) as house, house.websocket() as socket:
        house.mail.hold = asyncio.Event()
        for number in range(5):
            await send(socket, request(f"r{number}"))
        error = await receive(socket)
        assert (error["@type"], error["requestId"]) == ("RequestError", "r4")
        assert error["type"] == "urn:ietf:params:jmap:error:limit"
        assert error["limit"] == "maxConcurrentRequests"
        house.mail.hold.set()
        answers = {(await receive(socket))["requestId"] for _ in range(4)}
        assert answers == {"r0", "r1", "r2", "r3"}
        await send(socket, request("again"))
        assert (await receive(socket))["@type"] == "Response"


async def test_websockets_of_an_account_have_a_limit() -> None:
    async with running(websockets_per_account_max=1) as house:
        async with house.websocket():
            assert (await refusal(house)).response.status_code == 429
            bob = {"Authorization": basic(*BOB_AUTH)}
            async with house.websocket(additional_headers=bob), house.client() as client:
                text = (await client.get("/metrics")).text
                assert "heliograph_http_websockets_open 2.0" in text


async def test_drain_finishes_requests_and_closes_with_1001() -> None:
    async with running() as house, house.websocket() as socket, house.websocket() as idle:
        house.mail.hold = asyncio.Event()
        await send(socket, request("last"))
        await house.mail.entered.acquire()
        draining = asyncio.create_task(house.gateway.drain())
        with pytest.raises(ConnectionClosed) as idle_closed:
            await receive(idle)
        house.mail.hold.set()
        assert (await receive(socket))["requestId"] == "last"
        with pytest.raises(ConnectionClosed) as closed:
            await receive(socket)
        for error in (idle_closed, closed):
            assert error.value.rcvd is not None
            assert error.value.rcvd.code == 1001
        async with asyncio.timeout(PATIENCE_S):
            await draining


async def test_drain_does_not_wait_for_a_request_for_ever() -> None:
    async with running(drain_timeout_s=1) as house, house.websocket() as socket:
        house.mail.hold = asyncio.Event()
        await send(socket, request("endless"))
        await house.mail.entered.acquire()
        draining = asyncio.create_task(house.gateway.drain())
        with pytest.raises(ConnectionClosed) as closed:
            await receive(socket)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1001
        async with asyncio.timeout(PATIENCE_S):
            await draining


async def test_a_client_that_goes_leaves_nothing() -> None:
    async with running() as house:
        async with house.websocket() as socket:
            house.mail.hold = asyncio.Event()
            await send(socket, request("x"))
            await send(socket, {"@type": "WebSocketPushEnable"})
            await house.mail.entered.acquire()
            await house.push.until_listeners(ALICE, 1)
            [session] = house.gateway._context.websockets
            socket.transport.abort()
            async with asyncio.timeout(PATIENCE_S):
                await session.closed.wait()
        await house.push.until_listeners(ALICE, 0)
        assert house.gateway._context.websockets == set()
        assert ALICE_AUTH[0] == ALICE.address


async def test_other_paths_are_no_websockets() -> None:
    async with running() as house:
        url = f"ws://127.0.0.1:{house.ports['http']}/jmap/api"
        with pytest.raises(InvalidStatus) as refused:
            await connect(url, subprotocols=JMAP, proxy=None)
        assert refused.value.response.status_code in (403, 404)
        async with house.client() as client:
            assert (await client.get("/jmap/ws")).status_code == 404
