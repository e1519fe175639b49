"""What a gateway counts, and `/metrics`: Prometheus text.

Each gateway has a registry of its own, so that two of them can live in one process. Labels
are route names and status codes only: bounded, and nothing of anybody's mail.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest
from starlette.responses import Response

log = structlog.get_logger(__name__)

MetricsSource: TypeAlias = Callable[[], Awaitable[str]]  # Prometheus text of something else
SOURCE_TIMEOUT_S = 5.0  # below the usual scrape timeout of 10 s
MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS_BUCKETS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class HttpMetrics:
    """The counters of one gateway."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "heliograph_http_requests",
            "Requests answered.",
            ("route", "status"),
            registry=self.registry,
        )
        self.request_seconds = Histogram(
            "heliograph_http_request_seconds",
            "Seconds from a request's headers to the end of its answer.",
            ("route",),
            buckets=SECONDS_BUCKETS,
            registry=self.registry,
        )
        self.websockets_open = Gauge(
            "heliograph_http_websockets_open", "WebSockets open now.", registry=self.registry
        )
        self.websocket_requests = Counter(
            "heliograph_http_websocket_requests",
            "JMAP requests answered over WebSockets.",
            registry=self.registry,
        )
        self.pushes = Counter(
            "heliograph_http_pushes",
            "StateChanges sent.",
            ("channel",),
            registry=self.registry,
        )
        self.sign_in_failures = Counter(
            "heliograph_http_sign_in_failures", "Sign-ins refused.", registry=self.registry
        )

    def observe(self, route: str, status: int, seconds: float) -> None:
        """Count one answered request."""
        self.requests.labels(route, str(status)).inc()
        self.request_seconds.labels(route).observe(seconds)


async def metrics_response(metrics: HttpMetrics, sources: Sequence[MetricsSource]) -> Response:
    """Return our own metrics followed by those of `sources`; a source that fails is left out."""
    texts = await asyncio.gather(*(_read(source) for source in sources))
    own = generate_latest(metrics.registry).decode()
    body = "".join(text if text.endswith("\n") else text + "\n" for text in (own, *texts) if text)
    return Response(body, headers={"Cache-Control": "no-store", "Content-Type": MEDIA_TYPE})


async def _read(source: MetricsSource) -> str:
    try:
        async with asyncio.timeout(SOURCE_TIMEOUT_S):
            return await source()
    except Exception as error:  # whatever it is, the other metrics are wanted
        log.warning("metrics source failed", error=type(error).__name__)
        return ""
