"""ControlNodes: the control listener's requests about the nodes of the cluster.

    GET  /cluster        cluster, node, head, addresses of all nodes
    POST /cluster/head   make this node the head
    POST /cluster/join   {"address"}: join the head there

The last two answer before this process starts again, which it then does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from cluster.control_body import read_body, text_of
from cluster.data_directory import Head
from cluster.membership import Membership
from cluster.refusal import Refused
from mail.errors import Invalid


class NodeRoutes:
    """The routes, and what they do."""

    def __init__(self, membership: Membership) -> None:
        self._membership = membership

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/cluster", self._get, methods=["GET"]),
            Route("/cluster/head", self._post_head, methods=["POST"]),
            Route("/cluster/join", self._post_join, methods=["POST"]),
        ]

    async def _get(self, request: Request) -> Response:
        return JSONResponse(await self._membership.shown())

    async def _post_head(self, request: Request) -> Response:
        return await _told(self._membership.lead)

    async def _post_join(self, request: Request) -> Response:
        address = text_of(await read_body(request), "address")
        return await _told(lambda: self._membership.follow(address))


async def _told(move: Callable[[], Awaitable[Head]]) -> Response:
    try:
        return JSONResponse(asdict(await move()))
    except Refused as refused:
        raise Invalid(refused.text) from None
