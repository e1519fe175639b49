"""What is killed comes back by itself, and what was acknowledged is there."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.cluster.post import send, subjects
from tests.e2e.cluster_fixture import Cluster, running

ALICE = "alice@example.test"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running(tmp_path_factory.mktemp("kill") / "data", demo=True) as cluster:
        yield cluster


@pytest.fixture(autouse=True)
def keeps_mail(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[None]:
    """Around every kill: mail from before is there, and mail after it arrives."""
    name = request.node.name
    send(cluster, ALICE, f"before {name}")
    yield
    send(cluster, ALICE, f"after {name}")
    cluster.wait_serving()
    account = cluster.facts("mailbox", "show", ALICE)["account"]
    found = subjects(cluster, ALICE, cluster.passwords[ALICE], account)
    assert {f"before {name}", f"after {name}"} <= set(found)
    assert len(found) == len(set(found)), "a message was doubled"


def kill_and_wait(find: Callable[[], list[int]], timeout_s: float = 60.0) -> int:
    """Kill the one process that `find` finds; return the number of the one that follows it."""
    (before,) = find()
    os.kill(before, signal.SIGKILL)
    deadline = time.monotonic() + timeout_s
    while True:
        after = [pid for pid in find() if pid != before]
        if after:
            return after[0]
        assert time.monotonic() < deadline, "nothing came back"
        time.sleep(0.1)


def test_mailbox_actor(cluster: Cluster) -> None:
    before = cluster.facts("mailbox", "show", ALICE)
    os.kill(before["pid"], signal.SIGKILL)
    after = cluster.facts("mailbox", "show", ALICE)  # Repeats its question until it is answered.
    assert after["pid"] != before["pid"]
    assert after["messages"] == before["messages"]
    assert after["epoch"] >= before["epoch"]


def test_directory(cluster: Cluster) -> None:
    pid = next(s["pid"] for s in cluster.status()["shards"] if s["kind"] == "directory")
    os.kill(pid, signal.SIGKILL)
    assert len(cluster.facts("account", "list")["accounts"]) == 2


@pytest.mark.parametrize("title", ["SmtpActor", "HttpActor", "Supervisor"])
def test_actor(cluster: Cluster, title: str) -> None:
    kill_and_wait(lambda: cluster.actors(title))


def test_gateway_comes_back_after_the_supervisor_did(cluster: Cluster) -> None:
    kill_and_wait(lambda: cluster.actors("Supervisor"))
    kill_and_wait(lambda: cluster.actors("SmtpActor"))


def test_status_answers_while_a_mailbox_is_stopped(cluster: Cluster) -> None:
    pid = cluster.facts("mailbox", "show", ALICE)["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        status = cluster.status()
    finally:
        os.kill(pid, signal.SIGCONT)
    stopped = [s for s in status["shards"] if s["replicas"][0]["state"] == "unreachable"]
    assert len(stopped) == 1
    assert status["cluster"]["state"] == "degraded"


def test_raylet(cluster: Cluster) -> None:
    """A node that lost its raylet starts anew, on the same ports, in the same process."""
    time.sleep(max(0.0, 10.5 - _age_s(cluster)))  # Sooner it would be given up (STEADY_S).
    before = cluster.ready
    (pid,) = _parts(cluster, "raylet")
    os.kill(pid, signal.SIGKILL)
    cluster.wait_ready()
    assert cluster.ready == before
    assert cluster.process.poll() is None


def test_gcs(cluster: Cluster) -> None:
    """A GCS that died is started again, and nobody else notices: names and actors are there."""
    before = {title: cluster.actors(title) for title in ("SmtpActor", "HttpActor", "Supervisor")}
    kill_and_wait(lambda: _parts(cluster, "gcs_server"))
    cluster.wait_serving()
    assert {title: cluster.actors(title) for title in before} == before
    kill_and_wait(lambda: cluster.actors("HttpActor"))  # Ray starts actors as before.


def _parts(cluster: Cluster, name: str) -> list[int]:
    family = psutil.Process(cluster.process.pid).children()
    return [one.pid for one in family if one.name() == name and one.status() != "zombie"]


def _age_s(cluster: Cluster) -> float:
    return time.time() - psutil.Process(cluster.actors("SmtpActor")[0]).create_time()


def test_nothing_but_facts_on_stdout(cluster: Cluster) -> None:
    assert all(line.startswith(("ready ", "account ")) for line in cluster.lines)


def test_logs_hold_nothing_private(cluster: Cluster) -> None:
    logs = "".join(file.read_text() for file in Path(cluster.data, "logs").iterdir())
    private = [
        *cluster.passwords.values(),
        "before test_",
        "A body.",
        cluster.run_record()["token"],
    ]
    assert logs
    assert [word for word in private if word in logs] == []
