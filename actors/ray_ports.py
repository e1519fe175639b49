"""RayTransport: frames to shards, and calls to Ray's actors, with a time limit on everything.

Ray knows which actors there are and starts them; what is said to a shard goes over a link
(`actors/link.py`) whose address its actor tells once. Handles and links are looked up by name
once and kept, so that calls do not need Ray's GCS. A lookup blocks, so it runs in a thread of
its own few.

On failure  Unavailable: the call was certainly not made.  OutcomeUnknown: it may have been.
            Overloaded: too many calls of ours wait for that actor.
Repeats     nothing; that is the router's, by request id.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import ray
import ray.exceptions

from actors import wire
from actors.commands import ShardId, ShardShown
from actors.link import Link, LinkAddress, open_link
from mail.errors import MailError, OutcomeUnknown, Overloaded, Unavailable

SUPERVISOR = "supervisor"  # The actor that starts others.

LOOKUP_TIMEOUT_S = 2.0  # Ray's GCS answers within milliseconds or is away.
LOOKUP_THREADS = 4  # Lookups that hang while the GCS is away occupy no more than these.
# An actor that is being started may take long to say where it listens, and so is an answer waited
# for; but a call that was lost, or went to a process that was ending, is never answered: after
# each of these times the same is asked anew, beside what was asked before.
ASK_ANEW_AFTER_S = (2.0, 4.0, 8.0, 16.0)
OPENING_S_MAX = sum(ASK_ANEW_AFTER_S)  # No caller waits for longer.


class NotRunning(Unavailable):
    """There is no actor of that name now."""


def shard_name(shard: ShardId) -> str:
    """Return the name of the actor that serves a shard on this node."""
    return f"shard/{shard}"


class RayTransport:
    """Calls actors of one namespace. One instance a process and event loop."""

    def __init__(self, namespace: str, caller: str) -> None:
        """Call as `caller`, which names this process to shards that have notices for it."""
        self.noticed: Callable[[bytes], None] = lambda _: None
        self._namespace = namespace
        self._caller = caller
        self._handles: dict[str, Any] = {}
        self._lookups: dict[str, asyncio.Future[Any]] = {}
        self._executor = ThreadPoolExecutor(LOOKUP_THREADS, "actor-lookup")
        self._links: dict[ShardId, Link] = {}
        self._opening: dict[ShardId, asyncio.Task[Link]] = {}

    async def call(self, shard: ShardId, frame: bytes, *, timeout_s: float) -> bytes:
        """Return the reply frame of the shard's primary. See `actors.ports.Transport`."""
        link = self._links.get(shard)
        if link is None or link.lost:
            started = asyncio.get_running_loop().time()
            link = await self._link(shard, timeout_s)
            timeout_s = max(0.0, timeout_s + started - asyncio.get_running_loop().time())
        return await link.call(frame, timeout_s=timeout_s)

    async def _link(self, shard: ShardId, timeout_s: float) -> Link:
        """Return a link to a shard's actor; those who want the same one at once share it.

        Who waits no longer leaves the opening to the others, and to itself when it comes again.
        """
        opening = self._opening.get(shard)
        if opening is None:
            opening = asyncio.create_task(self._open(shard), name="open link")
            self._opening[shard] = opening
            opening.add_done_callback(lambda task: self._opened(shard, task))
        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.shield(opening)
        except TimeoutError:
            raise Unavailable("the actor does not answer") from None

    def _opened(self, shard: ShardId, opening: asyncio.Task[Link]) -> None:
        del self._opening[shard]
        if not opening.cancelled():
            opening.exception()  # Nobody may be left who would retrieve it.

    async def _open(self, shard: ShardId) -> Link:
        try:
            async with asyncio.timeout(OPENING_S_MAX):
                address = await self._address(shard)
        except TimeoutError:
            raise Unavailable("the actor does not answer") from None
        except OutcomeUnknown as error:
            raise Unavailable(error.text) from None  # Whatever became of it: nothing was asked yet.
        link = await open_link(address, self._caller, self._noticed)
        self._links[shard] = link
        return link

    async def _address(self, shard: ShardId) -> LinkAddress:
        """Return where a shard's actor listens; have it started when there is none."""
        name = shard_name(shard)
        for _ in range(2):
            try:
                return await self._ask_link(name)
            except NotRunning:
                break
            except OutcomeUnknown:
                if name in self._handles:
                    raise  # Ray starts it again.
        await self._insist(SUPERVISOR, "activate", shard)
        return await self._ask_link(name)

    async def _ask_link(self, name: str) -> LinkAddress:
        address = await self._insist(name, "link")
        assert isinstance(address, LinkAddress)
        return address

    async def _insist(self, name: str, method: str, *args: object) -> Any:
        """Call a method that may be called twice, and again while it is not answered.

        The first answer counts, to whichever call; so does the first failure: it is known then
        that the actor has ended, and who waits begins anew. Raises as `ask` does, and
        Unavailable when nothing was heard.
        """
        asking: set[asyncio.Task[Any]] = set()
        try:
            for again_s in ASK_ANEW_AFTER_S:
                call = self.ask(name, method, *args, timeout_s=OPENING_S_MAX)
                asking.add(asyncio.create_task(call, name=f"ask {method}"))
                done, _ = await asyncio.wait(
                    asking, timeout=again_s, return_when=asyncio.FIRST_COMPLETED
                )
                if done:
                    # Those with an answer first; every failure is looked at.
                    return min(done, key=lambda one: one.exception() is not None).result()
                self._handles.pop(name, None)  # It may be of an actor that has ended.
        finally:
            for one in asking:
                one.cancel()
        raise Unavailable("the actor does not answer")

    def _noticed(self, frame: bytes) -> None:
        self.noticed(frame)

    async def shown(self, shard: ShardId, *, timeout_s: float) -> ShardShown:
        """Return what a shard says of itself; does not wake one that rests.

        Raises NotRunning when it rests, other Unavailable when it says nothing.
        """
        octets = await self.ask(shard_name(shard), "shown", timeout_s=timeout_s)
        return wire.result(wire.decode_replies(octets)[0], ShardShown)

    async def ask(self, name: str, method: str, *args: object, timeout_s: float) -> Any:
        """Call a method of the actor of that name through Ray and return its result.

        Raises Unavailable, OutcomeUnknown, Overloaded as the module says.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        handle = self._handles.get(name)
        if handle is None:
            handle = await self._lookup(name, min(timeout_s, LOOKUP_TIMEOUT_S))
        try:
            reference = getattr(handle, method).remote(*args)
        except Exception as error:
            raise not_sent(error) from None
        try:
            # Not wait_for, which may swallow a cancellation that meets the answer.
            async with asyncio.timeout_at(deadline):
                return await reference
        except Exception as error:
            if is_final(error) and self._handles.get(name) is handle:
                del self._handles[name]
            raise not_answered(error) from None

    async def _lookup(self, name: str, timeout_s: float) -> Any:
        """Return a handle; those who ask for the same name at once share one lookup."""
        lookup = self._lookups.get(name)
        if lookup is None:
            loop = asyncio.get_running_loop()
            lookup = loop.run_in_executor(self._executor, ray.get_actor, name, self._namespace)
            self._lookups[name] = lookup
            lookup.add_done_callback(lambda _: self._lookups.pop(name, None))
        try:
            async with asyncio.timeout(timeout_s):
                handle = await asyncio.shield(lookup)
        except TimeoutError:
            raise Unavailable(f"{name} could not be looked up in time") from None
        except ValueError:
            raise NotRunning(f"{name} does not run") from None
        except Exception:
            raise Unavailable(f"{name} could not be looked up") from None
        self._handles[name] = handle
        return handle

    async def close(self) -> None:
        """Cut the links."""
        for task in self._opening.values():
            task.cancel()
        for link in self._links.values():
            link.end()


def not_sent(error: Exception) -> MailError:
    """Translate what Ray raises before a call leaves: it certainly did not happen."""
    if isinstance(error, ray.exceptions.PendingCallsLimitExceeded):
        return Overloaded("too many calls wait for this actor")
    return Unavailable("the call could not be made")


def not_answered(error: Exception) -> MailError:
    """Translate what ends a call that was sent: it may have happened, unless Ray knows better."""
    match error:
        case ray.exceptions.PendingCallsLimitExceeded():
            return Overloaded("too many calls wait for this actor")
        case ray.exceptions.ActorUnschedulableError():
            return Unavailable("the actor's data is on no node that runs")
        case TimeoutError():
            return OutcomeUnknown("no answer in time")
        case _:
            return OutcomeUnknown("the actor went away or failed during the call")


def is_final(error: Exception) -> bool:
    """Say whether a handle is of no use any more: its actor will not come back."""
    return isinstance(error, ray.exceptions.ActorDiedError | ray.exceptions.ActorUnschedulableError)
