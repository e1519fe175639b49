"""Plain HTTP from elsewhere: credentials are not looked at, everything goes to HTTPS.

Peers on other machines are played by the ASGI transport, which lets a test name them.
"""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from gateways.http.app import build_app
from tests.protocol.http_fakes import ALICE_AUTH, House, basic, running

ELSEWHERE = ["192.0.2.7", "2001:db8::7", "::ffff:192.0.2.7", "10.0.0.1", "testclient", ""]
HERE = ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"]


def peer(house: House, host: str, scheme: str = "http") -> httpx.AsyncClient:
    transport = httpx.ASGITransport(build_app(house.gateway._context), client=(host, 50_000))
    return httpx.AsyncClient(transport=transport, base_url=f"{scheme}://mx.example.test:8080")


@pytest.fixture
async def house() -> Any:
    async with running() as house:
        house.gateway._context.https_port = 8443
        yield house


async def test_credentials_are_redirected_unread(house: House) -> None:
    headers = {"Authorization": basic(*ALICE_AUTH), "X-Forwarded-For": "127.0.0.1"}
    for host in ELSEWHERE:
        async with peer(house, host) as client:
            for method, path in (("GET", "/jmap/session?a=b%20c"), ("POST", "/jmap/api")):
                answer = await client.request(method, path, headers=headers)
                assert answer.status_code == 308, host
                assert answer.headers["location"] == f"https://mx.example.test:8443{path}"
            health = await client.get("/health/live", headers=headers)
            assert health.status_code == 308
    assert house.accounts.asked == []


async def test_loopback_and_tls_are_served(house: House) -> None:
    headers = {"Authorization": basic(*ALICE_AUTH)}
    for host in HERE:
        async with peer(house, host) as client:
            assert (await client.get("/jmap/session", headers=headers)).status_code == 200
    async with peer(house, "192.0.2.7", "https") as client:
        assert (await client.get("/jmap/session", headers=headers)).status_code == 200


async def test_health_and_metrics_are_served_without_credentials(house: House) -> None:
    async with peer(house, "192.0.2.7") as client:
        for path in ("/health/live", "/health/ready", "/metrics"):
            assert (await client.get(path)).status_code == 200
        assert (await client.get("/")).status_code == 308


async def test_redirect_goes_nowhere_else(house: House) -> None:
    async with peer(house, "192.0.2.7") as client:
        for host in ("evil.test/path", "user@evil.test", "a b", "evil.test?"):
            answer = await client.get("/", headers={"Host": host})
            assert answer.headers["location"] == "https://localhost:8443/"
        answer = await client.get("//evil.test/x")
        assert answer.headers["location"].startswith("https://mx.example.test:8443/")
        answer = await client.get("/a%0d%0aSet-Cookie:x")
        assert "set-cookie" not in answer.headers


async def test_without_https_there_is_nowhere_to_go(house: House) -> None:
    house.gateway._context.https_port = None
    async with peer(house, "192.0.2.7") as client:
        headers = {"Authorization": basic(*ALICE_AUTH)}
        assert (await client.get("/jmap/session", headers=headers)).status_code == 403
    assert house.accounts.asked == []


async def test_no_websocket_in_plain_text_from_elsewhere(house: House) -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "websocket",
        "scheme": "ws",
        "path": "/jmap/ws",
        "raw_path": b"/jmap/ws",
        "root_path": "",
        "query_string": b"",
        "headers": [(b"authorization", basic(*ALICE_AUTH).encode())],
        "client": ("192.0.2.7", 50_000),
        "server": ("192.0.2.1", 8080),
        "subprotocols": ["jmap"],
        "extensions": {"websocket.http.response": {}},
    }
    async with asyncio.timeout(5):
        await build_app(house.gateway._context)(scope, receive, send)
    assert sent[0]["type"] == "websocket.http.response.start"
    assert sent[0]["status"] == 403
    assert house.accounts.asked == []
