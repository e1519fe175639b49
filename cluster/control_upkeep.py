"""ControlUpkeep: the routes of shards' upkeep on the control listener."""

from __future__ import annotations

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from actors.commands import ShardId
from cluster.control_body import number_of, read_body
from cluster.upkeep import ShardUpkeep


class UpkeepRoutes:
    """The routes, over a ShardUpkeep that is there once the cluster works."""

    def __init__(self, upkeep: Callable[[], ShardUpkeep]) -> None:
        self._upkeep = upkeep

    def routes(self) -> list[Route]:
        """Return the routes."""
        shard = "/shards/{shard:int}"
        return [
            Route(f"{shard}/upkeep", self._begin, methods=["POST"]),
            Route(f"{shard}/upkeep/{{job:int}}", self._show, methods=["GET"]),
            Route(f"{shard}/release", self._release, methods=["POST"]),
            Route(f"{shard}/reopen", self._reopen, methods=["POST"]),
        ]

    async def _begin(self, request: Request) -> Response:
        body = await read_body(request)
        facts = await self._upkeep().begin(
            _shard(request),
            str(body.get("work", "")),
            mailbox=number_of(body, "mailbox", 0),
            repair=body.get("repair") is True,
            dry_run=body.get("dry_run") is True,
        )
        return JSONResponse(facts, 202)

    async def _show(self, request: Request) -> Response:
        return JSONResponse(await self._upkeep().show(_shard(request), request.path_params["job"]))

    async def _release(self, request: Request) -> Response:
        await self._upkeep().release(_shard(request))
        return JSONResponse({})

    async def _reopen(self, request: Request) -> Response:
        await self._upkeep().reopen(_shard(request))
        return JSONResponse({})


def _shard(request: Request) -> ShardId:
    return ShardId(request.path_params["shard"])
