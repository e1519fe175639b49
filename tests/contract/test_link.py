"""Links over a real loopback socket: calls, notices, and what is known when the other is gone."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from actors import link as link_module
from actors.link import Link, LinkAddress, LinkListener, open_link
from mail.errors import OutcomeUnknown, Overloaded, Unavailable

Serve = Callable[[Callable[[bytes], Awaitable[bytes]]], Awaitable[tuple[LinkListener, LinkAddress]]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    listeners: list[LinkListener] = []

    async def listen(
        handle: Callable[[bytes], Awaitable[bytes]],
    ) -> tuple[LinkListener, LinkAddress]:
        listener = LinkListener(handle)
        listeners.append(listener)
        return listener, await listener.listen()

    yield listen
    for listener in listeners:
        listener.close()


async def echo(frame: bytes) -> bytes:
    return frame


async def call_is_refused(link: Link) -> bool:
    try:
        await link.call(b"", timeout_s=5)
    except Unavailable:
        return True
    return False


async def test_calls_at_once_get_their_own_answers(serve: Serve) -> None:
    async def slowest_first(frame: bytes) -> bytes:
        await asyncio.sleep(0.05 if frame == b"0" else 0)
        return frame

    _, address = await serve(slowest_first)
    link = await open_link(address, "test")
    frames = [str(number).encode() for number in range(50)]
    answers = await asyncio.gather(*(link.call(frame, timeout_s=5) for frame in frames))
    assert answers == frames
    link.end()


async def test_a_message_of_many_megabytes_goes_both_ways(serve: Serve) -> None:
    _, address = await serve(echo)
    link = await open_link(address, "test")
    large = bytes(range(256)) * (1 << 16)
    small = asyncio.gather(*(link.call(b"x", timeout_s=20) for _ in range(20)))
    assert await link.call(large, timeout_s=20) == large
    assert await small == [b"x"] * 20
    link.end()


async def test_who_goes_away_during_a_call_may_have_done_it(serve: Serve) -> None:
    called = asyncio.Event()

    async def never(frame: bytes) -> bytes:
        called.set()
        await asyncio.Event().wait()
        return b""

    listener, address = await serve(never)
    link = await open_link(address, "test")
    calls = [asyncio.create_task(link.call(b"", timeout_s=30)) for _ in range(3)]
    await called.wait()
    listener.close()
    for call in calls:
        with pytest.raises(OutcomeUnknown):
            await call
    with pytest.raises(Unavailable) as raised:
        await link.call(b"", timeout_s=1)
    assert not isinstance(raised.value, OutcomeUnknown)
    with pytest.raises(Unavailable) as raised:
        await open_link(address, "test")
    assert not isinstance(raised.value, OutcomeUnknown)


async def test_a_call_without_an_answer_has_an_end_and_is_forgotten(serve: Serve) -> None:
    released = asyncio.Event()

    async def late(frame: bytes) -> bytes:
        if frame == b"late":
            await released.wait()
        return frame

    _, address = await serve(late)
    link = await open_link(address, "test")
    with pytest.raises(OutcomeUnknown):
        await link.call(b"late", timeout_s=0.05)
    released.set()
    assert await link.call(b"next", timeout_s=5) == b"next"
    link.end()


async def test_more_calls_than_may_wait_are_refused_at_once(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_module, "CALLS_WAITING_MAX", 3)
    go_on = asyncio.Event()

    async def wait(frame: bytes) -> bytes:
        await go_on.wait()
        return frame

    _, address = await serve(wait)
    link = await open_link(address, "test")
    calls = [asyncio.create_task(link.call(b"", timeout_s=10)) for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await link.call(b"", timeout_s=1)
    go_on.set()
    await asyncio.gather(*calls)
    link.end()


async def test_a_listener_works_on_no_more_than_its_bound(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_module, "CALLS_MAX", 4)
    at_once = most = 0

    async def count(frame: bytes) -> bytes:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0.001)
        at_once -= 1
        return frame

    _, address = await serve(count)
    link = await open_link(address, "test")
    large = bytes(link_module.READ_BYTES // 2)  # Two a read at most: the bound is passed by one.
    await asyncio.gather(*(link.call(large, timeout_s=20) for _ in range(40)))
    assert most <= 5
    link.end()


async def test_a_caller_that_does_not_know_the_key_is_not_answered(serve: Serve) -> None:
    asked: list[bytes] = []

    async def note(frame: bytes) -> bytes:
        asked.append(frame)
        return frame

    listener, address = await serve(note)
    wrong = LinkAddress(address.host, address.port, bytes(32))
    assert await call_is_refused(await open_link(wrong, "test"))
    reader, writer = await asyncio.open_connection(address.host, address.port)
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    assert await reader.read() == b""
    writer.close()
    assert asked == []
    assert not listener.callers


async def test_a_caller_that_says_nothing_is_sent_away(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_module, "HELLO_TIMEOUT_S", 0.05)
    _, address = await serve(echo)
    reader, writer = await asyncio.open_connection(address.host, address.port)
    async with asyncio.timeout(5):
        assert await reader.read() == b""
    writer.close()


async def test_notices_reach_the_caller_of_that_name(serve: Serve) -> None:
    listener, address = await serve(echo)
    heard: list[bytes] = []
    first = await open_link(address, "gateway/http/0", heard.append)
    await first.call(b"", timeout_s=5)
    listener.notify("gateway/http/0", b"new")
    listener.notify("gateway/none", b"lost")
    await first.call(b"", timeout_s=5)
    assert heard == [b"new"]
    # One that was restarted takes the place of the one before.
    second = await open_link(address, "gateway/http/0", heard.append)
    await second.call(b"", timeout_s=5)
    first.end()
    await second.call(b"", timeout_s=5)
    listener.notify("gateway/http/0", b"newer")
    await second.call(b"", timeout_s=5)
    assert heard == [b"new", b"newer"]
    second.end()
