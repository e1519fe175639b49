"""Supervisor: observes, decides, acts; keeps running what ought to run.

Every beat it feels the pulse of the actors that the directory's shard table and the node's plan
name; it starts those that are missing and ends those that have been mute too long, which Ray
then starts again. A shard that nobody uses it sends to rest, which frees its process; the next
caller has it started again (`activate`), and so has a day of rest, since a mailbox has chores of
its own. `decide` alone is clever, and pure.

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
from actors.ray_ports import SUPERVISOR, NotRunning, RayTransport, shard_name
from actors.remote import Pulse
from cluster.placement import NodePlan, expected
from cluster.processes import Process
from mail.errors import MailError, NotFound

log = structlog.get_logger()

BEAT_S = 1.0
PULSE_TIMEOUT_S = 5.0
# Pulses of shards per beat: with a thousand shards each is felt about once a minute, at a cost
# of a few per cent of one core. A killed actor needs none: Ray starts it again by itself.
SHARDS_A_BEAT = 16
# An actor that says nothing for so long is stuck: even opening a damaged database in one piece
# does not hold its loop for a minute.
MUTE_S_MAX = 60.0
REST_S_MAX = 24 * 3600.0
REST_TIMEOUT_S = 15.0  # For a shard to be closed.
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


@dataclass(frozen=True, slots=True)
class Rest:
    """Ask an actor that nobody uses to end."""

    name: str


@dataclass(slots=True)
class Memory:
    """What is remembered from look to look; may be lost at any time."""

    processes: dict[str, Process] = field(default_factory=dict)
    mute_since_s: dict[str, float] = field(default_factory=dict)
    resting_since_s: dict[str, float] = field(default_factory=dict)


def decide(
    seen: Mapping[str, Seen], memory: Memory, now_s: float, *, idle_s_max: float = 0.0
) -> list[Start | End | Rest]:
    """Return what is to be done about the actors that were looked at.

    An actor that only does not answer may be opening its shard or be restarted by Ray: it is
    left alone until MUTE_S_MAX is over, and then ended only when its process is known.
    `idle_s_max` is for how long a shard may be unused; 0: for ever. The directory never rests:
    whoever wants anything asks it first, and who follows it may be silent for WATCH_MS.
    """
    actions: list[Start | End | Rest] = []
    for name, look in seen.items():
        if not look.runs:
            if now_s - memory.resting_since_s.get(name, now_s - REST_S_MAX) >= REST_S_MAX:
                actions.append(Start(name))
        elif look.pulse is None:
            process = memory.processes.get(name)
            mute_s = now_s - memory.mute_since_s.get(name, now_s)
            if process is not None and mute_s >= MUTE_S_MAX:
                actions.append(End(name, process))
        elif 0 < idle_s_max <= look.pulse.idle_s and name != shard_name(DIRECTORY_SHARD):
            actions.append(Rest(name))
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

    async def activate(self, shard: ShardId) -> None:
        """Start the actor of a shard that rests. Raises when there is no such shard."""
        # The directory is in no table, and reading the table would wait for the directory.
        if shard != DIRECTORY_SHARD:
            if shard not in self._shards:
                await self._read_table()
            if shard not in self._shards:
                raise NotFound(f"no shard {shard}")
        name = shard_name(shard)
        self._memory.resting_since_s.pop(name, None)
        await asyncio.to_thread(self._plan.start, name)

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
                idle_s_max = self._plan.idle_actor_s
                await self._act(decide(seen, self._memory, now_s, idle_s_max=idle_s_max))
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
                if await self._read_table():
                    changed.set()
                version = found
            except MailError as error:
                log.info("directory not followed", error=type(error).__name__)
                await asyncio.sleep(WATCH_PAUSE_S)

    async def _read_table(self) -> bool:
        """Read the directory's shard table anew; say whether it has changed."""
        table = await ask(self._transport, DIRECTORY_SHARD, ListShards(), Shards)
        before, self._shards = self._shards, tuple(row.shard for row in table.shards)
        return before != self._shards

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
        except NotRunning:
            return Seen(runs=False)
        except MailError:
            return Seen(runs=True)
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

    async def _act(self, actions: Sequence[Start | End | Rest]) -> None:
        for action in actions:
            match action:
                case Start(name):
                    log.info("starting", actor=name)
                    self._memory.resting_since_s.pop(name, None)
                    await asyncio.to_thread(self._plan.start, name)
                case Rest(name):
                    await self._send_to_rest(name)
                case End(name, process):
                    log.error("ending a mute actor", actor=name, pid=process.pid)
                    process.kill()
                    self._memory.mute_since_s.pop(name, None)
                    self._memory.processes.pop(name, None)

    async def _send_to_rest(self, name: str) -> None:
        """Have an unused actor ended; it looks once more whether it is unused."""
        idle_s = self._plan.idle_actor_s
        try:
            await self._transport.ask(name, "retire", idle_s, timeout_s=REST_TIMEOUT_S)
        except MailError:
            # An actor that ends does not answer any more; the next look tells what became of it.
            log.info("at rest", actor=name)
            self._memory.resting_since_s[name] = asyncio.get_running_loop().time()
            self._memory.processes.pop(name, None)
