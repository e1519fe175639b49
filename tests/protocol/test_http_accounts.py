"""Sessions, app passwords with their scopes, and sign-up, over the real directory."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from actors import sign_up
from actors.account_commands import AddInvitation
from actors.commands import Account, SetProfile
from actors.request_ids import new_request_id
from actors.tokens import code_digest, make_code
from tests.protocol.http_fakes import basic, receive, send
from tests.protocol.http_house import PASSWORD, Served, eventually, served

SESSION = "/jmap/session"
ALICE = "alice@example.test"
GOOD = "a password of hers"
CORE_AND_MAIL = ["urn:ietf:params:jmap:core", "urn:ietf:params:jmap:mail"]


async def app_password(built: Served, *scopes: str, label: str = "phone") -> dict[str, Any]:
    async with built.signed_in() as client:
        answer = await client.post(
            "/auth/app-passwords", json={"label": label, "scopes": list(scopes)}
        )
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


# Sessions


async def test_sessions_are_listed_and_ended(tmp_path: Path) -> None:
    async with served(tmp_path) as built:
        one = await built.token(label="kitchen")
        two = await built.token()
        async with built.client(f"Bearer {two['access_token']}") as client:
            listed = (await client.get("/auth/sessions")).json()["sessions"]
            assert [session["current"] for session in listed].count(True) == 1
            (other,) = [session for session in listed if not session["current"]]
            (own,) = [session for session in listed if session["current"]]
            assert other["label"] == "kitchen"
            assert own["label"].startswith("python-httpx")
            assert own["scopes"] == ["mail", "submit", "imap"]
            assert own["createdAt"].endswith("Z")
            gone = await client.delete(f"/auth/sessions/{other['id']}")
            assert gone.status_code == 204
            for unknown in (other["id"], "x", "0" * 16, "1" * 16):
                assert (await client.delete(f"/auth/sessions/{unknown}")).status_code == 404
            assert (await client.get("/auth/sessions")).status_code == 200
        async with built.client(f"Bearer {one['access_token']}") as client:

            async def ended() -> bool:
                return (await client.get(SESSION)).status_code == 401

            await eventually(ended)


async def test_all_other_sessions_end_at_once(tmp_path: Path) -> None:
    async with served(tmp_path) as built:
        for _ in range(3):
            await built.token()
        own = await built.token()
        async with built.client(f"Bearer {own['access_token']}") as client:
            assert (await client.delete("/auth/sessions")).status_code == 204
            (left,) = (await client.get("/auth/sessions")).json()["sessions"]
            assert left["current"]
        async with built.signed_in() as client:
            assert (await client.delete("/auth/sessions")).status_code == 204
            assert (await client.get("/auth/sessions")).json() == {"sessions": []}


async def test_less_than_the_whole_account_manages_nothing(tmp_path: Path) -> None:
    async with served(tmp_path) as built:
        made = await app_password(built, "mail", "submit", "imap")
        some = await built.token(scope="mail imap")
        for way in (basic(ALICE, made["password"]), f"Bearer {some['access_token']}"):
            async with built.client(way) as client:
                assert (await client.get(SESSION)).status_code == 200
                for method, path in (
                    ("GET", "/auth/sessions"),
                    ("DELETE", "/auth/sessions"),
                    ("DELETE", "/auth/sessions/" + "1" * 16),
                    ("GET", "/auth/app-passwords"),
                    ("POST", "/auth/app-passwords"),
                    ("DELETE", "/auth/app-passwords/1"),
                ):
                    answer = await client.request(method, path, json={"scopes": ["mail"]})
                    assert answer.status_code == 403, (method, path)
        async with built.client() as client:
            form = {
                "grant_type": "password",
                "username": ALICE,
                "password": made["password"],
            }
            refused = await client.post("/auth/token", data=form)
            assert refused.json()["error"] == "invalid_grant"


# App passwords


async def test_app_passwords_are_made_shown_once_and_removed(tmp_path: Path) -> None:
    async with served(tmp_path) as built:
        made = await app_password(built, "mail", "imap")
        assert made["label"] == "phone"
        assert made["scopes"] == ["mail", "imap"]
        groups = made["password"].split("-")
        assert [len(group) for group in groups] == [5] * 5
        for typed in (made["password"], made["password"].replace("-", " ").upper()):
            async with built.signed_in(password=typed) as client:
                assert (await client.get(SESSION)).status_code == 200
        async with built.signed_in() as client:
            (listed,) = (await client.get("/auth/app-passwords")).json()["appPasswords"]
            assert "password" not in listed
            way = basic(ALICE, made["password"])
            async with built.websocket(way) as socket:
                gone = await client.delete(f"/auth/app-passwords/{listed['id']}")
                assert gone.status_code == 204
                async with asyncio.timeout(10):
                    await socket.wait_closed()
                assert socket.close_code == 1008
            assert (await client.delete("/auth/app-passwords/1")).status_code == 404
            assert (await client.delete("/auth/app-passwords/x")).status_code == 404
        async with built.client(way) as client:
            assert (await client.get(SESSION)).status_code == 401


async def test_wrong_wishes_for_app_passwords(tmp_path: Path) -> None:
    async with served(tmp_path) as built, built.signed_in() as client:
        for body in (
            {},
            {"scopes": []},
            {"scopes": ["everything"]},
            {"scopes": ["admin"]},
            {"scopes": 5},
            {"scopes": ["mail"], "label": 5},
            {"scopes": ["mail"], "label": "x" * 300},
        ):
            answer = await client.post("/auth/app-passwords", json=body)
            assert answer.status_code == 400, body
        for _ in range(32):
            await app_password(built, "mail")
        answer = await client.post("/auth/app-passwords", json={"scopes": ["mail"]})
        assert answer.status_code == 400
        assert "at most 32" in answer.json()["detail"]


async def test_reading_alone_changes_nothing(tmp_path: Path) -> None:
    async with served(tmp_path) as built:
        made = await app_password(built, "mail:read")
        await built.house.deliver(b"Subject: hello\r\n\r\nhello\r\n", built.accounts[0])
        async with built.signed_in(password=made["password"]) as client:
            session = (await client.get(SESSION)).json()
            ((account_id, account),) = session["accounts"].items()
            assert account["isReadOnly"] is True
            calls = [
                ["Email/query", {"accountId": account_id}, "q"],
                [
                    "Email/set",
                    {
                        "accountId": account_id,
                        "#destroy": {"resultOf": "q", "name": "Email/query", "path": "/ids"},
                    },
                    "s",
                ],
                ["Email/query", {"accountId": account_id}, "a"],
                ["Nonsense/set", {"accountId": account_id}, "n"],
            ]
            body = {"using": CORE_AND_MAIL, "methodCalls": calls}
            query, changed, again, unknown = (await client.post("/jmap/api", json=body)).json()[
                "methodResponses"
            ]
            assert len(query[1]["ids"]) == 1
            assert changed == ["error", {"type": "accountReadOnly"}, "s"]
            assert again[1]["ids"] == query[1]["ids"]
            assert unknown == ["error", {"type": "unknownMethod"}, "n"]
            upload = await client.post(f"/jmap/upload/{account_id}/", content=b"x")
            assert upload.status_code == 403
            challenge = upload.headers["www-authenticate"]
            assert 'error="insufficient_scope", scope="mail"' in challenge
        async with built.websocket(basic(ALICE, made["password"])) as socket:
            await send(socket, {"@type": "Request", "id": "w", **body})
            answer = await receive(socket)
            assert answer["methodResponses"][1][1] == {"type": "accountReadOnly"}
        async with built.signed_in() as client:
            full = (await client.post("/jmap/api", json=body)).json()
            assert full["methodResponses"][1][0] == "Email/set"
            assert full["sessionState"] != answer["sessionState"]


async def test_without_a_mail_scope_there_is_no_jmap(tmp_path: Path) -> None:
    async with served(tmp_path) as built:
        made = await app_password(built, "submit", "imap")
        access = await built.house.router.sign_in(ALICE, made["password"])
        assert access.scopes == ("submit", "imap")
        assert access.allows("imap")
        assert not access.allows("mail:read")
        async with built.signed_in(password=made["password"]) as client:
            for path in (SESSION, "/jmap/poll", "/jmap/eventsource"):
                answer = await client.get(path)
                assert answer.status_code == 403
                assert 'scope="mail:read"' in answer.headers["www-authenticate"]
            assert (await client.post("/jmap/api", json={})).status_code == 403
            assert (await client.get("/jmap/download/A1/Gx/x")).status_code == 403


async def test_an_administrator_who_is_none_any_more(tmp_path: Path) -> None:
    async with served(tmp_path) as built:
        command = SetProfile(new_request_id(), ALICE, role="admin")
        await built.house.ask(command, Account)
        made = await app_password(built, "admin", "mail")
        issued = await built.token()
        assert issued["scope"] == "mail submit imap admin"
        router = built.house.router
        assert (await router.sign_in(ALICE, made["password"])).allows("admin")
        command = SetProfile(new_request_id(), ALICE, role="user")
        await built.house.ask(command, Account)

        async def demoted() -> bool:
            by_app = await router.sign_in(ALICE, made["password"])
            by_token = await router.bear(issued["access_token"])
            return not by_app.allows("admin") and not by_token.allows("admin")

        await eventually(demoted)


# Sign-up


async def sign_up_as(
    built: Served, name: str, invitation: str = "", *, password: str = GOOD, **body: Any
) -> httpx.Response:
    async with built.client() as client:
        body = {"address": f"{name}@example.test", "password": password} | body
        if invitation:
            body["invitation"] = invitation
        return await client.post("/auth/signup", json=body)


async def invite(built: Served, *, uses: int = 1, ms: int = 60_000) -> str:
    code = make_code(new_request_id())
    digest = code_digest(code)
    assert digest is not None
    expires_ms = _now_ms() + ms
    await built.do(AddInvitation(new_request_id(), "example.test", digest, uses, expires_ms))
    return code


def _now_ms() -> int:

    return time.time_ns() // 1_000_000


def told(answer: httpx.Response) -> tuple[int, bytes, list[tuple[str, str]]]:
    headers = [(k, v) for k, v in answer.headers.items() if k != "date"]
    return answer.status_code, answer.content, headers


async def start_shards_forever(built: Served) -> None:
    """Do what the supervisor does: start the shards that the directory knows."""
    while True:
        await built.house.start_shards()
        await asyncio.sleep(0.05)


async def test_an_open_domain_takes_strangers(tmp_path: Path) -> None:
    async with served(tmp_path) as built:
        await built.set_domain(signup="open", quota_bytes=5_000_000)
        supervisor = asyncio.create_task(start_shards_forever(built))
        try:
            answer = await sign_up_as(built, "Carol", displayName="Carol  C.\n")
        finally:
            supervisor.cancel()
        assert answer.status_code == 201
        assert answer.json()["address"] == "carol@example.test"
        access = await built.house.router.sign_in("carol@example.test", GOOD)
        assert access.account.quota_bytes == 5_000_000
        assert access.account.display_name == "Carol C."
        await built.house.deliver(b"Subject: x\r\n\r\n", access.account)


async def test_refusals_are_all_alike(tmp_path: Path) -> None:
    async with served(tmp_path) as built:
        closed = [await sign_up_as(built, name) for name in ("alice", "carol", "postmaster")]
        elsewhere = await sign_up_as(built, "x", address="carol@elsewhere.test")
        await built.set_domain(signup="invitation")
        code, old = await invite(built), await invite(built, ms=300)
        await asyncio.sleep(0.3)
        invited = [
            await sign_up_as(built, "carol"),
            await sign_up_as(built, "carol", make_code(b"x" * 16)),
            await sign_up_as(built, "alice", make_code(b"x" * 16)),
            await sign_up_as(built, "alice", "no code at all"),
            await sign_up_as(built, "alice", code),
            await sign_up_as(built, "abuse", code),
            await sign_up_as(built, "carol", old),
        ]
        await built.set_domain(signup="open")
        opened = [await sign_up_as(built, name) for name in ("alice", "root", "no-reply")]
        alike = {str(told(answer)) for answer in (*closed, elsewhere, *invited, *opened)}
        assert len(alike) == 1
        assert opened[0].status_code == 403
        assert len(built.clock.slept) == 14, "each is told late"


async def test_an_invitation_is_for_so_many(tmp_path: Path) -> None:
    async with served(tmp_path, "alice", "bob") as built:
        await built.set_domain(signup="invitation")
        code = await invite(built, uses=2)
        supervisor = asyncio.create_task(start_shards_forever(built))
        try:
            # As people type it.
            assert (await sign_up_as(built, "c1", code.upper())).status_code == 201
            assert (await sign_up_as(built, "bob", code)).status_code == 403
            assert (await sign_up_as(built, "c2", code.replace("-", " "))).status_code == 201
        finally:
            supervisor.cancel()
        assert (await sign_up_as(built, "c3", code)).status_code == 403


async def test_what_is_wrong_in_itself_is_said(tmp_path: Path) -> None:
    async with served(tmp_path) as built:
        for name in ("a", "a..b", ".a", "a+b", "ü", "a" * 65, "a b", "-a"):
            assert (await sign_up_as(built, name)).status_code == 400, name
        for password in ("short", "aaaaaaaaaaaaa", "carol@example.test", "ababababababab"):
            assert (await sign_up_as(built, "carol", password=password)).status_code == 400
        assert (await sign_up_as(built, "x", address=5)).status_code == 400
        async with built.client() as client:
            assert (await client.post("/auth/signup", data={"address": "x"})).status_code == 400
            assert (await client.get("/auth/signup")).status_code == 405


async def test_sign_up_is_limited_by_network_and_domain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served(tmp_path) as built:
        await built.set_domain(signup="open", signups_per_day_max=1)
        supervisor = asyncio.create_task(start_shards_forever(built))
        try:
            assert (await sign_up_as(built, "carol")).status_code == 201
        finally:
            supervisor.cancel()
        refused = await sign_up_as(built, "dave")
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) > 0
        monkeypatch.setattr(sign_up, "ATTEMPTS_PER_NETWORK_PER_DAY_MAX", 4)
        assert (await sign_up_as(built, "alice")).status_code in (403, 429)
        await built.set_domain(signups_per_day_max=100)
        await sign_up_as(built, "alice")
        for name in ("alice", "erin"):
            assert (await sign_up_as(built, name)).status_code == 429


async def test_a_mailbox_that_takes_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.directory_client.MAILBOX_START_S", 0.1)
    async with served(tmp_path) as built:
        await built.set_domain(signup="open")
        assert (await sign_up_as(built, "carol")).status_code == 202
        assert (await built.house.router.sign_in("carol@example.test", GOOD)).account
        assert PASSWORD != GOOD
