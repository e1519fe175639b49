"""Links inside TLS: what both ends show each other, and who is not let in."""

import asyncio
import datetime
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from actors import link as link_module
from actors.link import LOOPBACK, LinkAddress, LinkListener, open_link
from actors.link_options import LinkOptions
from cluster.cluster_ca import NODE_DAYS
from mail.errors import OutcomeUnknown, Unavailable
from tests.contract.certified import certified

NAMES = ("one", "two")


@dataclass
class Listening:
    """A listener inside TLS, and what it was asked."""

    listener: LinkListener
    address: LinkAddress
    caller: LinkOptions
    asked: list[bytes] = field(default_factory=list)


@pytest.fixture
async def listening(tmp_path: Path) -> AsyncIterator[Listening]:
    links = certified(tmp_path / "tls", NAMES)
    asked: list[bytes] = []

    async def handle(frame: bytes) -> bytes:
        asked.append(frame)
        return frame

    listener = LinkListener(handle)
    address = await listener.listen(links["one"])
    yield Listening(listener, address, links["two"], asked)
    listener.close()


async def is_refused(address: LinkAddress, options: LinkOptions) -> bool:
    """Say whether whoever calls with these options gets no answer, soon."""
    try:
        link = await open_link(address, "a stranger", options=options)
        await link.call(b"let me in", timeout_s=5)
    except Unavailable:
        return True
    return False


async def still_serves(listening: Listening) -> bool:
    link = await open_link(listening.address, "two", options=listening.caller)
    answer = await link.call(b"and you?", timeout_s=5)
    link.end()
    return answer == b"and you?" and listening.asked == [b"and you?"]


async def test_frames_of_any_size_go_both_ways(listening: Listening) -> None:
    heard: list[bytes] = []
    link = await open_link(listening.address, "two", heard.append, listening.caller)
    sizes = (0, 1, 10_000, link_module.READ_BYTES - 8, link_module.READ_BYTES, 5 << 20)
    frames = [bytes([number]) * size for number, size in enumerate(sizes)] * 3
    answers = await asyncio.gather(*(link.call(frame, timeout_s=20) for frame in frames))
    assert answers == frames
    listening.listener.notify("two", b"news")
    await link.call(b"", timeout_s=5)
    assert heard == [b"news"]
    link.end()


async def test_a_listener_that_goes_is_missed_at_once(listening: Listening) -> None:
    called = asyncio.Event()

    async def never(frame: bytes) -> bytes:
        called.set()
        await asyncio.Event().wait()
        return b""

    listening.listener.handle = never
    link = await open_link(listening.address, "two", options=listening.caller)
    call = asyncio.create_task(link.call(b"", timeout_s=30))
    await called.wait()
    listening.listener.close()
    async with asyncio.timeout(2):
        with pytest.raises(OutcomeUnknown):
            await call
    assert await is_refused(listening.address, listening.caller)


async def test_a_listener_works_on_no_more_than_its_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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

    links = certified(tmp_path / "tls", NAMES)
    listener = LinkListener(count)
    link = await open_link(await listener.listen(links["one"]), "two", options=links["two"])
    large = bytes(link_module.READ_BYTES // 2)
    await asyncio.gather(*(link.call(large, timeout_s=20) for _ in range(40)))
    assert most <= 5
    link.end()
    listener.close()


async def test_who_calls_in_clear_text_is_refused(listening: Listening) -> None:
    assert await is_refused(listening.address, LOOPBACK)
    assert await still_serves(listening)


async def test_nobody_falls_back_to_clear_text(listening: Listening) -> None:
    asked: list[bytes] = []

    async def note(frame: bytes) -> bytes:
        asked.append(frame)
        return frame

    listener = LinkListener(note)
    assert await is_refused(await listener.listen(), listening.caller)
    listener.close()
    assert asked == []


async def test_strangers_are_refused_both_ways(listening: Listening, tmp_path: Path) -> None:
    strange = certified(tmp_path / "strange", NAMES)
    assert await is_refused(listening.address, strange["two"])
    listener = LinkListener(listening.listener.handle)
    assert await is_refused(await listener.listen(strange["one"]), listening.caller)
    listener.close()
    assert await still_serves(listening)


async def test_a_certificate_that_is_over_is_refused(listening: Listening, tmp_path: Path) -> None:
    now = datetime.datetime.now(datetime.UTC)
    long_ago = now - datetime.timedelta(days=NODE_DAYS + 1)
    # Of a CA that is good for some years more.
    old = certified(tmp_path / "old", NAMES, long_ago)
    listener = LinkListener(listening.listener.handle)
    assert await is_refused(await listener.listen(old["one"]), old["two"])
    listener.close()
    assert listening.asked == []


async def answered(address: LinkAddress, context: ssl.SSLContext) -> bool:
    """Say whether a caller with a context of its own gets through its handshake and is heard."""
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        async with asyncio.timeout(5):
            reader, writer = await asyncio.open_connection(
                address.host, address.port, ssl=context, server_hostname=""
            )
            octets = await reader.read(1)
            writer.close()
    except OSError:
        return False
    return bool(octets)


async def test_without_a_certificate_or_with_old_tls_there_is_no_talk(listening: Listening) -> None:
    bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    assert not await answered(listening.address, bare)
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    old.load_cert_chain(listening.caller.certificate, listening.caller.key)
    assert not await answered(listening.address, old)
    assert await still_serves(listening)


async def test_a_handshake_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "HELLO_TIMEOUT_S", 0.05)
    links = certified(tmp_path / "tls", NAMES)

    async def echo(frame: bytes) -> bytes:
        return frame

    listener = LinkListener(echo)
    address = await listener.listen(links["one"])
    reader, writer = await asyncio.open_connection(address.host, address.port)
    async with asyncio.timeout(5):
        assert await reader.read() == b""
    writer.close()
    listener.close()


async def test_nothing_that_is_said_can_be_read_on_the_way(listening: Listening) -> None:
    seen = bytearray()

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while octets := await reader.read(65536):
            seen.extend(octets)
            writer.write(octets)
        writer.close()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection(listening.address.host, listening.address.port)
        await asyncio.gather(pass_on(reader, there[1]), pass_on(there[0], writer))

    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    by_relay = LinkAddress("127.0.0.1", port, listening.address.key)
    link = await open_link(by_relay, "two", options=listening.caller)
    letter = b"the quick brown fox " * 100
    assert await link.call(letter, timeout_s=5) == letter
    link.end()
    server.close()
    assert len(seen) > 2 * len(letter)
    assert b"brown fox" not in seen
    assert listening.address.key not in seen


async def test_clear_text_stays_on_loopback() -> None:
    async def echo(frame: bytes) -> bytes:
        return frame

    with pytest.raises(OSError, match="loopback"):
        await LinkListener(echo).listen(LinkOptions("192.0.2.1"))
    # At once, not after a time without an answer: nothing is sent there.
    async with asyncio.timeout(0.5):
        assert await is_refused(LinkAddress("192.0.2.1", 25, bytes(32)), LOOPBACK)
