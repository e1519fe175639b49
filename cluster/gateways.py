"""Gateways: from settings and addresses to what each gateway actor is told."""

from __future__ import annotations

import os
from collections.abc import Mapping

from actors.link_options import LinkOptions
from cluster.gateway_actors import GatewayOptions, HttpActor, SmtpActor
from cluster.listeners import Address
from cluster.logs import LogFile
from cluster.placement import GatewayPlan
from cluster.settings import AddressLimits, NetworkLimits, Settings
from cluster.tls import TlsFiles
from gateways.http.settings import HttpSettings
from gateways.smtp.peer_limits import Limits
from gateways.smtp.settings import SmtpSettings

SMTP, HTTP = "gateway/smtp", "gateway/http"
# Of a delivery's CPU about half is spent in the gateway, the rest in the mailbox actors: with
# fewer cores one process takes all that they can store, and with more, half of the cores do.
CORES_OF_ONE_SMTP = 3
SMTP_PROCESSES_MAX = 8  # By default; 16 cores and more have other bottlenecks.
DRAIN_S = 15.0  # For what was accepted to be finished, of whichever gateway.


def gateway_plans(
    settings: Settings,
    addresses: Mapping[str, Address],
    tls: TlsFiles,
    log: LogFile,
    namespace: str,
    node: str,
    link: LinkOptions,
) -> tuple[GatewayPlan, ...]:
    """Return the gateways of this node."""
    smtp = tuple(f"{SMTP}/{number}@{node}" for number in range(smtp_processes(settings)))
    http = GatewayOptions(f"{HTTP}/0@{node}", namespace, tls, log, node, link, others=smtp)
    told = smtp_settings(settings, addresses)
    return (
        *(
            GatewayPlan(SmtpActor, GatewayOptions(name, namespace, tls, log, node, link), told)
            for name in smtp
        ),
        GatewayPlan(HttpActor, http, http_settings(settings, addresses)),
    )


def smtp_processes(settings: Settings) -> int:
    """Return how many SMTP gateways this node runs."""
    if settings.smtp.processes:
        return settings.smtp.processes
    cores = len(os.sched_getaffinity(0))
    return 1 if cores <= CORES_OF_ONE_SMTP else min(cores // 2, SMTP_PROCESSES_MAX)


def smtp_settings(settings: Settings, addresses: Mapping[str, Address]) -> SmtpSettings:
    """Return the settings of one SMTP gateway: of what is limited for the node, its share.

    The kernel spreads connections over the processes by chance, so that a share may be used up
    a little before the whole is.
    """
    smtp, address = settings.smtp, addresses["smtp"]
    processes = smtp_processes(settings)
    return SmtpSettings(
        hostname=settings.hostname,
        host=address.host,
        port=address.port,
        reuse_port=processes > 1,
        size_bytes_max=smtp.size_bytes_max,
        recipients_max=smtp.recipients_max,
        received_max=smtp.received_max,
        connections_max=_share(smtp.connections_max, processes),
        address_limits=_limits(smtp.address_limits, processes),
        network_limits=_limits(smtp.network_limits, processes),
        trusted_networks=smtp.trusted_networks,
        proxy_networks=smtp.proxy_networks,
        idle_timeout_s=smtp.idle_timeout_s,
        line_timeout_s=smtp.line_timeout_s,
        data_timeout_s=smtp.data_timeout_s,
        session_timeout_s=smtp.session_timeout_s,
        in_flight_bytes_max=max(smtp.size_bytes_max, _share(smtp.in_flight_bytes_max, processes)),
    )


def _limits(limits: AddressLimits | NetworkLimits, processes: int) -> Limits:
    return Limits(
        connections_max=_share(limits.connections_max, processes),
        connections_per_minute=_share(limits.connections_per_minute, processes),
        messages_per_minute=_share(limits.messages_per_minute, processes),
        recipients_per_minute=_share(limits.recipients_per_minute, processes),
        failures_per_minute=_share(limits.failures_per_minute, processes),
    )


def _share(whole: int, processes: int) -> int:
    return -(-whole // processes)  # Rounded up; 0, no limit, stays 0.


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
