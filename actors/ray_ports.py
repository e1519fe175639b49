"""RayTransport: frames to shards, and calls to Ray's actors, with a time limit on everything.

Ray starts actors; where the primary of a shard listens is told by the supervisor of this node,
and what is said to it goes over a link (`actors/link.py`). The supervisor's own address is asked
of Ray once. Handles and links are kept, so that calls do not need Ray's GCS. A lookup blocks, so
it runs in a thread of its own few.

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

from actors import reports, wire
from actors.commands import ShardId, ShardShown, ShowShard
from actors.link import LOOPBACK, Link, LinkAddress, open_link
from actors.link_options import LinkOptions
from mail.errors import MailError, OutcomeUnknown, Overloaded, Unavailable

LOOKUP_TIMEOUT_S = 2.0  # Ray's GCS answers within milliseconds or is away.
LOOKUP_THREADS = 4  # Lookups that hang while the GCS is away occupy no more than these.
# An actor that is being started may take long to say where it listens, and so is an answer waited
# for; but a call that was lost, or went to a process that was ending, is never answered: after
# each of these times the same is asked anew, beside what was asked before.
ASK_ANEW_AFTER_S = (2.0, 4.0, 8.0, 16.0)
OPENING_S_MAX = sum(ASK_ANEW_AFTER_S)  # No caller waits for longer.


FIND_S_MAX = 10.0  # for the supervisor to find a primary, or to have one started
_SHOW = wire.encode([ShowShard()])


class NotRunning(Unavailable):
    """There is no actor of that name now."""


def shard_name(shard: ShardId) -> str:
    """Return the name of the actor that serves a shard on this node."""
    return f"shard/{shard}"


def replica_name(shard: ShardId, node: str) -> str:
    """Return the name of the actor that holds a node's replica of a shard."""
    return f"{shard_name(shard)}@{node}"


def supervisor_name(node: str) -> str:
    """Return the name of a node's supervisor."""
    return f"supervisor@{node}"


class RayTransport:
    """Calls actors of one namespace. One instance a process and event loop.

    Where a shard's primary is, the supervisor of this node knows; it also says so when that
    changes, so that calls to a primary that has stopped do not wait for it.
    """

    def __init__(
        self, namespace: str, caller: str, node: str, links: LinkOptions = LOOPBACK
    ) -> None:
        """Call as `caller`, which names this process to shards that have notices for it."""
        self.noticed: Callable[[bytes], None] = lambda _: None
        self._namespace = namespace
        self._caller = caller
        self._options = links
        self._supervisor_name = supervisor_name(node)
        self._handles: dict[str, Any] = {}
        self._lookups: dict[str, asyncio.Future[Any]] = {}
        self._executor = ThreadPoolExecutor(LOOKUP_THREADS, "actor-lookup")
        self._links: dict[ShardId, Link] = {}
        self._addresses: dict[ShardId, LinkAddress] = {}  # of the links
        self._known: dict[ShardId, tuple[LinkAddress, ...]] = {}  # where replicas listened
        self._opening: dict[ShardId, asyncio.Task[Link]] = {}
        self._supervisor: Link | None = None
        self._finding_supervisor: asyncio.Task[Link] | None = None

    async def call(self, shard: ShardId, frame: bytes, *, timeout_s: float) -> bytes:
        """Return the reply frame of the shard's primary. See `actors.ports.Transport`."""
        link = self._links.get(shard)
        if link is None or link.lost:
            started = asyncio.get_running_loop().time()
            link = await self._link(shard, timeout_s)
            timeout_s = max(0.0, timeout_s + started - asyncio.get_running_loop().time())
        return await link.call(frame, timeout_s=timeout_s)

    def misled(self, shard: ShardId) -> None:
        """Look for the primary anew: who was asked last is none."""
        link = self._links.pop(shard, None)
        if link is not None:
            link.end()

    async def _link(self, shard: ShardId, timeout_s: float) -> Link:
        """Return a link to a shard's primary; those who want the same one at once share it.

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
            known = self._known[shard] = await self._find(shard)
        except Unavailable:
            # Without the supervisor: whoever was there before, each in turn.
            before = self._known.get(shard, ())
            if not before:
                raise
            known = self._known[shard] = before[1:] + before[:1]
        if not known:
            raise Unavailable("no replica of the shard is there now")
        link = await open_link(known[0], self._caller, self._noticed, self._options)
        self._links[shard] = link
        self._addresses[shard] = known[0]
        return link

    async def _find(self, shard: ShardId) -> tuple[LinkAddress, ...]:
        """Return where the replicas listen, the primary first; have the shard started."""
        found = await self._ask_supervisor(reports.Find(shard), timeout_s=FIND_S_MAX)
        return found.addresses if isinstance(found, reports.Found) else ()

    async def picture(self, *, timeout_s: float) -> reports.Picture:
        """Return the cluster as the supervisor of this node sees it. Raises Unavailable."""
        picture = await self._ask_supervisor(reports.Look(), timeout_s=timeout_s)
        if not isinstance(picture, reports.Picture):
            raise Unavailable("the supervisor answers something else")
        return picture

    async def _ask_supervisor(
        self, question: reports.AnyMessage, *, timeout_s: float
    ) -> reports.AnyMessage:
        if self._supervisor is None or self._supervisor.lost:
            if self._finding_supervisor is None or self._finding_supervisor.done():
                self._finding_supervisor = asyncio.create_task(
                    self._link_supervisor(), name="open supervisor"
                )
            self._supervisor = await asyncio.shield(self._finding_supervisor)
        try:
            octets = await self._supervisor.call(reports.encode(question), timeout_s=timeout_s)
        except OutcomeUnknown as error:
            raise Unavailable(error.text) from None  # Questions change nothing.
        return reports.decode(octets)

    async def _link_supervisor(self) -> Link:
        try:
            async with asyncio.timeout(OPENING_S_MAX):
                address = await self._insist(self._supervisor_name, "link")
        except (TimeoutError, OutcomeUnknown):
            raise Unavailable("the supervisor does not answer") from None
        assert isinstance(address, LinkAddress)
        return await open_link(address, self._caller, self._supervisor_noticed, self._options)

    def _supervisor_noticed(self, frame: bytes) -> None:
        """End links to primaries that are none any more: calls on them are made anew."""
        try:
            message = reports.decode(frame)
        except Unavailable:
            return
        if isinstance(message, reports.Led):
            for shard, address in message.primaries:
                if shard in self._links and self._addresses.get(shard) != address:
                    self.misled(shard)

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
        """Return what a shard's primary says of itself; does not wake one that rests.

        Raises NotRunning when it rests, other Unavailable when it says nothing.
        """
        picture = await self.picture(timeout_s=timeout_s)
        if all(report.shard != shard for report in picture.reports):
            raise NotRunning("no replica of the shard is there now")
        octets = await self.call(shard, _SHOW, timeout_s=timeout_s)
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
        if self._supervisor is not None:
            self._supervisor.end()


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
