"""PROXY headers: both versions, split anywhere, and what is none."""

from __future__ import annotations

import contextlib
import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateways.smtp.proxy_protocol import (
    V1_BYTES_MAX,
    V2_BYTES_MAX,
    V2_SIGNATURE,
    NotAProxyHeader,
    ProxyHeader,
    read_proxy_header,
)

ports = st.integers(0, 65535)


def v2(command: int, family: int, content: bytes) -> bytes:
    return V2_SIGNATURE + bytes((command, family)) + len(content).to_bytes(2, "big") + content


def split(header: bytes, source: str) -> None:
    """Assert that nothing but the whole header is one, and that what follows it is left."""
    for length in range(len(header)):
        assert read_proxy_header(header[:length]) is None
    for rest in (b"", b"EHLO client.test\r\n", b"\r\n", b"\0"):
        assert read_proxy_header(header + rest) == ProxyHeader(len(header), source)


@given(st.ip_addresses(), st.data(), ports, ports)
def test_version_1(
    source: ipaddress.IPv4Address | ipaddress.IPv6Address, data: st.DataObject, one: int, two: int
) -> None:
    target = data.draw(st.ip_addresses(v=source.version))
    header = f"PROXY TCP{source.version} {source} {target} {one} {two}\r\n".encode()
    assert len(header) <= V1_BYTES_MAX
    split(header, str(source))


@given(st.ip_addresses(), ports, st.binary(max_size=60))
def test_version_2(
    source: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int, tlvs: bytes
) -> None:
    content = source.packed * 2 + port.to_bytes(2, "big") * 2 + tlvs
    split(v2(0x21, 0x11 if source.version == 4 else 0x21, content), str(source))


@given(st.binary(max_size=60), st.integers(0, 255))
def test_local_connections_keep_their_own_address(content: bytes, family: int) -> None:
    split(v2(0x20, family, content), "")
    split(v2(0x21, 0x00, content), "")


@pytest.mark.parametrize("rest", [b"", b" ", b" ffff::1 ffff::2 65535 65535", b" what ever"])
def test_unknown_of_version_1_keeps_its_own_address(rest: bytes) -> None:
    split(b"PROXY UNKNOWN" + rest + b"\r\n", "")


@pytest.mark.parametrize(
    "octets",
    [
        b"E",
        b"proxy TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n",
        b"PROXY TCP4  192.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n",
        b"PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2 1 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 -1 2\r\n",
        b"PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY \xff\r\n",
        b"PROXY UNKNOWN" + b"x" * V1_BYTES_MAX,
        V2_SIGNATURE[:-1] + b"\r",
        v2(0x11, 0x11, bytes(12)),
        v2(0x22, 0x11, bytes(12)),
        v2(0x21, 0x11, bytes(11)),
        v2(0x21, 0x21, bytes(35)),
        v2(0x21, 0x12, bytes(12)),
        v2(0x21, 0x31, bytes(216)),
        v2(0x20, 0x00, bytes(V2_BYTES_MAX)),
    ],
)
def test_what_is_no_header(octets: bytes) -> None:
    with pytest.raises(NotAProxyHeader):
        read_proxy_header(octets)


@given(
    st.one_of(
        st.binary(max_size=200),
        st.binary(max_size=200).map(lambda octets: b"PROXY " + octets),
        st.binary(max_size=200).map(lambda octets: V2_SIGNATURE + octets),
    )
)
def test_anything_is_a_header_none_yet_or_none_at_all(octets: bytes) -> None:
    with contextlib.suppress(NotAProxyHeader):
        header = read_proxy_header(octets)
        assert header is None or 0 < header.size_bytes <= len(octets)


def test_a_header_that_never_ends_is_refused_in_bounded_memory() -> None:
    with pytest.raises(NotAProxyHeader):
        read_proxy_header(b"PROXY UNKNOWN ".ljust(V1_BYTES_MAX, b"x"))
    with pytest.raises(NotAProxyHeader):
        read_proxy_header(V2_SIGNATURE + b"\x21\x11\xff\xff")
