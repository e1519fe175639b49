"""LocalRay: one Ray node on this machine, started and ended with this process.

The head's node has the GCS, which keeps names and actors on disk; every node has a raylet, which
runs processes, and joins the head's GCS. Ray's own `ray.init()` would also start an autoscaler,
a log monitor and an API server, 250 MB of processes that have nothing to do here, so the node is
made of the parts that `ray start` uses. Every process of it ends with ours, killed or not: GCS
and raylet by the kernel, at once; workers when they miss the raylet, within seconds; what still
lags is ended by the next start (`cluster/processes.py`).

Several nodes share a machine: all ports are free ones, and each has a runtime directory of its
own, by which its own processes find it.

State       the head's GCS store. Whoever finds it again at the same address keeps the cluster.
On failure  Refused at the start; later `lost` says which part has died: without its raylet a node
            is lost, a GCS is started again in its place.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import structlog
from ray._private.node import Node
from ray._private.parameter import RayParams

from actors.remote import DATA_LABEL, Place
from cluster import ray_environment
from cluster.processes import end_holders
from cluster.refusal import Refused

log = structlog.get_logger()

DIRECTORY_PREFIX = "helio-"
# A socket's path has at most 107 characters, of which Ray needs 65 below its directory.
DIRECTORY_CHARS_MAX = 40
LEFTOVERS_S = 15.0
BEAT_S = 0.5
STEADY_S = 10.0  # A GCS that dies so soon again would go on dying.
FORGET_S_MAX = 20.0  # A thousand actors, and a GCS that is slow to see that their node has died.
FORGET_POLL_S = 0.2
GCS, RAYLET = "gcs_server", "raylet"
PARTS = (RAYLET, GCS)  # Without these nothing works; the others nobody misses.


class RayLost(Exception):
    """A part of Ray that nothing works without has died."""


def make_runtime_directory() -> Path:
    """Return a new directory for Ray's sockets and logs, for this start only."""
    parent = Path(tempfile.gettempdir())
    if len(str(parent)) > DIRECTORY_CHARS_MAX - len(DIRECTORY_PREFIX) - 9:
        parent = Path("/tmp")
    return Path(tempfile.mkdtemp(prefix=DIRECTORY_PREFIX, dir=parent))


def clear_leftovers(runtime_directory: str) -> None:
    """End what is left of an earlier start, exactly that, and remove its files.

    Raises Refused when a process of it cannot be ended.
    """
    directory = Path(runtime_directory)
    if not directory.name.startswith(DIRECTORY_PREFIX) or not directory.is_absolute():
        return
    with contextlib.suppress(OSError):
        if directory.stat().st_uid != os.getuid():
            return
    if not end_holders(directory, LEFTOVERS_S):
        raise Refused(f"processes of an earlier start still hold {directory} and cannot be ended")
    shutil.rmtree(directory, ignore_errors=True)


def forget_actors(namespace: str, node: str) -> None:
    """Have Ray forget the actors that an earlier start of this node had; blocks.

    A head keeps them, and would start them again with the settings of then. Their names end with
    `@node`. What cannot be forgotten in time is made anew by Ray, with what it was told before.
    """
    deadline = time.monotonic() + FORGET_S_MAX
    while True:
        listed = ray.util.list_named_actors(all_namespaces=True)
        names = [
            one["name"]
            for one in listed
            if one["namespace"] == namespace and one["name"].endswith(f"@{node}")
        ]
        if not names:
            return
        if time.monotonic() >= deadline:
            log.warning("actors of an earlier start are left", count=len(names))
            return
        for name in names:
            with contextlib.suppress(ValueError):  # Gone meanwhile.
                ray.kill(ray.get_actor(name, namespace), no_restart=True)
        time.sleep(FORGET_POLL_S)


@dataclass(frozen=True, slots=True)
class RayPlan:
    """How the Ray node of this process is made."""

    bind: str  # address that its processes listen on and are reached at
    runtime_directory: Path
    object_store_bytes: int
    head: str  # host:port of the head's GCS
    gcs_store: Path | None = None  # of the head: where its GCS keeps what it knows
    autoscaling_config: Path | None = None  # of the head that Ray's launcher has started


class _BareNode(Node):
    """A node without the API server, for which nobody asks and a start would wait."""

    def start_api_server(self, **_: object) -> None:
        """Start nothing."""


class LocalRay:
    """The Ray node of this process."""

    def __init__(self, place: Place, plan: RayPlan) -> None:
        self._place = place
        self._plan = plan
        self._node: Any = None
        self._ours: tuple[signal.Signals, ...] = ()

    @property
    def address(self) -> str:
        """host:port of the GCS."""
        return str(self._node.address)

    def start(self, ours: Sequence[signal.Signals], take: Callable[[], None]) -> None:
        """Start Ray and connect to it. On the main thread, whose end is Ray's end.

        `ours` are the signals that mean this process, whoever signals a whole process group or
        service: Ray's processes, which are needed until what was accepted is finished, do not hear
        them, and neither do we until `take` has replaced Ray's handlers, which end us at once.

        Raises Refused when Ray does not start.
        """
        self._ours = tuple(ours)
        with self._signals_held():
            self._start()
            take()

    def _start(self) -> None:
        assert threading.current_thread() is threading.main_thread()
        plan = self._plan
        is_head = plan.gcs_store is not None
        if plan.gcs_store is not None:
            ray_environment.keep_names_in(plan.gcs_store)
        parameters = RayParams(
            node_ip_address=plan.bind,
            gcs_address=None if is_head else plan.head,
            gcs_server_port=int(plan.head.rpartition(":")[2]) if is_head else None,
            node_manager_port=0,
            labels={DATA_LABEL: self._place.data_id},
            object_store_memory=plan.object_store_bytes,
            temp_dir=str(plan.runtime_directory),
            include_dashboard=False,
            include_log_monitor=False,  # type: ignore[arg-type]  # Ray's annotation is wrong.
            # Ray's name for what starts the launcher's other machines; nothing else needs it.
            no_monitor=not is_head or plan.autoscaling_config is None,
            autoscaling_config=None
            if not is_head or plan.autoscaling_config is None
            else str(plan.autoscaling_config.expanduser()),
        )
        try:
            self._node = _BareNode(
                parameters, head=is_head, shutdown_at_exit=False, spawn_reaper=True
            )
            ray.init(
                address=self._node.address,
                namespace=self._place.namespace,
                log_to_driver=False,
                configure_logging=False,
                _node_ip_address=plan.bind,
                _temp_dir=str(plan.runtime_directory),
            )
        except Exception as error:
            self.stop()
            first_line = str(error).strip().splitlines()[:1]
            raise Refused(f"Ray did not start: {''.join(first_line)}") from error

    def lost(self) -> str | None:
        """Return the name of a part that has died, or None."""
        dead = {str(name) for name, _ in self._node.dead_processes()}
        return next((part for part in PARTS if part in dead), None)

    async def mind(self) -> None:
        """Start a GCS again that has died. Ends with RayLost when the node cannot go on."""
        revived_s = -STEADY_S
        while True:
            part = self.lost()
            now_s = time.monotonic()
            if part == GCS and now_s - revived_s >= STEADY_S:
                log.error("Ray's GCS has died, starting it again")
                revived_s = now_s
                self._revive_gcs()
            elif part is not None:
                log.critical("Ray is lost", part=part)
                raise RayLost(part)
            await asyncio.sleep(BEAT_S)

    def _revive_gcs(self) -> None:
        """Start the GCS again, at its address and on its store; all others only miss it so long.

        Does not wait until it answers.
        """
        assert threading.current_thread() is threading.main_thread()
        with self._signals_held():
            self._node.kill_gcs_server(check_alive=False)
            self._node.start_gcs_server()

    @contextlib.contextmanager
    def _signals_held(self) -> Iterator[None]:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, self._ours)
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def stop(self) -> None:
        """Leave Ray, end its processes and remove its files; the actors have been drained."""
        with contextlib.suppress(Exception):
            ray.shutdown()
        self.abandon()

    def abandon(self) -> None:
        """End every process of this Ray, without asking it, and remove its files."""
        if self._node is not None:
            with contextlib.suppress(Exception):
                self._node.kill_all_processes(check_alive=False, allow_graceful=False, wait=True)
        end_holders(self._plan.runtime_directory, LEFTOVERS_S)
        shutil.rmtree(self._plan.runtime_directory, ignore_errors=True)
