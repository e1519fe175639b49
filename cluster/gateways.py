"""Gateways: from settings and addresses to what each gateway actor is told."""

from __future__ import annotations

from collections.abc import Mapping

from cluster.gateway_actors import GatewayOptions, SmtpActor
from cluster.listeners import Address
from cluster.logs import LogFile
from cluster.placement import GatewayPlan
from cluster.settings import Settings
from cluster.tls import TlsFiles
from gateways.smtp.settings import SmtpSettings


def gateway_plans(
    settings: Settings,
    addresses: Mapping[str, Address],
    tls: TlsFiles,
    log: LogFile,
    namespace: str,
    release: str,
) -> tuple[GatewayPlan, ...]:
    """Return the gateways of this node."""

    def options(name: str) -> GatewayOptions:
        return GatewayOptions(name, namespace, tls, log, release)

    return (GatewayPlan(SmtpActor, options("gateway/smtp/0"), smtp_settings(settings, addresses)),)


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
