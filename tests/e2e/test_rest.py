"""A shard that nobody uses gives up its process, and is there again for whoever asks."""

import time
from pathlib import Path
from typing import Any

from tests.e2e.cluster_fixture import Cluster, running
from tests.e2e.jmap_client import client_of
from tests.e2e.letters import letter, send

ALICE, BOB = "alice@example.test", "bob@example.test"
IDLE_S = 2.0
REST_S_MAX = 60.0
ANSWER_S_MAX = 10.0  # Less than a call waits; how long it takes is measured in `tests/bench`.


def shards(cluster: Cluster) -> list[dict[str, Any]]:
    return [shard for shard in cluster.status()["shards"] if shard["kind"] == "mailbox"]


def wait_until_all_rest(cluster: Cluster) -> None:
    deadline = time.monotonic() + REST_S_MAX
    while (states := [one["replicas"][0]["state"] for one in shards(cluster)]) != ["resting"] * 2:
        assert time.monotonic() < deadline, states
        time.sleep(0.2)
    assert all(shard["pid"] is None for shard in shards(cluster))


def test_unused_shards_rest_and_wake(tmp_path: Path) -> None:
    settings = {"HELIO_IDLE_ACTOR_S": str(IDLE_S)}
    with running(tmp_path / "data", demo=True, settings=settings) as cluster:
        assert send(*cluster.smtp, [ALICE], letter(1)).code == 250
        wait_until_all_rest(cluster)
        assert cluster.status()["cluster"]["state"] == "serving"

        # Somebody reads: the mailbox is there, without a process of its own until now.
        alice = client_of(cluster, ALICE)
        began = time.monotonic()
        found = alice.query()
        waited_s = time.monotonic() - began
        assert len(found) == 1
        assert waited_s < ANSWER_S_MAX, f"first answer after {waited_s:.2f} s"

        # Somebody writes: mail for several who rest is taken all the same.
        wait_until_all_rest(cluster)
        assert send(*cluster.smtp, [ALICE, BOB], letter(2)).code == 250
        assert len(alice.query()) == 2
        assert len(client_of(cluster, BOB).query()) == 1
