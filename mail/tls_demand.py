"""TlsDemand: what a connection to one host must satisfy, and whose wish that is.

Pure. The strictest of all wishes counts:

    route         what the operator wants of the next hop
    DANE          records of the host in a signed zone (RFC 7672 §2.2)
    MTA-STS       a policy of the recipient domain (RFC 8461 §5)
    REQUIRETLS    the sender's wish (RFC 8689 §2); `TLS-Required: No` is the opposite wish, which
                  sets the two of the recipient aside (RFC 8689 §4.2.2), though not the operator's

Where DANE has usable records, they say whose certificate it must be, and no CA is asked besides;
MTA-STS can add which hosts are the domain's, but can never excuse what DANE refuses
(RFC 8461 §2).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum

from mail.mta_sts import HostVerdict
from mail.routes import RouteTls
from mail.tlsa import TlsaSet


class Level(IntEnum):
    """What the connection must be; each level includes those below it."""

    NONE = 0  # in the clear, even where TLS is offered
    OPPORTUNISTIC = 1  # TLS if it is offered and works, whoever's certificate
    ENCRYPTED = 2  # TLS, whoever's certificate
    VERIFIED = 3  # TLS, a certificate for one of `names`, of a CA that we trust
    DANE = 4  # TLS, a certificate that `tlsa` describes


class SenderWish(Enum):
    """What the sender asked for."""

    NOTHING = "nothing"
    REQUIRETLS = "REQUIRETLS"
    TLS_NOT_REQUIRED = "TLS-Required: No"


LEVELS = {
    RouteTls.NONE: Level.NONE,
    RouteTls.OPPORTUNISTIC: Level.OPPORTUNISTIC,
    RouteTls.ENCRYPTED: Level.ENCRYPTED,
    RouteTls.VERIFIED: Level.VERIFIED,
}


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What is known of one host before it is connected to.

    `domain` is the recipient's, empty when the host is a relay of the operator's; `named_by_mx`
    and `mx_authenticated` say how we came from the domain to the host. `tlsa` is None where
    nothing was published securely.
    """

    host: str
    domain: str = ""
    named_by_mx: bool = False
    mx_authenticated: bool = False
    tlsa: TlsaSet | None = None
    mta_sts: HostVerdict = HostVerdict.NO_POLICY


@dataclass(frozen=True, slots=True)
class TlsDemand:
    """What the connection must satisfy; `why` is a sentence for the log and for a DSN.

    With `requiretls`, the peer must offer REQUIRETLS and be told of it.
    """

    level: Level
    why: str
    names: tuple[str, ...] = ()
    tlsa: TlsaSet | None = None
    requiretls: bool = False


@dataclass(frozen=True, slots=True)
class HostRefused:
    """This host gets nothing; another one may. `smtp` is for when there is no other."""

    smtp: str
    why: str


def tls_demand(facts: HostFacts, route: RouteTls, wish: SenderWish) -> TlsDemand | HostRefused:
    """Return what a connection to the host must satisfy, or that it must not be used."""
    host, required = facts.host, wish is SenderWish.REQUIRETLS
    tlsa, verdict = facts.tlsa, facts.mta_sts
    if wish is SenderWish.TLS_NOT_REQUIRED:
        tlsa, verdict = None, HostVerdict.NO_POLICY
    if verdict is HostVerdict.REFUSE:
        # Temporary: the policy may be renewed meanwhile (RFC 8461 §5.1).
        return HostRefused(
            "451 4.7.5", f"{host} is not among the hosts of the MTA-STS policy of {facts.domain}"
        )
    if required and facts.named_by_mx and not facts.mx_authenticated and not verdict.names_host:
        return HostRefused(
            "550 5.7.30",
            f"The message requires TLS, and neither DNSSEC nor an MTA-STS policy says that {host}"
            f" is a mail server of {facts.domain}",
        )
    wishes = [_route_wish(route, wish)]
    if required:
        wishes.append((Level.VERIFIED, "the sender requires TLS (REQUIRETLS)"))
    if verdict is HostVerdict.VERIFY:
        wishes.append((Level.VERIFIED, f"the MTA-STS policy of {facts.domain} is enforced"))
    if tlsa is not None and tlsa.is_usable:
        wishes.append((Level.DANE, f"{tlsa.base} has TLSA records (DANE)"))
    elif tlsa is not None:
        wishes.append((Level.ENCRYPTED, f"{tlsa.base} has TLSA records, none of them usable"))
    level = max(level for level, _ in wishes)
    why = " and ".join(reason for wished, reason in wishes if wished == level)
    why = f"{_SENTENCES[level].format(host=host)}: {why}"
    if level is Level.DANE and tlsa is not None:
        return TlsDemand(level, why, _reference_names(facts, tlsa), tlsa, required)
    return TlsDemand(level, why, (host,) if level is Level.VERIFIED else (), None, required)


_SENTENCES = {
    Level.NONE: "{host} is spoken to without TLS",
    Level.OPPORTUNISTIC: "{host} is spoken to with TLS if it offers that",
    Level.ENCRYPTED: "{host} must offer TLS",
    Level.VERIFIED: "{host} must have a certificate for its name",
    Level.DANE: "{host} must have the certificate that the DNS describes",
}


def _route_wish(route: RouteTls, wish: SenderWish) -> tuple[Level, str]:
    if route is not RouteTls.OPPORTUNISTIC:
        return LEVELS[route], f"the route says tls = {route}"
    if wish is SenderWish.TLS_NOT_REQUIRED:
        return Level.OPPORTUNISTIC, "the sender asks for no more (TLS-Required: No)"
    return Level.OPPORTUNISTIC, "nobody asks for more"


def _reference_names(facts: HostFacts, tlsa: TlsaSet) -> tuple[str, ...]:
    """Return the names that a certificate below a DANE-TA record may be for.

    RFC 7672 §3.2.2: the base of the records, the host, and the recipient domain, which the
    host serves by a secure MX record.
    """
    names = [tlsa.base, facts.host]
    if facts.named_by_mx and facts.mx_authenticated:
        names.append(facts.domain)
    return tuple(dict.fromkeys(name for name in names if name))
