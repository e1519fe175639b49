"""SMTP dialogues: what is stored is our trace and then the received octets, whatever they are."""

from __future__ import annotations

import hashlib
import random

import pytest

from tests.protocol.smtp_fakes import Peer, World

HEADER = b"From: peer@client.test\r\nSubject: s\r\n\r\n"
TRACE = (
    b"Return-Path: <peer@client.test>\r\n"
    b"Delivered-To: alice@example.test\r\n"
    b"Received: from client.test ([127.0.0.1])\r\n"
    b"\tby mx.example.test with ESMTP id %s\r\n"
    b"\tfor <alice@example.test>;\r\n"
    b"\tFri, 02 Jan 2026 03:04:05 +0000\r\n"
)


def stuffed(octets: bytes) -> bytes:
    """Return a message ready for the wire (RFC 5321 §4.5.2)."""
    wire = (b"\r\n" + octets).replace(b"\r\n.", b"\r\n..")[2:]
    return wire + (b".\r\n" if not wire or wire.endswith(b"\r\n") else b"\r\n.\r\n")


async def deliver(peer: Peer, octets: bytes) -> bytes:
    """Send a message and return its transaction id."""
    await peer.begin()
    await peer.send(stuffed(octets))
    reply = await peer.reply()
    assert reply.startswith("250 2.0.0 Ok: queued as "), reply
    return reply.rpartition(" ")[2].encode()


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"\r\n",
        b".\r\n",
        b"..\r\n.x\r\n",
        HEADER + b"text\r\n",
        HEADER + b"\r\n\r\n\r\n",
        HEADER + b"no \r bare \n octet \0 is \x80\xff lost\r\n",
        HEADER + b"trailing CR\r\r\n",
        HEADER + b"trailing LF\n\r\n",
        b"no header field at all\r\n",
        b"\0" * 1000 + b"\r\n",
    ],
)
async def test_octets_are_stored_unchanged(octets: bytes) -> None:
    async with World() as world, world.peer() as peer:
        trace = TRACE % await deliver(peer, octets)
        assert world.mail.stored == [trace + octets]


async def test_lines_of_5_mb_and_noise_are_stored_unchanged() -> None:
    noise = random.Random(5).randbytes(3_000_000).replace(b"\r\n.", b"")
    octets = HEADER + b"x" * 5_000_000 + b"\r\n" + noise + b"\r\n" + b"." * 5_000_000 + b"\r\n"
    async with World() as world, world.peer() as peer:
        trace = TRACE % await deliver(peer, octets)
        assert (
            hashlib.sha256(world.mail.stored[0]).digest() == hashlib.sha256(trace + octets).digest()
        )
        assert world.gateway.metrics()["bytes"] == len(octets)


@pytest.mark.parametrize(
    "terminator",
    [
        b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r\n.\r", b"\r.\r\n", b"\r\n\0.\r\n",
        b"\n.\r", b"\r.\n", b"\n\n.\r\n", b"\r\n.\0\r\n", b"\n\r.\r\n",
    ],
)  # fmt: skip
async def test_nothing_is_smuggled(terminator: bytes) -> None:
    attack = (
        HEADER
        + terminator
        + b"MAIL FROM:<evil@example.test>\r\nRCPT TO:<bob@example.test>\r\nDATA\r\nsmuggled"
    )
    async with World() as world, world.peer() as peer:
        await peer.begin()
        await peer.send(attack + b"\r\n.\r\nNOOP\r\n")
        assert (await peer.reply()).startswith("250 2.0.0 Ok: queued")
        assert await peer.reply() == "250 2.0.0 Ok"
        [(letter, [_])] = world.mail.letters
        assert letter.received == (attack + b"\r\n").replace(b"\r\n.", b"\r\n")


async def test_the_end_of_data_split_at_every_octet() -> None:
    script = b"MAIL FROM:<>\r\nRCPT TO:<alice@example.test>\r\nDATA\r\na\r\n..\r\n.\r\nNOOP\r\n"
    async with World() as world, world.peer() as peer:
        for cut in range(1, len(script)):
            await peer.send(script[:cut])
            if cut >= script.index(b"\r\n") + 2:
                assert (await peer.reply())[:3] == "250"  # The first part has arrived.
                await peer.send(script[cut:])
            else:
                await peer.send(script[cut:])
                assert (await peer.reply())[:3] == "250"
            assert [(await peer.reply())[:3] for _ in range(4)] == ["250", "354", "250", "250"]
        assert {letter.received for letter, _ in world.mail.letters} == {b"a\r\n.\r\n"}
        assert len(world.mail.letters) == len(script) - 1


async def test_several_recipients_are_not_told_of_each_other() -> None:
    async with World() as world, world.peer() as peer:
        await peer.begin("alice@example.test", "bob@example.test")
        assert (await peer.ask("x\r\n.")).startswith("250 ")
        for stored, mine, others in zip(
            world.mail.stored, (b"alice", b"bob"), (b"bob", b"alice"), strict=True
        ):
            assert b"Delivered-To: " + mine + b"@example.test\r\n" in stored
            assert others not in stored
            assert b"\tfor " not in stored


async def test_more_than_50_received_fields_are_a_loop() -> None:
    hop = b"Received: from a by b;\r\n\tFri, 02 Jan 2026 03:04:05 +0000\r\n"
    async with World() as world, world.peer() as peer:
        await deliver(peer, hop * 50 + HEADER + b"x\r\n")
        await deliver(peer, hop * 50 + HEADER + hop * 10)  # Those in the body are text.
        await peer.begin()
        assert (await peer.ask(hop * 51 + HEADER + b"x\r\n.")).startswith("554 5.4.6 ")
        assert len(world.mail.letters) == 2
        assert world.gateway.metrics()["refused"] == 1


async def test_too_large_is_told_after_the_end_and_kept_nowhere() -> None:
    async with World(size_bytes_max=100_000) as world, world.peer() as peer:
        await deliver(peer, b"x" * 99_998 + b"\r\n")
        await peer.begin()
        await peer.send(b"x" * 99_999 + b"\r\n.\r\nNOOP\r\n")
        assert (await peer.reply()).startswith("552 5.3.4 ")
        assert await peer.reply() == "250 2.0.0 Ok"
        assert len(world.mail.letters) == 1


async def test_a_flood_beyond_the_limit_is_cut_off() -> None:
    async with World(size_bytes_max=10_000) as world, world.peer() as peer:
        await peer.begin()
        await peer.send(b"x" * 60_000)
        assert (await peer.reply()).startswith("552 5.3.4 ")
        assert await peer.closed()
        assert world.mail.letters == []


async def test_non_ascii_addresses_with_smtputf8() -> None:
    async with World() as world, world.peer() as peer:
        await peer.begin("ålice@example.test", mail_from="<ø@client.test> SMTPUTF8")
        assert (await peer.ask("Subject: blåbær\r\n\r\nx\r\n.")).startswith("250 ")
        [stored] = world.mail.stored
        assert "Return-Path: <ø@client.test>\r\n".encode() in stored
        assert "\tfor <ålice@example.test>;\r\n".encode() in stored
        assert b" with UTF8SMTP id " in stored
        await peer.begin()
        assert (await peer.ask("x\r\n.")).startswith("250 ")
        assert b" with ESMTP id " in world.mail.stored[1]


async def test_the_name_in_ehlo_cannot_add_a_field() -> None:
    async with World() as world, world.peer() as peer:
        await peer.ask("EHLO a) (evil; for <b@example.test> å")
        await deliver(peer, b"x\r\n")
        assert b"from a???evil??for??b?example.test??? (" in world.mail.stored[0]
