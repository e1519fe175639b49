"""What every handler of one gateway shares: ports, settings, clock, counters, bounds."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from actors.ports import Mail, Push, SignIns
from gateways.http.body import AtOnce, BodyBudget
from gateways.http.clock import Clock
from gateways.http.delays import FailureDelays
from gateways.http.health import Readiness
from gateways.http.metrics import HttpMetrics, MetricsSource
from gateways.http.settings import HttpSettings

if TYPE_CHECKING:
    from gateways.http.websocket import WebSocketSession


@dataclass(slots=True, kw_only=True)
class Context:
    """One gateway's shared things. Soft state only."""

    accounts: SignIns
    mail: Mail
    push: Push
    settings: HttpSettings
    clock: Clock
    readiness: Readiness
    metrics: HttpMetrics
    metrics_sources: Sequence[MetricsSource]
    delays: FailureDelays
    bodies: BodyBudget
    requests: AtOnce
    uploads: AtOnce
    event_sources: AtOnce
    polls: AtOnce
    draining: asyncio.Event = field(default_factory=asyncio.Event)
    websockets: set[WebSocketSession] = field(default_factory=set)
    https_port: int | None = None  # the one we listen on, known once we do
