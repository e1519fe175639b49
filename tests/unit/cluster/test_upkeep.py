"""The operator's way to a shard's upkeep: routes, and what the commands make of the answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import httpx
import pytest

from actors import wire
from actors.commands import Command, Done, MailboxId, Reply, ShardId
from actors.ports import Transport
from actors.upkeep_commands import (
    AUDIT,
    BeginUpkeep,
    FindingShown,
    ReleaseShard,
    ReopenShard,
    ShowUpkeep,
    UpkeepShown,
)
from cluster import cli, cli_upkeep
from cluster.administration import Administration
from cluster.control import Control
from cluster.refusal import Refused
from cluster.upkeep import ShardUpkeep
from mail.errors import Invalid, NotFound

FINDING = FindingShown(MailboxId(2), "uid", "not under its UID", email=3, repaired=True)


class FakeTransport:
    """A shard that has one job."""

    def __init__(self) -> None:
        self.asked: list[Command] = []

    async def call(self, shard: ShardId, frame: bytes, *, timeout_s: float) -> bytes:
        (command,) = wire.decode_commands(frame)
        self.asked.append(command)
        reply: Reply
        match command:
            case BeginUpkeep():
                reply = UpkeepShown(5, AUDIT, "running", 1, 10)
            case ShowUpkeep(5):
                reply = UpkeepShown(5, AUDIT, "done", 10, 10, (("left", 1),), (FINDING,))
            case ShowUpkeep():
                reply = wire.failed(NotFound())
            case ReleaseShard():
                reply = wire.failed(Invalid("the shard is not damaged"))
            case _:
                reply = Done()
        return wire.encode([reply])


class FakeAdministration:
    def __init__(self, transport: FakeTransport) -> None:
        self.upkeep = ShardUpkeep(cast(Transport, transport))


@pytest.fixture
def transport() -> FakeTransport:
    return FakeTransport()


@pytest.fixture
def client(transport: FakeTransport) -> httpx.AsyncClient:
    async def status() -> dict[str, Any]:
        return {}

    control = Control(lambda: None)
    control.serve(cast(Administration, FakeAdministration(transport)), status)
    app = httpx.ASGITransport(control._app(), raise_app_exceptions=False)
    return httpx.AsyncClient(transport=app, base_url="http://control")


async def test_the_routes(client: httpx.AsyncClient, transport: FakeTransport) -> None:
    body = {"work": "audit", "mailbox": 2, "repair": True}
    begun = await client.post("/shards/7/upkeep", json=body)
    assert begun.status_code == 202
    assert begun.json()["job"] == 5
    assert transport.asked == [BeginUpkeep("audit", MailboxId(2), repair=True)]
    shown = (await client.get("/shards/7/upkeep/5")).json()
    assert shown["counts"] == {"left": 1}
    assert shown["findings"][0]["kind"] == "uid"
    assert (await client.get("/shards/7/upkeep/6")).status_code == 404
    assert (await client.post("/shards/7/upkeep", json={"mailbox": -1})).status_code == 400
    assert (await client.post("/shards/7/release", json={})).status_code == 400
    assert (await client.post("/shards/7/reopen", json={})).status_code == 200
    assert transport.asked[-1] == ReopenShard()


class FakeClient:
    """A cluster with two accounts, each with a shard."""

    def __init__(self) -> None:
        self.begun: list[tuple[str, Mapping[str, Any]]] = []

    def ask(self, method: str, *path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        match (method, *path):
            case ("GET", "status"):
                return {"shards": [{"id": 1}, {"id": 2}, {"id": 3}]}
            case ("GET", "accounts"):
                return {"accounts": [{"account": "A2", "address": "a@example.test"}]}
            case ("GET", "mailboxes", address):
                return {"shard": 2, "account": "A2", "address": address}
            case ("POST", "shards", shard, "upkeep"):
                self.begun.append((shard, body or {}))
                return {"job": 5, "state": "running", "done": 0, "total": 4}
            case _:
                finding = {
                    "mailbox": 2, "kind": "uid", "email": 3, "folder": 0, "thread": 0,
                    "text": "not under its UID", "repaired": False,
                }  # fmt: skip
                counts = {"mailboxes": 1, "emails": 4, "findings": 1, "repaired": 0, "left": 1}
                return {"job": 5, "state": "done", "counts": counts, "findings": [finding]}


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> FakeClient:
    fake = FakeClient()
    monkeypatch.setattr(cli_upkeep, "client_of", lambda config, data: fake)
    monkeypatch.setattr(cli_upkeep, "POLL_S", 0)
    return fake


def test_an_audit_that_leaves_something_fails(
    cluster: FakeClient, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["mailbox", "audit", "--all"])
    assert ended.value.code == 1
    printed = capsys.readouterr().out
    assert "a@example.test" in printed
    assert "2 mailboxes, 8 emails looked at; 0 findings repaired, 2 left" in printed
    assert [shard for shard, _ in cluster.begun] == ["2", "3"]


@pytest.mark.parametrize(
    "arguments",
    [["mailbox", "audit"], ["mailbox", "reindex", "a@b", "--all"], ["shard", "collect"]],
)
def test_one_or_all(cluster: FakeClient, arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2


def test_a_sound_shard_is_not_salvaged() -> None:
    class Serving:
        def ask(self, *_: object, **__: object) -> dict[str, Any]:
            return {"shards": [{"id": 7, "primary": "node"}]}

    with pytest.raises(Refused, match="is serving"):
        cli_upkeep._refuse_sound(cast(Any, Serving()), 7)
