"""The servers themselves: TLS and its reload, bounds on heads, health, metrics, draining."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path

import httpx
import pytest
import uvloop

from gateways.http.connection import BoundedHttpProtocol
from gateways.http.server import HttpGateway
from gateways.http.settings import HttpSettings
from tests.protocol.http_fakes import (
    PATIENCE_S,
    FakeAccounts,
    FakeMail,
    FakePush,
    exchange,
    make_certificate,
    receive,
    running,
    send,
)


async def test_https_with_strict_transport_security(tmp_path: Path) -> None:
    async with running(certificate=make_certificate(tmp_path)) as house:
        async with house.secure_client() as client:
            answer = await client.get("/jmap/session")
            assert answer.status_code == 200
            assert answer.headers["strict-transport-security"] == "max-age=31536000"
            local = await client.get("/health/live", headers={"Host": "localhost:8443"})
            assert "strict-transport-security" not in local.headers
        async with house.client() as client:
            answer = await client.get("/jmap/session")
            assert "strict-transport-security" not in answer.headers


async def test_certificate_is_reloaded_for_new_connections(tmp_path: Path) -> None:
    old, new = make_certificate(tmp_path, "old"), make_certificate(tmp_path, "new")
    async with running(certificate=old) as house:
        async with house.secure_client() as kept:
            assert (await kept.get("/health/live")).status_code == 200
            house.gateway.reload(new.certificate, new.key)
            assert (await kept.get("/health/live")).status_code == 200
        house.certificate = new
        async with house.secure_client() as client:
            assert (await client.get("/health/live")).status_code == 200
        with pytest.raises(ssl.SSLError):
            house.gateway.reload(old.certificate, new.key)
        async with house.secure_client() as client:
            assert (await client.get("/health/live")).status_code == 200


async def test_tls_from_a_factory_and_plain_alone(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path)

    def factory() -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate.certificate, certificate.key)
        return context

    async def probe() -> dict[str, bool]:
        return {}

    settings = HttpSettings(http_port=None, https_port=0)
    gateway = HttpGateway(
        FakeAccounts(), FakeMail(), FakePush(), settings, probe=probe, tls=factory
    )
    [(name, host, port)] = await gateway.start()
    assert (name, host) == ("https", "127.0.0.1")
    async with httpx.AsyncClient(verify=certificate.client_context()) as client:
        assert (await client.get(f"https://localhost:{port}/health/live")).status_code == 200
    await gateway.drain()
    async with running() as house:
        assert list(house.ports) == ["http"]


async def test_a_taken_port_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    async def probe() -> dict[str, bool]:
        return {}

    async with running() as house:
        settings = HttpSettings(http_port=house.ports["http"], https_port=0)
        certificate = make_certificate(tmp_path)
        gateway = HttpGateway(
            FakeAccounts(),
            FakeMail(),
            FakePush(),
            settings,
            probe=probe,
            tls=(certificate.certificate, certificate.key),
        )
        with pytest.raises(OSError, match=r"[Aa]ddress"):
            await gateway.start()


async def test_gateways_share_a_port_when_told_to() -> None:
    async with running(reuse_port=True) as house:

        async def probe() -> dict[str, bool]:
            return {}

        settings = HttpSettings(http_port=house.ports["http"], https_port=None, reuse_port=True)
        second = HttpGateway(FakeAccounts(), FakeMail(), FakePush(), settings, probe=probe)
        assert await second.start() == [("http", "127.0.0.1", house.ports["http"])]
        await second.drain()
        async with house.client() as client:
            assert (await client.get("/health/live")).status_code == 200


async def test_small_answers_are_not_held_back() -> None:
    async with running() as house, house.client(None) as client:
        await client.get("/health/live")
        [connection] = house.gateway._servers[0][0].server_state.connections
        sock = connection.transport.get_extra_info("socket")
        nodelay = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert nodelay, "Nagle's algorithm is on: 44 ms a request"


async def test_serves_on_uvloop_outside_the_main_thread(tmp_path: Path) -> None:
    """An actor's loop runs in a thread of its own."""
    certificate = make_certificate(tmp_path)

    async def serve() -> None:
        async with running(certificate=certificate) as house:
            async with house.secure_client() as client, house.websocket() as socket:
                assert (await client.get("/jmap/session")).status_code == 200
                await send(socket, {"@type": "WebSocketPushEnable"})
                assert (await receive(socket))["pushState"] == "7.5.6"

    await asyncio.to_thread(uvloop.run, serve())


async def test_heads_have_bounds() -> None:
    async with running() as house:
        port = house.ports["http"]
        line = b"GET /health/live HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
        assert b" 200 " in await exchange(port, line + b"\r\n")
        many = b"".join(b"X-%d: y\r\n" % i for i in range(120))
        for request in (
            line + many + b"\r\n",
            line + b"X: " + b"y" * 9_000 + b"\r\n\r\n",
            line + b"".join(b"X-%d: %b\r\n" % (i, b"y" * 7_000) for i in range(6)) + b"\r\n",
            b"GET /" + b"a" * 9_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
            b"nonsense\r\n\r\n",
            line.replace(b"Host: a", b"Ho st: a") + b"\r\n",
        ):
            assert (await exchange(port, request)).startswith(b"HTTP/1.1 400 ")
        endless = line + b"X: " + b"y" * 2_000_000
        assert b" 200 " not in await exchange(port, endless)


async def test_heads_must_come_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateways.http.connection.HEAD_TIMEOUT_S", 0.05)
    async with running() as house:
        for octets in (b"", b"GET / HTTP/1.1\r\nHost:", b"\r\n"):
            assert await exchange(house.ports["http"], octets) == b""
        reader, writer = await asyncio.open_connection("127.0.0.1", house.ports["http"])
        writer.write(b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b" 200 " in await reader.readline()
        writer.write(b"\r\n")
        async with asyncio.timeout(PATIENCE_S):
            await reader.read()
        writer.close()


async def test_a_client_that_takes_nothing_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateways.http.connection.STALL_TIMEOUT_S", 0.05)
    async with running() as house, house.client() as client:
        uploaded = await client.post("/jmap/upload/Aa11ce", content=b"x" * 20_000_000)
        path = f"/jmap/download/Aa11ce/{uploaded.json()['blobId']}/a"
        lost = asyncio.Event()
        connection_lost = BoundedHttpProtocol.connection_lost

        def note_lost(self: BoundedHttpProtocol, error: Exception | None) -> None:
            connection_lost(self, error)
            lost.set()

        monkeypatch.setattr(BoundedHttpProtocol, "connection_lost", note_lost)
        async with client.stream("GET", path) as answer:
            async with asyncio.timeout(PATIENCE_S):
                await lost.wait()
            with pytest.raises(httpx.HTTPError):
                await answer.aread()


async def test_live_and_ready() -> None:
    async with running() as house, house.client(None) as client:
        assert (await client.get("/health/live")).json() == {"live": True}
        ready = await client.get("/health/ready")
        parts = {"gateway": True, "directory": True, "mail": True}
        assert (ready.status_code, ready.json()) == (200, {"ready": True, "parts": parts})
        house.parts["mail"] = False
        assert (await client.get("/health/ready")).status_code == 200, "asked once a second"
        house.clock.turn(1)
        ready = await client.get("/health/ready")
        assert ready.status_code == 503
        assert ready.headers["content-type"] == "application/json"
        assert ready.json()["parts"]["mail"] is False
        assert ready.headers["cache-control"] == "no-store"


async def test_probe_that_fails_or_hangs_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateways.http.health.PROBE_TIMEOUT_S", 0.02)

    async def fails() -> dict[str, bool]:
        raise RuntimeError

    async def hangs() -> dict[str, bool]:
        await asyncio.Event().wait()
        return {}

    for probe in (fails, hangs):
        async with running() as house, house.client(None) as client:
            house.gateway._context.readiness._probe = probe
            answer = await client.get("/health/ready")
            assert answer.status_code == 503
            assert answer.json()["parts"] == {"gateway": True, "probe": False}


async def test_metrics_are_each_gateways_own() -> None:
    async def extra() -> str:
        return "heliograph_shard_lag 3"

    async def broken() -> str:
        raise RuntimeError

    async with running(metrics_sources=[broken, extra]) as one, running() as other:
        async with one.client() as client:
            await client.get("/jmap/session")
            await client.get("/no/such/path")
            text = (await client.get("/metrics")).text
        assert 'http_requests_total{route="/jmap/session",status="200"} 1.0' in text
        assert 'http_requests_total{route="other",status="404"} 1.0' in text
        assert 'heliograph_http_request_seconds_bucket{le="0.01",route="/jmap/session"}' in text
        assert "heliograph_http_websockets_open 0.0" in text
        assert text.endswith("heliograph_shard_lag 3\n")
        async with other.client() as client:
            answer = await client.get("/metrics")
            assert "/jmap/session" not in answer.text
            assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")


async def test_drain_finishes_what_runs_and_takes_nothing_new() -> None:
    async with running() as house, house.client() as client:
        house.mail.hold = asyncio.Event()
        request = asyncio.create_task(client.post("/jmap/api", json={"methodCalls": []}))
        await house.mail.entered.acquire()
        idle = house.client(None)
        await idle.get("/health/live")
        draining = asyncio.create_task(house.gateway.drain())
        await house.gateway._context.draining.wait()
        with pytest.raises(OSError, match=r"refused|Connect"):
            await asyncio.open_connection("127.0.0.1", house.ports["http"])
        assert not request.done()
        assert not draining.done()
        house.mail.hold.set()
        async with asyncio.timeout(PATIENCE_S):
            assert (await request).status_code == 200
            await draining
        await idle.aclose()


async def test_drain_does_not_wait_for_ever() -> None:
    async with running(drain_timeout_s=1) as house, house.client() as client:
        house.mail.hold = asyncio.Event()
        request = asyncio.create_task(client.post("/jmap/api", json={}))
        await house.mail.entered.acquire()
        async with asyncio.timeout(PATIENCE_S):
            await house.gateway.drain()
            with pytest.raises(httpx.HTTPError):
                await request
