"""A damaged shard is named and alone: it is never taken for an empty one, and others serve on."""

import shutil
import smtplib
from pathlib import Path

import pytest

from tests.cluster.post import send, subjects
from tests.e2e.cluster_fixture import running

ALICE, BOB = "alice@example.test", "bob@example.test"


def test_wiped_shard_is_damaged_and_not_empty(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with running(data, demo=True) as cluster:
        send(cluster, ALICE, "one")
        send(cluster, BOB, "one")
        wiped = cluster.facts("mailbox", "show", ALICE)["shard"]
        account = cluster.facts("mailbox", "show", BOB)["account"]
    shutil.rmtree(data / "shards" / f"{wiped:06d}")

    with running(data) as cluster:
        assert f"shard {wiped} is damaged" in cluster.stderr
        status = cluster.status()
        assert status["cluster"]["state"] == "degraded"
        states = {shard["id"]: shard["replicas"][0]["state"] for shard in status["shards"]}
        assert states.pop(wiped) == "damaged"
        assert set(states.values()) == {"serving"}

        send(cluster, BOB, "two")
        found = subjects(cluster, BOB, cluster.passwords[BOB], account)
        assert sorted(found) == ["one", "two"]
        # Mail for it is for later, as far as its sender knows: nothing permanent.
        with pytest.raises(smtplib.SMTPException, match=r"45\d"):
            send(cluster, ALICE, "two", timeout_s=0)
        assert "damaged" in cluster.helio("mailbox", "show", ALICE).stderr
