"""Supervisor: observes, decides, acts; keeps running what ought to run.

Every beat it feels the pulse of the actors that the directory's shard table and the node's plan
name; it starts those that are missing and ends those that have been mute too long, which Ray
then starts again. `decide` alone is clever, and pure.

State       none that it could not rebuild: a new one starts with a look at everything.
On failure  Ray starts it again; `helio up` feels its pulse.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from actors import wire
from actors.asking import ask
from actors.commands import (
    DIRECTORY_SHARD,
    DirectoryVersion,
    ListShards,
    ShardId,
    Shards,
    WatchDirectory,
)
from actors.ray_ports import RayTransport
from actors.remote import Pulse
from cluster.placement import SUPERVISOR, NodePlan, expected
from cluster.processes import Process
from mail.errors import MailError, OutcomeUnknown, Overloaded

log = structlog.get_logger()

BEAT_S = 1.0
PULSE_TIMEOUT_S = 5.0
# Pulses of shards per beat: with a thousand shards each is felt about once a minute, at a cost
# of a few per cent of one core. A killed actor needs none: Ray starts it again by itself.
SHARDS_A_BEAT = 16
# An actor that says nothing for so long is stuck: even opening a damaged database in one piece
# does not hold its loop for a minute.
MUTE_S_MAX = 60.0
WATCH_MS = 20_000
WATCH_PAUSE_S = 1.0


@dataclass(frozen=True, slots=True)
class Seen:
    """What one look at an actor gave."""

    runs: bool  # an actor of that name exists
    pulse: Pulse | None = None  # None: it did not answer in time


@dataclass(frozen=True, slots=True)
class Start:
    """Start an actor that is missing."""

    name: str


@dataclass(frozen=True, slots=True)
class End:
    """End the process of an actor that has been mute for too long."""

    name: str
    process: Process


@dataclass(slots=True)
class Memory:
    """What is remembered from look to look; may be lost at any time."""

    processes: dict[str, Process] = field(default_factory=dict)
    mute_since_s: dict[str, float] = field(default_factory=dict)


def decide(
    seen: Mapping[str, Seen],
    processes: Mapping[str, Process],
    mute_since_s: Mapping[str, float],
    now_s: float,
) -> list[Start | End]:
    """Return what is to be done about the actors that were looked at.

    An actor that only does not answer may be opening its shard or be restarted by Ray: it is
    left alone until MUTE_S_MAX is over, and then ended only when its process is known.
    """
    actions: list[Start | End] = []
    for name, look in seen.items():
        if not look.runs:
            actions.append(Start(name))
        elif look.pulse is None and now_s - mute_since_s.get(name, now_s) >= MUTE_S_MAX:
            process = processes.get(name)
            if process is not None:
                actions.append(End(name, process))
    return actions


class Supervisor:
    """The supervisor of one node, inside its Ray actor."""

    def __init__(self, plan: NodePlan) -> None:
        plan.log("supervisor")
        self._plan = plan
        self._transport = RayTransport(plan.place.namespace, SUPERVISOR)
        self._memory = Memory()
        self._shards: tuple[ShardId, ...] = ()
        self._next_shard = 0
        self._changed: asyncio.Event | None = None
        self._tasks: tuple[asyncio.Task[None], ...] = ()

    async def pulse(self) -> Pulse:
        """Answer at once; begin to supervise if that has not begun."""
        if not self._tasks:
            self._changed = asyncio.Event()
            self._tasks = (
                asyncio.create_task(self._beat(self._changed), name="beat"),
                asyncio.create_task(self._watch(self._changed), name="watch directory"),
            )
        return Pulse(os.getpid(), True)

    async def rest(self) -> None:
        """Start and end nothing any more: the node is being stopped."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _beat(self, changed: asyncio.Event) -> None:
        while True:
            try:
                seen = await self._observe(self._next_names(everything=changed.is_set()))
                changed.clear()
                now_s = asyncio.get_running_loop().time()
                self._remember(seen, now_s)
                memory = self._memory
                await self._act(decide(seen, memory.processes, memory.mute_since_s, now_s))
            except Exception:
                log.exception("beat failed")
            try:
                await asyncio.wait_for(changed.wait(), BEAT_S)
            except TimeoutError:
                continue

    async def _watch(self, changed: asyncio.Event) -> None:
        """Follow the directory's shard table."""
        version = -1
        while True:
            try:
                frame = wire.encode([WatchDirectory(version, WATCH_MS)])
                timeout_s = WATCH_MS / 1000 + PULSE_TIMEOUT_S
                octets = await self._transport.call(DIRECTORY_SHARD, frame, timeout_s=timeout_s)
                found = wire.result(wire.decode_replies(octets)[0], DirectoryVersion).version
                if found == version:
                    continue
                table = await ask(self._transport, DIRECTORY_SHARD, ListShards(), Shards)
                shards = tuple(row.shard for row in table.shards)
                if shards != self._shards:
                    self._shards = shards
                    changed.set()
                version = found
            except MailError as error:
                log.info("directory not followed", error=type(error).__name__)
                await asyncio.sleep(WATCH_PAUSE_S)

    def _next_names(self, *, everything: bool) -> Sequence[str]:
        """Return whom to look at: all after a change, else some shards in turn and the rest."""
        shards = self._shards
        if not everything and len(shards) > SHARDS_A_BEAT:
            first = self._next_shard % len(shards)
            self._next_shard = first + SHARDS_A_BEAT
            shards = (shards + shards)[first : first + SHARDS_A_BEAT]
        return expected(self._plan, shards)

    async def _observe(self, names: Sequence[str]) -> dict[str, Seen]:
        looks = await asyncio.gather(*map(self._look, names))
        return dict(zip(names, looks, strict=True))

    async def _look(self, name: str) -> Seen:
        try:
            pulse = await self._transport.ask(name, "pulse", timeout_s=PULSE_TIMEOUT_S)
        except (OutcomeUnknown, Overloaded):
            return Seen(runs=True)
        except MailError:
            return Seen(runs=False)
        return Seen(runs=True, pulse=pulse)

    def _remember(self, seen: Mapping[str, Seen], now_s: float) -> None:
        memory = self._memory
        for name, look in seen.items():
            if look.pulse is None:
                memory.mute_since_s.setdefault(name, now_s)
                continue
            memory.mute_since_s.pop(name, None)
            known = memory.processes.get(name)
            if known is None or known.pid != look.pulse.pid:
                process = Process.of(look.pulse.pid)
                if process is not None:
                    memory.processes[name] = process

    async def _act(self, actions: Sequence[Start | End]) -> None:
        for action in actions:
            match action:
                case Start(name):
                    log.info("starting", actor=name)
                    await asyncio.to_thread(self._plan.start, name)
                case End(name, process):
                    log.error("ending a mute actor", actor=name, pid=process.pid)
                    process.kill()
                    self._memory.mute_since_s.pop(name, None)
                    self._memory.processes.pop(name, None)
