"""What the router makes of calls that fail: nothing lost, nothing doubled, nothing permanent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from actors import directory_client, wire
from actors import lane as lane_module
from actors import router as router_module
from actors.commands import (
    Account,
    Command,
    Deliver,
    Delivered,
    DirectoryVersion,
    Done,
    ExpectRepeat,
    Failed,
    MailboxId,
    Reply,
    Resolve,
    Resolved,
    ShardId,
    WatchDirectory,
)
from actors.lane import Lane
from actors.local_ports import LocalTransport
from actors.request_ids import new_request_id
from actors.router import Router
from mail.address import parse_path
from mail.errors import DiskFull, MailError, NoSuchMailbox, OutcomeUnknown, Unavailable
from tests.contract.house import destinations, letter

RAW = b"From: a@x.test\r\nSubject: hello\r\nMessage-ID: <1@x.test>\r\n\r\nbody\r\n"
SHARD = ShardId(2)
ALICE = Account(MailboxId(1), "alice@example.test", SHARD)


class Shard:
    """A shard that stores deliveries, and answers the next calls as it is told."""

    def __init__(self) -> None:
        self.stored: list[Deliver] = []
        self.expected: list[ExpectRepeat] = []
        self.troubles: list[MailError | bytes | None] = []  # instead of the answer to a call
        self.refused: Callable[[Command], MailError | None] = lambda _: None
        self.calls = 0

    async def handle(self, frame: bytes) -> bytes:
        self.calls += 1
        trouble = self.troubles.pop(0) if self.troubles else None
        if isinstance(trouble, MailError) and not isinstance(trouble, OutcomeUnknown):
            raise trouble
        answer = wire.encode([self._answer(command) for command in wire.decode_commands(frame)])
        if isinstance(trouble, MailError):
            raise trouble
        return answer if trouble is None else trouble

    def _answer(self, command: Command) -> Reply:
        if (error := self.refused(command)) is not None:
            return wire.failed(error)
        if isinstance(command, Deliver):
            if all(command.request_id != known.request_id for known in self.stored):
                self.stored.append(command)
            return Delivered(len(self.stored))
        assert isinstance(command, ExpectRepeat)
        self.expected.append(command)
        return Done()


@pytest.fixture
def shard() -> Shard:
    return Shard()


@pytest.fixture
def router(shard: Shard, monkeypatch: pytest.MonkeyPatch) -> Router:
    monkeypatch.setattr(lane_module, "DELIVER_S_MAX", 0.4)
    monkeypatch.setattr(router_module, "EXPECT_PAUSE_S", 0.02, raising=False)
    transport = LocalTransport()
    transport.shards[SHARD] = shard.handle
    return Router(transport, "gateway/test")


def send(router: Router, raw: bytes = RAW) -> Coroutine[Any, Any, None]:
    return router.deliver(letter(raw), destinations([ALICE]))


async def until(check: Callable[[], object]) -> None:
    for _ in range(200):
        if check():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come to that")


async def test_an_unknown_outcome_stays_unknown_when_the_shard_then_goes_away(
    router: Router, shard: Shard
) -> None:
    shard.troubles = [OutcomeUnknown(), *[Unavailable()] * 20]
    with pytest.raises(OutcomeUnknown):
        await send(router)
    assert len(shard.stored) == 1
    shard.troubles = []
    await until(lambda: [e.delivery for e in shard.expected] == [shard.stored[0].request_id])


async def test_an_unknown_outcome_stays_unknown_when_the_shard_is_then_full(
    router: Router, shard: Shard
) -> None:
    shard.troubles = [OutcomeUnknown(), wire.encode([wire.failed(DiskFull())])]
    with pytest.raises(OutcomeUnknown):
        await send(router)
    await until(lambda: len(shard.expected) == 1)


async def test_a_failure_that_certainly_stored_nothing_expects_no_repeat(
    router: Router, shard: Shard
) -> None:
    shard.refused = lambda _: DiskFull()
    with pytest.raises(DiskFull):
        await send(router)
    shard.refused = lambda _: None
    await asyncio.sleep(0.05)
    assert not shard.expected


@pytest.mark.parametrize("answer", [b"\x02\x90", b"", b"\x01\xc1", wire.encode([Done(), Done()])])
async def test_an_answer_that_cannot_be_read_is_temporary(
    router: Router, shard: Shard, answer: bytes
) -> None:
    shard.troubles = [answer] * 30
    with pytest.raises(OutcomeUnknown):
        await send(router)


async def test_a_frame_that_cannot_be_written_does_not_hang(router: Router) -> None:
    broken = letter(RAW)
    object.__setattr__(broken, "received_at_ms", 1 << 70)
    with pytest.raises(Unavailable):
        await asyncio.wait_for(router.deliver(broken, destinations([ALICE])), 3)


async def test_others_do_not_wait_for_one_that_fails_again_and_again(
    router: Router, shard: Shard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane_module, "DELIVER_S_MAX", 5.0)
    shard.refused = lambda c: (
        Unavailable() if isinstance(c, Deliver) and b"poison" in c.raw else None
    )
    bad = [asyncio.create_task(send(router, RAW + b"poison")) for _ in range(4)]
    async with asyncio.timeout(2.5):
        await asyncio.gather(*(send(router, RAW + b"%d" % n) for n in range(300)))
        await asyncio.sleep(0.5)
        await send(router)
    assert not any(task.done() for task in bad)
    for task in bad:
        task.cancel()
    await asyncio.gather(*bad, return_exceptions=True)


async def test_a_peer_that_goes_away_before_the_answer_will_repeat(
    router: Router, shard: Shard
) -> None:
    shard.troubles = [OutcomeUnknown()]
    sending = asyncio.create_task(send(router))
    await until(lambda: shard.stored)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    await until(lambda: [e.delivery for e in shard.expected] == [shard.stored[0].request_id])


async def test_a_shard_that_is_overloaded_is_told_of_the_repeat_later(
    router: Router, shard: Shard
) -> None:
    shard.troubles = [OutcomeUnknown(), *[Unavailable()] * 20]
    shard.refused = lambda c: DiskFull() if isinstance(c, ExpectRepeat) else None
    with pytest.raises(OutcomeUnknown):
        await send(router)
    shard.troubles = []
    await asyncio.sleep(0.2)
    shard.refused = lambda _: None
    await until(lambda: len(shard.expected) == 1)


async def test_a_permanent_answer_is_permanent(router: Router, shard: Shard) -> None:
    shard.refused = lambda _: NoSuchMailbox()
    with pytest.raises(NoSuchMailbox):
        await send(router)


class DirectoryShard:
    """A directory whose watch can fail in a way that nobody foresaw."""

    def __init__(self) -> None:
        self.version = 1
        self.broken = False
        self.asked = 0

    async def handle(self, frame: bytes) -> bytes:
        (command,) = wire.decode_commands(frame)
        if isinstance(command, WatchDirectory):
            if self.broken:
                raise RuntimeError("unforeseen")
            if command.since == self.version:
                await asyncio.sleep(0.01)
            return wire.encode([DirectoryVersion(self.version)])
        assert isinstance(command, Resolve)
        self.asked += 1
        return wire.encode([Resolved((ALICE,))])


async def test_nothing_remembered_outlives_the_watch_whatever_ends_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(directory_client, "WATCH_AGAIN_S", 0.02)
    directory = DirectoryShard()
    transport = LocalTransport()
    transport.shards[ShardId(1)] = directory.handle
    router = Router(transport, "gateway/test")
    address = parse_path("<alice@example.test>")
    assert address is not None
    await router.start()
    await until(lambda: router._cache.live)
    await router.resolve(address)
    await router.resolve(address)
    assert directory.asked == 1
    directory.broken = True
    await until(lambda: not router._cache.live)
    await router.resolve(address)
    assert directory.asked == 2
    directory.broken = False
    await until(lambda: router._cache.live)
    await router.close()


def test_an_error_that_we_do_not_know_leaves_the_outcome_unknown() -> None:
    assert wire.failed(ValueError("a secret")) == Failed("OutcomeUnknown", "internal error")


async def test_a_delivery_that_comes_as_the_last_call_ends_is_carried() -> None:
    """Whoever takes the last one from the lane must not look busy to the next."""
    open_calls: list[asyncio.Future[None]] = []

    async def handle(frame: bytes) -> bytes:
        if len(open_calls) < lane_module.LANE_CALLS_MAX:
            open_calls.append(asyncio.get_running_loop().create_future())
            await open_calls[-1]
        return wire.encode([Delivered(1) for _ in wire.decode_commands(frame)])

    transport = Direct(handle)
    lane = Lane(transport, SHARD)

    async def send_twice() -> None:
        await lane.deliver(delivery())
        await lane.deliver(delivery())

    tasks: list[asyncio.Task[object]] = [asyncio.create_task(send_twice())]
    while len(open_calls) < lane_module.LANE_CALLS_MAX:
        if len(open_calls) == len(tasks):
            tasks.append(asyncio.create_task(lane.deliver(delivery())))
        await asyncio.sleep(0)
    for call in open_calls:  # All workers see their answers in one round of the loop.
        call.set_result(None)
    async with asyncio.timeout(5):
        await asyncio.gather(*tasks)


class Direct:
    """A transport without a task or a timer between the lane and the answer."""

    def __init__(self, handle: Callable[[bytes], Coroutine[Any, Any, bytes]]) -> None:
        self._handle = handle

    async def call(self, shard: ShardId, frame: bytes, *, timeout_s: float) -> bytes:
        return await self._handle(frame)

    async def notify(self, gateway: str, frame: bytes) -> None:
        return


def delivery() -> Deliver:
    made = letter(RAW)
    return Deliver(
        ALICE.mailbox, new_request_id(), RAW, made.summary, made.search_text, made.received_at_ms
    )
