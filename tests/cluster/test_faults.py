"""Faults: the cluster is hurt while mail comes and clients read and change; nothing is lost.

Each test hurts it once, waits until every replica is there again, and has everything compared
that any client was told since the first.
"""

import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cluster_fixture import ROOT, environment
from tests.faults import faults, network
from tests.faults.clients import Clients
from tests.faults.history import History
from tests.faults.nodes import Nodes

ACCOUNTS = 4
TAKEN = 20  # messages, before and after
TAKEN_S_MAX = 60.0
OFTEN = ("kill primary", "kill supervisor", "kill head")
SELDOM = sorted({*faults.ALL, "fail fsync"} - {*OFTEN})
MACHINES_S_MAX = 900.0


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    directory = tmp_path_factory.mktemp("faults")
    found = Nodes(directory, settings=faults.failing_calls(directory))
    try:
        found.start_all()
        found.add_accounts([f"user{place}@faults.test" for place in range(ACCOUNTS)])
        yield found
    finally:
        found.close()


@pytest.fixture(scope="module")
def history() -> History:
    return History()


@pytest.mark.parametrize(
    "name", [*OFTEN, *(pytest.param(name, marks=pytest.mark.slow) for name in SELDOM)]
)
def test_nothing_is_lost_doubled_or_hidden(nodes: Nodes, history: History, name: str) -> None:
    fault = faults.possible(nodes)[name]
    clients = Clients(nodes, history, seed=len(history.sent))
    clients.start()
    clients.wait_taken(TAKEN, TAKEN_S_MAX)
    fault(nodes, random.Random(name))
    nodes.wait_whole()
    clients.wait_taken(TAKEN, TAKEN_S_MAX)
    clients.stop()
    assert clients.contradictions() == []


@pytest.mark.slow
@pytest.mark.skipif(not network.is_possible(), reason="needs root, to make networks and disks")
@pytest.mark.parametrize("name", ["cut network", "fill disk"])
def test_the_same_between_machines(tmp_path: Path, name: str) -> None:
    command = network.python("tests.faults.soak", "--minutes", "1", "--seed", "1", "--fault", name)
    done = subprocess.run(
        (*command, "--data", str(tmp_path)),
        cwd=ROOT,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=MACHINES_S_MAX,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0  contradictions" in done.stdout
