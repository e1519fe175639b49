"""ControlTransfer: what the routes of import and export refuse, without a socket."""

from typing import Any, cast

import httpx
import msgspec
import pytest

from actors.transfer_commands import ImportOutcome, Known
from cluster.administration import Administration
from cluster.control import Control, TokenGate
from cluster.control_transfer import BATCH_BYTES_MAX
from cluster.transfer import Incoming, Transfer
from mail.errors import NotFound
from mail.folder_path import INBOX_PATH


class FakeTransfer:
    """Stores everything, knows nothing."""

    size_bytes_max = 1000

    async def known(self, address: str, messages: list[Known]) -> tuple[bool, ...]:
        return (False,) * len(messages)

    async def store(self, address: str, messages: list[Incoming]) -> list[ImportOutcome]:
        if address != "a@x.test":
            raise NotFound("no account")
        return [ImportOutcome("stored", 1)] * len(messages)


@pytest.fixture
def client() -> httpx.AsyncClient:
    async def status() -> dict[str, Any]:
        return {}

    control = Control(lambda: None)
    control.serve(cast(Administration, None), status, cast(Transfer, FakeTransfer()))
    transport = httpx.ASGITransport(
        TokenGate(control._app(), control.token), raise_app_exceptions=False
    )
    headers = {"Authorization": f"Bearer {control.token}"}
    return httpx.AsyncClient(transport=transport, base_url="http://control", headers=headers)


async def test_an_import(client: httpx.AsyncClient) -> None:
    body = msgspec.msgpack.encode([Incoming(b"x", 1, (INBOX_PATH,))])
    answer = await client.post("/mailboxes/a%40x.test/import", content=body)
    assert answer.status_code == 200
    assert msgspec.msgpack.decode(answer.content, type=list[ImportOutcome])[0].email_id == 1
    answer = await client.post("/mailboxes/b%40x.test/import", content=body)
    assert answer.status_code == 404


@pytest.mark.parametrize(
    "method, path, body",
    [
        ("POST", "import", b""),
        ("POST", "import", b"\xff\xff"),
        ("POST", "import", msgspec.msgpack.encode([1, 2])),
        ("POST", "import", b"\0" * (BATCH_BYTES_MAX + 1001)),
        ("POST", "known", msgspec.msgpack.encode({"a": 1})),
        ("POST", "read", b"x"),
        ("GET", "folders/1?after=x", b""),
        ("GET", "folders/1?after=-1", b""),
        ("GET", "messages/xyz", b""),
        ("GET", "messages/00?offset=1e9", b""),
    ],
)
async def test_what_is_refused(
    client: httpx.AsyncClient, method: str, path: str, body: bytes
) -> None:
    answer = await client.request(method, f"/mailboxes/a%40x.test/{path}", content=body)
    assert (answer.status_code, answer.json()["kind"]) == (400, "Invalid")


async def test_starting() -> None:
    control = Control(lambda: None)
    transport = httpx.ASGITransport(control._app())
    async with httpx.AsyncClient(transport=transport, base_url="http://control") as client:
        assert (await client.get("/mailboxes/a%40x.test/folders")).status_code == 503
