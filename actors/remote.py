"""Remote: plain classes become Ray actors here, and only here.

Names       `shard/7`, `gateway/smtp/0`, `supervisor`, in a namespace made of the cluster's id.
Placement   every actor carries the label of one data directory: Ray starts it again beside its
            data or not at all, never elsewhere beside an empty directory.
Restarts    without limit; `__init__` alone is run again, so an actor begins its work with the
            first call that reaches it, and the supervisor's pulse is such a call.
Retries     none by Ray (`max_task_retries=0`): we repeat by request id (R8).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import ray
import structlog

from actors import wire
from actors.commands import Failed, ShardId
from actors.directory import Directory
from actors.mailbox import Mailbox
from actors.options import ShardOptions
from actors.ray_ports import RayTransport, shard_name
from actors.shard_host import ShardHost

log = structlog.get_logger()

DATA_LABEL = "heliograph/data"
# Ray counts CPUs to place actors, ours wait for disks and sockets: a thousand to a core.
CPUS_EACH = 0.001
# Calls that one actor works on at a time. A call carries many commands, whose number the actor
# bounds itself; a caller that waits costs a coroutine.
CONCURRENCY_MAX = 2000
# Calls of one caller that may wait for one actor; the next is Overloaded at once.
PENDING_CALLS_MAX = 4000


@dataclass(frozen=True, slots=True)
class Place:
    """Under which names and beside which data the actors of one node run."""

    namespace: str
    data_id: str  # value of the label of the data directory


@dataclass(frozen=True, slots=True)
class Pulse:
    """What an actor says of itself without waiting for anything."""

    pid: int
    working: bool  # it has begun: the shard is open, or the listeners listen


class Hosted(Protocol):
    """What runs inside an actor, as the supervisor sees it."""

    async def pulse(self) -> Pulse:
        """Answer at once; begin the work if it has not begun."""


def start_actor(
    cls: type[Any], *args: object, name: str, place: Place, concurrency_max: int = CONCURRENCY_MAX
) -> Any:
    """Return the handle of the actor of that name, made of `cls(*args)` when there is none.

    Blocks for a round trip to Ray's GCS: not for event loops.
    """
    return (
        ray.remote(cls)
        .options(
            name=name,
            namespace=place.namespace,
            get_if_exists=True,
            lifetime="detached",
            max_restarts=-1,
            max_task_retries=0,
            max_concurrency=concurrency_max,
            max_pending_calls=PENDING_CALLS_MAX,
            num_cpus=CPUS_EACH,
            label_selector={DATA_LABEL: place.data_id},
            enable_task_events=False,
        )
        .remote(*args)
    )


def start_shard(options: ShardOptions, place: Place, prepare: Callable[[str], None]) -> Any:
    """Return the handle of the actor of one shard; `prepare` is called with its name inside it."""
    name = shard_name(options.shard)
    return start_actor(ShardActor, options, place.namespace, prepare, name=name, place=place)


class ShardActor:
    """One shard inside its Ray actor.

    A call that arrives before the shard is open waits for it. A shard that could not be opened
    for a passing reason is tried again with the next call; meanwhile calls fail as Unavailable.
    """

    def __init__(
        self, options: ShardOptions, namespace: str, prepare: Callable[[str], None]
    ) -> None:
        prepare(shard_name(options.shard).replace("/", "-"))
        self._options = options
        self._namespace = namespace
        self._open_now = False
        self._starting: asyncio.Task[ShardHost] | None = None

    async def pulse(self) -> Pulse:
        """Answer at once; open the shard if it is not open."""
        self._start()
        return Pulse(os.getpid(), self._open_now)

    async def call(self, frame: bytes) -> bytes:
        """Answer a frame of commands with a frame of replies."""
        try:
            host = await asyncio.shield(self._start())
        except Exception:
            log.exception("shard not opened", shard=self._options.shard)
            count = len(wire.decode_commands(frame))
            return wire.encode([Failed("Unavailable", "the shard is not open yet")] * count)
        return await host.handle(frame)

    def _start(self) -> asyncio.Task[ShardHost]:
        if self._starting is None or (self._starting.done() and not self._open_now):
            self._starting = asyncio.create_task(self._open(), name="open shard")
        return self._starting

    async def _open(self) -> ShardHost:
        # A shard is made once, ever: the mark outlives the shard's directory, so that one whose
        # disk was wiped comes back as damaged and not as empty (R16).
        mark = Path(f"{self._options.path}.made")
        made = await asyncio.to_thread(mark.exists)
        options = replace(self._options, create=self._options.create and not made)
        cls = Directory if options.kind == "directory" else Mailbox
        host = cls(options, RayTransport(self._namespace))
        await host.start()
        if options.create and not host.trouble:
            await asyncio.to_thread(_leave_mark, mark)
        self._open_now = True
        log.info("shard open", shard=options.shard, kind=options.kind, trouble=host.trouble)
        return host


def _leave_mark(mark: Path) -> None:
    handle = os.open(mark, os.O_WRONLY | os.O_CREAT, 0o600)
    os.close(handle)
    handle = os.open(mark.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def end_actor(handle: Any) -> None:
    """End an actor for good; what it had accepted must have been drained before."""
    with contextlib.suppress(Exception):
        ray.kill(handle, no_restart=True)


__all__ = [
    "DATA_LABEL",
    "Hosted",
    "Place",
    "Pulse",
    "ShardActor",
    "ShardId",
    "end_actor",
    "start_actor",
    "start_shard",
]
