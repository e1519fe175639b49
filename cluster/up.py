"""Up: the life of one node, from the lock on its data to the last file closed.

Start       lock, identity, room, certificate, ports: whatever can be refused is refused before
            anything runs. Then Ray, the directory, the supervisor, gateways and shards.
Serve       feels the supervisor's pulse; a GCS that died is started again in its place. A node
            that lost its raylet, or whose head has moved, starts anew, by becoming a new process.
Stop        SIGTERM or SIGINT: gateways finish what they accepted, shards close, Ray ends, all
            within STOP_S_MAX; a second signal does not wait.
Killed      nothing is lost that was acknowledged; the next start ends what is left over.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import structlog

from actors import wire
from actors.asking import ask
from actors.commands import (
    DIRECTORY_SHARD,
    Drain,
    ListShards,
    ShardId,
    Shards,
    ShardShown,
    ShowShard,
)
from actors.ray_ports import RayTransport, supervisor_name
from actors.remote import Place
from cluster import listeners, logs, tls
from cluster.administration import Administration
from cluster.cluster_ca import link_options
from cluster.control import Control
from cluster.control_nodes import NodeRoutes
from cluster.data_directory import ClusterIdentity, DataDirectory
from cluster.gateway_actors import Listener
from cluster.gateways import DRAIN_S, gateway_plans
from cluster.local_ray import (
    LocalRay,
    RayLost,
    RayPlan,
    clear_leftovers,
    forget_actors,
    make_runtime_directory,
)
from cluster.membership import HeadMoved, Membership
from cluster.placement import NodePlan
from cluster.progress import Progress
from cluster.refusal import Refused
from cluster.release import release
from cluster.settings import Loaded
from cluster.status import ClusterStatus
from cluster.supervisor import Supervisor
from cluster.transfer import Transfer
from mail.errors import MailError

log = structlog.get_logger()

DEMO_ACCOUNTS = ("alice@example.test", "bob@example.test")
START_S_MAX = 180.0  # Until one actor answers; all may start at once, some of them last.
# Until the shards are open before `ready` is said anyway: a large node would otherwise refuse
# mail for minutes that it can take for all shards but the last, and hold for those.
SHARDS_S_MAX = 3.0
DRAIN_GRACE_S = 5.0  # For a gateway's answer, after the connections were cut off.
SHARD_DRAIN_S = 15.0
STOP_S_MAX = 60.0  # The two above, one after the other, and Ray's own end.
BEAT_S = 1.0
# A Ray that dies so soon would die again: better to say so than to start for ever.
STEADY_S = 10.0
MOVE_DRAIN_S = 15.0  # Others wait for the new head, whoever is still being served.
# Two signals within this time are one order: a service manager tells a whole process group.
HURRY_AFTER_S = 1.0
ASKS_AT_ONCE = 64
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def run(loaded: Loaded, *, demo: bool, progress: Progress) -> int:
    """Serve until told to stop; return the exit code. Raises Refused."""
    data = DataDirectory(loaded.settings.data)
    data.take()
    node = Node(loaded, data, demo=demo, progress=progress)
    try:
        asyncio.run(node.live())
    finally:
        data.release()
    return 0


class Node:
    """One node in its process."""

    def __init__(
        self, loaded: Loaded, data: DataDirectory, *, demo: bool, progress: Progress
    ) -> None:
        self._settings = loaded.settings
        self._data = data
        self._demo = demo
        self._progress = progress
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._membership = Membership(data, loaded.settings.cluster, release())
        self._control = Control(self._stop.set, NodeRoutes(self._membership).routes())
        self._is_ready = False
        self._opening: asyncio.Task[None] | None = None
        self._ray: LocalRay | None = None
        self._transport: RayTransport | None = None
        self._plan: NodePlan | None = None
        self._run: dict[str, Any] = {}
        self._ca: Path | None = None
        self._reservation = listeners.Reservation()

    async def live(self) -> None:
        """Start, serve, stop. Raises Refused when it cannot start."""
        began = time.monotonic()
        logs.configure(self._data.logs / "up.log", self._settings.log.level)
        self._take_signals()
        try:
            serving = asyncio.create_task(self._serve(), name="serve")
            stopped = asyncio.create_task(self._stop.wait(), name="stop")
            await asyncio.wait((serving, stopped), return_when=asyncio.FIRST_COMPLETED)
            stopped.cancel()
            if not serving.done():
                serving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await serving
        except RayLost as lost:
            if time.monotonic() - began < STEADY_S:
                await self._abandon()
                raise Refused(f"{lost} died soon after the start, see {self._data.logs}") from None
            await self._start_again(f"{lost} has died")
        except HeadMoved as moved:
            await self._drain_to_move()
            await self._start_again(f"the head is at {moved} now")
        except BaseException:
            await self._end()
            raise
        await self._end()

    def _take_signals(self) -> None:
        loop = asyncio.get_running_loop()
        first_at: float | None = None

        def told(name: str) -> None:
            nonlocal first_at
            if first_at is None:
                first_at = loop.time()
            elif loop.time() - first_at >= HURRY_AFTER_S:
                self._hurry.set()
            log.info("told to stop", signal=name)
            self._stop.set()

        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, told, number.name)

    # Start

    async def _serve(self) -> None:
        began = time.monotonic()
        left = self._clear()
        self._progress.step("looking for the cluster")
        identity = await self._membership.settle()
        plan = self._prepare(identity, left)
        log.info("starting", release=plan.release, cluster=plan.cluster_id)
        transport = self._start_ray(plan)
        await self._membership.enter()
        await asyncio.to_thread(forget_actors, plan.place.namespace, plan.node)
        status = ClusterStatus(plan, transport, self._data)
        administration = Administration(transport, status)
        self._run["control"] = await self._control.open()
        self._run["token"] = self._control.token
        self._data.write_run(self._run)
        self._control.serve(administration, lambda: status.gather("starting"))
        await self._start_actors(plan, transport)
        found = await self._wait_for_gateways(plan, transport)
        self._opening = asyncio.create_task(self._open_shards(plan, transport), name="open shards")
        await asyncio.wait((self._opening,), timeout=SHARDS_S_MAX)
        if self._demo:
            self._progress.step("making the demo accounts")
            passwords = self._data.demo_passwords(DEMO_ACCOUNTS)
            changed = await administration.add_demo(passwords)
            for address, password in passwords.items():
                told = "was changed" if address in changed else password
                self._progress.say(f"account {address} password {told}")
        opening = self._opening
        self._control.serve(
            administration,
            lambda: status.gather("" if opening.done() else "starting"),
            Transfer(transport, size_bytes_max=self._settings.smtp.size_bytes_max),
        )
        self._run["listeners"] = {one.name: f"{one.host}:{one.port}" for one in found}
        self._data.write_run(self._run)
        self._is_ready = True
        self._progress.end()
        self._progress.say(self._ready_line(found))
        if not opening.done():
            self._progress.note("shards are still being opened; mail for them waits")
        log.info("ready", seconds=round(time.monotonic() - began, 1))
        assert self._ray is not None, "started above"
        await _until_one_fails(
            self._beat(plan, transport), self._ray.mind(), self._membership.watch()
        )

    def _clear(self) -> dict[str, Any]:
        """End what an earlier start has left; return what it said of itself. Raises Refused."""
        data = self._data
        self._progress.step("checking the data directory")
        data.check_room()
        left = data.read_run()
        if left is not None:
            self._progress.step("clearing what an earlier start has left")
            clear_leftovers(str(left.get("runtime_directory", "")))
            data.forget_run()
        return left or {}

    def _prepare(self, identity: ClusterIdentity, left: dict[str, Any]) -> NodePlan:
        """Check everything that can be checked without running anything. Raises Refused."""
        data, settings = self._data, self._settings
        if settings.tls.certificate is not None and settings.tls.key is not None:
            files = tls.check(settings.tls.certificate, settings.tls.key)
        else:
            now = datetime.datetime.now(datetime.UTC)
            files = tls.ensure(data.tls, settings.hostname, now)
        self._ca = files.ca
        self._reservation = listeners.reserve(settings, listeners.ports_before(left))
        plan = self._node_plan(identity, files, self._reservation.addresses)
        self._plan = plan
        return plan

    def _node_plan(
        self,
        identity: ClusterIdentity,
        files: tls.TlsFiles,
        addresses: dict[str, listeners.Address],
    ) -> NodePlan:
        settings = self._settings
        place = Place(f"heliograph-{identity.id}", identity.node)
        links = link_options(settings.cluster, self._data.cluster_tls)
        log_files = logs.LogFile(str(self._data.logs), settings.log.level)
        return NodePlan(
            place=place,
            cluster_id=identity.id,
            node=identity.node,
            release=identity.release,
            shards=self._data.shards,
            log=log_files,
            gateways=gateway_plans(
                settings, addresses, files, log_files, place.namespace, identity.node, links
            ),
            mailbox_actors_per_node=settings.mailbox_actors_per_node,
            disk_floor_bytes=settings.disk_floor_bytes,
            link=links,
            trash_days=settings.expiry.trash_days,
            junk_days=settings.expiry.junk_days,
            audit_hours=settings.upkeep.audit_hours,
            collect_hours=settings.upkeep.collect_hours,
            idle_actor_s=settings.idle_actor_s,
            founds_directory=identity.founder and not self._data.directory_founded,
            replication_factor=settings.replication.factor,
            replace_after_s=settings.replication.replace_after_s,
            block_cache_bytes=settings.block_cache_bytes,
        )

    def _start_ray(self, plan: NodePlan) -> RayTransport:
        self._progress.step("starting Ray")
        directory = make_runtime_directory()
        self._run |= {
            "pid": os.getpid(),
            "started_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "release": plan.release,
            "runtime_directory": str(directory),
            "node": plan.node,
        }
        self._data.write_run(self._run)
        self._progress.divert(self._data.logs / "ray.log")  # Ray prints what befalls its workers.
        membership, settings = self._membership, self._settings
        ray_plan = RayPlan(
            settings.cluster.bind,
            directory,
            settings.ray.object_store_bytes,
            membership.head.address,
            membership.gcs_store() if membership.is_head else None,
            settings.ray.autoscaling_config,
        )
        self._ray = LocalRay(plan.place, ray_plan)
        self._ray.start(STOP_SIGNALS, self._take_signals)
        self._run["ray"] = self._ray.address
        self._data.write_run(self._run)
        self._transport = RayTransport(plan.place.namespace, "up", plan.node, plan.link)
        return self._transport

    async def _start_actors(self, plan: NodePlan, transport: RayTransport) -> None:
        """Start the directory and the gateways; return when the directory is open, or damaged."""
        self._progress.step("starting the directory and the gateways")
        await asyncio.to_thread(plan.start_first, Supervisor)
        try:
            directory = await self._shown(transport, DIRECTORY_SHARD)
        except MailError as error:
            file = self._data.logs / "shard-1.log"
            raise Refused(f"the directory does not start ({error.text}), see {file}") from None
        if directory.trouble:
            self._progress.note(f"the directory is {directory.state}: {directory.trouble}")
        elif plan.founds_directory:
            self._data.note_directory_founded()

    async def _open_shards(self, plan: NodePlan, transport: RayTransport) -> None:
        """Start every shard of the directory's table; return when each is open or has failed."""
        try:
            table = await ask(
                transport, DIRECTORY_SHARD, ListShards(), Shards, timeout_s=START_S_MAX
            )
        except MailError as error:
            self._progress.note(f"no shard is opened: {error.text}")
            return
        shards = [row.shard for row in table.shards if row.shard != DIRECTORY_SHARD]
        done = 0
        at_once = asyncio.Semaphore(ASKS_AT_ONCE)

        async def wait_for(shard: ShardId) -> None:
            nonlocal done
            async with at_once:
                try:
                    shown = await self._shown(transport, shard)
                    state, trouble = shown.state, shown.trouble
                except MailError as error:
                    state, trouble = "not open", error.text
            done += 1
            if not self._is_ready:
                self._progress.step(f"opening shards: {done} of {len(shards)}")
            if trouble:
                self._progress.note(f"shard {shard} is {state}: {trouble}")

        await asyncio.gather(*map(wait_for, shards))

    async def _shown(self, transport: RayTransport, shard: ShardId) -> ShardShown:
        """Wait until a shard is open, or damaged. Raises Unavailable."""
        return await ask(transport, shard, ShowShard(), ShardShown, timeout_s=START_S_MAX)

    async def _wait_for_gateways(
        self, plan: NodePlan, transport: RayTransport
    ) -> Sequence[Listener]:
        self._progress.step("opening the listeners")

        async def listening(name: str) -> Sequence[Listener]:
            try:
                found: Sequence[Listener] = await transport.ask(
                    name, "ensure_started", timeout_s=START_S_MAX
                )
                return found
            except MailError:
                file = self._data.logs / f"{name.replace('/', '-')}.log"
                raise Refused(f"{name} does not listen, see {file}") from None

        found = await asyncio.gather(*map(listening, plan.gateway_names))
        return [listener for one in found for listener in one]

    def _ready_line(self, found: Sequence[Listener]) -> str:
        # Processes that share a port are one listener.
        parts = [f"{one.name}={one.host}:{one.port}" for one in dict.fromkeys(found)]
        if self._ca is not None:
            parts.append(f"ca={_shortened(self._ca)}")
        return " ".join(("ready", *parts))

    async def _beat(self, plan: NodePlan, transport: RayTransport) -> None:
        """Serve: see that the supervisor lives. Ends by being cancelled."""
        while True:
            try:
                await transport.ask(supervisor_name(plan.node), "pulse", timeout_s=BEAT_S)
            except MailError as error:
                log.info("no pulse", actor="supervisor", error=type(error).__name__)
                with contextlib.suppress(TimeoutError):
                    start = asyncio.to_thread(plan.start_supervisor, Supervisor)
                    await asyncio.wait_for(start, BEAT_S)
            await asyncio.sleep(BEAT_S)

    # Stop

    async def _abandon(self) -> None:
        assert self._ray is not None
        self._progress.end()
        await self._control.close()
        self._ray.abandon()

    async def _start_again(self, why: str) -> None:
        """Become a new start of the same command, at once: threads may wait for a dead Ray."""
        if self._stop.is_set():
            return  # Told to stop meanwhile.
        await self._abandon()
        self._progress.note(f"{why}: starting again")
        self._progress.restore()
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])

    async def _drain_to_move(self) -> None:
        """Finish what was accepted, as far as it works without the old head."""
        if self._transport is not None and self._plan is not None:
            with contextlib.suppress(TimeoutError):
                drain = self._drain(self._plan, self._transport)
                await asyncio.wait_for(self._hurried(drain), MOVE_DRAIN_S)

    async def _end(self) -> None:
        """Drain in order: who starts things, who accepts, who keeps; then Ray and the files."""
        transport, plan = self._transport, self._plan
        if self._opening is not None:
            self._opening.cancel()
        if transport is not None and plan is not None:
            await self._hurried(self._drain(plan, transport))
        await self._control.close()
        if self._ray is not None:
            self._ray.stop()
        self._reservation.close()
        if self._run:
            self._data.forget_run()
        self._progress.end()
        log.info("stopped")

    async def _hurried(self, work: Awaitable[None]) -> None:
        """Wait for the work, but not after a second signal."""
        working = asyncio.ensure_future(work)
        hurry = asyncio.create_task(self._hurry.wait())
        await asyncio.wait(
            (working, hurry), return_when=asyncio.FIRST_COMPLETED, timeout=STOP_S_MAX
        )
        for task in (working, hurry):
            task.cancel()
        await asyncio.gather(working, hurry, return_exceptions=True)

    async def _drain(self, plan: NodePlan, transport: RayTransport) -> None:
        await _tried(lambda: transport.ask(supervisor_name(plan.node), "rest", timeout_s=2.0))
        self._progress.step("finishing what was accepted")
        await asyncio.gather(
            *(
                _tried(
                    lambda name=name: transport.ask(  # type: ignore[misc]
                        name, "drain", DRAIN_S, timeout_s=DRAIN_S + DRAIN_GRACE_S
                    )
                )
                for name in plan.gateway_names
            )
        )
        self._progress.step("closing the shards")
        shards: Sequence[ShardId] = ()
        with contextlib.suppress(MailError):
            table = await ask(transport, DIRECTORY_SHARD, ListShards(), Shards, timeout_s=2.0)
            shards = [row.shard for row in table.shards if row.shard != DIRECTORY_SHARD]
        drain = wire.encode([Drain()])
        for group in (shards, (DIRECTORY_SHARD,)):
            await asyncio.gather(
                *(
                    _tried(
                        lambda shard=shard: transport.call(  # type: ignore[misc]
                            shard, drain, timeout_s=SHARD_DRAIN_S
                        )
                    )
                    for shard in group
                )
            )


async def _until_one_fails(*works: Coroutine[Any, Any, None]) -> None:
    """Run works that do not end by themselves; raise what the first of them raises."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _tried(work: Callable[[], Awaitable[Any]]) -> None:
    try:
        await work()
    except MailError as error:
        log.warning("not drained", error=error.text)


def _shortened(path: Path) -> str:
    """Return a path as people in the working directory would write it."""
    with contextlib.suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)
