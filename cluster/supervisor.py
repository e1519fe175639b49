"""Supervisor: observes, decides, acts; keeps running what ought to run on its node.

Every beat it feels the pulse of the node's actors: the gateways of its plan, and the replicas
that the directory's shard table places here, or that lie on its disk as long as no table is
known. It starts those that are missing and ends those that have been mute too long, which Ray
then starts again. A shard with one replica that nobody uses it sends to rest, which frees its
process; the next caller has it started again (`activate`), and so has a day of rest, since a
mailbox has chores of its own. What it hears from replicas and from other supervisors, and how
primaries are elected, is `cluster/supervisors/exchange.py`; what is decided, is pure.

State       none that it could not rebuild: a new one starts with a look at everything.
On failure  Ray starts it again; `helio up` feels its pulse.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field

import ray
import structlog

from actors import wire
from actors.asking import ask
from actors.commands import (
    DIRECTORY_SHARD,
    DirectoryVersion,
    Done,
    ListShards,
    PlaceShard,
    PlaceShards,
    ShardId,
    ShardRow,
    Shards,
    WatchDirectory,
)
from actors.link import LinkAddress
from actors.ray_ports import NotRunning, RayTransport, replica_name, supervisor_name
from actors.remote import DATA_LABEL, Pulse
from actors.request_ids import new_request_id
from cluster.data_directory import free_bytes_of
from cluster.placement import NodePlan
from cluster.processes import Process
from cluster.supervisors import replication
from cluster.supervisors.exchange import Exchange
from cluster.supervisors.replication import Remove, Renew
from mail.errors import MailError, NotFound, NotPrimary

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
MEET_EVERY_S = 2.0
MEET_TIMEOUT_S = 2.0
PLACE_EVERY_S = 1.0
TIDY_EVERY_S = 5.0
PLACED_AT_ONCE = 16  # rows of the shard table: their replicas are filled at the same time
FREE_BYTES_EVERY_S = 5.0


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
    seen: Mapping[str, Seen],
    memory: Memory,
    now_s: float,
    *,
    idle_s_max: float = 0.0,
    awake: Container[str] = (),
) -> list[Start | End | Rest]:
    """Return what is to be done about the actors that were looked at.

    An actor that only does not answer may be opening its shard or be restarted by Ray: it is
    left alone until MUTE_S_MAX is over, and then ended only when its process is known.
    `idle_s_max` is for how long a shard may be unused; 0: for ever; who is `awake` never rests.
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
        elif 0 < idle_s_max <= look.pulse.idle_s and name not in awake:
            actions.append(Rest(name))
    return actions


class Supervisor:
    """The supervisor of one node, inside its Ray actor."""

    def __init__(self, plan: NodePlan) -> None:
        plan.log("supervisor")
        self._plan = plan
        self._transport = RayTransport(
            plan.place.namespace, supervisor_name(plan.node), plan.node, plan.link
        )
        self._memory = Memory()
        self._exchange = Exchange(
            plan.node,
            incarnation=secrets.token_bytes(8),
            release=plan.release,
            gateways=plan.gateway_names,
            activate=self.activate,
            free_bytes=self._free_bytes,
            link=plan.link,
        )
        self._free = (-FREE_BYTES_EVERY_S, 0)
        self._address: LinkAddress | None = None
        self._table_known = False
        self._local: tuple[ShardId, ...] = plan.local_shards()
        self._next_shard = 0
        self._began_s = time.monotonic()
        self._changed: asyncio.Event | None = None
        self._tasks: tuple[asyncio.Task[None], ...] = ()

    async def pulse(self) -> Pulse:
        """Answer at once; begin to supervise if that has not begun."""
        await self.link()
        return Pulse(os.getpid(), True)

    async def link(self) -> LinkAddress:
        """Return where this supervisor listens; begin to supervise if that has not begun."""
        if self._address is None:
            self._address = await self._exchange.start()
        if not self._tasks:
            self._changed = asyncio.Event()
            self._tasks = (
                asyncio.create_task(self._beat(self._changed), name="beat"),
                asyncio.create_task(self._watch(self._changed), name="watch directory"),
                asyncio.create_task(self._meet_forever(), name="meet"),
                asyncio.create_task(self._place_forever(), name="place"),
                asyncio.create_task(self._tidy_forever(), name="tidy"),
            )
        return self._address

    async def activate(self, shard: ShardId) -> None:
        """Start this node's replica of a shard that rests. Raises when it has none."""
        # The directory may be in no table, and reading the table would wait for the directory.
        if shard != DIRECTORY_SHARD and shard not in self._exchange.rows:
            await self._read_table()
        if shard not in self._shards_here():
            raise NotFound(f"no replica of shard {shard} belongs here")
        self._memory.resting_since_s.pop(replica_name(shard, self._plan.node), None)
        await self._start_replica(shard)

    async def rest(self) -> None:
        """Start and end nothing any more: the node is being stopped."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _free_bytes(self) -> int:
        now_s = time.monotonic()
        if now_s - self._free[0] >= FREE_BYTES_EVERY_S:
            self._free = (now_s, free_bytes_of(self._plan.shards))
        return self._free[1]

    # Which replicas belong here

    def _shards_here(self) -> tuple[ShardId, ...]:
        """Return the shards of which a replica is to run on this node."""
        rows, node = self._exchange.rows, self._plan.node
        here = {shard for shard, row in rows.items() if node in row.replicas}
        if not self._table_known:
            here |= set(self._local)
        if DIRECTORY_SHARD not in rows and (
            self._plan.founds_directory or DIRECTORY_SHARD in self._local
        ):
            here.add(DIRECTORY_SHARD)
        return tuple(sorted(here))

    async def _start_replica(self, shard: ShardId) -> None:
        """Start a replica's actor, and have it report here."""
        row = self._exchange.rows.get(shard)
        node = self._plan.node
        founds = (
            self._plan.founds_directory
            if row is None
            else not row.founded and row.replicas[:1] == (node,)
        )
        factor = 1 if row is None else len(row.replicas)
        await asyncio.to_thread(
            lambda: self._plan.start_replica(shard, founds=founds, factor=factor)
        )
        await self._look(replica_name(shard, node))

    # Beats: the actors of this node

    async def _beat(self, changed: asyncio.Event) -> None:
        while True:
            try:
                seen = await self._observe(self._next_names(everything=changed.is_set()))
                changed.clear()
                now_s = asyncio.get_running_loop().time()
                self._remember(seen, now_s)
                awake = self._awake()
                idle_s_max = self._plan.idle_actor_s
                await self._act(
                    decide(seen, self._memory, now_s, idle_s_max=idle_s_max, awake=awake)
                )
            except Exception:
                log.exception("beat failed")
            try:
                await asyncio.wait_for(changed.wait(), BEAT_S)
            except TimeoutError:
                continue

    def _awake(self) -> frozenset[str]:
        """Return who never rests.

        Whoever wants anything asks the directory first, and who follows it may be silent for
        WATCH_MS; and a replica set needs its members.
        """
        rows, node = self._exchange.rows, self._plan.node
        several = [shard for shard, row in rows.items() if len(row.replicas) > 1]
        return frozenset(replica_name(shard, node) for shard in (DIRECTORY_SHARD, *several))

    def _next_names(self, *, everything: bool) -> Sequence[str]:
        """Return whom to look at: all after a change, else some replicas in turn and the rest."""
        shards = self._shards_here()
        if not everything and len(shards) > SHARDS_A_BEAT:
            first = self._next_shard % len(shards)
            self._next_shard = first + SHARDS_A_BEAT
            shards = (shards + shards)[first : first + SHARDS_A_BEAT]
        replicas = (replica_name(shard, self._plan.node) for shard in shards)
        return (*self._plan.gateway_names, *replicas)

    async def _observe(self, names: Sequence[str]) -> dict[str, Seen]:
        looks = await asyncio.gather(*map(self._look, names))
        return dict(zip(names, looks, strict=True))

    async def _look(self, name: str) -> Seen:
        """Feel one pulse; a replica learns from it where to report."""
        told = (self._address,) if shard_of(name) is not None else ()
        try:
            pulse = await self._transport.ask(name, "pulse", *told, timeout_s=PULSE_TIMEOUT_S)
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
                    shard = shard_of(name)
                    if shard is not None:
                        await self._start_replica(shard)
                    else:
                        await asyncio.to_thread(self._plan.start_gateway, name)
                case Rest(name):
                    await self._end_actor(name, self._plan.idle_actor_s)
                    if name in self._memory.resting_since_s and (shard := shard_of(name)):
                        self._exchange.forget_replica(shard)
                    log.info("at rest", actor=name)
                case End(name, process):
                    log.error("ending a mute actor", actor=name, pid=process.pid)
                    process.kill()
                    self._memory.mute_since_s.pop(name, None)
                    self._memory.processes.pop(name, None)

    async def _end_actor(self, name: str, idle_s: float) -> None:
        """Have an actor ended that was unused for so long; it looks once more whether it was."""
        try:
            await self._transport.ask(name, "retire", idle_s, timeout_s=REST_TIMEOUT_S)
        except MailError:
            # An actor that ends does not answer any more; the next look tells what became of it.
            self._memory.resting_since_s[name] = asyncio.get_running_loop().time()
            self._memory.processes.pop(name, None)

    # The directory's table

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
            except NotPrimary:
                self._transport.misled(DIRECTORY_SHARD)
                await asyncio.sleep(WATCH_PAUSE_S / 10)
            except MailError as error:
                log.info("directory not followed", error=type(error).__name__)
                await asyncio.sleep(WATCH_PAUSE_S)

    async def _read_table(self) -> bool:
        """Read the directory's shard table anew; say whether it has changed."""
        table = await ask(self._transport, DIRECTORY_SHARD, ListShards(), Shards)
        before = self._exchange.rows
        self._exchange.rows = {row.shard: row for row in table.shards}
        changed = before != self._exchange.rows or not self._table_known
        self._table_known = True
        return changed

    # Other nodes

    async def _meet_forever(self) -> None:
        """Get to know the supervisors of nodes that have joined. They know each other then."""
        while True:
            try:
                nodes = await asyncio.to_thread(_nodes)
                for node in nodes:
                    if node != self._plan.node and not self._exchange.knows(node):
                        name = supervisor_name(node)
                        address = await self._transport.ask(name, "link", timeout_s=MEET_TIMEOUT_S)
                        self._exchange.meet({node: address})
            except MailError:
                pass  # It is being started.
            except Exception as error:
                log.info("nodes not listed", error=repr(error))  # Ray's head is away.
            await asyncio.sleep(MEET_EVERY_S)

    async def _place_forever(self) -> None:
        """Bring the shard table to what the nodes allow, beside the directory's primary."""
        while True:
            await asyncio.sleep(PLACE_EVERY_S)
            if not self._exchange.leads(DIRECTORY_SHARD) or not self._table_known:
                continue
            try:
                await self._place()
            except MailError as error:
                log.info("nothing placed", error=error.text)
            except Exception:
                log.exception("nothing placed")

    async def _tidy_forever(self) -> None:
        """Renew replicas that are damaged, remove those that belong here no more."""
        while True:
            await asyncio.sleep(TIDY_EVERY_S)
            try:
                for leaving in self._exchange.leavings():
                    await self._tidy(leaving)
            except Exception:
                log.exception("nothing tidied")

    async def _tidy(self, leaving: Renew | Remove) -> None:
        shard = leaving.shard
        log.warning("replica given up", shard=shard, renewed=isinstance(leaving, Renew))
        await self._end_actor(replica_name(shard, self._plan.node), 0.0)
        await asyncio.to_thread(self._plan.set_aside, shard, keep=isinstance(leaving, Renew))
        self._exchange.forget_replica(shard)
        if isinstance(leaving, Renew):
            await self._start_replica(shard)

    async def _place(self) -> None:
        exchange, plan = self._exchange, self._plan
        alive = exchange.alive_nodes()
        lost = exchange.lost_nodes(round(plan.replace_after_s * 1000))
        named = {node for row in exchange.rows.values() for node in row.replicas}
        silent = sorted(named - lost - set(alive))
        factor = replication.factor_in_force(plan.replication_factor, len(alive) + len(silent))
        exchange.know_nodes(tuple(alive), tuple(silent), factor)
        rows = dict(exchange.rows)
        if DIRECTORY_SHARD not in rows:
            rows[DIRECTORY_SHARD] = ShardRow(DIRECTORY_SHARD, "directory", (plan.node,), 0)
        places = {
            one.shard: PlaceShard(one.shard, one.replicas)
            for one in replication.placements(
                rows.values(),
                alive,
                lost,
                factor=plan.replication_factor,
                at_once=PLACED_AT_ONCE,
            )
        }
        for shard, row in rows.items():
            if not row.founded and exchange.has_led(shard):
                placed = places.get(shard, PlaceShard(shard))
                replicas = placed.replicas or (row.replicas if shard == DIRECTORY_SHARD else None)
                places[shard] = PlaceShard(shard, replicas, founded=True)
        if places:
            log.info("placing", shards=len(places))
            command = PlaceShards(new_request_id(), tuple(places.values()))
            await ask(self._transport, DIRECTORY_SHARD, command, Done)


def shard_of(name: str) -> ShardId | None:
    """Return the shard of which an actor of that name holds a replica."""
    kind, _, rest = name.partition("/")
    return ShardId(int(rest.partition("@")[0])) if kind == "shard" else None


def _nodes() -> list[str]:
    """Return the data labels of the nodes that Ray knows to be alive. Blocks."""
    return sorted(
        label
        for node in ray.nodes()  # type: ignore[no-untyped-call]
        if node["Alive"] and (label := (node.get("Labels") or {}).get(DATA_LABEL))
    )
