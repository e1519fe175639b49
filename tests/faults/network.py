"""Network: a machine for every node, as far as the network is concerned, whose cables can be cut.

Each node has a network namespace (network_namespaces(7)) with a cable to a switch, and loopback
of its own. The whole lies in a namespace of the process that makes it, which reaches nothing
else and is gone with it: `own_network` puts a process there. Clients look into a node's
namespace, so that they reach the node also while the others do not.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

CLONE_NEWNET = 0x40000000  # setns(2)
INSIDE = "HELIO_TEST_OWN_NETWORK"
NUMBERS = (1, 2, 3)

_libc = ctypes.CDLL(None, use_errno=True)


def is_possible() -> bool:
    """Say whether this user may make networks."""
    done = subprocess.run(("unshare", "--net", "--mount", "true"), check=False, capture_output=True)
    return os.geteuid() == 0 and done.returncode == 0


def own_network(command: Sequence[str]) -> None:
    """Go on as this command in a network of its own, unless that is so already."""
    if INSIDE not in os.environ:
        os.environ[INSIDE] = "yes"
        os.execvp("unshare", ["unshare", "--net", "--mount", *command])


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")


class Network:
    """Three namespaces around a switch. Raises OSError where that is not possible."""

    def __init__(self) -> None:
        assert INSIDE in os.environ, "the network would be that of the whole machine"
        _run("ip", "link", "set", "lo", "up")
        # A list of names of our own: the machine's is left as it is.
        Path("/run/netns").mkdir(exist_ok=True)
        _run("mount", "-t", "tmpfs", "tmpfs", "/run/netns")
        _run("ip", "link", "add", "switch", "type", "bridge", "forward_delay", "0")
        _run("ip", "link", "set", "switch", "up")
        for number in NUMBERS:
            self._add(number)

    def _add(self, number: int) -> None:
        name, cable = self.name(number), self._cable(number)
        _run("ip", "netns", "add", name)
        _run("ip", "link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", name)
        _run("ip", "link", "set", cable, "master", "switch", "up")
        for command in (
            ("link", "set", "lo", "up"),
            ("address", "add", f"{self.host(number)}/24", "dev", "eth0"),
            ("link", "set", "eth0", "up"),
        ):
            _run("ip", "-n", name, *command)

    @staticmethod
    def name(number: int) -> str:
        return f"machine{number}"

    @staticmethod
    def _cable(number: int) -> str:
        return f"cable{number}"

    @staticmethod
    def host(number: int) -> str:
        """Return the address of a node for the others."""
        return f"10.99.0.{number}"

    def prefix(self, number: int) -> tuple[str, ...]:
        """Return the beginning of a command that runs at a node."""
        return ("ip", "netns", "exec", self.name(number))

    @contextmanager
    def at(self, number: int) -> Iterator[None]:
        """Have this thread open its sockets at a node; those stay there."""
        with (
            Path("/proc/thread-self/ns/net").open() as here,
            Path(f"/run/netns/{self.name(number)}").open() as there,
        ):
            _enter(there.fileno())
            try:
                yield
            finally:
                _enter(here.fileno())

    @contextmanager
    def cut(self, number: int) -> Iterator[None]:
        """Cut a node's cable."""
        _run("ip", "link", "set", self._cable(number), "down")
        try:
            yield
        finally:
            _run("ip", "link", "set", self._cable(number), "up")

    @contextmanager
    def deaf(self, number: int) -> Iterator[None]:
        """Let a node hear nothing, while the others hear it."""
        others = [(other, number) for other in NUMBERS if other != number]
        with self._dropped(others):
            yield

    @contextmanager
    def parted(self, one: int, other: int) -> Iterator[None]:
        """Let two nodes hear nothing of each other, while the third hears both."""
        with self._dropped([(one, other), (other, one)]):
            yield

    @contextmanager
    def _dropped(self, ways: Sequence[tuple[int, int]]) -> Iterator[None]:
        """Drop what one node sends to another."""
        for sender, receiver in ways:
            self._route("add", sender, receiver)
        try:
            yield
        finally:
            for sender, receiver in ways:
                self._route("del", sender, receiver)

    def _route(self, verb: str, sender: int, receiver: int) -> None:
        way = ("route", verb, "blackhole", f"{self.host(receiver)}/32")
        _run("ip", "-n", self.name(sender), *way)


def _enter(descriptor: int) -> None:
    if _libc.setns(descriptor, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


def python(module: str, *arguments: str) -> tuple[str, ...]:
    """Return the command that runs a module in this interpreter."""
    return (sys.executable, "-m", module, *arguments)
