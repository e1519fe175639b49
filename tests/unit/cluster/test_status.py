"""Status: the facts of shards and nodes, made of what replicas report."""

from dataclasses import dataclass
from typing import Any

from actors.commands import DIRECTORY_SHARD, ShardId, ShardRow
from actors.link import LinkAddress
from actors.reports import NodeShown, Report
from cluster.status import (
    all_node_facts,
    node_facts,
    replication_facts,
    shard_facts,
    with_directory,
)

ROW = ShardRow(ShardId(2), "mailbox", ("n1",), 4)
THREE = ShardRow(ShardId(2), "mailbox", ("n1", "n2", "n3"), 4)
IDS = {"n1": b"1" * 16, "n2": b"2" * 16, "n3": b"3" * 16}


@dataclass
class Shown:
    """A report with what a test says, and likely values for the rest."""

    node: str = "n1"
    state: str = "serving"
    role: str = "primary"
    voters: tuple[str, ...] = ("n1",)
    learners: tuple[str, ...] = ()
    applied: int = 10
    trouble: str = ""
    suspect: bool = False

    @property
    def report(self) -> Report:
        return Report(
            ShardId(2),
            "mailbox",
            IDS[self.node],
            self.node,
            LinkAddress("127.0.0.1", 1, b""),
            self.state,
            role=self.role,
            epoch=3,
            last_index=10,
            applied_index=self.applied,
            voters=tuple(IDS[node] for node in self.voters),
            learners=tuple(IDS[node] for node in self.learners),
            pid=77,
            trouble=self.trouble,
            suspect=self.suspect,
        )


def facts(row: ShardRow, *shown: Shown, wanted: int = 1) -> dict[str, Any]:
    return shard_facts(row, [one.report for one in shown], wanted)


def test_serving_shard() -> None:
    assert facts(ROW, Shown(applied=8)) == {
        "id": 2,
        "kind": "mailbox",
        "epoch": 3,
        "primary": "n1",
        "replicas": [
            {"node": "n1", "role": "primary", "state": "serving", "lag_entries": 2, "pid": 77}
        ],
        "mailboxes": 4,
        "pid": 77,
        "voters": 1,
        "copies": 1,
        "under_replicated": False,
    }


def test_damaged_shard_is_named() -> None:
    found = facts(ROW, Shown(state="damaged", role="follower", trouble="no replica here"))
    assert found["primary"] is None
    assert found["replicas"][0]["state"] == "damaged"
    assert found["trouble"] == "no replica here"


def test_a_shard_with_one_replica_that_says_nothing_rests() -> None:
    found = facts(ROW)
    assert (found["primary"], found["pid"]) == (None, None)
    assert found["replicas"][0]["state"] == "resting"


def test_a_replica_set_with_a_lagging_and_a_silent_replica() -> None:
    voters = ("n1", "n2")
    found = facts(
        THREE,
        Shown(voters=voters, learners=("n3",)),
        Shown("n2", "following", "follower", voters, applied=4),
    )
    assert found["primary"] == "n1"
    assert [(one["node"], one["role"], one["state"]) for one in found["replicas"]] == [
        ("n1", "primary", "serving"),
        ("n2", "follower", "following"),
        ("n3", "none", "unreachable"),
    ]
    assert found["replicas"][1]["lag_entries"] == 6
    assert found["voters"] == 2


def test_the_directory_is_a_shard_too() -> None:
    rows = with_directory((ROW,), "n1")
    assert [row.shard for row in rows] == [DIRECTORY_SHARD, 2]
    assert with_directory(rows, "n1") == rows


def test_fewer_copies_than_wanted_are_told() -> None:
    shards = [facts(ROW, Shown())]
    assert replication_facts(3, 1, shards)["state"] == "under-replicated"
    assert replication_facts(1, 1, shards)["state"] == "replicated"
    shards = [facts(THREE, Shown(voters=("n1", "n2", "n3")))]
    assert replication_facts(3, 3, shards)["state"] == "replicated"
    assert replication_facts(3, 1, shards)["state"] == "under-replicated", "two nodes are away"


def test_a_node_is_silent_when_nobody_hears_it() -> None:
    shards = [facts(THREE, Shown(voters=("n1", "n2", "n3")))]
    node = node_facts(NodeShown("n1", 10, 5, "0.1.0", ()), shards)
    assert (node["state"], node["shards"], node["primaries"]) == ("alive", 1, 1)
    assert node_facts(NodeShown("n2", 5000, 5, "0.1.0", ()), shards)["state"] == "silent"


def test_copies_are_those_that_vote_and_are_heard() -> None:
    voters = ("n1", "n2", "n3")
    heard = [Shown(voters=voters), Shown("n2", "following", "follower", voters)]
    found = facts(THREE, *heard, wanted=3)
    assert (found["copies"], found["under_replicated"]) == (2, True)
    third = Shown("n3", "following", "follower", voters)
    found = facts(THREE, *heard, third, wanted=3)
    assert (found["copies"], found["under_replicated"]) == (3, False)
    third.suspect = True
    assert facts(THREE, *heard, third)["copies"] == 2, "it has lost something"
    learner = Shown("n3", "following", "follower", ("n1", "n2"))
    assert facts(THREE, Shown(voters=("n1", "n2")), learner)["copies"] == 1


def test_a_shard_at_rest_has_its_one_copy() -> None:
    found = facts(ROW, wanted=3)
    assert (found["copies"], found["under_replicated"]) == (1, True)
    assert facts(ROW)["under_replicated"] is False
    assert facts(THREE)["copies"] == 0, "none of three says anything"


def test_the_shards_with_fewer_copies_are_counted() -> None:
    shards = [facts(THREE, Shown(voters=("n1", "n2", "n3")), wanted=3), facts(ROW)]
    assert replication_facts(3, 3, shards)["under_replicated_shards"] == 1


def test_a_node_that_only_the_table_names_is_listed() -> None:
    shards = [facts(THREE, Shown(voters=("n1", "n2", "n3")))]
    heard = [
        NodeShown("n1", 10, 5, "0.1.0", (), "10.0.0.1"),
        NodeShown("n0", 9000, 5, "0.1.0", (), "10.0.0.9"),
        NodeShown("n2", 5000, 5, "0.1.0", (), "10.0.0.2"),
    ]
    found = all_node_facts(heard, [THREE], shards)
    assert [(one["id"], one["state"]) for one in found] == [
        ("n0", "silent"),
        ("n1", "alive"),
        ("n2", "silent"),
        ("n3", "unknown"),
    ]
    assert [one["shards"] for one in found] == [0, 1, 1, 1]
    assert (found[1]["host"], found[2]["silent_ms"]) == ("10.0.0.1", 5000)
    assert found[3] == {
        "id": "n3",
        "name": "n3",
        "state": "unknown",
        "host": None,
        "shards": 1,
        "primaries": 0,
        "disk_free_bytes": None,
        "version": None,
        "silent_ms": None,
    }
