"""Limits of the SMTP gateways, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass

from gateways.smtp.peer_limits import UNLIMITED, Limits

MIB = 1 << 20
LOOPBACK = ("127.0.0.0/8", "::1/128")


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionSettings:
    """What every SMTP listener has. Sizes in bytes, times in seconds."""

    hostname: str  # our name in greeting, EHLO and Received
    host: str = "127.0.0.1"
    reuse_port: bool = False  # several gateways of one machine on one port
    size_bytes_max: int = 50 * MIB
    recipients_max: int = 100  # RFC 5321 §4.5.3.1.8 wants 100 at least
    received_max: int = 50  # RFC 5321 §6.3 counts hops against loops; no honest path has 50
    idle_timeout_s: float = 300.0  # RFC 5321 §4.5.3.2.7
    line_timeout_s: float = 60.0  # from the first octet of a command or PROXY header to its end
    data_timeout_s: float = 180.0  # RFC 5321 §4.5.3.2.5; a trickle below data_rate_min is idle
    data_rate_min: int = 500  # bytes a second that keep a message alive
    session_timeout_s: float = 3600.0  # without a message taken; 50 MiB at 15 KiB a second
    connections_max: int = 1000
    address_limits: Limits = UNLIMITED
    network_limits: Limits = UNLIMITED
    trusted_networks: tuple[str, ...] = LOOPBACK  # free of the two above, not of relay rules
    proxy_networks: tuple[str, ...] = ()  # whose connections begin with a PROXY header
    errors_max: int = 20  # wrong commands in one session, then 421
    idle_commands_max: int = 100  # NOOP, RSET, VRFY and the like without a message, then 421
    in_flight_bytes_max: int = 256 * MIB  # message octets held at once in this process
    parse_inline_bytes_max: int = 256 << 10  # larger messages are parsed in a thread
    parse_threads: int = 2

    def __post_init__(self) -> None:
        assert self.hostname, "a server has a name"
        assert self.in_flight_bytes_max >= self.size_bytes_max, "one message must fit in flight"
        assert self.recipients_max > 0
        assert self.idle_timeout_s > 0
        assert self.line_timeout_s > 0
        assert self.data_timeout_s > 0
        assert self.session_timeout_s > 0
        assert self.connections_max > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SmtpSettings(SessionSettings):
    """What an operator may set of mail from other servers."""

    port: int = 2525  # 0 picks a free one
    refused_recipients_max: int = 1000  # in one session: nobody may try out a dictionary

    def __post_init__(self) -> None:
        SessionSettings.__post_init__(self)
        assert self.recipients_max <= self.refused_recipients_max


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmissionSettings(SessionSettings):
    """What an operator may set of mail from our own users.

    Rates are counted in each gateway for itself: several that share a port get a share each.
    A connection to `tls_port` cannot begin with a PROXY header: what comes first there is TLS.
    """

    port: int | None = 2587  # STARTTLS (RFC 6409 §3.1); 0 picks a free one, None: not served
    tls_port: int | None = 2465  # TLS at once (RFC 8314 §3.3), likewise
    tls_host: str = ""  # "": as `host`
    recipients_max: int = 1000  # People write to their whole club; other servers may send again.
    sign_in_attempts_max: int = 3  # in one session, then 421; RFC 4954 §4 asks for a bound
    refusal_delay_s: float = 1.0  # of a wrong password's answer: guessing gets slow
    messages_per_hour: int = 1000  # of one account; 0: no limit. No person writes as many.
    recipients_per_hour: int = 5000  # of one account, likewise
    tell_client_address: bool = False  # in the Received field, which all recipients may read

    def __post_init__(self) -> None:
        SessionSettings.__post_init__(self)
        assert self.port is not None or self.tls_port is not None, "nothing would be served"
        assert self.sign_in_attempts_max > 0
        assert self.messages_per_hour >= 0
        assert not 0 < self.recipients_per_hour < self.recipients_max, "one message must fit"
