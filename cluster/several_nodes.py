"""SeveralNodes: `helio up --nodes N`: a process that runs N nodes on this machine.

Every node is a complete `helio up` in a process of its own, on DIR/node-1 … DIR/node-N; the first
has the configured listeners, the others free ports. Which of them is the head, they know.

Start       the head first, then the others, which join it; one line `ready …` when all are.
Serve       starts nothing again: a node that ends is missing until somebody starts it,
            `helio up --data DIR/node-2` or all of them.
Stop        SIGTERM and SIGINT are passed on. When this process is killed, the kernel tells the
            nodes to stop.
Fails       as soon as a node ends before all are ready: the others are stopped.
"""

from __future__ import annotations

import ctypes
import os
import re
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from cluster.cli_progress import CliProgress
from cluster.control_client import ControlClient
from cluster.data_directory import DataDirectory, Head
from cluster.node_settings import Nodes
from cluster.processes import Process
from cluster.refusal import EXIT_FAILED, Refused
from cluster.settings import Loaded, default_actors, served_listeners, variable

NODES_MAX = 16  # On one machine, each with a Ray of its own.
NODE_NAME = re.compile(r"node-([1-9][0-9]?)")
START_S_MAX = 300.0  # All nodes of a large cluster on few cores.
STOP_S_MAX = 90.0  # More than a node takes at most.
POLL_S = 0.1
LINE_BYTES_MAX = 64 << 10
READY = "ready "
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
PR_SET_PDEATHSIG = 1  # prctl(2)

_libc = ctypes.CDLL(None, use_errno=True)


def node_directories(parent: Path) -> list[Path]:
    """Return the data directories of the nodes below a directory, in order of their numbers."""
    if not parent.is_dir():
        return []
    found = [(NODE_NAME.fullmatch(entry.name), entry) for entry in parent.iterdir()]
    numbered = [(int(match[1]), entry) for match, entry in found if match is not None]
    return [entry for _, entry in sorted(numbered)]


def running_clients(data: Path) -> list[ControlClient]:
    """Return the way to each node that runs on a data directory, or below it. Raises Refused.

    At least one, except that none runs.
    """
    directories = node_directories(data)
    if not directories or (data / "cluster.json").exists():
        return [ControlClient(DataDirectory(data))]
    clients = []
    for directory in directories:
        try:
            client = ControlClient(DataDirectory(directory))
        except Refused:
            continue
        if Process.of(client.pid) is not None:
            clients.append(client)
    if not clients:
        raise Refused(f"no cluster runs on {data} (start one with `helio up`)")
    return clients


def head_first(heads: Sequence[tuple[str, Head | None]]) -> int:
    """Return which node is the head, given each one's id ("" when new) and the head it knows."""
    known = [
        (head.term, -index)
        for index, (node, head) in enumerate(heads)
        if head is not None and head.node == node
    ]
    return -max(known)[1] if known else 0


@dataclass(slots=True)
class _Child:
    """One node."""

    number: int
    data: DataDirectory
    process: subprocess.Popen[bytes]
    ready: str = ""
    lines: dict[IO[bytes], bytes] = field(default_factory=dict)  # what was read of each stream

    @property
    def name(self) -> str:
        return f"node-{self.number}"


class SeveralNodes:
    """The nodes below one directory, and the process that runs them."""

    def __init__(
        self,
        loaded: Loaded,
        count: int,
        *,
        config: Path | None,
        demo: bool,
        progress: CliProgress,
        certify: Callable[[Nodes, Sequence[Path], Path], None],
    ) -> None:
        """Look at the directory. Raises Refused when it is not one of so many nodes.

        `certify` gives a node its certificate: `cluster.cluster_ca.certify_beside`.
        """
        self._certify = certify
        self._settings = loaded.settings
        self._progress = progress
        self._config = config
        self._demo = demo
        parent = self._settings.data.absolute()
        if (parent / "cluster.json").exists():
            raise Refused(f"{parent} is the data of one node: leave --nodes out")
        there = len(node_directories(parent))
        if not 1 <= count <= NODES_MAX:
            raise Refused(f"--nodes is between 1 and {NODES_MAX}")
        if there > count:
            raise Refused(f"{parent} holds {there} nodes, more than {count}")
        self._directories = [
            DataDirectory(parent / f"node-{number}") for number in range(1, count + 1)
        ]
        self._children: list[_Child] = []
        self._selector = selectors.DefaultSelector()
        self._stopping = False

    def run(self) -> int:
        """Run the nodes until told to stop; return the exit code. Raises Refused."""
        before = {number: signal.signal(number, self._told) for number in STOP_SIGNALS}
        try:
            self._start()
            while self._alive():
                self._hear(POLL_S)
            ended = [child.process.returncode for child in self._children]
            return EXIT_FAILED if any(ended) else 0
        finally:
            self._end()
            for number, handler in before.items():
                signal.signal(number, handler)

    def _start(self) -> None:
        heads = [(_identity_of(data), data.read_head()) for data in self._directories]
        first = head_first(heads)
        deadline = time.monotonic() + START_S_MAX
        self._start_node(first)
        head = self._children[0]
        self._wait(lambda: _ray_address(head), deadline)
        if self._stopping:
            return
        for index in range(len(self._directories)):
            if index != first:
                self._start_node(index, join=_ray_address(head))
        self._wait(lambda: all(child.ready for child in self._children), deadline)
        if not self._stopping:
            facts = min(self._children, key=lambda child: child.number).ready
            self._progress.say(f"{facts} nodes={len(self._children)}")

    def _start_node(self, index: int, *, join: str = "") -> None:
        data = self._directories[index]
        command = [sys.executable, "-m", "cluster.cli", "up", "--data", str(data.path)]
        if self._config is not None:
            command += ["--config", str(self._config)]
        if self._demo and index == 0:
            command.append("--demo")
        if join:
            token = self._children[0].data.token_file
            command += ["--join", join, "--token-file", str(token)]
            tls = [one.cluster_tls for one in self._directories]
            self._certify(self._settings.cluster, tls, data.cluster_tls)
        environment = os.environ | self._environment(is_first=index == 0)
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            process_group=0,  # What a terminal signals, we pass on.
            preexec_fn=_stop_with_parent,  # noqa: PLW1509  # No thread has been started here.
        )
        child = _Child(index + 1, data, process)
        self._children.append(child)
        for stream in (process.stdout, process.stderr):
            assert stream is not None
            os.set_blocking(stream.fileno(), False)
            child.lines[stream] = b""
            self._selector.register(stream, selectors.EVENT_READ, child)

    def _environment(self, *, is_first: bool) -> dict[str, str]:
        """Return what a node is told beside the settings: they share the machine."""
        actors = variable(("mailbox_actors_per_node",))
        share = max(1, default_actors() // len(self._directories))
        told = {} if actors in os.environ else {actors: str(share)}
        if not is_first:
            told |= {variable((name, "port")): "0" for name in served_listeners(self._settings)}
        return told

    def _wait(self, found: Callable[[], object], deadline: float) -> None:
        """Wait until something is so, or we are told to stop. Raises Refused."""
        while not self._stopping and not found():
            self._hear(POLL_S)
            for child in self._children:
                if child.process.poll() is not None:
                    self._hear(0.0)
                    raise Refused(f"{child.name} did not start")
            if time.monotonic() >= deadline:
                raise Refused(f"the nodes were not ready within {START_S_MAX:.0f} s")

    def _alive(self) -> bool:
        return any(child.process.poll() is None for child in self._children)

    def _hear(self, timeout_s: float) -> None:
        """Pass on what the nodes say: notes with their names, facts of the first one."""
        if not self._selector.get_map():
            time.sleep(timeout_s)
            return
        for key, _ in self._selector.select(timeout_s):
            child, stream = key.data, key.fileobj
            assert isinstance(child, _Child)
            octets = os.read(key.fd, LINE_BYTES_MAX)
            if not octets:
                self._selector.unregister(stream)
                continue
            *lines, rest = (child.lines[stream] + octets).split(b"\n")  # type: ignore[index]
            child.lines[stream] = rest[-LINE_BYTES_MAX:]  # type: ignore[index]
            for line in lines:
                text = line.decode("utf-8", "replace")
                if stream is child.process.stderr:
                    self._progress.note(f"{child.name}: {text.removeprefix('helio: ')}")
                elif text.startswith(READY):
                    child.ready = child.ready or text
                elif child.number == 1:
                    self._progress.say(text)

    def _told(self, number: int, frame: object) -> None:
        self._stopping = True
        for child in self._children:
            if child.process.poll() is None:
                child.process.send_signal(number)

    def _end(self) -> None:
        """Stop what still runs: at once when it has been told, else by telling it."""
        if self._alive() and not self._stopping:
            self._told(signal.SIGTERM, None)
        deadline = time.monotonic() + STOP_S_MAX
        while self._alive():
            self._hear(POLL_S)
            if time.monotonic() >= deadline:
                for child in self._children:
                    child.process.kill()
        self._hear(0.0)
        self._selector.close()
        for child in self._children:
            for stream in child.lines:
                stream.close()


def _identity_of(data: DataDirectory) -> str:
    identity = data.identity()
    return identity.node if identity is not None else ""


def _ray_address(child: _Child) -> str:
    """Return the address of the head's GCS once it runs, else nothing."""
    run: Mapping[str, object] = child.data.read_run() or {}
    return str(run.get("ray", "")) if run.get("pid") == child.process.pid else ""


def _stop_with_parent() -> None:
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
