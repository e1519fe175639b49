"""Up: the life of one node, from the lock on its data to the last file closed.

Start       lock, identity, room, certificate, ports: whatever can be refused is refused before
            anything runs. Then Ray, the directory, the supervisor, gateways and shards.
Serve       feels the supervisor's pulse; a Ray that lost a part is started anew, with us.
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
from collections.abc import Awaitable, Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

import ray.exceptions
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
from actors.ray_ports import SUPERVISOR, RayTransport, shard_name
from actors.remote import Place, keep_spare_process
from cluster import listeners, logs, tls
from cluster.administration import Administration
from cluster.control import Control
from cluster.data_directory import ClusterIdentity, DataDirectory
from cluster.gateway_actors import Listener
from cluster.gateways import DRAIN_S, gateway_plans
from cluster.local_ray import LocalRay, clear_leftovers, make_runtime_directory
from cluster.placement import NodePlan
from cluster.refusal import EXIT_FAILED, Refused
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
ASKS_AT_ONCE = 64
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Progress(Protocol):
    """Where the operator sees what happens."""

    def step(self, text: str) -> None:
        """Say what is being done now."""

    def note(self, text: str) -> None:
        """Say something that stays on the screen."""

    def end(self) -> None:
        """Nothing is being done any more."""

    def say(self, line: str) -> None:
        """Print a line of facts, for programs as well: `ready …`."""

    def divert(self, file: Path) -> None:
        """Keep stdout for `say`: whatever else is printed there goes to `file`."""

    def restore(self) -> None:
        """Undo `divert`."""


class RayLost(Exception):
    """A part of Ray that nothing works without has died."""


def release() -> str:
    """Return the version of this program."""
    try:
        return version("heliograph")
    except PackageNotFoundError:
        return "0"


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
        self._control = Control(self._stop.set)
        self._is_ready = False
        self._opening: asyncio.Task[None] | None = None
        self._ray: LocalRay | None = None
        self._transport: RayTransport | None = None
        self._plan: NodePlan | None = None
        self._run: dict[str, Any] = {}
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
            await self._start_again(lost, lived_s=time.monotonic() - began)
        except BaseException:
            await self._end()
            raise
        await self._end()

    def _take_signals(self) -> None:
        loop = asyncio.get_running_loop()

        def told(name: str) -> None:
            if self._stop.is_set():
                self._hurry.set()
            log.info("told to stop", signal=name)
            self._stop.set()

        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, told, number.name)

    # Start

    async def _serve(self) -> None:
        began = time.monotonic()
        plan = self._prepare()
        log.info("starting", release=plan.release, cluster=plan.cluster_id)
        transport = self._start_ray(plan)
        status = ClusterStatus(plan, transport, self._data)
        administration = Administration(plan, transport)
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
        await self._beat(plan, transport)

    def _prepare(self) -> NodePlan:
        """Check everything that can be checked without running anything. Raises Refused."""
        data, settings = self._data, self._settings
        self._progress.step("checking the data directory")
        data.check_room()
        identity = data.identify(release())
        left = data.read_run()
        if left is not None:
            self._progress.step("clearing what an earlier start has left")
            clear_leftovers(str(left.get("runtime_directory", "")))
            data.forget_run()
        if settings.tls.certificate is not None and settings.tls.key is not None:
            files = tls.check(settings.tls.certificate, settings.tls.key)
        else:
            now = datetime.datetime.now(datetime.UTC)
            files = tls.ensure(data.tls, settings.hostname, now)
        self._ca = files.ca
        self._reservation = listeners.reserve(settings, listeners.ports_before(left or {}))
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
        log_files = logs.LogFile(str(self._data.logs), settings.log.level)
        return NodePlan(
            place=place,
            cluster_id=identity.id,
            node=identity.node,
            release=identity.release,
            shards=self._data.shards,
            log=log_files,
            gateways=gateway_plans(settings, addresses, files, log_files, place.namespace),
            mailbox_actors_per_node=settings.mailbox_actors_per_node,
            disk_floor_bytes=settings.disk_floor_bytes,
            trash_days=settings.expiry.trash_days,
            junk_days=settings.expiry.junk_days,
            audit_hours=settings.upkeep.audit_hours,
            collect_hours=settings.upkeep.collect_hours,
            idle_actor_s=settings.idle_actor_s,
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
        }
        self._data.write_run(self._run)
        self._progress.divert(self._data.logs / "ray.log")  # Ray prints what befalls its workers.
        self._ray = LocalRay(plan.place, directory, self._settings.ray.object_store_bytes)
        # Ray's processes inherit that they do not hear SIGTERM: whoever signals a whole process
        # group or service means us, and we need them until what was accepted is finished. We
        # hear it again once Ray's handlers, which end the process at once, are replaced by ours.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        try:
            self._ray.start()
            self._take_signals()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self._transport = RayTransport(plan.place.namespace, "up")
        return self._transport

    async def _start_actors(self, plan: NodePlan, transport: RayTransport) -> None:
        """Start the directory and the gateways; return when the directory is open, or damaged."""
        self._progress.step("starting the directory and the gateways")
        first = (shard_name(DIRECTORY_SHARD), *plan.gateway_names)
        await asyncio.to_thread(lambda: [plan.start(name) for name in first])
        try:
            directory = await self._shown(transport, DIRECTORY_SHARD)
        except MailError as error:
            file = self._data.logs / "shard-1.log"
            raise Refused(f"the directory does not start ({error.text}), see {file}") from None
        if directory.trouble:
            self._progress.note(f"the directory is {directory.state}: {directory.trouble}")

    async def _open_shards(self, plan: NodePlan, transport: RayTransport) -> None:
        """Start every shard of the directory's table; return when each is open or has failed."""
        try:
            table = await ask(transport, DIRECTORY_SHARD, ListShards(), Shards)
        except MailError as error:
            self._progress.note(f"no shard is opened: {error.text}")
            return
        shards = [row.shard for row in table.shards if row.shard != DIRECTORY_SHARD]
        await asyncio.to_thread(lambda: [plan.start(shard_name(shard)) for shard in shards])
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
        await asyncio.to_thread(plan.start_supervisor, Supervisor)
        return [listener for one in found for listener in one]

    def _ready_line(self, found: Sequence[Listener]) -> str:
        # Processes that share a port are one listener.
        parts = [f"{one.name}={one.host}:{one.port}" for one in dict.fromkeys(found)]
        if self._ca is not None:
            parts.append(f"ca={_shortened(self._ca)}")
        return " ".join(("ready", *parts))

    async def _beat(self, plan: NodePlan, transport: RayTransport) -> None:
        """Serve: see that Ray and the supervisor live. Ends by being cancelled, or by RayLost."""
        assert self._ray is not None
        while True:
            if (part := self._ray.lost()) is not None:
                log.critical("Ray is lost", part=part)
                raise RayLost(part)
            try:
                await transport.ask(SUPERVISOR, "pulse", timeout_s=BEAT_S)
            except MailError as error:
                log.info("no pulse", actor=SUPERVISOR, error=type(error).__name__)
                with contextlib.suppress(TimeoutError):
                    start = asyncio.to_thread(plan.start_supervisor, Supervisor)
                    await asyncio.wait_for(start, BEAT_S)
            with contextlib.suppress(ray.exceptions.RayError):
                await asyncio.wait((asyncio.ensure_future(keep_spare_process()),), timeout=BEAT_S)
            await asyncio.sleep(BEAT_S)

    # Stop

    async def _start_again(self, lost: RayLost, *, lived_s: float) -> None:
        """Become a new start of the same command, at once: threads may wait for a dead Ray.

        Raises Refused when it would only die again.
        """
        assert self._ray is not None
        self._progress.end()
        await self._control.close()
        self._ray.abandon()
        if lived_s < STEADY_S:
            raise Refused(f"{lost} died soon after the start, see {self._data.logs}") from None
        self._progress.note(f"{lost} has died: starting again")
        self._progress.restore()
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])

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
        await _tried(lambda: transport.ask(SUPERVISOR, "rest", timeout_s=2.0))
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


__all__ = ["DEMO_ACCOUNTS", "EXIT_FAILED", "Node", "Progress", "release", "run"]
