"""SMTP dialogues: who a peer is: limits by address and network, trust, the PROXY protocol."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import pytest

from gateways.smtp.peer_limits import Limits
from mail.errors import MailboxFull, OverQuota, Unavailable
from tests.protocol.smtp_fakes import HOSTNAME, Peer, World

LOOPBACK = ("127.0.0.0/8",)


@contextlib.asynccontextmanager
async def through_proxy(world: World, header: bytes) -> AsyncIterator[Peer]:
    async with world.stranger() as peer:
        await peer.send(header)
        yield peer


def v1(source: str) -> bytes:
    family = "TCP6" if ":" in source else "TCP4"
    other = "::1" if ":" in source else "192.0.2.254"
    return f"PROXY {family} {source} {other} 40000 25\r\n".encode()


async def test_more_connections_of_an_address_than_allowed_get_421() -> None:
    world = World(address_limits=Limits(connections_max=2), trusted_networks=())
    async with world, world.peer():
        async with world.peer(), world.stranger() as third:
            assert (await third.reply()) == (
                f"421 4.7.0 {HOSTNAME} Too many connections from your address, try again later"
            )
            assert await third.closed()
        assert world.gateway.metrics()["connections_refused"] == 1
        assert world.gateway.metrics()["limited"] == 1


async def test_connections_a_minute_are_bounded() -> None:
    world = World(address_limits=Limits(connections_per_minute=3), trusted_networks=())
    async with world:
        for _ in range(3):
            async with world.peer() as peer:
                await peer.ask("QUIT")
        async with world.stranger() as peer:
            assert (await peer.reply()).startswith(f"421 4.7.0 {HOSTNAME} Too many connections a ")


async def test_messages_and_recipients_a_minute_are_bounded() -> None:
    limits = Limits(messages_per_minute=2, recipients_per_minute=3)
    async with World(address_limits=limits, trusted_networks=()) as world, world.peer() as peer:
        await peer.begin("alice@example.test", "bob@example.test")
        assert (await peer.ask("x\r\n.")).startswith("250 2.0.0 ")
        await peer.ask("MAIL FROM:<>")
        assert (await peer.ask("RCPT TO:<alice@example.test>")).startswith("250 2.1.5 ")
        assert await peer.ask("RCPT TO:<bob@example.test>") == (
            "450 4.7.1 Too many recipients from your address, try again later"
        )
        assert (await peer.ask("DATA")).startswith("354 ")
        assert (await peer.ask("x\r\n.")).startswith("250 2.0.0 ")  # For whom there was room.
        assert await peer.ask("MAIL FROM:<>") == (
            "450 4.7.1 Too many messages from your address, try again later"
        )
        assert await peer.ask("NOOP") == "250 2.0.0 Ok"
        assert world.gateway.metrics()["limited"] == 2


async def test_who_tries_out_names_is_not_heard_for_a_while() -> None:
    limits = Limits(failures_per_minute=3)
    async with World(address_limits=limits, trusted_networks=()) as world:
        async with world.peer() as peer:
            await peer.ask("MAIL FROM:<>")
            await peer.send(b"RCPT TO:<nobody@example.test>\r\n" * 5)
            codes = [(await peer.reply())[:9] for _ in range(3)]
            assert codes == ["550 5.1.1", "550 5.1.1", "421 4.7.0"]
            assert await peer.closed()
        async with world.stranger() as peer:
            assert (await peer.reply()).startswith(f"421 4.7.0 {HOSTNAME} Too many errors from ")


async def test_a_trusted_network_has_no_limits() -> None:
    limits = Limits(
        connections_max=1, connections_per_minute=1, messages_per_minute=1,
        recipients_per_minute=1, failures_per_minute=1,
    )  # fmt: skip
    async with World(address_limits=limits, network_limits=limits) as world:
        for _ in range(3):
            async with world.peer() as peer, world.peer():
                await peer.ask("MAIL FROM:<>")
                await peer.ask("RCPT TO:<nobody@example.test>")
                await peer.ask("RSET")
                await peer.begin("alice@example.test", "bob@example.test")
                assert (await peer.ask("x\r\n.")).startswith("250 2.0.0 ")
        assert world.gateway.metrics()["limited"] == 0


async def test_a_trusted_network_may_not_relay() -> None:
    async with World(trusted_networks=LOOPBACK) as world, world.peer() as peer:
        await peer.ask("MAIL FROM:<alice@example.test>")
        assert (await peer.ask("RCPT TO:<peer@elsewhere.test>")).startswith("550 5.7.1 ")
        assert (await peer.ask("RCPT TO:<peer%elsewhere.test@example.test>"))[:3] == "550"


async def test_the_networks_of_a_proxys_peers_are_counted() -> None:
    limits = Limits(connections_max=2)
    world = World(network_limits=limits, proxy_networks=LOOPBACK)
    async with world, contextlib.AsyncExitStack() as stack:
        for source in ("192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2"):
            peer = await stack.enter_async_context(through_proxy(world, v1(source)))
            assert (await peer.reply()).startswith("220 ")
        for source in ("192.0.2.3", "2001:db8::3"):
            async with through_proxy(world, v1(source)) as peer:
                assert (await peer.reply()).startswith(
                    f"421 4.7.0 {HOSTNAME} Too many connections from your network"
                )
        for source in ("192.0.3.1", "2001:db8:0:1::1", "127.0.0.1"):
            async with through_proxy(world, v1(source)) as peer:
                assert (await peer.reply()).startswith("220 ")


V2 = b"\r\n\r\n\0\r\nQUIT\n"
TLV = b"\x04\x00\x03abc"


@pytest.mark.parametrize(
    ("header", "literal"),
    [
        (v1("192.0.2.7"), b"[192.0.2.7]"),
        (v1("2001:db8::7"), b"[IPv6:2001:db8::7]"),
        (b"PROXY UNKNOWN whatever\r\n", b"[127.0.0.1]"),
        (V2 + b"\x20\x00\x00\x00", b"[127.0.0.1]"),
        (V2 + b"\x21\x11\x00\x12" + bytes((192, 0, 2, 7)) * 2 + b"\x9c\x40\0\x19" + TLV,
         b"[192.0.2.7]"),
        (V2 + b"\x21\x21\x00\x24" + b"\x20\x01\x0d\xb8" + bytes(11) + b"\x07" + bytes(20),
         b"[IPv6:2001:db8::7]"),
    ],
)  # fmt: skip
async def test_received_names_whom_a_proxy_speaks_for(header: bytes, literal: bytes) -> None:
    async with World(proxy_networks=LOOPBACK) as world:
        async with through_proxy(world, header + b"EHLO client.test\r\n") as peer:
            assert (await peer.reply()).startswith("220 ")
            assert (await peer.reply()).startswith(f"250-{HOSTNAME}")
            await peer.begin()
            assert (await peer.ask("x\r\n.")).startswith("250 2.0.0 ")
            assert b"from client.test (" + literal + b")" in world.mail.stored[0]


@pytest.mark.parametrize(
    "garbage",
    [
        b"EHLO client.test\r\n",
        b"PROXY TCP4 192.0.2.7 192.0.2.8 40000\r\n",
        b"PROXY TCP4 not.an.address 192.0.2.8 40000 25\r\n",
        b"PROXY " + b"x" * 200,
        b"\r\n\r\n\0\r\nQUIX\n",
        V2 + b"\x11\x11\x00\x0c" + bytes(12),
        V2 + b"\x21\x11\xff\xff",
    ],
)
async def test_a_proxy_without_a_header_is_cut_off(garbage: bytes) -> None:
    async with World(proxy_networks=LOOPBACK) as world, world.stranger() as peer:
        await peer.send(garbage)
        assert await peer.closed()
        await world.until_no_connection()


async def test_a_proxy_that_says_nothing_is_waited_for_no_longer_than_a_line() -> None:
    world = World(proxy_networks=LOOPBACK, line_timeout_s=0.25)
    async with world, through_proxy(world, b"PROXY TC") as peer:
        assert (await peer.reply()).startswith("421 4.4.2 ")
        assert await peer.closed()


async def test_nobody_else_is_believed() -> None:
    async with World() as world, world.stranger() as peer:
        await peer.send(v1("192.0.2.7"))
        assert (await peer.reply()).startswith("220 ")
        assert (await peer.reply()).startswith("500 5.5.2 ")
        await peer.send(V2 + b"\x20\x00\x00\x00\r\n")  # Five lines that are none.
        assert [(await peer.reply())[:9] for _ in range(5)] == ["500 5.5.2"] * 5
        assert (await peer.ask("EHLO client.test")).startswith("250-")
        await peer.begin()
        assert (await peer.ask("x\r\n.")).startswith("250 2.0.0 ")
        assert b"([127.0.0.1])" in world.mail.stored[0]


async def test_a_full_mailbox_is_told_at_rcpt() -> None:
    async with World() as world, world.peer() as peer:
        world.accounts.add("small@example.test", 900, quota_bytes=1000)
        await peer.ask("MAIL FROM:<> SIZE=700")
        assert (await peer.ask("RCPT TO:<alice@example.test>")).startswith("250 2.1.5 ")
        assert world.mail.asked == []  # Who has no quota costs no question.
        world.mail.room = MailboxFull()
        assert (await peer.ask("RCPT TO:<small@example.test>")).startswith("452 4.2.2 ")
        assert world.mail.asked == [700]
        world.mail.room = Unavailable()  # The commit decides.
        assert (await peer.ask("RCPT TO:<small@example.test>")).startswith("250 2.1.5 ")
        assert (await peer.ask("DATA")).startswith("354 ")
        world.mail.failure = OverQuota()
        assert (await peer.ask("x\r\n.")).startswith("552 5.2.2 ")


async def test_only_full_mailboxes_make_no_message() -> None:
    async with World() as world, world.peer() as peer:
        world.accounts.add("small@example.test", 900, quota_bytes=1000)
        world.mail.room = MailboxFull()
        await peer.ask("MAIL FROM:<>")
        assert (await peer.ask("RCPT TO:<small@example.test>")).startswith("452 4.2.2 ")
        assert world.mail.asked == [0]
        assert (await peer.ask("DATA")).startswith("451 ")  # Never a permanent error for it.
