"""Where a request comes from and where it went: peers, schemes, hosts, origins.

Only the socket counts. `Forwarded` and `X-Forwarded-*` are never read: whoever can reach
the plain port could write them.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import quote

from starlette.requests import HTTPConnection

from gateways.http.problem import Problem
from gateways.http.settings import HttpSettings

# RFC 3986 §3.2.2 without user information: a name, an IPv4 address or an IPv6 literal.
_HOST = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,252}|\[[0-9A-Fa-f:.]{2,45}\])(?::([0-9]{1,5}))?")
_PATH_SAFE = "/:@!$&'()*+,;=~-._%"
_OPEN_PATHS = ("/health/", "/metrics")  # no credentials, no mail: served in plain text anywhere


def client_host(connection: HTTPConnection) -> str:
    """Return the peer's IP address, or "" when there is none."""
    return connection.client.host if connection.client else ""


def is_loopback(host: str) -> bool:
    """Return whether an IP address is of this machine; a mapped IPv4 address counts as such."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped.is_loopback
    return address.is_loopback


def is_secure(connection: HTTPConnection) -> bool:
    """Return whether the request came over TLS."""
    return connection.scope["scheme"] in ("https", "wss")


def may_sign_in(connection: HTTPConnection) -> bool:
    """Return whether credentials may be taken: over TLS, or in plain text from loopback."""
    return is_secure(connection) or is_loopback(client_host(connection))


def own_authority(connection: HTTPConnection, settings: HttpSettings) -> str:
    """Return `host[:port]` as the client wrote it, or our own when that is not one."""
    host = connection.headers.get("host", "")
    if _HOST.fullmatch(host):
        return host
    server = connection.scope.get("server")
    port = server[1] if server else None
    return f"{settings.hostname}:{port}" if port else settings.hostname


def own_base_url(connection: HTTPConnection, settings: HttpSettings) -> str:
    """Return `https://host[:port]`, built from the request itself."""
    scheme = "https" if is_secure(connection) else "http"
    return f"{scheme}://{own_authority(connection, settings)}"


def require_own_origin(connection: HTTPConnection, settings: HttpSettings) -> None:
    """Refuse what a page of another origin makes a browser send (RFC 6454 §7, RFC 6455 §10.2).

    A browser that has signed in here sends its credentials along with such requests; programs
    send no Origin. Raises Problem 403.
    """
    origins = connection.headers.getlist("origin")
    if origins and origins != [own_base_url(connection, settings)]:
        raise Problem(403, "forbidden", detail="Requests from other origins are not taken.")


def redirect_target(
    connection: HTTPConnection, settings: HttpSettings, https_port: int | None
) -> str | None:
    """Return the HTTPS URL to which a plain request from elsewhere has to go, else None.

    Raises Problem 403 when there is no HTTPS here, and for a WebSocket: its clients do not
    follow redirects.
    """
    if may_sign_in(connection):
        return None
    path: str = connection.scope["path"]
    if path.startswith(_OPEN_PATHS) and "authorization" not in connection.headers:
        return None
    if https_port is None:
        raise Problem(403, "forbidden", detail="Plain HTTP is served to this machine only.")
    if connection.scope["type"] == "websocket":
        raise Problem(403, "forbidden", detail="Use wss.")
    match = _HOST.fullmatch(connection.headers.get("host", ""))
    host = match[1] if match else settings.hostname
    port = "" if https_port == 443 else f":{https_port}"
    query = connection.scope["query_string"].decode("ascii", "replace")
    # The raw path is the client's own, still encoded; quote() keeps "%" and removes the rest.
    raw_path = connection.scope.get("raw_path", b"/").decode("latin-1")
    target = f"https://{host}{port}{quote(raw_path, safe=_PATH_SAFE)}"
    return target + ("?" + quote(query, safe=_PATH_SAFE + "?") if query else "")
