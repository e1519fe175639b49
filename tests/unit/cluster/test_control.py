"""Control: the token, the routes and the errors of the private listener, without a socket."""

from typing import Any, cast

import httpx
import pytest

from cluster.administration import Administration
from cluster.control import Control, TokenGate
from cluster.control_body import BODY_BYTES_MAX
from mail.errors import AlreadyExists, NotFound


class FakeAdministration:
    """Remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []

    async def domains(self) -> list[str]:
        return ["example.test"]

    async def add_domain(self, domain: str) -> None:
        raise AlreadyExists(f"{domain} is there already")

    async def add_account(self, address: str, password: str, **options: Any) -> dict[str, Any]:
        self.asked.append((address, password, options))
        return {"address": address}

    async def set_password(self, address: str, password: str) -> None:
        self.asked.append((address, password))

    async def mailbox(self, address: str) -> dict[str, Any]:
        raise NotFound(f"no account {address}")

    async def receipt(self, address: str, message: str) -> dict[str, Any]:
        self.asked.append((address, message))
        return {"message": "M1"}

    async def remove_account(self, address: str) -> None:
        raise RuntimeError("a bug")


@pytest.fixture
def administration() -> FakeAdministration:
    return FakeAdministration()


@pytest.fixture
def stopped() -> list[bool]:
    return []


@pytest.fixture
def control(stopped: list[bool]) -> Control:
    return Control(lambda: stopped.append(True))


@pytest.fixture
def client(control: Control, administration: FakeAdministration) -> httpx.AsyncClient:
    async def status() -> dict[str, Any]:
        return {"version": "1"}

    control.serve(cast(Administration, administration), status)
    return _client(control, control.token)


def _client(control: Control, token: str) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(
        TokenGate(control._app(), control.token), raise_app_exceptions=False
    )
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.AsyncClient(transport=transport, base_url="http://control", headers=headers)


async def test_only_who_has_the_token(control: Control) -> None:
    for token in ("", "wrong", control.token[:-1]):
        answer = await _client(control, token).get("/status")
        assert answer.status_code == 401


async def test_status(client: httpx.AsyncClient) -> None:
    assert (await client.get("/status")).json() == {"version": "1"}


async def test_starting(control: Control) -> None:
    answer = await _client(control, control.token).get("/domains")
    assert answer.status_code == 503
    assert "starting" in answer.json()["error"]


async def test_stop(client: httpx.AsyncClient, stopped: list[bool]) -> None:
    assert (await client.post("/stop")).status_code == 200
    assert stopped == [True]


async def test_account(client: httpx.AsyncClient, administration: FakeAdministration) -> None:
    body = {"address": "a@x.test", "password": "secret", "quota_bytes": 5, "admin": True}
    assert (await client.post("/accounts", json=body)).status_code == 201
    options = {"quota_bytes": 5, "admin": True}
    assert administration.asked == [("a@x.test", "secret", options)]


async def test_addresses_may_hold_anything(
    client: httpx.AsyncClient, administration: FakeAdministration
) -> None:
    answer = await client.put("/accounts/a%2Bb%40x.test/password", json={"password": "p"})
    assert answer.status_code == 200
    assert administration.asked == [("a+b@x.test", "p")]


@pytest.mark.parametrize(
    "method, path, body, status, kind",
    [
        ("POST", "/domains", {"domain": "x.test"}, 409, "AlreadyExists"),
        ("POST", "/domains", {}, 400, "Invalid"),
        ("POST", "/domains", [], 400, "Invalid"),
        ("GET", "/mailboxes/a%40x.test", None, 404, "NotFound"),
        ("POST", "/accounts", {"address": "a@x.test"}, 400, "Invalid"),
        (
            "POST",
            "/accounts",
            {"address": "a@x.test", "password": "p", "quota_bytes": "1"},
            400,
            "Invalid",
        ),
        ("DELETE", "/accounts/a%40x.test", None, 500, "Unavailable"),
    ],
)
async def test_errors(
    client: httpx.AsyncClient, method: str, path: str, body: Any, status: int, kind: str
) -> None:
    answer = await client.request(method, path, json=body)
    assert (answer.status_code, answer.json()["kind"]) == (status, kind)
    assert "bug" not in answer.text


async def test_bodies_are_bounded(client: httpx.AsyncClient) -> None:
    answer = await client.post("/domains", content=b" " * (BODY_BYTES_MAX + 1))
    assert answer.status_code == 400


async def test_a_receipt_may_be_asked_for_by_any_message_id(
    client: httpx.AsyncClient, administration: FakeAdministration
) -> None:
    answer = await client.get("/mailboxes/a%40x.test/receipts/%3Ca%2Fb%3F%23%25c%40x.test%3E")
    assert answer.json() == {"message": "M1"}
    assert administration.asked == [("a@x.test", "<a/b?#%c@x.test>")]
