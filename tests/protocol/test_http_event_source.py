"""EventSource (RFC 8620 §7.3): state and ping events, Last-Event-ID, closing, draining."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import httpx
import msgspec
import pytest

from tests.protocol.http_fakes import ALICE, ALICE_ID, PATIENCE_S, running

URL = "/jmap/eventsource"
ALL = {"Email": "7", "Mailbox": "5", "Thread": "6"}


async def events(answer: httpx.Response) -> AsyncGenerator[dict[str, str], None]:
    event: dict[str, str] = {}
    async for line in answer.aiter_lines():
        if line.startswith(":"):
            continue
        if not line:
            if event:
                yield event
            event = {}
            continue
        name, _, value = line.partition(": ")
        event[name] = value


def changed(event: dict[str, str]) -> dict[str, str]:
    assert event["event"] == "state"
    data = msgspec.json.decode(event["data"])
    assert data["@type"] == "StateChange"
    states: dict[str, str] = data["changed"][ALICE_ID]
    return states


async def test_states_changes_and_beats() -> None:
    async with running() as house, house.client() as client, asyncio.timeout(PATIENCE_S):
        async with client.stream("GET", URL, params={"types": "*"}) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            async with aclosing(events(answer)) as stream:
                first = await anext(stream)
                assert (changed(first), first["id"]) == (ALL, "7.5.6")
                house.push.change(ALICE, 8, 5, 6)
                assert changed(await anext(stream)) == {"Email": "8"}
                house.push.beat(ALICE)
                assert changed(await anext(stream)) == ALL | {"Email": "8"}
        await house.push.until_listeners(ALICE, 0)


async def test_types_last_event_id_and_closeafter() -> None:
    async with running() as house, house.client() as client, asyncio.timeout(PATIENCE_S):
        query = {"types": "Email,Thread", "closeafter": "state", "ping": "0"}
        headers = {"Last-Event-ID": "6.5.6"}
        answer = await client.get(URL, params=query, headers=headers)
        assert answer.text.count("event: state") == 1
        assert '{"Email":"7"}' in answer.text
        await house.push.until_listeners(ALICE, 0)


async def test_pings_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running() as house, house.client() as client, asyncio.timeout(PATIENCE_S):
        monkeypatch.setattr("gateways.http.event_source.PING_S_MIN", 0.01)
        monkeypatch.setattr("gateways.http.event_source.PING_S_MAX", 0.02)
        query = {"ping": "86400", "types": "X"}
        async with client.stream("GET", URL, params=query) as answer:
            async with aclosing(events(answer)) as stream:
                assert await anext(stream) == {"event": "ping", "data": '{"interval":0.02}'}


async def test_wrong_parameters() -> None:
    async with running() as house, house.client() as client:
        for query in ({"ping": "-1"}, {"ping": "x"}, {"ping": "²"}, {"closeafter": "never"}):
            assert (await client.get(URL, params=query)).status_code == 400


async def test_streams_of_an_account_have_a_limit_and_end_at_drain() -> None:
    async with running(event_sources_per_account_max=1) as house, house.client() as client:
        async with client.stream("GET", URL) as answer, asyncio.timeout(PATIENCE_S):
            async with aclosing(events(answer)) as stream:
                await anext(stream)
                assert (await client.get(URL)).status_code == 400
                draining = asyncio.create_task(house.gateway.drain())
                assert [event async for event in stream] == []
                await draining
        assert house.push.listeners[ALICE.mailbox] == []


async def test_the_stream_ends_with_the_sign_in() -> None:
    async with running() as house, house.client() as client, asyncio.timeout(PATIENCE_S):
        async with client.stream("GET", URL) as answer:
            async with aclosing(events(answer)) as stream:
                await anext(stream)
                house.accounts.end_all()
                assert [event async for event in stream] == []
        await house.push.until_listeners(ALICE, 0)
