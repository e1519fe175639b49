"""ProxyProtocol: read the header in which a proxy says who the peer is (HAProxy, versions 1 and 2).

Sans-I/O: octets in, the peer's address and the length of the header out. What a header says is
believed of networks that the operator has named, and of nobody else; that is the caller's affair.

Bounds      107 octets of version 1, V2_BYTES_MAX of version 2, its TLVs included.
On failure  NotAProxyHeader as soon as the octets cannot become a header any more.
"""

from __future__ import annotations

import ipaddress
from typing import NamedTuple

V1_PREFIX = b"PROXY "
V1_BYTES_MAX = 107  # The specification's §2.1: two IPv6 addresses, two ports, CRLF.
V2_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
V2_HEAD_BYTES = 16
V2_BYTES_MAX = 4096  # Addresses are 36 octets; the TLVs of today's proxies are a few hundred.
V2_LOCAL, V2_PROXY = 0x20, 0x21  # Version 2 in the upper four bits.
V2_UNSPECIFIED = 0x00
V2_ADDRESS_BYTES = {0x11: 4, 0x21: 16}  # TCP over IPv4, TCP over IPv6: octets of one address.
PORT_BYTES = 2


class NotAProxyHeader(Exception):
    """These octets are no header of the PROXY protocol for TCP."""


class ProxyHeader(NamedTuple):
    """What a header says."""

    size_bytes: int  # of the header itself; the peer's octets follow it
    source: str  # the peer's address; "" when the proxy speaks for itself or does not know it


def read_proxy_header(octets: bytes) -> ProxyHeader | None:
    """Return the header at the beginning of `octets`, None while its end has not come.

    Raises NotAProxyHeader.
    """
    if octets[:1] == V2_SIGNATURE[:1]:
        return _read_v2(octets)
    return _read_v1(octets)


def _read_v1(octets: bytes) -> ProxyHeader | None:
    if not V1_PREFIX.startswith(octets[: len(V1_PREFIX)]):
        raise NotAProxyHeader
    end = octets.find(b"\r\n", 0, V1_BYTES_MAX)
    if end < 0:
        if len(octets) >= V1_BYTES_MAX:
            raise NotAProxyHeader
        return None
    try:
        words = octets[len(V1_PREFIX) : end].decode("ascii").split(" ")
    except UnicodeDecodeError:
        raise NotAProxyHeader from None
    size_bytes = end + 2
    if words[0] == "UNKNOWN":  # What follows it is to be ignored.
        return ProxyHeader(size_bytes, "")
    if len(words) != 5 or words[0] not in ("TCP4", "TCP6"):
        raise NotAProxyHeader
    source, _ = (_address(words[0], text) for text in words[1:3])
    if not all(_is_port(text) for text in words[3:]):
        raise NotAProxyHeader
    return ProxyHeader(size_bytes, source)


def _address(family: str, text: str) -> str:
    try:
        found = ipaddress.IPv4Address(text) if family == "TCP4" else ipaddress.IPv6Address(text)
    except ValueError:
        raise NotAProxyHeader from None
    return str(found)


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 0xFFFF


def _read_v2(octets: bytes) -> ProxyHeader | None:
    if not V2_SIGNATURE.startswith(octets[: len(V2_SIGNATURE)]):
        raise NotAProxyHeader
    if len(octets) < V2_HEAD_BYTES:
        return None
    command, family = octets[12], octets[13]
    size_bytes = V2_HEAD_BYTES + int.from_bytes(octets[14:V2_HEAD_BYTES], "big")
    if command not in (V2_LOCAL, V2_PROXY) or size_bytes > V2_BYTES_MAX:
        raise NotAProxyHeader
    if len(octets) < size_bytes:
        return None
    if command == V2_LOCAL or family == V2_UNSPECIFIED:
        return ProxyHeader(size_bytes, "")
    address_bytes = V2_ADDRESS_BYTES.get(family)
    if address_bytes is None:
        raise NotAProxyHeader
    if size_bytes < V2_HEAD_BYTES + 2 * (address_bytes + PORT_BYTES):
        raise NotAProxyHeader
    source = octets[V2_HEAD_BYTES : V2_HEAD_BYTES + address_bytes]
    return ProxyHeader(size_bytes, str(ipaddress.ip_address(source)))
