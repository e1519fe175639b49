"""Gateways: from settings and addresses to what each gateway actor is told."""

from __future__ import annotations

from collections.abc import Mapping

from cluster.gateway_actors import GatewayOptions, HttpActor, SmtpActor
from cluster.listeners import Address
from cluster.logs import LogFile
from cluster.placement import GatewayPlan
from cluster.settings import Settings
from cluster.tls import TlsFiles
from gateways.http.settings import HttpSettings
from gateways.smtp.settings import SmtpSettings

SMTP, HTTP = "gateway/smtp/0", "gateway/http/0"
DRAIN_S = 15.0  # For what was accepted to be finished, of whichever gateway.


def gateway_plans(
    settings: Settings,
    addresses: Mapping[str, Address],
    tls: TlsFiles,
    log: LogFile,
    namespace: str,
) -> tuple[GatewayPlan, ...]:
    """Return the gateways of this node."""
    smtp = GatewayOptions(SMTP, namespace, tls, log)
    http = GatewayOptions(HTTP, namespace, tls, log, others=(SMTP,))
    return (
        GatewayPlan(SmtpActor, smtp, smtp_settings(settings, addresses)),
        GatewayPlan(HttpActor, http, http_settings(settings, addresses)),
    )


def smtp_settings(settings: Settings, addresses: Mapping[str, Address]) -> SmtpSettings:
    """Return the SMTP gateway's settings."""
    smtp, address = settings.smtp, addresses["smtp"]
    return SmtpSettings(
        hostname=settings.hostname,
        host=address.host,
        port=address.port,
        size_bytes_max=smtp.size_bytes_max,
        recipients_max=smtp.recipients_max,
        received_max=smtp.received_max,
        connections_max=smtp.connections_max,
        idle_timeout_s=smtp.idle_timeout_s,
        data_timeout_s=smtp.data_timeout_s,
        in_flight_bytes_max=smtp.in_flight_bytes_max,
    )


def http_settings(settings: Settings, addresses: Mapping[str, Address]) -> HttpSettings:
    """Return the HTTP gateway's settings."""
    http, https = addresses["http"], addresses["https"]
    return HttpSettings(
        hostname=settings.hostname,
        http_host=http.host,
        http_port=http.port,
        https_host=https.host,
        https_port=https.port,
        drain_timeout_s=int(DRAIN_S),
    )
