"""An HTTP gateway in front of the real directory and mailboxes, all in this process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from websockets.asyncio.client import connect

from actors.account_commands import DomainShown, SetDomain
from actors.commands import Account, Command, Done
from actors.request_ids import new_request_id
from gateways.http.server import HttpGateway
from gateways.http.settings import HttpSettings
from tests.contract.house import House, house
from tests.protocol.http_fakes import JMAP, PATIENCE_S, basic

PASSWORD = "secret"  # of every account of the house


class ImpatientClock:
    """Time that does not pass: who sleeps is let go at once."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def now_s(self) -> float:
        return 1_000.0

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(0)


@dataclass(slots=True)
class Served:
    """A house and the gateway in front of it."""

    house: House
    accounts: list[Account]
    gateway: HttpGateway
    port: int
    clock: ImpatientClock = field(default_factory=ImpatientClock)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, authorization: str | None = None) -> httpx.AsyncClient:
        headers = {} if authorization is None else {"Authorization": authorization}
        return httpx.AsyncClient(
            base_url=self.url, headers=headers, timeout=PATIENCE_S, verify=False
        )

    def signed_in(self, name: str = "alice", password: str = PASSWORD) -> httpx.AsyncClient:
        return self.client(basic(f"{name}@example.test", password))

    def websocket(self, authorization: str) -> connect:
        headers = {"Authorization": authorization}
        url = f"ws://127.0.0.1:{self.port}/jmap/ws"
        return connect(
            url,
            proxy=None,
            additional_headers=headers,
            subprotocols=JMAP,
            open_timeout=PATIENCE_S,
        )

    async def do(self, command: Command) -> None:
        await self.house.ask(command, Done)

    async def set_domain(self, **changes: Any) -> None:
        command = SetDomain(new_request_id(), "example.test", **changes)
        await self.house.ask(command, DomainShown)

    async def token(self, **fields: str) -> dict[str, Any]:
        """Return the answer to a token request of alice by password."""
        form = {
            "grant_type": "password",
            "username": "alice@example.test",
            "password": PASSWORD,
            **fields,
        }
        async with self.client() as client:
            answer = await client.post("/auth/token", data=form)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found


@contextlib.asynccontextmanager
async def served(path: Path, *names: str, **settings: Any) -> AsyncIterator[Served]:
    """Run a house with these accounts (alice, if none is named) and a gateway."""
    async with house(path, *(names or ("alice",))) as (built, accounts):

        async def probe() -> dict[str, bool]:
            return {}

        clock = ImpatientClock()
        gateway = HttpGateway(
            built.router,
            built.router,
            built.router,
            HttpSettings(http_port=0, **settings),
            probe=probe,
            clock=clock,
        )
        listeners = await gateway.start()
        try:
            yield Served(built, accounts, gateway, listeners[0][2], clock)
        finally:
            async with asyncio.timeout(PATIENCE_S):
                await gateway.drain()


async def eventually(holds: Callable[[], Awaitable[bool]]) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            if await holds():
                return
            await asyncio.sleep(0.01)
