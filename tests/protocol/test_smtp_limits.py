"""SMTP dialogues: limits in time, number and size, and what a lost connection leaves behind."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine

import pytest
import uvloop

from gateways.smtp.server import LAST_WORDS_S
from tests.protocol.smtp_fakes import HOSTNAME, PATIENCE_S, World

SHORT_S = 0.25  # A timeout that tests wait for; long enough for EHLO on a busy machine.


async def test_an_idle_session_ends_with_421() -> None:  # RFC 5321 §4.5.3.2.7
    async with World(idle_timeout_s=SHORT_S) as world, world.peer() as peer:
        assert (await peer.reply()).startswith(f"421 4.4.2 {HOSTNAME} ")
        assert await peer.closed()


async def test_a_line_that_never_ends_is_idle_too() -> None:
    async with World(idle_timeout_s=SHORT_S) as world, world.peer() as peer:
        await peer.send(b"NOO")
        assert (await peer.reply()).startswith("421 4.4.2 ")


async def test_a_line_that_dribbles_ends_with_421() -> None:
    async with World(line_timeout_s=SHORT_S) as world, world.peer() as peer:

        async def dribble() -> None:
            with contextlib.suppress(ConnectionError):
                while True:
                    await peer.send(b"x")
                    await asyncio.sleep(SHORT_S / 10)

        await asyncio.sleep(2 * SHORT_S)  # Silence is another matter.
        assert await peer.ask("NOOP") == "250 2.0.0 Ok"
        dribbling = asyncio.create_task(dribble())
        assert (await peer.reply()).startswith("421 4.4.2 ")
        dribbling.cancel()
        await world.until_no_connection()


async def test_a_session_without_a_message_ends_with_421() -> None:
    async with World(session_timeout_s=4 * SHORT_S) as world, world.peer() as peer:
        for _ in range(3):  # As long as messages come through, it may last.
            await asyncio.sleep(2 * SHORT_S)
            await peer.begin()
            assert (await peer.ask("x\r\n.")).startswith("250 2.0.0 ")

        async def chatter() -> None:
            with contextlib.suppress(ConnectionError):
                while True:
                    await peer.send(b"MAIL FROM:<>\r\nRSET\r\n")
                    await asyncio.sleep(SHORT_S / 10)

        chattering = asyncio.create_task(chatter())
        while (reply := await peer.reply()).startswith("250 "):
            pass
        chattering.cancel()
        assert reply == f"421 4.4.2 {HOSTNAME} No message for too long, closing"
        assert await peer.closed()


async def test_who_pours_commands_in_reads_the_421_and_the_end() -> None:
    async with World(errors_max=3) as world, world.peer() as peer:
        await peer.pour(b"XYZZY\r\n" * 150_000)
        codes = [(await peer.reply())[:9] for _ in range(3)]
        assert codes == ["500 5.5.2"] * 3
        assert await peer.reply() == f"421 4.7.0 {HOSTNAME} Too many errors"
        assert await peer.closed()
        await peer.send(b"XYZZY\r\n")  # Still nothing that would be answered with a reset.
        assert peer.reader.at_eof()


async def test_who_pours_a_message_in_reads_the_552_and_the_end() -> None:
    async with World(size_bytes_max=1000) as world, world.peer() as peer:
        await peer.begin()
        await peer.pour(b"x" * 1_000_000)
        assert await peer.reply() == "552 5.3.4 Far too much data"
        assert await peer.closed()


async def test_who_was_told_to_go_holds_no_place() -> None:
    async with World(connections_max=1, errors_max=1) as world, world.peer() as first:
        await first.send(b"XYZZY\r\n" * 2)
        assert (await first.reply()).startswith("500 ")
        assert (await first.reply()).startswith("421 ")
        async with world.peer() as second:  # The first one has not closed its side.
            assert (await second.ask("QUIT")).startswith("221 ")


async def test_who_does_not_go_does_not_hold_a_drain_up() -> None:
    async with World(errors_max=1) as world, world.peer() as peer:
        await peer.ask("XYZZY")
        assert (await peer.reply()).startswith("421 ")
        began = time.monotonic()
        await world.gateway.drain(0.0)
        assert time.monotonic() - began < LAST_WORDS_S + PATIENCE_S / 10
        assert await peer.closed()


async def test_data_that_trickles_ends_with_421_and_nothing_is_stored() -> None:
    async with World(data_timeout_s=SHORT_S) as world, world.peer() as peer:
        await peer.begin()

        async def trickle() -> None:
            with contextlib.suppress(ConnectionError):
                while True:
                    await peer.send(b"x")
                    await asyncio.sleep(SHORT_S / 10)

        trickling = asyncio.create_task(trickle())
        assert (await peer.reply()).startswith("421 4.4.2 ")
        trickling.cancel()
        await world.until_no_connection()
        assert world.mail.letters == []


async def test_waiting_for_the_mailboxes_is_not_idle() -> None:
    async with World() as world, world.peer() as peer:
        world.mail.gate.clear()
        await peer.begin()
        await peer.send(b"x\r\n.\r\n")
        await world.mail.entered.wait()
        [session] = world.gateway._reception.sessions
        session._deadline = 0.0  # Long ago.
        session._timeout_cb()
        world.mail.gate.set()
        assert (await peer.reply()).startswith("250 2.0.0 ")


async def test_a_peer_that_does_not_read_is_cut_off() -> None:
    async with (
        World(idle_timeout_s=SHORT_S, idle_commands_max=10**9) as world,
        world.peer() as peer,
    ):
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        with contextlib.suppress(ConnectionError):
            for _ in range(10_000):
                await peer.send(b"HELP\r\n" * 1000)
        await world.until_no_connection()


async def test_more_connections_than_the_limit_get_421() -> None:
    async with World(connections_max=2) as world, world.peer(), world.peer():
        async with world.stranger() as third:
            assert (await third.reply()).startswith(f"421 4.3.2 {HOSTNAME} ")
            assert await third.closed()
        assert world.gateway.metrics()["connections_refused"] == 1


async def test_a_place_becomes_free_again() -> None:
    async with World(connections_max=1) as world:
        for _ in range(3):
            async with world.peer() as peer:
                await peer.ask("QUIT")
            await world.until_no_connection()


async def test_too_many_errors_end_the_session() -> None:
    async with World(errors_max=3) as world, world.peer() as peer:
        await peer.send(b"XYZZY\r\n" * 10)
        codes = [(await peer.reply())[:9] for _ in range(4)]
        assert codes == ["500 5.5.2"] * 3 + ["421 4.7.0"]
        assert await peer.closed()


async def test_commands_without_mail_are_bounded() -> None:
    async with World(idle_commands_max=5) as world, world.peer() as peer:
        codes = [(await peer.ask("NOOP"))[:9] for _ in range(5)]
        assert codes == ["250 2.0.0"] * 4 + ["421 4.7.0"]


async def test_trying_out_names_is_bounded() -> None:
    async with World(refused_recipients_max=100) as world, world.peer() as peer:
        await peer.ask("MAIL FROM:<>")
        await peer.send(b"RCPT TO:<nobody@example.test>\r\n" * 101)
        codes = [(await peer.reply())[:9] for _ in range(101)]
        assert codes == ["550 5.1.1"] * 100 + ["421 4.7.0"]


async def test_bytes_in_flight_are_bounded() -> None:
    world = World(size_bytes_max=1000, in_flight_bytes_max=1000)
    async with world, world.peer() as first, world.peer() as second:
        world.mail.gate.clear()
        await first.begin()
        await first.send(b"x" * 600 + b"\r\n.\r\n")
        await world.mail.entered.wait()
        assert world.gateway.metrics()["bytes_in_flight"] >= 600
        assert (await second.ask("MAIL FROM:<> SIZE=600")).startswith("451 4.3.2 ")
        await second.begin()  # It did not say how much would come.
        assert (await second.ask(b"x" * 600 + b"\r\n.")).startswith("451 4.3.2 ")
        world.mail.gate.set()
        assert (await first.reply()).startswith("250 2.0.0 ")
        await second.begin()
        assert (await second.ask(b"x" * 600 + b"\r\n.")).startswith("250 2.0.0 ")


async def test_a_connection_lost_in_data_stores_nothing() -> None:
    async with World() as world:
        async with world.peer() as peer:
            await peer.begin()
            await peer.send(b"half a mess")
        await world.until_no_connection()
        assert world.mail.letters == []
        assert world.gateway.metrics()["bytes_in_flight"] == 0


async def test_a_sending_side_closed_in_data_stores_nothing() -> None:
    async with World() as world, world.peer() as peer:
        await peer.begin()
        await peer.send(b"half a message\r\n.\r")
        peer.writer.write_eof()
        assert await peer.closed()
        assert world.mail.letters == []


async def test_a_connection_lost_after_the_end_does_not_break_a_delivery_off() -> None:
    async with World() as world:
        world.mail.gate.clear()
        async with world.peer() as peer:
            await peer.begin("alice@example.test", "bob@example.test")
            await peer.send(b"x\r\n.\r\n")
            await world.mail.entered.wait()
        world.mail.gate.set()
        await world.until_no_connection()
        assert len(world.mail.stored) == 2  # Both or none, R18.


async def test_drain_lets_a_message_come_to_its_reply() -> None:
    async with World() as world, world.peer() as busy, world.peer() as idle:
        await busy.begin()
        await busy.send(b"first half, ")
        draining = asyncio.create_task(world.gateway.drain(PATIENCE_S))
        assert (await idle.reply()).startswith(f"421 4.3.2 {HOSTNAME} ")
        assert await idle.closed()
        try:
            async with world.stranger() as late:
                assert await late.closed()
        except ConnectionError:
            pass  # Nobody listens any more.
        assert not draining.done()
        await busy.send(b"second half\r\n.\r\n")
        assert (await busy.reply()).startswith("250 2.0.0 ")
        assert (await busy.reply()).startswith("421 4.3.2 ")
        await draining
        assert [letter.received for letter, _ in world.mail.letters] == [
            b"first half, second half\r\n"
        ]


async def test_drain_cuts_off_what_takes_too_long() -> None:
    async with World() as world, world.peer() as peer:
        await peer.begin()
        await peer.send(b"never finished")
        await world.gateway.drain(SHORT_S)
        assert (await peer.reply()).startswith("421 4.3.2 ")
        await world.until_no_connection()
        assert world.mail.letters == []


async def test_metrics_count() -> None:
    async with World() as world, world.peer() as peer:
        await peer.begin("alice@example.test", "bob@example.test")
        await peer.ask("x\r\n.")
        assert world.gateway.metrics() == {
            "accepted": 1, "refused": 0, "deferred": 0, "bytes": 3, "recipients": 2,
            "connections": 1, "connections_refused": 0, "connections_open": 1,
            "bytes_in_flight": 0, "limited": 0,
        }  # fmt: skip


@pytest.mark.parametrize(
    "dialogue",
    [
        test_an_idle_session_ends_with_421,
        test_a_line_that_dribbles_ends_with_421,
        test_a_session_without_a_message_ends_with_421,
        test_who_pours_commands_in_reads_the_421_and_the_end,
        test_who_pours_a_message_in_reads_the_552_and_the_end,
        test_who_does_not_go_does_not_hold_a_drain_up,
        test_a_peer_that_does_not_read_is_cut_off,
        test_a_connection_lost_in_data_stores_nothing,
        test_a_sending_side_closed_in_data_stores_nothing,
        test_drain_lets_a_message_come_to_its_reply,
    ],
)
def test_on_uvloop(dialogue: Callable[[], Coroutine[None, None, None]]) -> None:
    """Ray's workers run uvloop, whose transports are not asyncio's."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(dialogue())
