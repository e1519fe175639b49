"""Origins: where a peer comes from, as limits and trust see it.

Pure. An address counts by itself and as a part of its network: the /24 of IPv4, the /64 of IPv6,
which is what one customer of a provider gets at least. An IPv4 address that a socket shows as
an IPv6 one (`::ffff:192.0.2.1`) is the IPv4 address.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

NETWORK_BYTES = {4: 3, 6: 8}  # of an address's octets, by its version: /24 and /64
REMEMBERED_MAX = 4096  # Reading an address costs 5 µs; who comes again is spared it.


class Origin(NamedTuple):
    """One peer's address."""

    address: bytes  # 4 or 16 octets; none when the peer has no address
    network: bytes  # 3 or 8 octets
    trusted: bool  # free of limits, of rates and of refusals for errors
    proxy: bool  # speaks for others, by the PROXY protocol


class Origins:
    """Knows the networks that the operator has named. Raises ValueError for what is none."""

    def __init__(self, trusted: Iterable[str], proxies: Iterable[str]) -> None:
        self._trusted = tuple(map(ipaddress.ip_network, trusted))
        self._proxies = tuple(map(ipaddress.ip_network, proxies))
        self.of = lru_cache(REMEMBERED_MAX)(self._of)

    def _of(self, ip: str) -> Origin:
        """Return what an address is; "" and what is no address are strangers without one."""
        try:
            address = ipaddress.ip_address(ip.partition("%")[0])
        except ValueError:
            return Origin(b"", b"", trusted=False, proxy=False)
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        octets = address.packed
        return Origin(
            octets,
            octets[: NETWORK_BYTES[address.version]],
            trusted=any(address in network for network in self._trusted),
            proxy=any(address in network for network in self._proxies),
        )
