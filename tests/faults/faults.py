"""Faults: ways to hurt a cluster of three nodes that must not lose, double or hide mail.

Each one hurts, waits as long as it takes effect, and heals what does not heal by itself. A
majority of each shard is left, or comes back.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.faults.nodes import NUMBERS, Nodes, follower_pid, present, primary_pid

STOP_S = 30.0
CUT_S = (3.0, 15.0)
FULL_S = 8.0
NEARLY_FULL_BYTES = 100 << 20  # less than `disk_floor_bytes`
FIU = Path("/usr/lib/fiu")  # Debian's libfiu0
Fault = Callable[[Nodes, random.Random], str]


def kill_primary(nodes: Nodes, rng: random.Random) -> str:
    shard = rng.choice(nodes.shards())
    os.kill(primary_pid(shard), signal.SIGKILL)
    return f"primary of shard {shard['id']}"


def kill_follower(nodes: Nodes, rng: random.Random) -> str:
    shard = rng.choice(nodes.shards())
    os.kill(follower_pid(shard), signal.SIGKILL)
    return f"a follower of shard {shard['id']}"


def stop_primary(nodes: Nodes, rng: random.Random, stop_s: float = STOP_S) -> str:
    """Stop a primary for so long that others have taken its place when it goes on."""
    shard = rng.choice(nodes.mailbox_shards())
    with stopped(primary_pid(shard)):
        time.sleep(stop_s)
    return f"primary of shard {shard['id']} for {stop_s:.0f} s"


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def _kill_named(title: str) -> Fault:
    def kill(nodes: Nodes, rng: random.Random) -> str:
        number = rng.choice(nodes.up)
        pids = nodes.named(number, title)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        return f"{len(pids)} of {title} on node {number}"

    return kill


kill_supervisor = _kill_named("ray::Supervisor")
kill_smtp_gateway = _kill_named("ray::SmtpActor")
kill_http_gateway = _kill_named("ray::HttpActor")


def kill_gcs(nodes: Nodes, rng: random.Random) -> str:
    number = next(one for one in nodes.up if nodes.named(one, "gcs_server"))
    (pid,) = nodes.named(number, "gcs_server")
    os.kill(pid, signal.SIGKILL)
    nodes.wait(lambda: nodes.named(number, "gcs_server") not in ([], [pid]))
    return f"GCS on node {number}"


def kill_raylet(nodes: Nodes, rng: random.Random) -> str:
    """Without its raylet a node is none: `helio up` becomes a new process, and is ready again."""
    number = rng.choice(nodes.up)
    (pid,) = nodes.named(number, "raylet")
    os.kill(pid, signal.SIGKILL)
    nodes.await_ready(number)
    return f"raylet of node {number}"


def kill_node(nodes: Nodes, rng: random.Random) -> str:
    number = rng.choice([one for one in nodes.up if not nodes.is_head(one)])
    return _killed_for(nodes, number, rng.uniform(2.0, 10.0))


def kill_head(nodes: Nodes, rng: random.Random) -> str:
    return _killed_for(nodes, nodes.head(), rng.uniform(2.0, 10.0))


def _killed_for(nodes: Nodes, number: int, pause_s: float) -> str:
    nodes.kill(number)
    time.sleep(pause_s)
    nodes.start(number)
    return f"node {number} for {pause_s:.0f} s"


def restart_all(nodes: Nodes, rng: random.Random) -> str:
    """Kill every process of every node at once, and start them all."""
    for number in [*nodes.up]:
        nodes.kill(number)
    nodes.start_again(NUMBERS)
    return "all nodes"


def lose_disk(nodes: Nodes, rng: random.Random) -> str:
    """A machine dies with its disk; a new one takes its place, and the replicas of the old one."""
    number = rng.choice([one for one in nodes.up if not nodes.is_head(one)])
    nodes.kill(number)
    nodes.lose_disk(number)
    nodes.join(number)
    return f"disk of node {number}"


def corrupt(nodes: Nodes, rng: random.Random) -> str:
    """Flip bits in the tables of one replica, whose process then opens them anew."""
    shard = rng.choice(nodes.mailbox_shards())
    replica = rng.choice(present(shard))
    directory = nodes.data(nodes.number_of(replica["node"])) / "shards" / f"{shard['id']:06d}"
    flipped = flip_bits(directory, rng)
    os.kill(int(replica["pid"]), signal.SIGKILL)
    return f"{flipped} files of a {replica['role']} of shard {shard['id']}"


def flip_bits(directory: Path, rng: random.Random) -> int:
    """Flip bits in the middle of each table and blob file; return how many files there were."""
    files = [
        one
        for one in directory.rglob("*")
        if one.suffix in (".sst", ".blob") and one.stat().st_size > 200
    ]
    for file in files:
        with file.open("r+b") as octets:
            size = file.stat().st_size
            octets.seek(rng.randrange(size // 4, 3 * size // 4))
            at = octets.tell()
            before = octets.read(16)
            octets.seek(at)
            octets.write(bytes(octet ^ 0xFF for octet in before))
    return len(files)


# Disks


def failing_calls(directory: Path) -> dict[str, str]:
    """Return the environment in which system calls of a process can be made to fail, if any.

    The processes listen for that in `directory`.
    """
    preloads = [FIU / "fiu_run_preload.so", FIU / "fiu_posix_preload.so"]
    if not shutil.which("fiu-ctrl") or not all(one.exists() for one in preloads):
        return {}
    return {"LD_PRELOAD": " ".join(map(str, preloads)), "FIU_CTRL_FIFO": str(directory / "fiu")}


def fail_fsync(nodes: Nodes, rng: random.Random) -> str:
    """From now on no fsync of one replica's process succeeds; a new process can write again."""
    shard = rng.choice(nodes.mailbox_shards())
    replica = rng.choice(present(shard))
    calls = [
        word
        for name in ("fsync", "fdatasync", "sync_file_range")
        for word in ("-c", f"enable name=posix/io/sync/{name},failinfo={errno.EIO}")
    ]
    control = ("fiu-ctrl", "-f", str(nodes.parent / "fiu"), *calls, str(replica["pid"]))
    subprocess.run(control, check=True, timeout=30)
    deadline = time.monotonic() + 60.0
    while Path(f"/proc/{replica['pid']}").exists():
        # Mail comes to the shard all the time.
        assert time.monotonic() < deadline, "a replica goes on although it cannot write"
        time.sleep(0.2)
    return f"of the {replica['role']} of shard {shard['id']}"


def fill_disk(nodes: Nodes, rng: random.Random) -> str:
    """Fill the disk of a node nearly, then wholly, then make room again."""
    number = rng.choice(list(nodes.small_disks))
    led = [one["id"] for one in nodes.shards() if one["primary"] == nodes.node_id(number)]
    filler = nodes.data(number) / "filler"
    try:
        _fill(filler, shutil.disk_usage(nodes.data(number)).free - NEARLY_FULL_BYTES)
        time.sleep(FULL_S)
        with filler.open("ab", buffering=0) as octets:
            for size in (1 << 20, 1 << 12):
                with suppress(OSError):
                    while True:
                        octets.write(bytes(size))
        time.sleep(FULL_S)
    finally:
        filler.unlink(missing_ok=True)
    return f"of node {number}, which led {len(led)} shards"


def _fill(file: Path, size_bytes: int) -> None:
    with file.open("wb") as octets:
        os.posix_fallocate(octets.fileno(), 0, max(1, size_bytes))


# Network


def cut_network(nodes: Nodes, rng: random.Random) -> str:
    """Cut one node off, wholly or one way, or two from each other."""
    assert nodes.network is not None
    number, other = rng.sample(NUMBERS, 2)
    seconds = rng.uniform(*CUT_S)
    what, cut = rng.choice(
        [
            (f"node {number} from all", nodes.network.cut(number)),
            (f"node {number} hears nothing", nodes.network.deaf(number)),
            (f"nodes {number} and {other}", nodes.network.parted(number, other)),
        ]
    )
    with cut:
        time.sleep(seconds)
    return f"{what} for {seconds:.0f} s"


def possible(nodes: Nodes) -> dict[str, Fault]:
    """Return the faults that this machine and this cluster can have."""
    found = dict(ALL)
    if failing_calls(nodes.parent):
        found["fail fsync"] = fail_fsync
    if nodes.small_disks:
        found["fill disk"] = fill_disk
    if nodes.network is not None:
        found["cut network"] = cut_network
    return found


ALL: dict[str, Fault] = {
    "kill primary": kill_primary,
    "kill follower": kill_follower,
    "stop primary": stop_primary,
    "kill supervisor": kill_supervisor,
    "kill SMTP gateway": kill_smtp_gateway,
    "kill HTTP gateway": kill_http_gateway,
    "kill GCS": kill_gcs,
    "kill raylet": kill_raylet,
    "kill node": kill_node,
    "kill head": kill_head,
    "restart all": restart_all,
    "lose disk": lose_disk,
    "corrupt": corrupt,
}
