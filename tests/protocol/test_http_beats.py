"""Every push channel repeats the present states often enough, and only those that it heard."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from actors import push
from tests.protocol.http_fakes import PATIENCE_S, basic, receive, send
from tests.protocol.http_house import PASSWORD, Served, served

# The real figures over 400: what is promised is 30 s.
FASTER = 400
PROMISED_S = 30 / FASTER
WAY = basic("alice@example.test", PASSWORD)


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BEAT_S", "BEAT_AFTER_FAILURE_S", "SILENT_S_MAX"):
        monkeypatch.setattr(push, name, getattr(push, name) / FASTER)


@asynccontextmanager
async def by_websocket(built: Served) -> AsyncIterator[Any]:
    async with built.websocket(WAY) as socket:
        await send(socket, {"@type": "WebSocketPushEnable", "dataTypes": None})

        async def hear() -> Any:
            return await receive(socket)

        yield hear


@asynccontextmanager
async def by_event_source(built: Served, ping: str) -> AsyncIterator[Any]:
    url = f"/jmap/eventsource?types=*&closeafter=no&ping={ping}"
    async with built.client(WAY) as client, client.stream("GET", url) as stream:
        lines = stream.aiter_lines()

        async def hear() -> Any:
            async with asyncio.timeout(PATIENCE_S):
                while not (line := await anext(lines)).startswith('data: {"@type"'):
                    continue
            return msgspec.json.decode(line.removeprefix("data: "))

        yield hear


@pytest.mark.parametrize("channel", ["websocket", "0", "30"])
async def test_nothing_happens_and_it_is_said_again(tmp_path: Path, channel: str) -> None:
    async with served(tmp_path) as built:
        opened = by_websocket(built) if channel == "websocket" else by_event_source(built, channel)
        async with opened as hear:
            first = await hear()
            loop = asyncio.get_running_loop()
            gaps = []
            for _ in range(8):
                before = loop.time()
                again = await hear()
                gaps.append(loop.time() - before)
                assert again["@type"] == "StateChange"
                assert again["changed"] == first["changed"]
            # The median: two noisy cores are no part of the promise.
            assert sorted(gaps)[4] < PROMISED_S


async def test_a_mailbox_that_is_away_is_not_spoken_for(tmp_path: Path) -> None:
    async with served(tmp_path) as built:
        (alice,) = built.accounts
        async with by_websocket(built) as hear:
            first = await hear()
            await built.house.stop_shard(alice.shard)
            await asyncio.sleep(2 * PROMISED_S)
            silence = asyncio.create_task(hear())
            drained = 0
            while True:  # What was on its way when the mailbox went.
                done, _ = await asyncio.wait({silence}, timeout=4 * PROMISED_S)
                if not done:
                    break
                drained += 1
                assert drained < 8
                silence = asyncio.create_task(hear())
            async with built.client(WAY) as client:
                query = {"since": first["changed"]["A1"]["Email"] + ".x.x", "wait": "0"}
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr("gateways.http.poll.REACH_S", -0.5)
                    answer: httpx.Response = await client.get("/jmap/poll", params=query)
                assert answer.status_code == 503
            await built.house.start_shard(alice.shard)
            await built.house.deliver(b"Subject: x\r\n\r\n", alice)
            async with asyncio.timeout(PATIENCE_S):
                while (await silence)["changed"] == first["changed"]:  # It is there again.
                    silence = asyncio.create_task(hear())
