"""Remote: plain classes become Ray actors here, and only here.

Names       `shard/7`, `gateway/smtp/0`, `supervisor`, in a namespace made of the cluster's id.
Placement   every actor carries the label of one data directory: Ray starts it again beside its
            data or not at all, never elsewhere beside an empty directory.
Restarts    without limit; `__init__` alone is run again, so an actor begins its work with the
            first call that reaches it, and the supervisor's pulse is such a call.
Retries     none by Ray (`max_task_retries=0`): we repeat by request id (R8).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import ray

DATA_LABEL = "heliograph/data"
# Ray counts CPUs to place actors, ours wait for disks and sockets: a thousand to a core.
CPUS_EACH = 0.001
# Calls of control that one actor works on at a time; mail goes over links, which have bounds of
# their own. A caller that waits costs a coroutine.
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
    idle_s: float = 0.0  # since somebody last asked a shard for anything; 0: never idle


class Hosted(Protocol):
    """What every actor answers, whatever else it does."""

    async def pulse(self) -> Pulse:
        """Answer at once; begin the work if it has not begun."""


def leave() -> None:
    """End this actor for good: Ray does not start it again. Does not return."""
    ray.actor.exit_actor()  # type: ignore[no-untyped-call]


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
