"""Receipts: on which replicas a message is, by what the primary and the others say."""

from typing import Any

import pytest

from actors.commands import Receipt, ShardId, ShardRow
from actors.link import LinkAddress
from actors.reports import Report
from cluster.receipts import receipt_facts

ROW = ShardRow(ShardId(2), "mailbox", ("n1", "n2", "n3"), 4)
IDS = {"n1": b"1" * 16, "n2": b"2" * 16, "n3": b"3" * 16}


def report(node: str, flushed: int, commit: int, state: str = "following") -> Report:
    role = "primary" if state == "serving" else "follower"
    return Report(
        ShardId(2),
        "mailbox",
        b"" if state in ("recovering", "damaged") else IDS[node],
        node,
        LinkAddress("127.0.0.1", 1, b""),
        state,
        role=role,
        epoch=3,
        commit_index=commit,
        flushed_index=flushed,
        voters=tuple(IDS.values()),
    )


def receipt(index: int = 40, applied: int = 50, **flushed: int) -> Receipt:
    told = tuple((IDS[node], where) for node, where in flushed.items())
    return Receipt(0x1F, 3 if index else 0, index, applied, told)


def on_disk(found: Receipt, *reports: Report) -> dict[str, Any]:
    return {one["node"]: one["on_disk"] for one in receipt_facts(ROW, found, reports)["replicas"]}


def test_what_the_primary_knows_of_each_counts() -> None:
    facts = receipt_facts(
        ROW,
        receipt(n1=50, n2=39),
        [report("n1", 45, 45, "serving"), report("n2", 30, 30)],
    )
    assert facts == {
        "message": "M1f",
        "shard": 2,
        "epoch": 3,
        "index": 40,
        "replicas": [
            {"node": "n1", "role": "primary", "on_disk": True},
            {"node": "n2", "role": "follower", "on_disk": False},
            {"node": "n3", "role": "none", "on_disk": None},
        ],
    }


def test_what_a_replica_says_of_itself_counts_when_the_primary_has_not_heard_it_yet() -> None:
    primary = report("n1", 50, 50, "serving")
    found = on_disk(receipt(n1=50, n2=0, n3=0), primary, report("n2", 44, 41), report("n3", 44, 39))
    assert found == {"n1": True, "n2": True, "n3": False}, "what is not committed may be cut off"


def test_the_primary_may_be_the_last_to_have_it() -> None:
    primary = report("n1", 39, 50, "serving")
    found = on_disk(receipt(n1=39, n2=50, n3=50), primary, report("n2", 50, 50))
    assert found == {"n1": False, "n2": True, "n3": None}, "what the silent one has is not known"


@pytest.mark.parametrize("state, known", [("recovering", None), ("damaged", False)])
def test_a_replica_that_is_not_open(state: str, known: bool | None) -> None:
    primary = report("n1", 50, 50, "serving")
    assert on_disk(receipt(n1=50), primary, report("n2", 0, 0, state))["n2"] is known


def test_a_message_without_a_recorded_place() -> None:
    reports = [report("n1", 50, 50, "serving"), report("n2", 49, 49)]
    old = receipt(index=0, n1=50, n2=49)
    facts = receipt_facts(ROW, old, reports)
    assert (facts["epoch"], facts["index"]) == (None, None)
    assert on_disk(old, *reports) == {"n1": True, "n2": None, "n3": None}
