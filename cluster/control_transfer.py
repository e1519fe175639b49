"""ControlTransfer: the routes of import and export on the control listener.

Bodies are msgpack, since messages are octets; errors are JSON as everywhere there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from actors.transfer_commands import Known
from cluster.transfer import Incoming, Transfer
from mail.errors import Invalid
from mail.folder_path import FolderPath

MEDIA_TYPE = "application/msgpack"
# Of the messages of one request, beside a single large one.
BATCH_BYTES_MAX = 8 << 20

BodyT = TypeVar("BodyT")


class TransferRoutes:
    """The routes, over a Transfer that is there once the cluster works."""

    def __init__(self, transfer: Callable[[], Transfer]) -> None:
        self._transfer = transfer

    def routes(self) -> list[Route]:
        """Return the routes."""
        mailbox = "/mailboxes/{address}"
        return [
            Route(f"{mailbox}/known", self._known, methods=["POST"]),
            Route(f"{mailbox}/import", self._import, methods=["POST"]),
            Route(f"{mailbox}/folders", self._folders, methods=["GET", "POST"]),
            Route(f"{mailbox}/folders/{{folder:int}}", self._messages, methods=["GET"]),
            Route(f"{mailbox}/read", self._read, methods=["POST"]),
            Route(f"{mailbox}/messages/{{digest}}", self._piece, methods=["GET"]),
        ]

    async def _known(self, request: Request) -> Response:
        messages = await self._body(request, list[Known])
        return _answer(await self._transfer().known(_address(request), messages))

    async def _import(self, request: Request) -> Response:
        messages = await self._body(request, list[Incoming])
        return _answer(await self._transfer().store(_address(request), messages))

    async def _folders(self, request: Request) -> Response:
        if request.method == "POST":
            folders = await self._body(request, list[FolderPath])
            await self._transfer().make_folders(_address(request), folders)
            return _answer(None)
        return _answer((await self._transfer().folders(_address(request))).folders)

    async def _messages(self, request: Request) -> Response:
        folder, after_uid = request.path_params["folder"], _number(request, "after")
        return _answer(await self._transfer().messages(_address(request), folder, after_uid))

    async def _read(self, request: Request) -> Response:
        digests = await self._body(request, list[bytes])
        return _answer((await self._transfer().read(_address(request), digests)).messages)

    async def _piece(self, request: Request) -> Response:
        try:
            digest = bytes.fromhex(request.path_params["digest"])
        except ValueError:
            raise Invalid("that is no digest") from None
        offset = _number(request, "offset")
        return _answer(await self._transfer().piece(_address(request), digest, offset))

    async def _body(self, request: Request, cls: type[BodyT]) -> BodyT:
        octets = bytearray()
        async for chunk in request.stream():
            octets += chunk
            if len(octets) > self._transfer().size_bytes_max + BATCH_BYTES_MAX:
                raise Invalid("the request is too large")
        try:
            return msgspec.msgpack.decode(octets, type=cls)
        except msgspec.DecodeError as error:
            raise Invalid(f"the request cannot be read: {error}") from None


def _address(request: Request) -> str:
    address: str = request.path_params["address"]
    return address


def _number(request: Request, name: str) -> int:
    text = request.query_params.get(name, "0")
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise Invalid(f"{name} is a number")
    return int(text)


def _answer(body: object) -> Response:
    return Response(msgspec.msgpack.encode(body), media_type=MEDIA_TYPE)
