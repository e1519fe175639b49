"""A damaged shard is named and alone: it is never taken for an empty one, and others serve on."""

import shutil
import smtplib
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cluster.post import send, subjects
from tests.e2e.cluster_fixture import Cluster, running

ALICE, BOB = "alice@example.test", "bob@example.test"


OPEN_S_MAX = 60.0


def until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + OPEN_S_MAX
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def states(cluster: Cluster) -> list[str]:
    return [shard["replicas"][0]["state"] for shard in cluster.status()["shards"]]


def test_wiped_shard_is_damaged_and_not_empty(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with running(data, demo=True) as cluster:
        send(cluster, ALICE, "one")
        send(cluster, BOB, "one")
        wiped = cluster.facts("mailbox", "show", ALICE)["shard"]
        account = cluster.facts("mailbox", "show", BOB)["account"]
    shutil.rmtree(data / "shards" / f"{wiped:06d}")

    with running(data) as cluster:
        # The listeners serve before the last shard is open or known to be damaged.
        until(lambda: f"shard {wiped} is damaged" in cluster.stderr)
        until(lambda: set(states(cluster)) == {"serving", "damaged"})
        assert cluster.status()["cluster"]["state"] == "degraded"
        assert states(cluster).count("damaged") == 1
        shown = {one["id"]: one["replicas"][0]["state"] for one in cluster.status()["shards"]}
        assert shown[wiped] == "damaged"

        send(cluster, BOB, "two")
        found = subjects(cluster, BOB, cluster.passwords[BOB], account)
        assert sorted(found) == ["one", "two"]
        # Mail for it is for later, as far as its sender knows: nothing permanent.
        with pytest.raises(smtplib.SMTPException, match=r"45\d"):
            send(cluster, ALICE, "two", timeout_s=0)
        assert "damaged" in cluster.helio("mailbox", "show", ALICE).stderr
