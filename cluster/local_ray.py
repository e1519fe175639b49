"""LocalRay: one Ray node on this machine, started and ended with this process.

Ray's own `ray.init()` would also start an autoscaler, a log monitor and an API server, 250 MB of
processes that have nothing to do here, so the node is made of the parts that `ray start` uses.
Every process of it ends with ours, killed or not: GCS and raylet by the kernel, at once; workers
when they miss the raylet, within seconds; what still lags is ended by the next start
(`cluster/processes.py`).

State       none that survives: names and actors are made anew at each start.
On failure  Refused at the start; later `lost` says that a part has died.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import threading
from pathlib import Path
from typing import Any

import ray
from ray._private.node import Node
from ray._private.parameter import RayParams

from actors.remote import DATA_LABEL, Place
from cluster.processes import end_holders
from cluster.refusal import Refused

LOOPBACK = "127.0.0.1"
DIRECTORY_PREFIX = "helio-"
# A socket's path has at most 107 characters, of which Ray needs 65 below its directory.
DIRECTORY_CHARS_MAX = 40
LEFTOVERS_S = 15.0
PARTS = ("gcs_server", "raylet")  # Without these nothing works; the others nobody misses.


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


class _BareNode(Node):
    """A head node without the API server, for which nobody asks and a start would wait."""

    def start_api_server(self, **_: object) -> None:
        """Start nothing."""


class LocalRay:
    """The Ray node of this process."""

    def __init__(self, place: Place, runtime_directory: Path, object_store_bytes: int) -> None:
        self._place = place
        self._runtime_directory = runtime_directory
        self._object_store_bytes = object_store_bytes
        self._node: Any = None

    def start(self) -> None:
        """Start Ray and connect to it. On the main thread, whose end is Ray's end.

        Signals that are blocked now are blocked in all of Ray's processes; handlers are Ray's
        afterwards.

        Raises Refused when Ray does not start.
        """
        assert threading.current_thread() is threading.main_thread()
        parameters = RayParams(
            node_ip_address=LOOPBACK,
            labels={DATA_LABEL: self._place.data_id},
            object_store_memory=self._object_store_bytes,
            temp_dir=str(self._runtime_directory),
            include_dashboard=False,
            include_log_monitor=False,  # type: ignore[arg-type]  # Ray's annotation is wrong.
            no_monitor=True,
        )
        try:
            self._node = _BareNode(parameters, head=True, shutdown_at_exit=False, spawn_reaper=True)
            ray.init(
                address=self._node.address,
                namespace=self._place.namespace,
                log_to_driver=False,
                configure_logging=False,
                _node_ip_address=LOOPBACK,
                _temp_dir=str(self._runtime_directory),
            )
        except Exception as error:
            self.stop()
            first_line = str(error).strip().splitlines()[:1]
            raise Refused(f"Ray did not start: {''.join(first_line)}") from error

    def lost(self) -> str | None:
        """Return the name of a part that has died, or None."""
        for name, _ in self._node.dead_processes():
            if name in PARTS:
                return str(name)
        return None

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
        end_holders(self._runtime_directory, LEFTOVERS_S)
        shutil.rmtree(self._runtime_directory, ignore_errors=True)
