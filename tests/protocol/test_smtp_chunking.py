"""SMTP dialogues: CHUNKING and BINARYMIME (RFC 3030): what is stored is what the chunks held."""

from __future__ import annotations

import asyncio
import contextlib
import random

import pytest

from mail.errors import NoSuchMailbox, OverQuota, Unavailable
from tests.protocol.smtp_fakes import PATIENCE_S, Peer, World

HEADER = b"From: peer@client.test\r\nSubject: s\r\n\r\n"


def bdat(octets: bytes, *, last: bool = False) -> bytes:
    return b"BDAT %d%s\r\n%s" % (len(octets), b" LAST" if last else b"", octets)


async def envelope(peer: Peer, *recipients: str, body: str = "8BITMIME") -> None:
    assert (await peer.ask(f"MAIL FROM:<peer@client.test> BODY={body}")).startswith("250 2.1.0 ")
    for recipient in recipients or ("alice@example.test",):
        assert (await peer.ask(f"RCPT TO:<{recipient}>")).startswith("250 2.1.5 ")


async def codes(peer: Peer, count: int) -> list[str]:
    return [(await peer.reply())[:9] for _ in range(count)]


async def test_simple_chunking() -> None:  # RFC 3030 §4.1
    async with World() as world, world.peer() as peer:
        await envelope(peer)
        await peer.send(bdat(HEADER + b"x" * 80, last=True))
        assert (await peer.reply()).startswith("250 2.0.0 Ok: queued as ")
        [(letter, [destination])] = world.mail.letters
        assert letter.received == HEADER + b"x" * 80
        assert letter.summary.subject == "s"
        assert b" with ESMTP id " in destination.trace
        assert b"\tfor <alice@example.test>;" in destination.trace


async def test_pipelined_binary_chunks() -> None:  # RFC 3030 §4.2
    noise = random.Random(7).randbytes(424_224)
    async with World() as world, world.peer() as peer:
        await peer.send(
            b"MAIL FROM:<peer@client.test> BODY=BINARYMIME\r\n"
            b"RCPT TO:<alice@example.test>\r\nRCPT TO:<bob@example.test>\r\n"
        )
        parts = (HEADER, noise[:100_000], noise[100_000:])
        await peer.send(b"".join(map(bdat, parts)) + b"BDAT 0 LAST\r\nNOOP\r\n")
        assert await codes(peer, 3) == ["250 2.1.0", "250 2.1.5", "250 2.1.5"]
        assert await peer.reply() == f"250 2.0.0 {len(HEADER)} octets received"
        assert await peer.reply() == "250 2.0.0 100000 octets received"
        assert await peer.reply() == "250 2.0.0 324224 octets received"
        assert (await peer.reply()).startswith("250 2.0.0 Ok: queued as ")
        assert await peer.reply() == "250 2.0.0 Ok"
        assert [letter.received for letter, _ in world.mail.letters] == [HEADER + noise]
        assert len(world.mail.stored) == 2


@pytest.mark.parametrize("body", ["7BIT", "8BITMIME", "BINARYMIME"])
@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b".",
        b"..\r\n.\r\n.x",
        HEADER + b"\r\n.\r\nQUIT\r\n",
        HEADER + b"no end of line",
        HEADER + b"bare \r and \n and \0 and \x80\xff\n",
        HEADER + b"x" * 200_000,
    ],
)
async def test_octets_are_stored_unchanged(body: str, octets: bytes) -> None:
    async with World() as world, world.peer() as peer:
        await envelope(peer, body=body)
        half = len(octets) // 2
        await peer.send(bdat(octets[:half]) + bdat(octets[half:], last=True))
        assert (await codes(peer, 2)) == ["250 2.0.0", "250 2.0.0"]
        [(letter, [destination])] = world.mail.letters
        assert letter.received == octets
        assert world.mail.stored == [destination.trace + octets]
        assert world.gateway.metrics()["bytes"] == len(octets)


async def test_chunks_octet_by_octet() -> None:
    octets = HEADER + bytes(range(256))
    script = b"".join(bdat(octets[i : i + 1]) for i in range(len(octets))) + b"BDAT 0 LAST\r\n"
    async with World() as world, world.peer() as peer:
        await envelope(peer, body="BINARYMIME")
        for start in range(0, len(script), 7):
            await peer.send(script[start : start + 7])
            await asyncio.sleep(0)
        assert set(await codes(peer, len(octets) + 1)) == {"250 2.0.0"}
        assert world.mail.letters[0][0].received == octets


async def test_data_does_not_follow_binarymime_nor_bdat() -> None:  # RFC 3030 §2, §3
    async with World() as world, world.peer() as peer:
        await envelope(peer, body="BINARYMIME")
        assert (await peer.ask("DATA")).startswith("503 5.5.1 ")
        await peer.send(bdat(HEADER))
        assert (await peer.reply()).startswith("250 2.0.0 ")
        assert (await peer.ask("DATA")).startswith("503 5.5.1 ")
        assert (await peer.ask("RCPT TO:<bob@example.test>")).startswith("503 5.5.1 ")
        assert (await peer.ask("MAIL FROM:<>")).startswith("503 5.5.1 ")
        assert await peer.ask("RSET") == "250 2.0.0 Ok"
        await peer.begin()  # Both may be used in one session, in a transaction each.
        assert (await peer.ask("x\r\n.")).startswith("250 2.0.0 ")
        await envelope(peer)
        await peer.send(bdat(b"y", last=True))
        assert (await peer.reply()).startswith("250 2.0.0 ")
        assert [letter.received for letter, _ in world.mail.letters] == [b"x\r\n", b"y"]


@pytest.mark.parametrize(
    ("before", "code"),
    [
        ([], "503 5.5.1"),
        (["MAIL FROM:<>"], "503 5.5.1"),
        (["MAIL FROM:<>", "RCPT TO:<nobody@example.test>"], "554 5.5.1"),
        (["HELO old.test", "MAIL FROM:<>", "RCPT TO:<alice@example.test>"], "503 5.5.1"),
    ],
)
async def test_chunks_out_of_place_are_read_and_refused(before: list[str], code: str) -> None:
    smuggled = b"QUIT\r\nMAIL FROM:<evil@example.test>\r\n"
    async with World() as world, world.peer() as peer:
        for command in before:
            await peer.ask(command)
        await peer.send(bdat(smuggled) * 30 + bdat(smuggled, last=True) + b"NOOP\r\n")
        assert await codes(peer, 31) == [code] * 31  # However many: they were on their way.
        assert await peer.reply() == "250 2.0.0 Ok"
        await peer.ask("EHLO client.test")
        await envelope(peer)
        await peer.send(bdat(HEADER, last=True))
        assert (await peer.reply()).startswith("250 2.0.0 ")
        assert [letter.received for letter, _ in world.mail.letters] == [HEADER]


async def test_chunks_for_recipients_who_may_be_there_later_are_deferred() -> None:
    async with World() as world, world.peer() as peer:
        await peer.ask("MAIL FROM:<>")
        world.accounts.failure = Unavailable()
        await peer.ask("RCPT TO:<alice@example.test>")
        await peer.send(bdat(b"x", last=True))
        assert (await peer.reply()).startswith("451 4.3.0 ")


async def test_after_a_failed_chunk_all_are_refused_until_mail() -> None:
    async with World(size_bytes_max=1000) as world, world.peer() as peer:
        await envelope(peer)
        await peer.send(bdat(b"x" * 900) + bdat(b"y" * 101) + bdat(b"z", last=True))
        assert await codes(peer, 3) == ["250 2.0.0", "552 5.3.4", "552 5.3.4"]
        assert world.gateway.metrics()["bytes_in_flight"] == 0
        assert (await peer.ask("RCPT TO:<bob@example.test>")).startswith("503 5.5.1 ")
        await envelope(peer)
        await peer.send(bdat(b"x" * 900) + bdat(b"y" * 100, last=True))
        assert await codes(peer, 2) == ["250 2.0.0", "250 2.0.0"]
        assert world.mail.letters[0][0].received == b"x" * 900 + b"y" * 100


async def test_a_flood_of_chunks_is_cut_off() -> None:
    async with World(size_bytes_max=10_000) as world, world.peer() as peer:
        await envelope(peer)
        await peer.send(b"BDAT 99999999999999999999\r\n" + b"x" * 60_000)
        assert (await peer.reply()).startswith("552 5.3.4 ")
        assert await peer.closed()
    async with World(size_bytes_max=10_000) as world, world.peer() as peer:
        await envelope(peer)
        with contextlib.suppress(ConnectionError):
            await peer.send(bdat(b"x" * 9000) * 10)
        assert await codes(peer, 4) == ["250 2.0.0"] + ["552 5.3.4"] * 3
        assert (await peer.reply()) == "552 5.3.4 Far too much data"
        assert world.mail.letters == []


async def test_empty_chunks_are_bounded() -> None:
    async with World(idle_commands_max=5) as world, world.peer() as peer:
        await envelope(peer)
        await peer.send(b"BDAT 0\r\n" * 5)
        assert await codes(peer, 5) == ["250 2.0.0"] * 4 + ["421 4.7.0"]
    async with World(idle_commands_max=5) as world, world.peer() as peer:
        await peer.send(b"BDAT 0 LAST\r\n" * 6)
        assert await codes(peer, 6) == ["503 5.5.1"] * 5 + ["421 4.7.0"]


@pytest.mark.parametrize(
    "line",
    ["BDAT", "BDAT x", "BDAT -1", "BDAT 1 FIRST", "BDAT 1 LAST LAST", "BDAT 1.5", "BDAT 1\tLAST"],
)
async def test_a_chunk_of_unknown_length_ends_the_session(line: str) -> None:
    async with World() as world, world.peer() as peer:
        await envelope(peer)
        await peer.send(line.encode() + b"\r\nMAIL FROM:<evil@example.test>\r\n")
        assert (await peer.reply())[:3] in ("500", "501")
        assert await peer.closed()


async def test_bdat_is_read_in_any_case() -> None:
    async with World() as world, world.peer() as peer:
        await envelope(peer)
        await peer.send(b"bdat 3 last\r\nabc")
        assert (await peer.reply()).startswith("250 2.0.0 Ok: queued")
        assert world.mail.letters[0][0].received == b"abc"


async def test_errors_of_the_mailbox_come_with_the_last_chunk() -> None:
    async with World() as world, world.peer() as peer:
        for failure, code in (
            (Unavailable(), "451 4.3.0"),
            (OverQuota(), "552 5.2.2"),
            (NoSuchMailbox(), "550 5.1.1"),
            (RuntimeError("a bug"), "451 4.3.0"),
        ):
            world.mail.failure = failure
            await envelope(peer)
            await peer.send(bdat(HEADER) + bdat(b"x", last=True))
            assert await codes(peer, 2) == ["250 2.0.0", code]
        world.mail.failure = None
        await envelope(peer)
        await peer.send(bdat(HEADER, last=True))
        assert await codes(peer, 1) == ["250 2.0.0"]


async def test_octets_of_chunks_are_in_flight_until_the_end() -> None:
    world = World(size_bytes_max=1000, in_flight_bytes_max=1000)
    async with world, world.peer() as first, world.peer() as second:
        await envelope(first)
        await first.send(bdat(b"x" * 600))
        await first.reply()
        assert world.gateway.metrics()["bytes_in_flight"] == 600
        await envelope(second)
        await second.send(bdat(b"y" * 600, last=True))
        assert (await second.reply()).startswith("451 4.3.2 ")
        assert await first.ask("RSET") == "250 2.0.0 Ok"
        assert world.gateway.metrics()["bytes_in_flight"] == 0
        await envelope(second)
        await second.send(bdat(b"y" * 600))
        await second.reply()
        assert world.gateway.metrics()["bytes_in_flight"] == 600
    await world.until_no_connection()


@pytest.mark.parametrize("line", ["EHLO again.test", "QUIT"])
async def test_what_ends_a_transaction_gives_its_octets_back(line: str) -> None:
    async with World() as world, world.peer() as peer:
        await envelope(peer)
        await peer.send(bdat(b"x" * 600))
        await peer.reply()
        await peer.ask(line)
        if line == "QUIT":
            await world.until_no_connection()
        assert world.gateway.metrics()["bytes_in_flight"] == 0
        assert world.mail.letters == []


async def test_a_connection_lost_between_chunks_stores_nothing() -> None:
    async with World() as world:
        async with world.peer() as peer:
            await envelope(peer)
            await peer.send(bdat(b"x" * 600) + b"BDAT 10 LAST\r\nhalf")
            await peer.reply()
        await world.until_no_connection()
        assert world.mail.letters == []
        assert world.gateway.metrics()["bytes_in_flight"] == 0


async def test_chunks_that_trickle_end_with_421() -> None:
    async with World(data_timeout_s=0.25) as world, world.peer() as peer:
        await envelope(peer)

        async def trickle() -> None:
            with contextlib.suppress(ConnectionError):
                while True:  # Each chunk by itself comes in time.
                    await peer.send(b"BDAT 2\r\nx")
                    await asyncio.sleep(0.03)
                    await peer.send(b"x")

        trickling = asyncio.create_task(trickle())
        while (reply := await peer.reply()).startswith("250 2.0.0 2 octets"):
            pass
        assert reply.startswith("421 4.4.2 ")
        trickling.cancel()
        await world.until_no_connection()
        assert world.mail.letters == []


async def test_drain_lets_the_last_chunk_come() -> None:
    async with World() as world, world.peer() as peer:
        await envelope(peer)
        await peer.send(bdat(b"first half, "))
        await peer.reply()
        draining = asyncio.create_task(world.gateway.drain(PATIENCE_S))
        await asyncio.sleep(0)
        await peer.send(bdat(b"second half", last=True))
        assert (await peer.reply()).startswith("250 2.0.0 Ok: queued")
        assert (await peer.reply()).startswith("421 4.3.2 ")
        await draining
        assert world.mail.letters[0][0].received == b"first half, second half"
