"""Bearer tokens over the real directory: issue, use, refresh, reuse, revocation, their end."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from actors import directory_client, session_turns
from actors.commands import Account, RemoveAccount, SetPassword, SetProfile
from actors.request_ids import new_request_id
from tests.protocol.http_fakes import PATIENCE_S, basic, receive, send
from tests.protocol.http_house import PASSWORD, Served, eventually, served

SESSION = "/jmap/session"


def bearer(token: str) -> str:
    return f"Bearer {token}"


async def status(built: Served, authorization: str, path: str = SESSION) -> int:
    async with built.client(authorization) as client:
        return (await client.get(path)).status_code


async def refresh(built: Served, token: str, **fields: str) -> httpx.Response:
    async with built.client() as client:
        form = {"grant_type": "refresh_token", "refresh_token": token, **fields}
        return await client.post("/auth/token", data=form)


async def test_a_token_opens_what_the_password_opens(tmp_path: Path) -> None:
    async with served(tmp_path) as built:
        issued = await built.token()
        assert issued["token_type"] == "Bearer"
        assert 3_500 < issued["expires_in"] <= 3_600
        assert issued["scope"] == "mail submit imap"
        async with built.client(bearer(issued["access_token"])) as client:
            session = (await client.get(SESSION)).json()
            assert session["username"] == "alice@example.test"
            (account_id,) = session["accounts"]
            uploaded = await client.post(f"/jmap/upload/{account_id}/", content=b"x")
            assert uploaded.status_code == 201
            blob = uploaded.json()["blobId"]
            assert (await client.get(f"/jmap/download/{account_id}/{blob}/x")).content == b"x"
            body = {
                "using": ["urn:ietf:params:jmap:core"],
                "methodCalls": [["Core/echo", {"a": 1}, "c"]],
            }
            answer = (await client.post("/jmap/api", json=body)).json()
            assert answer["methodResponses"] == [["Core/echo", {"a": 1}, "c"]]
            assert (await client.get("/jmap/poll?wait=0")).status_code == 200
        async with built.websocket(bearer(issued["access_token"])) as socket:
            await send(socket, {"@type": "Request", "id": "R", **body})
            assert (await receive(socket))["requestId"] == "R"


async def test_requests_with_a_token_cost_no_call_to_the_directory(tmp_path: Path) -> None:
    async with served(tmp_path, "alice", "bob") as built:
        issued = await built.token()
        assert await status(built, bearer(issued["access_token"])) == 200
        assert await status(built, basic("bob@example.test", PASSWORD)) == 200
        version = built.house.router._cache.version
        asked: list[bytes] = []
        handle = built.house.transport.shards[directory_client.DIRECTORY_SHARD]

        async def counting(frame: bytes) -> bytes:
            asked.append(frame)
            return await handle(frame)

        built.house.transport.shards[directory_client.DIRECTORY_SHARD] = counting
        # Others who sign in and refresh empty nobody's memory.
        again = await built.token()
        await refresh(built, again["refresh_token"])
        before = len(asked)
        for _ in range(5):
            assert await status(built, bearer(issued["access_token"])) == 200
            assert await status(built, basic("bob@example.test", PASSWORD)) == 200
        watches = 1
        assert len(asked) <= before + watches
        assert built.house.router._cache.version == version


async def test_json_does_as_well_as_a_form(tmp_path: Path) -> None:
    async with served(tmp_path) as built, built.client() as client:
        body = {
            "grant_type": "password",
            "username": "alice@example.test",
            "password": PASSWORD,
            "scope": "mail:read imap",
        }
        answer = await client.post("/auth/token", json=body)
        assert answer.status_code == 200
        assert answer.json()["scope"] == "mail:read imap"
        assert answer.headers["cache-control"] == "no-store"


async def test_errors_of_the_token_endpoint(tmp_path: Path) -> None:
    async with served(tmp_path) as built, built.client() as client:
        good = {
            "grant_type": "password",
            "username": "alice@example.test",
            "password": PASSWORD,
        }
        for fields, error in (
            ({}, "invalid_request"),
            (good | {"password": ""}, "invalid_request"),
            (good | {"grant_type": "client_credentials"}, "unsupported_grant_type"),
            (good | {"password": "wrong"}, "invalid_grant"),
            (good | {"username": "nobody@example.test"}, "invalid_grant"),
            (good | {"scope": "everything"}, "invalid_scope"),
            (good | {"scope": "admin"}, "invalid_scope"),
            ({"grant_type": "refresh_token", "refresh_token": "x"}, "invalid_grant"),
        ):
            answer = await client.post("/auth/token", data=fields)
            assert (answer.status_code, answer.json()["error"]) == (400, error), fields
        assert len(built.clock.slept) == 2, "wrong passwords are told late"
        for content, kind in (
            (b"{", "application/json"),
            (b"[]", "application/json"),
            (b"grant_type=password", "text/plain"),
            (b"grant_type=password&grant_type=password", "application/x-www-form-urlencoded"),
            (b"\xff=1", "application/x-www-form-urlencoded"),
        ):
            headers = {"Content-Type": kind}
            answer = await client.post("/auth/token", content=content, headers=headers)
            assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
        large = await client.post("/auth/token", data={"grant_type": "x" * 20_000})
        assert large.status_code == 413
        foreign = await client.post(
            "/auth/token", data=good, headers={"Origin": "https://evil.test"}
        )
        assert foreign.status_code == 403


async def test_a_bad_token_is_refused_at_once_and_says_so(tmp_path: Path) -> None:
    async with served(tmp_path) as built:
        issued = await built.token()
        good = issued["access_token"]
        for token in ("x", good[:-4] + "AAAA", issued["refresh_token"], "hla_" + "A" * 64):
            async with built.client(bearer(token)) as client:
                answer = await client.get(SESSION)
            assert answer.status_code == 401
            assert 'error="invalid_token"' in answer.headers["www-authenticate"]
            assert "Basic realm=" in answer.headers["www-authenticate"]
        assert built.clock.slept == []


async def test_refreshing_rotates_and_the_old_access_token_lives_on(tmp_path: Path) -> None:
    async with served(tmp_path) as built:
        first = await built.token()
        second = (await refresh(built, first["refresh_token"])).json()
        assert second["refresh_token"] != first["refresh_token"]
        for issued in (first, second):
            assert await status(built, bearer(issued["access_token"])) == 200
        third = await refresh(built, second["refresh_token"], scope="mail:read")
        assert third.json()["scope"] == "mail:read"
        wider = await refresh(built, third.json()["refresh_token"], scope="mail admin")
        assert wider.json()["error"] == "invalid_scope"


async def test_a_used_refresh_token_ends_the_session(tmp_path: Path) -> None:
    async with served(tmp_path) as built:
        first = await built.token()
        other = await built.token()
        second = (await refresh(built, first["refresh_token"])).json()
        third = (await refresh(built, second["refresh_token"])).json()
        assert await status(built, bearer(third["access_token"])) == 200
        assert (await refresh(built, first["refresh_token"])).json()["error"] == "invalid_grant"

        async def ended() -> bool:
            return await status(built, bearer(third["access_token"])) == 401

        await eventually(ended)
        assert (await refresh(built, third["refresh_token"])).status_code == 400
        assert await status(built, bearer(other["access_token"])) == 200, "another session"


async def test_a_lost_answer_may_be_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served(tmp_path) as built:
        first = await built.token()
        lost = (await refresh(built, first["refresh_token"])).json()
        second = await refresh(built, first["refresh_token"])
        assert second.status_code == 200
        monkeypatch.setattr(session_turns, "REFRESH_GRACE_MS", -1)
        third = await refresh(built, second.json()["refresh_token"])
        assert third.status_code == 200
        # Whoever has what was lost, a thief, shows himself.
        assert (await refresh(built, lost["refresh_token"])).status_code == 400
        assert (await refresh(built, third.json()["refresh_token"])).status_code == 400


async def test_a_forged_family_ends_nothing(tmp_path: Path) -> None:
    async with served(tmp_path) as built:
        issued = await built.token()
        token = issued["refresh_token"]
        forged = token[: 4 + 22] + "A" * (len(token) - 26)  # The numbers are right.
        assert (await refresh(built, forged)).status_code == 400
        assert (await refresh(built, token)).status_code == 200


async def test_tokens_expire(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(tmp_path) as built:
        monkeypatch.setattr(session_turns, "ACCESS_MS", 300)
        monkeypatch.setattr(session_turns, "REFRESH_MS", 600)
        issued = await built.token()
        assert await status(built, bearer(issued["access_token"])) == 200
        async with built.websocket(bearer(issued["access_token"])) as socket:
            async with asyncio.timeout(PATIENCE_S):
                await socket.wait_closed()
            assert socket.close_code == 1008
        assert await status(built, bearer(issued["access_token"])) == 401
        await asyncio.sleep(0.4)
        assert (await refresh(built, issued["refresh_token"])).status_code == 400


@pytest.mark.parametrize("kind", ["access_token", "refresh_token"])
async def test_revoking_ends_the_session(tmp_path: Path, kind: str) -> None:
    async with served(tmp_path) as built, built.client() as client:
        issued, other = await built.token(), await built.token()
        for token in ("x", "hla_x", issued[kind][:-8] + "AAAAAAAA" if kind[0] == "a" else "y"):
            assert (await client.post("/auth/revoke", data={"token": token})).status_code == 200
        assert await status(built, bearer(issued["access_token"])) == 200
        assert (await client.post("/auth/revoke", data={"token": issued[kind]})).status_code == 200

        async def ended() -> bool:
            return await status(built, bearer(issued["access_token"])) == 401

        await eventually(ended)
        assert (await refresh(built, issued["refresh_token"])).status_code == 400
        assert await status(built, bearer(other["access_token"])) == 200
        assert (await client.post("/auth/revoke", data={})).json()["error"] == "invalid_request"


async def everything_ends(built: Served, end: object) -> None:
    """Sign in in every way, do something, and see that all of it ends."""
    issued = await built.token()
    ways = [bearer(issued["access_token"]), basic("alice@example.test", PASSWORD)]
    for way in ways:
        assert await status(built, way) == 200
    async with (
        built.websocket(ways[0]) as by_token,
        built.websocket(ways[1]) as by_password,
        built.client(ways[0]) as client,
        client.stream("GET", "/jmap/eventsource?types=*&closeafter=no&ping=0") as stream,
    ):
        lines = stream.aiter_lines()
        await anext(lines)
        poll = asyncio.create_task(_polling(built, ways[0]))
        for socket in (by_token, by_password):
            await send(socket, {"@type": "WebSocketPushEnable", "dataTypes": None})
            assert (await receive(socket))["@type"] == "StateChange"
        assert callable(end)
        await end()
        async with asyncio.timeout(PATIENCE_S):
            for socket in (by_token, by_password):
                await socket.wait_closed()
                assert socket.close_code == 1008
            async for _ in lines:  # It ends.
                continue
            assert await poll == 401
    for way in ways:
        assert await status(built, way) == 401
    assert (await refresh(built, issued["refresh_token"])).status_code == 400


async def _polling(built: Served, way: str) -> int:
    async with built.client(way) as client:
        known = (await client.get("/jmap/poll?wait=0")).json()["pushState"]
        return (await client.get(f"/jmap/poll?wait=25&since={known}")).status_code


async def test_a_changed_password_ends_everything(tmp_path: Path) -> None:
    async with served(tmp_path) as built:

        async def change() -> None:
            await built.do(SetPassword(new_request_id(), "alice@example.test", "another one"))

        await everything_ends(built, change)
        assert await status(built, basic("alice@example.test", "another one")) == 200


async def test_a_disabled_account_ends_everything(tmp_path: Path) -> None:
    async with served(tmp_path) as built:

        async def disable() -> None:
            command = SetProfile(new_request_id(), "alice@example.test", disabled=True)
            await built.house.ask(command, Account)

        await everything_ends(built, disable)


async def test_a_removed_account_ends_everything(tmp_path: Path) -> None:
    async with served(tmp_path) as built:

        async def remove() -> None:
            await built.house.ask(RemoveAccount(new_request_id(), "alice@example.test"), Account)

        await everything_ends(built, remove)


async def test_nobody_elses_sign_in_is_disturbed(tmp_path: Path) -> None:
    async with served(tmp_path, "alice", "bob") as built:
        way = basic("bob@example.test", PASSWORD)
        async with built.websocket(way) as socket:
            await send(socket, {"@type": "WebSocketPushEnable", "dataTypes": None})
            await receive(socket)
            await built.do(SetPassword(new_request_id(), "alice@example.test", "another one"))
            await asyncio.sleep(0.1)
            await send(socket, {"@type": "Request", "id": "x", "using": [], "methodCalls": []})
            while (message := await receive(socket))["@type"] == "StateChange":
                continue  # That may come at any time.
            assert message["@type"] == "Response"


async def test_sessions_are_bounded_and_the_oldest_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_turns, "SESSIONS_MAX", 2)
    async with served(tmp_path) as built:
        issued = []
        for _ in range(3):
            issued.append(await built.token())
            await asyncio.sleep(0.005)

        async def ended() -> bool:
            return await status(built, bearer(issued[0]["access_token"])) == 401

        await eventually(ended)
        for one in issued[1:]:
            assert await status(built, bearer(one["access_token"])) == 200


async def test_sessions_survive_a_restart_of_the_directory(tmp_path: Path) -> None:
    async with served(tmp_path) as built:
        issued = await built.token()
        assert built.house.directory is not None
        await built.house.directory.close()
        await built.house.start()
        assert await status(built, bearer(issued["access_token"])) == 200
        assert (await refresh(built, issued["refresh_token"])).status_code == 200


async def test_nothing_on_disk_opens_a_mailbox(tmp_path: Path) -> None:
    async with served(tmp_path) as built:
        issued = await built.token()
        async with built.signed_in() as client:
            answer = await client.post("/auth/app-passwords", json={"scopes": ["mail"]})
        secrets = [issued["access_token"], issued["refresh_token"], answer.json()["password"]]
        assert built.house.directory is not None
        await built.house.directory.close()
        octets = everything_below(tmp_path)
        for secret in (*secrets, secrets[2].replace("-", ""), PASSWORD + "\n"):
            assert secret.encode() not in octets


def everything_below(path: Path) -> bytes:
    return b"".join(one.read_bytes() for one in path.rglob("*") if one.is_file())
