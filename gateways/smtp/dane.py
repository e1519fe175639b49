"""Dane: which certificates a mail server may have, as its signed zone says (RFC 7672).

MX or addresses not authenticated   no lookup, no demand: None
no TLSA record, or not authenticated                     None
records, some usable                a set: the certificate must match
records, none usable                an empty set: TLS is mandatory, whoever's certificate
no answer now                       LookupFailed: this host is not to be used now, since who
                                    can suppress the answer could be who wants to read the mail
"""

from __future__ import annotations

import ssl
from typing import Any

from gateways.smtp.destinations import Destination, Host
from gateways.smtp.resolver import NotFound, Resolver
from mail.tlsa import TlsaSet, usable

ENCODING_DER = 2  # of the ssl module's own certificates


async def look_up(resolver: Resolver, destination: Destination, host: Host) -> TlsaSet | None:
    """Return what a host of a destination has published securely. Raises LookupFailed.

    A relay, or a domain without MX, is named by the operator or the recipient, so that only its
    addresses must be authenticated (RFC 7672 §2.2.2).
    """
    if destination.named_by_mx and not destination.mx_authenticated:
        return None
    if not host.authenticated:  # An address literal never is.
        return None
    # RFC 7672 §2.2.3: the records are at the end of the CNAMEs, or else at their beginning.
    for base in dict.fromkeys((host.canonical, host.name)):
        try:
            answer = await resolver.tlsa(f"_{host.port}._tcp.{base}")
        except NotFound:
            continue
        if answer.authenticated:
            return usable(base, answer.records)
    return None


def peer_chain(connection: ssl.SSLObject | ssl.SSLSocket) -> tuple[bytes, ...]:
    """Return the certificates that a peer has shown, in DER, its own first; none without TLS.

    They are not verified. For `transport.get_extra_info("ssl_object")`.
    """
    inner: Any = connection if hasattr(connection, "get_unverified_chain") else None
    if inner is None:  # Before Python 3.13 the method is there, but not public.
        inner = getattr(connection, "_sslobj", None)
    chain = inner.get_unverified_chain() if inner is not None else None
    return tuple(
        one if isinstance(one, bytes) else one.public_bytes(ENCODING_DER) for one in chain or ()
    )
