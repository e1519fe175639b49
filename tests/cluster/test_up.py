"""Starting and stopping: what is refused, and in which words; what is left afterwards: nothing."""

import json
import os
import re
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from cluster.processes import holders
from tests.cluster.post import send, subjects
from tests.e2e.cluster_fixture import DEMO, Cluster, helio, running

ALICE = DEMO[0]
PROGRESS = re.compile(r"helio: \d+\.\d s ")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running(tmp_path_factory.mktemp("up") / "data", demo=True) as cluster:
        yield cluster


def refused(done: subprocess.CompletedProcess[str], exit_code: int = 1) -> str:
    """Return the one line that says why; no trace of a stack."""
    assert done.returncode == exit_code, done.stderr
    assert done.stdout == ""
    lines = [line for line in done.stderr.splitlines() if not PROGRESS.match(line)]
    assert len(lines) == 1, done.stderr
    return lines[0]


def test_second_up_on_the_same_data(cluster: Cluster) -> None:
    text = refused(cluster.helio("up"))
    assert f"process {cluster.process.pid}" in text
    assert cluster.process.poll() is None


def test_port_taken(cluster: Cluster, tmp_path: Path) -> None:
    port = str(cluster.smtp[1])
    text = refused(helio(tmp_path / "data", "up", settings={"HELIO_SMTP__PORT": port}))
    assert text == f"helio: port {port} is taken (setting smtp.port / HELIO_SMTP__PORT)"


def test_data_of_a_newer_release(tmp_path: Path) -> None:
    record = {"id": "c", "node": "n", "format": 99, "release": "9.9"}
    (tmp_path / "cluster.json").write_text(json.dumps(record))
    text = refused(helio(tmp_path, "up"))
    assert "newer release 9.9" in text


def test_shards_of_another_cluster(cluster: Cluster, tmp_path: Path) -> None:
    identity = json.loads((cluster.data / "cluster.json").read_text())
    (tmp_path / "cluster.json").write_text(json.dumps(identity | {"id": "another"}))
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "cluster").write_text(identity["id"])
    assert "another cluster" in refused(helio(tmp_path, "up"))


def test_several_nodes_below_the_data_of_one(cluster: Cluster) -> None:
    assert "is the data of one node" in refused(cluster.helio("up", "--nodes", "3"))


def test_who_joins_needs_the_token(tmp_path: Path) -> None:
    text = refused(helio(tmp_path / "data", "up", "--join", "127.0.0.1:1"))
    assert "needs its token" in text
    assert not (tmp_path / "data" / "cluster.json").exists()


def test_wrong_setting(tmp_path: Path) -> None:
    text = refused(helio(tmp_path / "data", "up", settings={"HELIO_HTTP__PORT": "http"}), 2)
    assert "http.port (HELIO_HTTP__PORT)" in text


@pytest.mark.parametrize("arguments", [("status",), ("down",), ("account", "list")])
def test_no_cluster_runs(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    assert "no cluster runs" in refused(helio(tmp_path, *arguments))


def test_status_has_what_tools_rely_on(cluster: Cluster) -> None:
    status = cluster.wait_serving()
    assert {one["name"] for one in status["listeners"]} == {"smtp", "http", "https"}
    (node,) = status["nodes"]
    assert node["state"] == "alive"
    assert node["disk_free_bytes"] > 0
    assert set(status["queues"]) == {"incoming", "active", "deferred", "hold", "error"}
    for shard in status["shards"]:
        assert shard["primary"] == node["id"]
        (replica,) = shard["replicas"]
        assert replica | {"role": "primary", "state": "serving"} == replica
        os.kill(shard["pid"], 0)
    mailbox = cluster.facts("mailbox", "show", ALICE)
    assert {"address", "account", "shard", "epoch", "primary", "pid"} <= set(mailbox)
    assert {"messages", "unread", "bytes", "replicas"} <= set(mailbox)


def test_what_is_secret_is_the_owners(cluster: Cluster) -> None:
    secret = ("run.json", "demo-passwords", "tls/ca-key.pem", "tls/server-key.pem")
    for name in secret:
        assert stat.S_IMODE((cluster.data / name).stat().st_mode) == 0o600


def test_ray_listens_on_loopback_only(cluster: Cluster) -> None:
    found = {
        connection.laddr.ip
        for process in holders(cluster.runtime_directory)
        for connection in psutil.Process(process.pid).net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    }
    assert found
    assert found <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}


def test_account_life(cluster: Cluster) -> None:
    added = cluster.add_account("dora@example.test", "first password")
    send(cluster, "dora@example.test", "for dora", timeout_s=0)
    done = cluster.helio(
        "account", "passwd", "dora@example.test", "--password-stdin", stdin="second password\n"
    )
    assert done.returncode == 0, done.stderr
    found = subjects(cluster, "dora@example.test", "second password", added["account"])
    assert found == ["for dora"]
    assert (
        cluster.helio("account", "alias", "add", "d@example.test", "dora@example.test").returncode
        == 0
    )
    send(cluster, "d@example.test", "by alias", timeout_s=0)
    assert cluster.helio("account", "remove", "dora@example.test").returncode == 0
    assert "dora" in refused(cluster.helio("mailbox", "show", "dora@example.test"))
    assert "there already" in refused(cluster.helio("domain", "add", "example.test"))


def test_two_clusters_do_not_disturb_each_other(cluster: Cluster, tmp_path: Path) -> None:
    with running(tmp_path / "other") as other:
        assert other.status()["cluster"]["id"] != cluster.status()["cluster"]["id"]
        assert other.facts("account", "list")["accounts"] == []
        assert other.stop() == 0
    assert cluster.wait_serving()["cluster"]["state"] == "serving"


def test_life_and_death_of_one_data_directory(tmp_path: Path) -> None:
    """Kill everything, start again, stop by SIGTERM to all, start again, `helio down`."""
    data = tmp_path / "data"
    first = Cluster(data, demo=True)
    passwords, before = first.passwords, first.runtime_directory
    send(first, ALICE, "one")
    first.kill()
    assert (data / "run.json").exists()
    assert "it was killed" in refused(helio(data, "status"))

    second = Cluster(data, demo=True, new_group=True)
    assert second.ready == first.ready, "the ports of a node that was killed"
    assert second.passwords == passwords
    assert not before.exists()
    assert holders(before) == []
    after = second.runtime_directory
    send(second, ALICE, "two")
    with socket.create_connection(second.smtp) as peer:
        # A whole process group is told to stop, and yet what has begun is finished.
        for line in ("", "EHLO x", "MAIL FROM:<x@example.com>", f"RCPT TO:<{ALICE}>", "DATA"):
            reply = _say(peer, line)
        assert reply.startswith("354")
        os.killpg(second.process.pid, signal.SIGTERM)
        time.sleep(1.0)
        assert _say(peer, "Subject: three\r\n\r\nbody\r\n.").startswith("250")
    assert second.process.wait(90) == 0
    _assert_nothing_left(data, after)

    with running(data, demo=True) as third:
        account = third.facts("mailbox", "show", ALICE)["account"]
        found = subjects(third, ALICE, passwords[ALICE], account)
        assert sorted(found) == ["one", "three", "two"]
        after = third.runtime_directory
        assert third.helio("down").returncode == 0
        assert third.process.wait(5) == 0
        _assert_nothing_left(data, after)


def _say(peer: socket.socket, line: str) -> str:
    """Send a line, if there is one, and return the last line of the reply to it.

    What follows the reply, as the 421 of a server that stops, is not part of it.
    """
    if line:
        peer.sendall(f"{line}\r\n".encode())
    octets = b""
    while True:
        lines = octets.split(b"\r\n")[:-1]
        last = next((one for one in lines if one[3:4] != b"-"), None)
        if last is not None:
            return last.decode()
        more = peer.recv(4096)
        assert more, f"closed after {octets!r}"
        octets += more


def _assert_nothing_left(data: Path, runtime_directory: Path) -> None:
    assert holders(runtime_directory) == []
    assert not runtime_directory.exists()
    assert not (data / "run.json").exists()
    assert not (Path.home() / ".ray").exists()
