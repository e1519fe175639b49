"""The JMAP session over real sockets (RFC 8620 §2), sign-in needed, URLs of the way one came."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.protocol.http_fakes import ALICE_ID, BOB_AUTH, make_certificate, running

CORE = "urn:ietf:params:jmap:core"
MAIL = "urn:ietf:params:jmap:mail"
WEBSOCKET = "urn:ietf:params:jmap:websocket"


@pytest.mark.parametrize("path", ["/jmap/session", "/.well-known/jmap"])
async def test_session_says_what_there_is(path: str) -> None:
    async with running(size_upload_bytes_max=1234) as house, house.client() as client:
        answer = await client.get(path)
        session = answer.json()
        assert answer.status_code == 200
        assert answer.headers["cache-control"] == "no-cache, no-store, must-revalidate"
        assert session["username"] == "alice@example.test"
        assert session["capabilities"][CORE] == {
            "maxSizeUpload": 1234,
            "maxConcurrentUpload": 4,
            "maxSizeRequest": 10_000_000,
            "maxConcurrentRequests": 8,
            "maxCallsInRequest": 16,
            "maxObjectsInGet": 500,
            "maxObjectsInSet": 500,
            "collationAlgorithms": ["i;ascii-casemap", "i;unicode-casemap"],
        }
        assert session["capabilities"][MAIL] == {}
        assert list(session["accounts"]) == [ALICE_ID]
        assert session["primaryAccounts"][MAIL] == ALICE_ID
        account = session["accounts"][ALICE_ID]
        assert account["isPersonal"] is True
        mail = account["accountCapabilities"][MAIL]
        assert mail["mayCreateTopLevelMailbox"] is True
        assert mail["maxSizeMailboxName"] >= 100
        wanted = ["receivedAt", "sentAt", "size", "from", "to", "subject"]
        assert mail["emailQuerySortOptions"][:6] == wanted
        assert session["apiUrl"] == f"{house.url}/jmap/api"
        assert session["uploadUrl"] == f"{house.url}/jmap/upload/{{accountId}}/"
        for variable in ("{accountId}", "{blobId}", "{name}", "{type}"):
            assert variable in session["downloadUrl"]
        for variable in ("{types}", "{closeafter}", "{ping}"):
            assert variable in session["eventSourceUrl"]
        assert session["capabilities"][WEBSOCKET] == {
            "url": f"{house.url.replace('http', 'ws')}/jmap/ws",
            "supportsPush": True,
        }


async def test_urls_follow_scheme_and_host_of_the_request(tmp_path: Path) -> None:
    async with running(certificate=make_certificate(tmp_path)) as house:
        async with house.secure_client() as client:
            session = (await client.get("/jmap/session")).json()
            assert session["apiUrl"] == f"{house.https_url}/jmap/api"
            expected = f"{house.https_url.replace('https', 'wss')}/jmap/ws"
            assert session["capabilities"][WEBSOCKET]["url"] == expected
            named = await client.get("/jmap/session", headers={"Host": "mail.example.test:8443"})
            assert named.json()["apiUrl"] == "https://mail.example.test:8443/jmap/api"
            assert named.json()["state"] == session["state"]


async def test_a_host_that_is_none_is_not_repeated() -> None:
    async with running(hostname="mx.example.test") as house, house.client() as client:
        for host in ("evil@host", 'a"b', "a/b", "", "x" * 300, "[::1", "a b"):
            answer = await client.get("/jmap/session", headers={"Host": host})
            assert answer.json()["apiUrl"].startswith("http://mx.example.test:"), host


async def test_state_is_stable_and_differs_between_accounts() -> None:
    async with running() as house, house.client() as alice, house.client(BOB_AUTH) as bob:
        first, again = (await alice.get("/jmap/session"), await alice.get("/jmap/session"))
        assert first.json()["state"] == again.json()["state"] != ""
        answer = await alice.post("/jmap/api", json={"methodCalls": []})
        assert answer.json()["sessionState"] == first.json()["state"], "RFC 8620 §3.4"
        assert (await bob.get("/jmap/session")).json()["state"] != first.json()["state"]


async def test_session_needs_sign_in() -> None:
    async with running() as house, house.client(None) as client:
        answer = await client.get("/jmap/session")
        assert answer.status_code == 401
        assert answer.headers["content-type"] == "application/problem+json"
        challenges = 'Basic realm="heliograph", charset="UTF-8", Bearer realm="heliograph"'
        assert answer.headers["www-authenticate"] == challenges
        assert house.accounts.asked == []


async def test_forwarded_headers_are_not_believed() -> None:
    async with running() as house, house.client() as client:
        headers = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "evil.test"}
        answer = await client.get("/jmap/session", headers=headers)
        assert answer.json()["apiUrl"] == f"{house.url}/jmap/api"


async def test_other_paths_and_methods() -> None:
    async with running() as house, house.client() as client:
        missing = await client.get("/nothing/here")
        assert missing.status_code == 404
        assert missing.json()["type"] == "about:blank"
        wrong = await client.get("/jmap/api")
        assert wrong.status_code == 405
        assert wrong.headers["allow"] == "POST"
        landing = await client.get("/")
        assert "Heliograph" in landing.text
        for answer in (missing, wrong, landing):
            check_security_headers(answer)


def check_security_headers(answer: httpx.Response) -> None:
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert "strict-transport-security" not in answer.headers
    assert "server" not in answer.headers
