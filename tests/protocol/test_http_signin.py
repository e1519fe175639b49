"""Sign-in by HTTP Basic: where it is taken, how failures are slowed, what they tell."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from gateways.http import delays
from tests.protocol.http_fakes import (
    ALICE_AUTH,
    BOB_AUTH,
    PATIENCE_S,
    House,
    basic,
    exchange,
    running,
)

SESSION = "/jmap/session"


async def attempt(house: House, name: str, password: str) -> httpx.Response:
    async with house.client((name, password)) as client:
        return await client.get(SESSION)


async def test_names_and_passwords_are_utf8() -> None:
    async with running() as house:
        assert "ü" in ALICE_AUTH[1]
        assert (await attempt(house, *ALICE_AUTH)).status_code == 200
        assert house.clock.slept == []


async def test_a_failure_is_told_late_and_with_growing_delay() -> None:
    async with running() as house:
        for expected_s in (0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0):
            task = asyncio.create_task(attempt(house, "alice@example.test", "guess"))
            await house.clock.asleep.acquire()
            assert not task.done()
            assert house.clock.slept[-1] == pytest.approx(expected_s, rel=0.2)
            house.clock.turn(house.clock.slept[-1])
            assert (await task).status_code == 401
        house.clock.turn(3_600)
        task = asyncio.create_task(attempt(house, "alice@example.test", "guess"))
        await house.clock.asleep.acquire()
        assert house.clock.slept[-1] == pytest.approx(0.5, rel=0.01)
        house.clock.turn(1)
        await task


async def test_correct_sign_ins_are_not_delayed_by_failures() -> None:
    async with running() as house:
        tasks = [asyncio.create_task(attempt(house, ALICE_AUTH[0], "no")) for _ in range(5)]
        for _ in tasks:
            await house.clock.asleep.acquire()
        assert (await attempt(house, *BOB_AUTH)).status_code == 200
        assert (await attempt(house, *ALICE_AUTH)).status_code == 200
        assert len(house.clock.slept) == 5
        house.clock.turn(60)
        assert [answer.status_code for answer in await asyncio.gather(*tasks)] == [401] * 5


async def test_unknown_name_and_wrong_password_are_told_alike() -> None:
    async def failed(name: str) -> tuple[float, int, dict[str, str], bytes]:
        async with running() as house:
            task = asyncio.create_task(attempt(house, name, "no"))
            await house.clock.asleep.acquire()
            house.clock.turn(60)
            answer = await task
            headers = {k: v for k, v in answer.headers.items() if k != "date"}
            return house.clock.slept[-1], answer.status_code, headers, answer.content

    known, unknown = await failed("alice@example.test"), await failed("nobody@example.test")
    assert known == unknown
    assert known[1] == 401
    challenges = 'Basic realm="heliograph", charset="UTF-8", Bearer realm="heliograph"'
    assert known[2]["www-authenticate"] == challenges
    assert known[2]["content-type"] == "application/problem+json"


async def test_attempts_at_once_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delays, "PAIR_MAX", 3)
    monkeypatch.setattr(delays, "NETWORK_MAX", 5)
    async with running() as house:
        assert (await attempt(house, *BOB_AUTH)).status_code == 200
        tasks = [asyncio.create_task(attempt(house, ALICE_AUTH[0], "no")) for _ in range(3)]
        for _ in tasks:
            await house.clock.asleep.acquire()
        asked = len(house.accounts.asked)
        refused = await attempt(house, ALICE_AUTH[0], "no")
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert len(house.accounts.asked) == asked, "no password is looked at any more"
        tasks += [asyncio.create_task(attempt(house, f"n{i}", "no")) for i in range(2)]
        for _ in range(2):
            await house.clock.asleep.acquire()
        assert (await attempt(house, "n3", "no")).status_code == 429
        assert (await attempt(house, *BOB_AUTH)).status_code == 200, "known here, not locked out"
        house.clock.turn(60)
        await asyncio.gather(*tasks)
        assert (await attempt(house, *ALICE_AUTH)).status_code == 200


async def test_what_are_no_credentials() -> None:
    headers = (
        "Basic",
        "Basic !!!!",
        "Basic bm9jb2xvbg==",  # no colon
        "Bearer abc",
        "Basic /w==",  # not UTF-8
        basic("alice@example.test\r\nX: y", "x"),
        basic("", "x"),
        "Basic " + "QUFB" * 1_000,
    )
    async with running() as house, house.client(None) as client:
        for header in headers:
            answer = await client.get(SESSION, headers={"Authorization": header})
            assert answer.status_code == 401
        assert house.accounts.asked == []
        assert house.clock.slept == []


async def test_two_authorization_fields_are_none() -> None:
    async with running() as house:
        field = f"Authorization: {basic(*ALICE_AUTH)}\r\n"
        request = f"GET {SESSION} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{field}{field}\r\n"
        answer = await exchange(house.ports["http"], request.encode())
        assert answer.startswith(b"HTTP/1.1 401 ")


async def test_failures_are_counted() -> None:
    async with running() as house, house.client(None) as client:
        task = asyncio.create_task(attempt(house, "x", "y"))
        await house.clock.asleep.acquire()
        house.clock.turn(60)
        async with asyncio.timeout(PATIENCE_S):
            await task
        text = (await client.get("/metrics")).text
        assert "heliograph_http_sign_in_failures_total 1.0" in text
