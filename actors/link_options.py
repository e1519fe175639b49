"""LinkOptions: on which address a node's processes listen for links, and how they prove themselves.

Beyond this machine links are TLS 1.3, and both ends show a certificate of the cluster's own CA;
neither goes on without (RFC 8446 §4.4.2). Names in certificates are not looked at: whoever has
one of this CA belongs to the cluster, and which process it is, the key of the link says. On
loopback there may be no certificates; then links are in clear text, and never leave loopback.

The files are read once a process: who renews a certificate starts the node again.
"""

from __future__ import annotations

import functools
import ipaddress
import ssl
from dataclasses import dataclass

CONTEXTS_MAX = 16  # One is enough but for tests.


@dataclass(frozen=True, slots=True)
class LinkOptions:
    """Plain data: it crosses processes."""

    host: str = "127.0.0.1"  # an address of this node that all others reach
    ca: str = ""  # PEM files: the CA, this node's certificate and its key, or none of them
    certificate: str = ""
    key: str = ""

    @property
    def encrypts(self) -> bool:
        return bool(self.ca)

    def listening_context(self) -> ssl.SSLContext | None:
        """Return what a listener needs, None for clear text. Raises OSError, ssl.SSLError."""
        if not self.encrypts:
            _stay_on_loopback(self.host)
            return None
        return _context(self, ssl.PROTOCOL_TLS_SERVER)

    def calling_context(self, host: str) -> ssl.SSLContext | None:
        """Return what a caller of `host` needs, None for clear text. Raises as above."""
        if not self.encrypts:
            _stay_on_loopback(host)
            return None
        return _context(self, ssl.PROTOCOL_TLS_CLIENT)


def _stay_on_loopback(host: str) -> None:
    if not ipaddress.ip_address(host).is_loopback:
        raise OSError(f"links in clear text stay on loopback, {host} is elsewhere")


@functools.lru_cache(CONTEXTS_MAX)
def _context(options: LinkOptions, protocol: ssl._SSLMethod) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(options.ca)
    context.load_cert_chain(options.certificate, options.key)
    if protocol is ssl.PROTOCOL_TLS_SERVER:
        context.num_tickets = 0  # Nobody resumes a session; links last.
    return context
