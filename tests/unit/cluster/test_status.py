"""Status: the facts of a shard in each of its states."""

from actors.commands import DIRECTORY_SHARD, ShardId, ShardRow, ShardShown
from cluster.status import resting, shard_facts, with_directory

ROW = ShardRow(ShardId(2), "mailbox", ("n1",), 4)


def shown(state: str, trouble: str = "") -> ShardShown:
    return ShardShown(ShardId(2), "mailbox", state, 3, 10, 10, 8, 8, 4, 77, trouble)


def test_serving_shard() -> None:
    assert shard_facts(ROW, shown("serving"), "n1") == {
        "id": 2,
        "kind": "mailbox",
        "epoch": 3,
        "primary": "n1",
        "replicas": [{"node": "n1", "role": "primary", "state": "serving", "lag_entries": 2}],
        "mailboxes": 4,
        "pid": 77,
    }


def test_damaged_shard_is_named() -> None:
    facts = shard_facts(ROW, shown("damaged", "no replica here"), "n1")
    assert facts["primary"] is None
    assert facts["replicas"][0]["state"] == "damaged"
    assert facts["trouble"] == "no replica here"


def test_silent_shard() -> None:
    facts = shard_facts(ROW, None, "n1")
    assert (facts["primary"], facts["pid"]) == (None, None)
    assert facts["replicas"][0]["state"] == "unreachable"


def test_resting_shard_has_no_process() -> None:
    facts = shard_facts(ROW, resting(ShardId(2)), "n1")
    assert (facts["primary"], facts["pid"]) == (None, None)
    assert facts["replicas"][0]["state"] == "resting"


def test_the_directory_is_a_shard_too() -> None:
    rows = with_directory((ROW,), "n1")
    assert [row.shard for row in rows] == [DIRECTORY_SHARD, 2]
    assert with_directory(rows, "n1") == rows
