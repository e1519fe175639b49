"""CliCommands: what a command of `helio` does beyond asking and printing."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence

from cluster.control_client import ControlClient
from cluster.processes import Process
from cluster.refusal import EXIT_USAGE, Refused

STOP_S_MAX = 90.0  # More than `cluster/up.py` takes at most.
POLL_S = 0.05
FACTORS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def stop(clients: Sequence[ControlClient]) -> None:
    """Tell the nodes to stop and wait until their processes are gone. Raises Refused."""
    processes = [Process.of(client.pid) for client in clients]
    for client in clients:
        client.ask("POST", "stop")
    deadline = time.monotonic() + STOP_S_MAX
    for process in processes:
        while process is not None and process.runs:
            if time.monotonic() >= deadline:
                raise Refused(f"process {process.pid} has not stopped within {STOP_S_MAX:.0f} s")
            time.sleep(POLL_S)


def quota_bytes(text: str) -> int:
    """Return the number of bytes that `500M` or `1048576` stands for. Raises Refused."""
    found = re.fullmatch(r"([0-9]{1,15})([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if found is None:
        raise Refused(f"{text!r} is no size: give bytes, or 500M, 2G", EXIT_USAGE)
    return int(found[1]) * FACTORS[found[2].upper()]
