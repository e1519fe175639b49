"""Health: `/health/live` while the loop runs, `/health/ready` while mail can be served.

The probe asks the directory and a mailbox shard. Its answer is kept for a second, so that
health checks from many places cost the cluster one probe a second and no more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

import msgspec
import structlog
from starlette.responses import Response

from gateways.http.clock import Clock

log = structlog.get_logger(__name__)

Probe: TypeAlias = Callable[[], Awaitable[Mapping[str, bool]]]  # part → does it answer
PROBE_TIMEOUT_S = 2.0
PROBE_FRESH_S = 1.0


class Readiness:
    """Whether this gateway can serve mail now."""

    def __init__(self, probe: Probe, clock: Clock) -> None:
        self._probe = probe
        self._clock = clock
        self._lock = asyncio.Lock()
        self._parts: Mapping[str, bool] = {}
        self._asked_at_s = -PROBE_FRESH_S
        self._asked = False

    async def parts(self) -> Mapping[str, bool]:
        """Return what the probe says; `{"probe": False}` when it fails or takes too long."""
        async with self._lock:
            now_s = self._clock.now_s()
            if not self._asked or now_s - self._asked_at_s >= PROBE_FRESH_S:
                self._parts = await self._ask()
                self._asked_at_s = now_s
                self._asked = True
            return self._parts

    async def _ask(self) -> Mapping[str, bool]:
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                return await self._probe()
        except Exception as error:  # a probe that fails is an answer
            log.warning("readiness probe failed", error=type(error).__name__)
            return {"probe": False}


def live_response() -> Response:
    """Return 200: whoever can answer lives."""
    return _json(200, {"live": True})


async def ready_response(readiness: Readiness, *, draining: bool) -> Response:
    """Return 200 when every part answers and we are not leaving, else 503."""
    parts = {"gateway": not draining, **(await readiness.parts())}
    ready = all(parts.values())
    return _json(200 if ready else 503, {"ready": ready, "parts": parts})


def _json(status: int, value: object) -> Response:
    return Response(
        msgspec.json.encode(value),
        status_code=status,
        media_type="application/json",
        headers={"Cache-Control": "no-store"},
    )
