"""Three nodes on one machine: who may join, and what goes on when a part of the cluster dies.

The tests build upon each other: a node that a test kills, it starts again.
"""

import contextlib
import json
import os
import signal
import smtplib
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from cluster.processes import Process, holders
from tests.cluster.post import send, subjects
from tests.e2e.cluster_fixture import DEMO, ROOT, Cluster, environment, helio

ALICE = DEMO[0]
FAILOVER_S_MAX = 20.0  # Less than a call waits; how long it takes is measured elsewhere.
SETTINGS = {"HELIO_MAILBOX_ACTORS_PER_NODE": "2"}  # Processes enough for what is asked here.
STRANGER = """
import sys
from ray._raylet import GcsClient
GcsClient(address=sys.argv[1]).internal_kv_keys(b"", b"heliograph", timeout=2)
print("let in")
"""


class Nodes(Cluster):
    """`helio up --nodes 3`, seen through its first node."""

    def directory(self, number: int) -> Path:
        return self.data / f"node-{number}"

    def run_of(self, number: int) -> dict[str, Any]:
        record = json.loads((self.directory(number) / "run.json").read_text())
        assert isinstance(record, dict)
        return record

    def run_record(self) -> dict[str, Any]:
        return self.run_of(1)

    @property
    def passwords(self) -> dict[str, str]:
        lines = (self.directory(1) / "demo-passwords").read_text().splitlines()
        return dict(line.split(" ", 1) for line in lines)

    def identity(self, number: int) -> dict[str, Any]:
        record = json.loads((self.directory(number) / "cluster.json").read_text())
        assert isinstance(record, dict)
        return record

    def known(self, number: int) -> dict[str, Any]:
        """What `helio cluster show` says on one node, once it says anything."""
        deadline = time.monotonic() + 60.0
        while True:
            done = helio(
                self.directory(number), "cluster", "show", "--json", settings=self.settings
            )
            if done.returncode == 0:
                break
            assert time.monotonic() < deadline, done.stderr
            time.sleep(0.3)
        found = json.loads(done.stdout)
        assert isinstance(found, dict)
        return found

    def kill_node(self, number: int) -> None:
        """Kill a node as if its machine had lost power: everything of it, at once."""
        run = self.run_of(number)
        family = [Process.of(run["pid"]), *holders(Path(run["runtime_directory"]))]
        for one in family:
            if one is not None:
                one.kill()

    def _family(self) -> list[Process]:
        children = psutil.Process(self.process.pid).children(recursive=True)
        return [found for one in children if (found := Process.of(one.pid)) is not None]


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    data = tmp_path_factory.mktemp("nodes") / "data"
    cluster = Nodes(data, demo=True, settings=SETTINGS, arguments=("--nodes", "3"))
    try:
        yield cluster
    finally:
        cluster.close()


def wait_for_nodes(nodes: Nodes, wanted: Sequence[int], *, seen_by: int = 1) -> None:
    """Wait until Ray has exactly these nodes."""
    ids = sorted(nodes.identity(number)["node"] for number in wanted)
    deadline = time.monotonic() + 40.0
    while nodes.known(seen_by)["alive"] != ids:
        assert time.monotonic() < deadline, nodes.known(seen_by)
        time.sleep(0.3)


def start_node(nodes: Nodes, number: int) -> Cluster:
    """Start one node again that was killed."""
    return Cluster(nodes.directory(number), settings=SETTINGS)


def test_three_nodes_are_one_cluster(nodes: Nodes) -> None:
    assert nodes.ready["nodes"] == "3"
    wait_for_nodes(nodes, (1, 2, 3))
    identities = [nodes.identity(number) for number in (1, 2, 3)]
    assert len({one["id"] for one in identities}) == 1
    assert len({one["node"] for one in identities}) == 3
    assert [one["founder"] for one in identities] == [True, False, False]
    tokens = {(nodes.directory(number) / "ray-token").read_text() for number in (1, 2, 3)}
    assert len(tokens) == 1
    assert {one["state"] for one in nodes.status()["nodes"]} == {"alive"}


def test_every_node_listens_on_loopback_only(nodes: Nodes) -> None:
    found = {
        connection.laddr.ip
        for number in (1, 2, 3)
        for process in holders(Path(nodes.run_of(number)["runtime_directory"]))
        for connection in psutil.Process(process.pid).net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    }
    assert found
    assert found <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}


@pytest.mark.parametrize(
    ("mode", "token", "let_in"),
    [("disabled", None, False), ("token", "b" * 64, False), ("token", "", True)],
)
def test_a_process_without_the_token_is_refused(
    nodes: Nodes, mode: str, token: str | None, let_in: bool
) -> None:
    told = {"RAY_AUTH_MODE": mode}
    if token is not None:
        told["RAY_AUTH_TOKEN"] = token or (nodes.directory(1) / "ray-token").read_text()
    done = subprocess.run(
        (sys.executable, "-c", STRANGER, nodes.run_of(1)["ray"]),
        env=environment(nodes.data) | told,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ("let in" in done.stdout) == let_in
    assert ("InvalidAuthToken" in done.stderr) == (not let_in), done.stderr


def test_a_node_of_another_cluster_is_refused(nodes: Nodes, tmp_path: Path) -> None:
    record = nodes.identity(3) | {"id": "another"}
    (tmp_path / "cluster.json").write_text(json.dumps(record))
    token = str(nodes.directory(1) / "ray-token")
    join = ("--join", nodes.run_of(1)["ray"], "--token-file", token)
    done = helio(tmp_path, "up", *join)
    assert done.returncode == 1
    assert "belongs to another cluster (another)" in done.stderr


# Mail ---------------------------------------------------------------------------------------


def shard_of(nodes: Nodes) -> dict[str, Any]:
    """The facts of the demo account's shard, once all three replicas are there and equal."""
    wanted = nodes.facts("mailbox", "show", ALICE)["shard"]
    deadline = time.monotonic() + 90.0
    while True:
        found = next(one for one in nodes.status()["shards"] if one["id"] == wanted)
        states = [(one["role"], one["lag_entries"]) for one in found["replicas"]]
        if sorted(states) == [("follower", 0), ("follower", 0), ("primary", 0)]:
            return dict(found)
        assert time.monotonic() < deadline, found
        time.sleep(0.3)


def number_of(nodes: Nodes, node: str) -> int:
    return next(number for number in (1, 2, 3) if nodes.identity(number)["node"] == node)


def delivered(nodes: Nodes, number: int, subject: str) -> float:
    """Deliver one message to a node, however often it takes; return the seconds that it took."""
    host, _, port = nodes.run_of(number)["listeners"]["smtp"].partition(":")
    text = f"From: a@example.com\r\nSubject: {subject}\r\n\r\nA body.\r\n"
    began = time.monotonic()
    while time.monotonic() - began < 60.0:
        with contextlib.suppress(OSError, smtplib.SMTPException):
            with smtplib.SMTP(host, int(port), timeout=30) as peer:
                peer.sendmail("a@example.com", [ALICE], text)
            return time.monotonic() - began
    raise AssertionError("no mail is taken")


def test_every_message_is_on_three_disks(nodes: Nodes) -> None:
    delivered(nodes, 2, "on three disks")
    shard_of(nodes)
    done = helio(
        nodes.directory(3),
        "mailbox",
        "show",
        ALICE,
        "--message",
        "M1",
        "--json",
        settings=SETTINGS,
    )
    assert done.returncode == 0, done.stderr
    receipt = json.loads(done.stdout)
    assert receipt["index"] >= 1
    assert [one["on_disk"] for one in receipt["replicas"]] == [True] * 3


@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGSTOP])
def test_mail_goes_on_without_the_primarys_process(
    nodes: Nodes, signal_number: signal.Signals
) -> None:
    shard = shard_of(nodes)
    lost = number_of(nodes, shard["primary"])
    survivor = next(number for number in (1, 2, 3) if number != lost)
    os.kill(shard["pid"], signal_number)
    try:
        waited_s = delivered(nodes, survivor, f"after {signal_number.name}")
        assert waited_s < FAILOVER_S_MAX
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(shard["pid"], signal.SIGCONT)
    after = shard_of(nodes)
    assert after["epoch"] > shard["epoch"]


def test_the_gcs_is_killed_and_comes_back(nodes: Nodes) -> None:
    head = nodes.run_of(1)["pid"]
    before = [nodes.run_of(number)["pid"] for number in (1, 2, 3)]

    def gcs() -> list[int]:
        family = psutil.Process(head).children()
        return [p.pid for p in family if p.name() == "gcs_server" and p.status() != "zombie"]

    (pid,) = gcs()
    os.kill(pid, signal.SIGKILL)
    send(nodes, ALICE, "without a gcs")
    deadline = time.monotonic() + 20.0
    while gcs() in ([], [pid]):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    wait_for_nodes(nodes, (1, 2, 3))
    assert [nodes.run_of(number)["pid"] for number in (1, 2, 3)] == before


def test_a_killed_node_comes_back_as_itself(nodes: Nodes) -> None:
    before = nodes.identity(3)
    runtime = Path(nodes.run_of(3)["runtime_directory"])
    nodes.kill_node(3)
    wait_for_nodes(nodes, (1, 2))
    again = start_node(nodes, 3)
    try:
        assert nodes.identity(3) == before
        wait_for_nodes(nodes, (1, 2, 3))
        assert not runtime.exists()
    finally:
        again.close()


def test_another_node_becomes_the_head(nodes: Nodes) -> None:
    """The head's machine is gone for good, then comes back after all: as one of the others."""
    third = start_node(nodes, 3)
    first = None
    try:
        account = nodes.facts("mailbox", "show", ALICE)["account"]
        send(nodes, ALICE, "before the head was lost")
        refused = helio(nodes.directory(2), "cluster", "recover-head", settings=SETTINGS)
        assert "the head still answers" in refused.stderr
        nodes.kill_node(1)
        began = time.monotonic()
        done = helio(nodes.directory(2), "cluster", "recover-head", settings=SETTINGS)
        assert done.returncode == 0, done.stdout + done.stderr
        assert time.monotonic() - began < 60.0
        head = nodes.identity(2)["node"]
        assert nodes.known(3)["head"]["node"] == head
        first = start_node(nodes, 1)
        assert nodes.known(1)["head"] == nodes.known(2)["head"]
        wait_for_nodes(nodes, (1, 2, 3), seen_by=2)
        send(nodes, ALICE, "after the head was lost")
        first.wait_serving()
        found = subjects(first, ALICE, nodes.passwords[ALICE], account)
        assert {"before the head was lost", "after the head was lost"} <= set(found)
        assert len(found) == len(set(found))
    finally:
        for one in (first, third):
            if one is not None:
                one.close()


def test_all_stop_together(nodes: Nodes) -> None:
    runtimes = [Path(nodes.run_of(number)["runtime_directory"]) for number in (2,)]
    assert helio(nodes.data, "down", settings=SETTINGS).returncode == 0
    nodes.process.wait(20)
    for runtime in runtimes:
        assert not runtime.exists()
        assert holders(runtime) == []
