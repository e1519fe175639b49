"""SIGKILL while 2,000 messages come in: each that was answered 250 is there once."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import pytest

from tests.e2e.cluster_fixture import Cluster, running
from tests.e2e.jmap_client import client_of
from tests.e2e.letters import Answer, assert_each_once, letter, send

USERS = ("alice@example.test", "bob@example.test")
SENDERS = 8
numbers = count(1)


class Load:
    """Messages, each sent once, and what was answered to each."""

    def __init__(self, cluster: Cluster, messages: int) -> None:
        self.cluster = cluster
        self.messages = messages
        self.answers: dict[tuple[str, int], Answer] = {}
        self._lock = threading.Lock()

    @property
    def accepted(self) -> set[tuple[str, int]]:
        with self._lock:
            return {key for key, answer in self.answers.items() if answer.code == 250}

    def run(self) -> None:
        with ThreadPoolExecutor(SENDERS) as pool:
            list(pool.map(self._send, range(self.messages)))

    def _send(self, turn: int) -> None:
        user, number = USERS[turn % 2], next(numbers)
        answer = send(*self.cluster.smtp, [user], letter(number), timeout_s=60)
        with self._lock:
            self.answers[user, number] = answer
        if answer.code != 250:
            time.sleep(0.1)

    def while_running(self, disturb: Callable[[], None]) -> None:
        """Send all, and disturb as soon as a tenth is accepted."""
        thread = threading.Thread(target=self.run)
        thread.start()
        deadline = time.monotonic() + 120
        while len(self.accepted) < self.messages // 10 and time.monotonic() < deadline:
            time.sleep(0.02)
        disturb()
        thread.join()

    def check(self) -> None:
        """Every accepted message is there once; the others at most once; and none was 5xx."""
        for user in USERS:
            assert_each_once(client_of(self.cluster, user), user, self.answers)
        assert all(answer.code < 500 for answer in self.answers.values())


@pytest.fixture
def load(cluster: Cluster) -> Iterator[Load]:
    return Load(cluster, 500)


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def test_mailbox_actor_killed(cluster: Cluster, load: Load) -> None:
    def disturb() -> None:
        for user in USERS:
            kill(cluster.facts("mailbox", "show", user)["pid"])

    pids = {user: cluster.facts("mailbox", "show", user)["pid"] for user in USERS}
    load.while_running(disturb)
    load.check()
    for user, pid in pids.items():
        shown = cluster.facts("mailbox", "show", user)
        assert shown["pid"] != pid
    assert len(load.accepted) > load.messages // 2, "the gateway waits for a restarted actor"


def test_gateway_killed(cluster: Cluster, load: Load) -> None:
    load.while_running(lambda: kill(cluster.actors("SmtpActor")[0]))
    cluster.wait_serving()
    load.check()
    assert load.accepted
    answer = send(*cluster.smtp, [USERS[0]], letter(next(numbers)))
    assert answer.code == 250


def test_everything_killed(tmp_path: Path) -> None:
    with running(tmp_path / "data", demo=True) as cluster:
        load = Load(cluster, 1000)
        load.while_running(cluster.kill)
    with running(tmp_path / "data", demo=True) as cluster:
        load.cluster = cluster
        load.check()
        assert 100 <= len(load.accepted) < 1000
        again = Load(cluster, 20)
        again.run()
        assert len(again.accepted) == 20
        load.check()


def test_an_actor_is_not_started_beside_an_empty_directory(cluster: Cluster) -> None:
    shown = cluster.facts("mailbox", "show", USERS[1])
    directory = cluster.data / "shards" / f"{shown['shard']:06d}"
    aside = directory.with_name("aside")
    directory.rename(aside)
    Path(directory).mkdir()
    try:
        kill(shown["pid"])
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            answer = send(*cluster.smtp, [USERS[1]], letter(next(numbers)), timeout_s=90)
            assert answer.code != 250
            assert answer.code < 500
            shards = {s["id"]: s for s in cluster.facts("status")["shards"]}
            if shards[shown["shard"]]["replicas"][0]["state"] == "damaged":
                break
        else:
            raise AssertionError("the empty directory was not noticed")
        assert send(*cluster.smtp, [USERS[0]], letter(next(numbers))).code == 250
        assert list(directory.iterdir()) == []
        request = b'{"using": ["urn:ietf:params:jmap:core"], "methodCalls": []}'
        status, _, body = client_of(cluster, USERS[1]).request(
            "POST", "/jmap/api", request, **{"Content-Type": "application/json"}
        )
        assert status == 503
        assert b"serverUnavailable" in body
    finally:
        directory.rmdir()
        aside.rename(directory)
    kill(cluster.facts("status")["shards"][shown["shard"] - 1]["pid"])
    deadline = time.monotonic() + 60
    while send(*cluster.smtp, [USERS[1]], letter(next(numbers))).code != 250:
        assert time.monotonic() < deadline
        time.sleep(0.5)
