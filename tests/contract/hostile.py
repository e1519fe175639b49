"""Hostile input for the whole house: both gateways in this process, and what must hold.

    async with besieged(tmp_path, "alice") as siege:
        await siege.send(raw)              the reply to DATA, over a real socket
        await siege.post(octets)           status and JSON of `/jmap/api`

Every answer is checked for the protocol's form; `siege.stalls` says for how long one piece of
work kept all others from the event loop, which gateways and mailbox actors share here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec

from actors.commands import Account
from actors.jmap.ids import account_id_of
from actors.jmap.limits import CAPABILITY_CORE, CAPABILITY_MAIL
from gateways.http.server import HttpGateway
from gateways.http.settings import HttpSettings
from gateways.smtp.server import SmtpGateway, SmtpSettings
from tests.contract.house import House, house

USING = [CAPABILITY_CORE, CAPABILITY_MAIL]
PATIENCE_S = 60.0
TICK_S = 0.005
# Of the processor's time: a second, and room for a processor that is shared and slow.
STALL_S_MAX = 4.0

REQUEST_PROBLEMS = {"unknownCapability", "notJSON", "notRequest", "limit"}
# RFC 8620 §3.6.2, §5 and §7; serverFail would be a bug of ours, and is therefore not among them.
METHOD_ERRORS = {
    "unknownMethod", "invalidArguments", "invalidResultReference", "forbidden",
    "accountNotFound", "accountNotSupportedByMethod", "accountReadOnly", "requestTooLarge",
    "cannotCalculateChanges", "stateMismatch", "anchorNotFound", "unsupportedSort",
    "unsupportedFilter", "tooManyChanges", "fromAccountNotFound",
    "fromAccountNotSupportedByMethod", "unknownDataType",
}  # fmt: skip
# RFC 8620 §5.3 and §5.4, RFC 8621 §2.5, §4.6 to §4.8 and §7.5.
SET_ERRORS = {
    "forbidden", "overQuota", "tooLarge", "rateLimit", "notFound", "invalidPatch", "willDestroy",
    "invalidProperties", "singleton", "alreadyExists", "mailboxHasChild", "mailboxHasEmail",
    "blobNotFound", "tooManyKeywords", "tooManyMailboxes", "invalidEmail", "tooManyRecipients",
    "noRecipients", "invalidRecipients", "forbiddenMailFrom", "forbiddenFrom", "forbiddenToSend",
    "cannotUnsend",
}  # fmt: skip


def check_response(response: Any) -> None:
    """Assert that this is a Response object of RFC 8620 §3.4 in which nothing is our fault."""
    assert isinstance(response["sessionState"], str)
    for name, arguments, call_id in response["methodResponses"]:
        assert isinstance(call_id, str)
        if name == "error":
            assert arguments["type"] in METHOD_ERRORS, arguments
            assert isinstance(arguments.get("description", ""), str)
            continue
        for kind in ("notCreated", "notUpdated", "notDestroyed"):
            for error in (arguments.get(kind) or {}).values() if name.endswith("/set") else ():
                assert error["type"] in SET_ERRORS, error


def check_problem(problem: Any) -> str:
    """Assert that this is a problem of RFC 8620 §3.6.1 and return its type's last word."""
    prefix, _, kind = str(problem["type"]).rpartition(":")
    assert prefix == "urn:ietf:params:jmap:error", problem
    assert kind in REQUEST_PROBLEMS, problem
    assert problem["status"] == 400
    if kind == "limit":
        assert problem["limit"], problem
    return kind


class Siege:
    """A house with both gateways, and a client of its first account."""

    def __init__(self, built: House, accounts: list[Account]) -> None:
        self.house = built
        self.accounts = accounts
        self.account = account_id_of(accounts[0].mailbox)
        self.client = httpx.AsyncClient()
        self.http_port = self.smtp_port = 0
        self.stalls: list[float] = []

    # Mail

    async def send(self, raw: bytes, *, mail_from: str = "s@x.test") -> str:
        """Deliver a message to all accounts and return the reply that ended it."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.smtp_port)
        try:
            async with asyncio.timeout(PATIENCE_S):
                await _reply(reader)
                lines = ["EHLO x.test", f"MAIL FROM:<{mail_from}>"]
                lines += [f"RCPT TO:<{account.address}>" for account in self.accounts]
                for line in (*lines, "DATA"):
                    writer.write(line.encode() + b"\r\n")
                    reply = await _reply(reader)
                    if reply[0] not in "23":
                        return reply
                stuffed = raw.replace(b"\n.", b"\n..")
                writer.write((b"." if stuffed.startswith(b".") else b"") + stuffed + b"\r\n.\r\n")
                await writer.drain()
                return await _reply(reader)
        finally:
            writer.transport.abort()

    # JMAP

    async def post(self, body: bytes) -> tuple[int, Any]:
        """Post to the API, check the form of the answer and return it."""
        answer = await self.client.post(
            "/jmap/api", content=body, headers={"Content-Type": "application/json"}
        )
        value = msgspec.json.decode(answer.content)
        if answer.status_code == 200:
            assert answer.headers["content-type"] == "application/json"
            check_response(value)
        else:
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.status_code == 400, (answer.status_code, answer.content[:500])
            check_problem(value)
        return answer.status_code, value

    async def calls(self, *calls: list[Any], using: list[str] = USING) -> list[Any]:
        """Return the method responses to these calls."""
        request = {"using": using, "methodCalls": list(calls)}
        status, value = await self.post(msgspec.json.encode(request))
        assert status == 200, value
        responses: list[Any] = value["methodResponses"]
        return responses

    async def call(self, name: str, **arguments: Any) -> Any:
        """Return the arguments of the response to one call on the account."""
        call = [name, {"accountId": self.account} | arguments, "c"]
        ((answered, value, _),) = await self.calls(call)
        assert answered == name, value
        return value

    async def download(self, blob_id: str) -> bytes:
        answer = await self.client.get(f"/jmap/download/{self.account}/{blob_id}/x")
        assert answer.status_code == 200, answer.content[:500]
        return answer.content

    async def _watch(self) -> None:
        before = time.thread_time()
        while True:
            await asyncio.sleep(TICK_S)
            now = time.thread_time()
            self.stalls.append(now - before)
            before = now


async def _reply(reader: asyncio.StreamReader) -> str:
    while True:
        line = (await reader.readline()).decode("ascii")
        assert line.endswith("\r\n"), line
        if line[3:4] != "-":
            return line.rstrip()


@asynccontextmanager
async def besieged(path: Path, *names: str) -> AsyncIterator[Siege]:
    """Start the house and both gateways; assert at the end that nothing was stalled for long."""

    async def probe() -> dict[str, bool]:
        return {"directory": True, "mailboxes": True}

    async with house(path, *names) as (built, accounts):
        siege = Siege(built, accounts)
        router = built.router
        smtp = SmtpGateway(router, router, SmtpSettings(hostname="mx.example.test", port=0))
        http = HttpGateway(
            router, router, router, HttpSettings(http_port=0, https_port=None), probe=probe
        )
        _, siege.smtp_port = await smtp.start()
        ((_, _, siege.http_port),) = await http.start()
        siege.client = httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{siege.http_port}",
            auth=(accounts[0].address, "secret"),
            timeout=PATIENCE_S,
            verify=False,
        )
        watch = asyncio.create_task(siege._watch())
        try:
            yield siege
        finally:
            watch.cancel()
            await siege.client.aclose()
            await http.drain()
            await smtp.drain(1.0)
        assert max(siege.stalls, default=0.0) < STALL_S_MAX
