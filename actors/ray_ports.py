"""RayTransport: frames to actors over Ray handles, with a time limit on everything.

Handles are looked up by name once and kept: calls go from process to process and do not need
Ray's GCS. A lookup blocks, so it runs in a thread of its own few.

On failure  Unavailable: the call was certainly not made.  OutcomeUnknown: it may have been.
            Overloaded: too many calls of ours wait for that actor.
Repeats     nothing; that is the router's, by request id.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import ray
import ray.exceptions
import structlog

from actors.commands import ShardId
from mail.errors import MailError, OutcomeUnknown, Overloaded, Unavailable

log = structlog.get_logger()

LOOKUP_TIMEOUT_S = 2.0  # Ray's GCS answers within milliseconds or is away.
LOOKUP_THREADS = 4  # Lookups that hang while the GCS is away occupy no more than these.
NOTICE_TIMEOUT_S = 5.0
NOTICES_MAX = 1000  # On their way at once; a lost one is repeated by the next beat.


def shard_name(shard: ShardId) -> str:
    """Return the name of the actor that serves a shard on this node."""
    return f"shard/{shard}"


class RayTransport:
    """Calls actors of one namespace by name. One instance a process and event loop."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._handles: dict[str, Any] = {}
        self._lookups: dict[str, asyncio.Future[Any]] = {}
        self._executor = ThreadPoolExecutor(LOOKUP_THREADS, "actor-lookup")
        self._notices: set[asyncio.Task[None]] = set()

    async def call(self, shard: ShardId, frame: bytes, *, timeout_s: float) -> bytes:
        """Return the reply frame of the shard's primary. See `actors.ports.Transport`."""
        reply = await self.ask(shard_name(shard), "call", frame, timeout_s=timeout_s)
        assert isinstance(reply, bytes)
        return reply

    async def notify(self, gateway: str, frame: bytes) -> None:
        """Hand a frame to a gateway and wait for nothing; when too many are on their way, drop."""
        if len(self._notices) >= NOTICES_MAX:
            return
        task = asyncio.create_task(self._notify(gateway, frame), name="notify")
        self._notices.add(task)
        task.add_done_callback(self._notices.discard)

    async def _notify(self, gateway: str, frame: bytes) -> None:
        try:
            await self.ask(gateway, "notified", frame, timeout_s=NOTICE_TIMEOUT_S)
        except MailError as error:
            log.debug("notice lost", gateway=gateway, error=type(error).__name__)

    async def ask(self, name: str, method: str, *args: object, timeout_s: float) -> Any:
        """Call a method of the actor of that name and return its result.

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
            if is_final(error):
                self._handles.pop(name, None)
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
        except Exception:
            raise Unavailable(f"{name} does not run") from None
        self._handles[name] = handle
        return handle


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
