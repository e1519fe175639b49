"""Nodes: three Ray nodes, each a `helio up` of its own, that can be hurt one by one.

Unlike `helio up --nodes 3` nothing ties them together: any of them, the head too, can be killed
and started again while the others go on.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import psutil

from cluster.control_client import ControlClient
from cluster.data_directory import DataDirectory
from cluster.processes import Process, end_holders, holders
from cluster.refusal import Refused
from tests.e2e.cluster_fixture import Cluster, NotStarted, helio
from tests.faults.network import Network

NUMBERS = (1, 2, 3)
PASSWORD = "correct horse battery"
WHOLE_S_MAX = 180.0
LAG_ENTRIES_MAX = 64  # clients are at work, so that there is always something under way
DISK_BYTES = 3 << 30  # of a small disk
SETTINGS = {
    "HELIO_MAILBOX_ACTORS_PER_NODE": "3",
    "HELIO_REPLICATION__REPLACE_AFTER_S": "20",
    "HELIO_LOG__LEVEL": "info",
}
Address = tuple[str, int]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class NotWhole(Exception):
    """The cluster has not recovered in time; holds what it says of itself."""


class Nodes:
    """Three nodes below one directory, and what hurts them."""

    def __init__(
        self,
        parent: Path,
        *,
        settings: Mapping[str, str] | None = None,
        network: Network | None = None,
        small_disks: Sequence[int] = (),
    ) -> None:
        """`network`: each node is a machine of its own in it, and speaks TLS with the others.

        The nodes of `small_disks` have file systems of their own, which can be full.
        """
        self.parent = parent
        self.network = network
        self.small_disks = frozenset(small_disks)
        self._mounted: set[Path] = set()
        self._settings = SETTINGS | dict(settings or {})
        self._running: dict[int, Cluster] = {}
        self._ports = {
            number: {name: free_port() for name in ("SMTP", "HTTP", "HTTPS")} for number in NUMBERS
        }
        self._places = dict.fromkeys(NUMBERS, 0)  # the data directory in use, by node
        self.addresses: list[str] = []

    # Life

    def data(self, number: int) -> Path:
        return self.parent / f"node-{number}.{self._places[number]}"

    def start_all(self) -> None:
        """Found the cluster and have the others join."""
        if self.network is not None:
            done = self.helio(1, "cluster", "init")
            assert done.returncode == 0, done.stderr
        self.start(1)
        for number in NUMBERS[1:]:
            self.join(number)

    def add_accounts(self, addresses: Sequence[str], *, copies: int = 3) -> None:
        """Make accounts of one domain, which get shards on all nodes; wait for those."""
        self.addresses = list(addresses)
        done = self.helio(1, "domain", "add", addresses[0].partition("@")[2])
        assert done.returncode == 0, done.stderr
        file = self.parent / "accounts"
        file.write_text("".join(f"{address},{PASSWORD}\n" for address in addresses))
        done = self.helio(1, "account", "add", "--file", str(file))
        assert done.returncode == 0, done.stderr
        self.wait_whole(copies=copies)

    def settings(self, number: int) -> dict[str, str]:
        ports = self._ports[number].items()
        own = {f"HELIO_{name}__PORT": str(port) for name, port in ports}
        if self.network is not None:
            own["HELIO_CLUSTER__BIND"] = self.network.host(number)
        return self._settings | own

    def start(self, number: int, *arguments: str) -> None:
        """Start a node on the data that it has, and wait until it is ready."""
        assert number not in self._running
        if number in self.small_disks and self.data(number) not in self._mounted:
            self._mount(self.data(number))
        self._running[number] = Cluster(
            self.data(number),
            settings=self.settings(number),
            arguments=arguments,
            prefix=() if self.network is None else self.network.prefix(number),
        )

    def join(self, number: int) -> None:
        """Start a node on new data, as one that joins those which run."""
        member = self.up[0]
        if self.network is None:
            token = self.data(member) / "ray-token"
            self.start(number, "--join", self.run_of(member)["ray"], "--token-file", str(token))
            return
        file = self.parent / f"invitation-{number}"
        done = self.helio(
            1, "cluster", "invite", self.network.host(number), "--out", str(file), "--json"
        )
        assert done.returncode == 0, done.stderr
        join = json.loads(done.stdout)["join"]
        self.start(number, "--join", join, "--invitation", str(file))
        file.unlink()

    def kill(self, number: int) -> None:
        """Kill a node as if its machine had lost power: everything of it, at once."""
        for process in self.family(number):
            process.kill()
        running = self._running.pop(number)
        running.process.wait(30)
        end_holders(Path(running.run_record()["runtime_directory"]), 20.0)
        running.close()

    def start_again(self, numbers: Sequence[int]) -> None:
        """Start nodes at the same time: those that are no heads wait for the one that is."""
        failed: list[BaseException] = []

        def start(number: int) -> None:
            try:
                self.start(number)
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=start, args=(number,)) for number in numbers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failed:
            raise failed[0]

    def await_ready(self, number: int) -> None:
        """Wait until a node that starts anew by itself is ready again.

        One that gave up, since the head was away for long, is started as a machine would do it.
        """
        try:
            self._running[number].wait_ready()
        except NotStarted:
            self._running.pop(number).close()
            self.start(number)

    def head(self) -> int:
        """Return the node that runs Ray's GCS."""
        return next(number for number in self.up if self.is_head(number))

    def is_head(self, number: int) -> bool:
        return bool(self.named(number, "gcs_server"))

    def lose_disk(self, number: int) -> None:
        """Destroy the data of a node that does not run; the next start is on an empty disk."""
        assert number not in self._running
        if self.data(number) in self._mounted:
            self._unmount(self.data(number))
        shutil.rmtree(self.data(number))
        self._places[number] += 1

    def close(self) -> None:
        for number in [*self._running]:
            with contextlib.suppress(Exception):
                for process in self.processes(number):
                    os.kill(process.pid, signal.SIGCONT)
        threads = [
            threading.Thread(target=running.close) for running in [*self._running.values()][::-1]
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self._running.clear()
        for path in [*self._mounted]:
            self._unmount(path)

    def _mount(self, path: Path) -> None:
        path.mkdir(parents=True)
        size = f"size={DISK_BYTES}"
        subprocess.run(("mount", "-t", "tmpfs", "-o", size, "tmpfs", path), check=True)
        self._mounted.add(path)

    def _unmount(self, path: Path) -> None:
        subprocess.run(("umount", "--lazy", path), check=True)
        self._mounted.discard(path)

    @property
    def up(self) -> list[int]:
        return sorted(self._running)

    # Where things are

    def at(self, number: int) -> AbstractContextManager[None]:
        """Have this thread open its sockets where a node's loopback is."""
        return contextlib.nullcontext() if self.network is None else self.network.at(number)

    def smtp(self, number: int) -> Address:
        return "127.0.0.1", self._ports[number]["SMTP"]

    def http(self, number: int) -> Address:
        return "127.0.0.1", self._ports[number]["HTTP"]

    def run_of(self, number: int) -> dict[str, Any]:
        return self._running[number].run_record()

    def node_id(self, number: int) -> str:
        record = json.loads((self.data(number) / "cluster.json").read_text())
        return str(record["node"])

    def number_of(self, node: str) -> int:
        return next(number for number in self.up if self.node_id(number) == node)

    def processes(self, number: int) -> list[Process]:
        """Return the processes of a node, `helio up` not among them."""
        run = self._running[number]
        with contextlib.suppress(FileNotFoundError, KeyError):
            found = holders(Path(run.run_record()["runtime_directory"]))
            return [one for one in found if one.pid != run.process.pid]
        return []

    def family(self, number: int) -> list[Process]:
        """Return all processes of a node."""
        own = Process.of(self._running[number].process.pid)
        return [*self.processes(number), *([] if own is None else [own])]

    def named(self, number: int, title: str) -> list[int]:
        """Return the processes of a node whose name begins so: `raylet`, `ray::SmtpActor`."""
        found = []
        for process in self.processes(number):
            with contextlib.suppress(psutil.Error):
                one = psutil.Process(process.pid)
                if one.name().startswith(title) or " ".join(one.cmdline()).startswith(title):
                    found.append(one.pid)
        return found

    # What it says

    def helio(self, number: int, *arguments: str) -> subprocess.CompletedProcess[str]:
        with self.at(number):  # A process is where the thread is that starts it.
            return helio(self.data(number), *arguments, settings=self.settings(number))

    def ask(self, *path: str, method: str = "GET") -> dict[str, Any]:
        """Ask the first node that runs. Raises Refused."""
        with self.at(self.up[0]):
            return ControlClient(DataDirectory(self.data(self.up[0]))).ask(method, *path)

    def status(self) -> dict[str, Any]:
        return self.ask("status")

    def shards(self) -> list[dict[str, Any]]:
        return list(self.status()["shards"])

    def mailbox_shards(self) -> list[dict[str, Any]]:
        return [one for one in self.shards() if one["kind"] == "mailbox"]

    def shard_of(self, address: str) -> dict[str, Any]:
        accounts = self.ask("accounts")["accounts"]
        wanted = next(one["shard"] for one in accounts if one["address"] == address)
        return next(one for one in self.shards() if one["id"] == wanted)

    def wait_whole(self, timeout_s: float = WHOLE_S_MAX, *, copies: int = 3) -> None:
        """Wait until each shard has a primary, and followers that are level with it, nearly."""

        def whole() -> bool:
            shards = self.shards()
            return len(shards) > 1 and all(is_whole(shard, copies) for shard in shards)

        self.wait(whole, timeout_s)

    def wait(self, happened: Callable[[], bool], timeout_s: float = WHOLE_S_MAX) -> None:
        deadline = time.monotonic() + timeout_s
        while True:
            with contextlib.suppress(Refused):
                if happened():
                    return
            if time.monotonic() > deadline:
                try:
                    told = json.dumps(self.status()["shards"], indent=1)
                except Refused as error:
                    told = str(error)
                raise NotWhole(told)
            time.sleep(0.3)


def is_whole(shard: Mapping[str, Any], copies: int) -> bool:
    roles = sorted(
        replica["role"] for replica in present(shard) if replica["lag_entries"] <= LAG_ENTRIES_MAX
    )
    return roles == [*["follower"] * (copies - 1), "primary"]


def present(shard: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the replicas that take part; one of a node that is gone for good is still told of."""
    return [one for one in shard["replicas"] if one["state"] in ("serving", "following")]


def primary_pid(shard: Mapping[str, Any]) -> int:
    return int(next(one["pid"] for one in present(shard) if one["role"] == "primary"))


def follower_pid(shard: Mapping[str, Any]) -> int:
    return int(next(one["pid"] for one in present(shard) if one["role"] == "follower"))
