"""Push over WebSocket (RFC 8887 §4.3.5): filters, pushState, beats, one slot for slow readers."""

from __future__ import annotations

import asyncio
from typing import Any

from actors.commands import JmapAnswer, MailboxState
from gateways.http.push_channel import Slot
from mail.errors import Unavailable
from tests.protocol.http_fakes import ALICE, ALICE_ID, BOB, PATIENCE_S, receive, running, send


def change(push_state: str, **states: str) -> dict[str, Any]:
    return {"@type": "StateChange", "changed": {ALICE_ID: states}, "pushState": push_state}


ENABLE = {"@type": "WebSocketPushEnable", "dataTypes": None}
ALL = change("7.5.6", Email="7", Mailbox="5", Thread="6")


async def test_present_states_come_first_then_what_changed() -> None:
    async with running() as house, house.websocket() as socket:
        await send(socket, ENABLE)
        assert await receive(socket) == ALL
        house.push.change(ALICE, 9, 8, 6)
        assert await receive(socket) == change("9.8.6", Email="9", Mailbox="8")
        async with house.client() as client:
            text = (await client.get("/metrics")).text
            assert 'heliograph_http_pushes_total{channel="websocket"} 2.0' in text


async def test_every_beat_repeats_all_states() -> None:
    async with running() as house, house.websocket() as socket:
        await send(socket, ENABLE)
        assert await receive(socket) == ALL
        for _ in range(3):
            house.push.beat(ALICE)
            assert await receive(socket) == ALL


async def test_types_are_filtered() -> None:
    async with running() as house, house.websocket() as socket:
        await send(socket, ENABLE | {"dataTypes": ["Mailbox", "CalendarEvent"]})
        assert await receive(socket) == change("7.5.6", Mailbox="5")
        house.push.change(ALICE, 8, 6, 6)
        assert await receive(socket) == change("8.6.6", Mailbox="6")


async def test_no_types_no_pushes() -> None:
    async with running() as house, house.websocket() as socket:
        await send(socket, ENABLE | {"dataTypes": []})
        await house.push.until_listeners(ALICE, 1)
        house.push.change(ALICE, 8, 6, 6)
        await send(socket, ENABLE)
        assert (await receive(socket))["pushState"] == "8.6.6"


async def test_known_push_state_is_not_repeated() -> None:
    async with running() as house, house.websocket() as socket:
        await send(socket, ENABLE | {"pushState": "7.5.6"})
        await house.push.until_listeners(ALICE, 1)
        await send(socket, {"@type": "Request", "id": "x", "methodCalls": []})
        assert (await receive(socket))["@type"] == "Response", "nothing was pushed before it"
        house.push.beat(ALICE)
        assert await receive(socket) == ALL


async def test_old_or_foreign_push_state_gets_what_is_missing() -> None:
    async with running() as house, house.websocket() as socket:
        await send(socket, ENABLE | {"pushState": "6.5.6"})
        assert await receive(socket) == change("7.5.6", Email="7")
        for foreign in ("", "x", "1.2", "1.2.3.4"):
            await send(socket, ENABLE | {"pushState": foreign})
            assert await receive(socket) == ALL


async def test_disable_ends_it() -> None:
    async with running() as house, house.websocket() as socket:
        await send(socket, ENABLE)
        await receive(socket)
        await send(socket, {"@type": "WebSocketPushDisable"})
        await house.push.until_listeners(ALICE, 0)
        await send(socket, {"@type": "WebSocketPushDisable"})
        await send(socket, {"@type": "Request", "id": "x", "methodCalls": []})
        assert (await receive(socket))["requestId"] == "x"


async def test_only_ones_own_mailbox_is_heard() -> None:
    async with running() as house, house.websocket() as socket:
        await send(socket, ENABLE)
        await receive(socket)
        assert BOB.mailbox not in house.push.listeners


async def test_subscribing_is_repeated_until_it_works() -> None:
    async with running() as house, house.websocket() as socket:
        house.push.failures = [Unavailable(), Unavailable(), Unavailable()]
        await send(socket, ENABLE)
        for delay_s in (0.5, 1.0, 2.0):
            await house.clock.asleep.acquire()
            assert house.clock.slept[-1] == delay_s
            house.clock.turn(delay_s)
        assert await receive(socket) == ALL


async def test_a_slot_keeps_the_latest_alone() -> None:
    slot = Slot()
    for number in range(1_000):
        slot.put(MailboxState(ALICE.mailbox, number, number, number))
    assert (await slot.take()).email == 999
    waiting = asyncio.create_task(slot.take())
    slot.put(MailboxState(ALICE.mailbox, 1, 1, 1))
    assert (await waiting).email == 1


async def test_a_burst_reaches_the_client_as_few_messages() -> None:
    async with running() as house, house.websocket() as socket:
        await send(socket, ENABLE)
        await receive(socket)
        for number in range(8, 1_000):
            house.push.change(ALICE, number, 5, 6)
        assert await receive(socket) == change("999.5.6", Email="999")


async def test_a_slow_reader_hears_the_latest_alone() -> None:
    async with running() as house, house.websocket(max_size=None) as socket:
        await send(socket, ENABLE)
        assert await receive(socket) == ALL
        house.mail.answer = JmapAnswer(200, b'{"x":"' + b"y" * 20_000_000 + b'"}')
        await send(socket, {"@type": "Request", "id": "large", "methodCalls": []})
        socket.transport.pause_reading()
        await house.mail.entered.acquire()
        [session] = house.gateway._context.websockets
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*session._requests)  # all of it is written, none is read
        for number in range(8, 500):
            house.push.change(ALICE, number, 5, 6)
            await asyncio.sleep(0)  # the pusher may run
        socket.transport.resume_reading()
        assert (await receive(socket))["requestId"] == "large"
        heard = [await receive(socket)]
        while heard[-1]["pushState"] != "499.5.6":
            heard.append(await receive(socket))
        assert len(heard) <= 2, "one that was on its way, and the latest"


async def test_the_socket_ends_with_the_sign_in() -> None:
    async with running() as house, house.websocket() as socket:
        await send(socket, ENABLE)
        await receive(socket)
        house.accounts.end_all()
        async with asyncio.timeout(PATIENCE_S):
            await socket.wait_closed()
        assert socket.close_code == 1008
        await house.push.until_listeners(ALICE, 0)
