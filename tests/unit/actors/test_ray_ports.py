"""RayTransport: what Ray's errors become, and that nothing waits without a limit."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import ray
import ray.exceptions

from actors.ray_ports import RayTransport
from mail.errors import OutcomeUnknown, Overloaded, Unavailable

NAME = "shard/7"
Work = Callable[[bytes], Awaitable[Any]]


class FakeMethod:
    def __init__(self, work: Work) -> None:
        self._work = work

    def remote(self, frame: bytes) -> Any:
        return asyncio.ensure_future(self._work(frame))


class FakeHandle:
    def __init__(self, work: Work) -> None:
        self.call = FakeMethod(work)


@pytest.fixture
def actors(monkeypatch: pytest.MonkeyPatch) -> dict[str, FakeHandle]:
    """The actors that `ray.get_actor` finds."""
    found: dict[str, FakeHandle] = {}

    def get_actor(name: str, namespace: str) -> FakeHandle:
        assert namespace == "here"
        try:
            return found[name]
        except KeyError:
            raise ValueError(f"no actor {name}") from None

    monkeypatch.setattr(ray, "get_actor", get_actor)
    return found


async def echo(frame: bytes) -> bytes:
    return frame


def failing(error: BaseException) -> Work:
    async def work(frame: bytes) -> bytes:
        raise error

    return work


async def test_call(actors: dict[str, FakeHandle]) -> None:
    actors["shard/7"] = FakeHandle(echo)
    assert (
        await RayTransport("here", "test", "n1").ask(NAME, "call", b"frame", timeout_s=1)
        == b"frame"
    )


async def test_who_does_not_run_was_not_called(actors: dict[str, FakeHandle]) -> None:
    with pytest.raises(Unavailable) as raised:
        await RayTransport("here", "test", "n1").ask(NAME, "call", b"", timeout_s=1)
    assert not isinstance(raised.value, OutcomeUnknown)


@pytest.mark.parametrize(
    "error",
    [
        ray.exceptions.ActorUnavailableError("gone", b"\0" * 16),
        ray.exceptions.ActorDiedError(),
        ray.exceptions.WorkerCrashedError(),
        RuntimeError("anything"),
    ],
)
async def test_who_went_away_may_have_done_it(
    actors: dict[str, FakeHandle], error: Exception
) -> None:
    actors["shard/7"] = FakeHandle(failing(error))
    with pytest.raises(OutcomeUnknown):
        await RayTransport("here", "test", "n1").ask(NAME, "call", b"", timeout_s=1)


async def test_too_many_waiting(actors: dict[str, FakeHandle]) -> None:
    actors["shard/7"] = FakeHandle(failing(ray.exceptions.PendingCallsLimitExceeded("full")))
    with pytest.raises(Overloaded):
        await RayTransport("here", "test", "n1").ask(NAME, "call", b"", timeout_s=1)


async def test_every_call_has_an_end(actors: dict[str, FakeHandle]) -> None:
    async def never(frame: bytes) -> bytes:
        await asyncio.Event().wait()
        return b""

    actors["shard/7"] = FakeHandle(never)
    with pytest.raises(OutcomeUnknown):
        await RayTransport("here", "test", "n1").ask(NAME, "call", b"", timeout_s=0.01)


async def test_a_handle_that_died_for_good_is_looked_up_anew(
    actors: dict[str, FakeHandle],
) -> None:
    transport = RayTransport("here", "test", "n1")
    actors["shard/7"] = FakeHandle(failing(ray.exceptions.ActorDiedError()))
    with pytest.raises(OutcomeUnknown):
        await transport.ask(NAME, "call", b"", timeout_s=1)
    actors["shard/7"] = FakeHandle(echo)
    assert await transport.ask(NAME, "call", b"frame", timeout_s=1) == b"frame"


async def test_a_handle_whose_actor_restarts_is_kept(actors: dict[str, FakeHandle]) -> None:
    transport = RayTransport("here", "test", "n1")
    unavailable = ray.exceptions.ActorUnavailableError("gone", b"\0" * 16)
    actors["shard/7"] = FakeHandle(failing(unavailable))
    for _ in range(2):
        with pytest.raises(OutcomeUnknown):
            await transport.ask(NAME, "call", b"", timeout_s=1)
        actors.clear()  # A lookup would fail as Unavailable, without asking anybody.
