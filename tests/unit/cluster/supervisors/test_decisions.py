"""What supervisors decide of a picture: who stands for election, who joins, where copies go."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from actors.commands import ShardId, ShardRow
from actors.link import LinkAddress
from actors.reports import Beat, Report
from cluster.supervisors.failover import PATIENCE_MS, ROUND_MS, Attempts, elections, preference
from cluster.supervisors.picture import SUSPICION_MS, Picture
from cluster.supervisors.replication import (
    Placement,
    changes,
    factor_in_force,
    hand_overs,
    placements,
)

SHARD = ShardId(2)
NODES = ("a", "b", "c")
ADDRESS = LinkAddress("127.0.0.1", 1, b"")


def identity(node: str) -> bytes:
    return node.encode() * 16


@dataclass
class Node:
    """What one node's replica reports."""

    name: str
    role: str = "follower"
    state: str = "following"
    last: tuple[int, int] = (1, 10)
    voters: str = "abc"
    learners: str = ""
    members_index: int = 5
    suspect: bool = False
    matched: dict[str, int] | None = None
    no_room: bool = False

    def report(self) -> Report:
        return Report(
            SHARD,
            "mailbox",
            identity(self.name),
            self.name,
            ADDRESS,
            self.state,
            role=self.role,
            epoch=self.last[0],
            last_epoch=self.last[0],
            last_index=self.last[1],
            members_index=self.members_index,
            voters=tuple(map(identity, self.voters)),
            learners=tuple(map(identity, self.learners)),
            suspect=self.suspect,
            matched=tuple((identity(n), i) for n, i in (self.matched or {}).items()),
            no_room=self.no_room,
        )


def leader(name: str, **values: object) -> Node:
    return Node(name, role="primary", state="serving", **values)  # type: ignore[arg-type]


def beat(node: str, *reports: Report, serial: int = 1, gone: tuple[ShardId, ...] = ()) -> Beat:
    return Beat(node, b"i", serial, True, reports, ADDRESS, gone)


def picture(own: str, *nodes: Node, now_ms: int = 0) -> Picture:
    found = Picture(own)
    for node in nodes:
        found.take_beat(beat(node.name, node.report()), now_ms)
    return found


# Picture ----------------------------------------------------------------------------------


def test_a_silent_node_is_away_and_an_unknown_one_is_not_known() -> None:
    seen = picture("a", leader("a"), Node("b"))
    assert [one.node for one in seen.live(SHARD, SUSPICION_MS)] == ["a", "b"]
    assert seen.live(SHARD, SUSPICION_MS + 1) == []
    assert not seen.is_alive("c", 0)


def test_a_replica_that_its_own_node_calls_silent_is_away() -> None:
    seen = picture("a", leader("a"), Node("b"))
    seen.take_beat(beat("a", serial=2, gone=(SHARD,)), 1)
    assert seen.primary(SHARD, 1) is None


def test_a_beat_that_was_lost_makes_the_whole_story_wanted() -> None:
    seen = picture("a", Node("b"))
    changed = Node("b", last=(1, 11)).report()
    following = Beat("b", b"i", 2, False, (changed,), ADDRESS)
    assert seen.take_beat(following, 1)
    assert seen.reports[SHARD]["b"].last_index == 11
    assert not seen.take_beat(Beat("b", b"i", 4, False, (), ADDRESS), 2), "3 was lost"
    assert seen.take_beat(beat("b", changed, serial=5), 3)
    assert not seen.take_beat(Beat("b", b"another", 6, False, (), ADDRESS), 4), "it began anew"


def test_of_two_who_think_they_lead_the_later_epoch_does() -> None:
    seen = picture("a", leader("a", last=(1, 10)), leader("b", last=(2, 11)))
    primary = seen.primary(SHARD, 0)
    assert primary is not None
    assert primary.report.node == "b"


# Failover ---------------------------------------------------------------------------------


def told(seen: Picture, headless_ms: int, now_ms: int = 0) -> list[ShardId]:
    return elections(seen, Attempts({SHARD: now_ms - headless_ms}), now_ms)


def test_nobody_stands_while_there_is_a_primary() -> None:
    assert elections(picture("b", leader("a"), Node("b"), Node("c")), Attempts(), 0) == []


@pytest.mark.parametrize("own", NODES)
def test_the_longest_log_stands_and_the_others_leave_it_to_it(own: str) -> None:
    seen = picture(own, Node("a"), Node("b", last=(2, 8)), Node("c", last=(1, 12)))
    assert told(seen, 0) == ([SHARD] if own == "b" else [])


def test_equal_logs_stand_in_the_order_of_preference() -> None:
    order = preference(SHARD, NODES)
    first = min(NODES, key=lambda node: order[node])
    for own in NODES:
        seen = picture(own, *map(Node, NODES))
        assert told(seen, 0) == ([SHARD] if own == first else [])


def test_the_next_best_has_its_turn_when_an_election_comes_to_nothing() -> None:
    order = preference(SHARD, NODES)
    second = sorted(NODES, key=lambda node: order[node])[1]
    assert told(picture(second, *map(Node, NODES)), ROUND_MS) == [SHARD]


def test_a_missing_voter_gets_a_moment_to_report() -> None:
    seen = picture("b", Node("b", last=(1, 12)), Node("c"))
    assert told(seen, PATIENCE_MS - 1) == []
    assert told(seen, PATIENCE_MS) == [SHARD]


def test_without_a_majority_nobody_stands() -> None:
    assert told(picture("b", Node("b")), 10_000) == []


def test_who_lost_something_or_cannot_write_does_not_stand() -> None:
    suspect = Node("a", last=(3, 30), suspect=True)
    reading = Node("b", last=(2, 20), state="reading")
    assert told(picture("c", suspect, reading, Node("c")), 0) == [SHARD]


def test_an_election_is_not_called_again_at_once() -> None:
    seen = picture("b", Node("a"), Node("b", last=(1, 12)), Node("c"))
    attempts = Attempts()
    assert elections(seen, attempts, 0) == [SHARD]
    assert elections(seen, attempts, ROUND_MS - 1) == []


# Replica sets -----------------------------------------------------------------------------


def step(*nodes: Node, wanted: str = "abc", own: str = "a") -> tuple[str, str] | None:
    """Return voters and learners that come next, None when nothing does."""
    row = ShardRow(SHARD, "mailbox", tuple(wanted), 1)
    found = changes(picture(own, *nodes), {SHARD: row}, 0)
    if not found:
        return None
    [(_, order)] = found
    assert order.based_on == 5
    letters = [bytes(one[:1]).decode() for one in order.voters]
    return "".join(letters), "".join(bytes(one[:1]).decode() for one in order.learners)


def blank(name: str) -> Node:
    return Node(name, voters="", members_index=0, last=(0, 0))


def test_new_replicas_are_learners_first() -> None:
    assert step(leader("a", voters="a"), blank("b"), blank("c")) == ("a", "bc")


def test_growth_does_not_stop_at_two() -> None:
    lead = leader("a", voters="a", learners="bc", last=(1, 1000), matched={"b": 1000, "c": 0})
    assert step(lead, Node("b"), Node("c")) is None, "c is not there yet"
    lead.matched = {"b": 1000, "c": 990}
    assert step(lead, Node("b"), Node("c")) == ("ab", "c")
    lead.voters, lead.learners = "ab", "c"
    assert step(lead, Node("b"), Node("c")) == ("abc", "")
    lead.voters, lead.learners = "abc", ""
    assert step(lead, Node("b"), Node("c")) is None


def test_only_the_supervisor_beside_the_primary_acts() -> None:
    assert step(leader("a", voters="a"), blank("b"), blank("c"), own="b") is None


def test_a_dead_voter_goes_only_when_another_has_its_place() -> None:
    lead = leader("a", voters="abx", matched={"b": 10})
    assert step(lead, Node("b")) is None, "a dead node never shrinks the set"
    assert step(lead, Node("b"), blank("c")) == ("abx", "c")
    lead.learners, lead.matched = "c", {"b": 10, "c": 10}
    assert step(lead, Node("b"), Node("c")) == ("abcx", "")
    lead.voters, lead.learners = "abcx", ""
    assert step(lead, Node("b"), Node("c")) == ("abc", "")


def test_a_primary_that_belongs_here_no_more_hands_over() -> None:
    lead = leader("a", matched={"b": 10, "c": 9})
    seen = picture("a", lead, Node("b"), Node("c"))
    row_of = {SHARD: ShardRow(SHARD, "mailbox", ("b", "c", "d"), 1)}
    [(_, order)] = hand_overs(seen, row_of, 0)
    assert order.successor == identity("b"), "c lacks something"
    assert hand_overs(seen, {SHARD: ShardRow(SHARD, "mailbox", NODES, 1)}, 0) == []


def test_a_primary_on_a_full_disk_hands_over_to_one_with_room() -> None:
    lead = leader("a", matched={"b": 10, "c": 10}, no_room=True)
    row_of = {SHARD: ShardRow(SHARD, "mailbox", NODES, 1)}
    seen = picture("a", lead, Node("b", no_room=True), Node("c"))
    [(_, order)] = hand_overs(seen, row_of, 0)
    assert order.successor == identity("c")
    nowhere = picture("a", lead, Node("b", no_room=True), Node("c", no_room=True))
    assert hand_overs(nowhere, row_of, 0) == [], "to refuse mail here is as good as there"


# Placement --------------------------------------------------------------------------------


def row(shard: int, nodes: str) -> ShardRow:
    return ShardRow(ShardId(shard), "mailbox", tuple(nodes), 1)


def placed(rows: list[ShardRow], alive: str, lost: str = "", factor: int = 3) -> dict[int, str]:
    found = placements(rows, tuple(alive), frozenset(lost), factor=factor, at_once=100)
    assert all(isinstance(one, Placement) for one in found)
    return {one.shard: "".join(one.replicas) for one in found}


def test_the_factor_in_force_is_one_below_three_nodes() -> None:
    assert [factor_in_force(3, nodes) for nodes in (1, 2, 3, 4)] == [1, 1, 3, 3]
    assert [factor_in_force(5, nodes) for nodes in (2, 3, 4, 5)] == [1, 3, 3, 5]
    assert [factor_in_force(1, nodes) for nodes in (1, 3)] == [1, 1]


def test_the_third_node_makes_sets_of_three() -> None:
    assert placed([row(2, "a"), row(3, "b")], "ab") == {}
    found = placed([row(2, "a"), row(3, "b")], "abc")
    assert {shard: (nodes[0], set(nodes)) for shard, nodes in found.items()} == {
        2: ("a", set("abc")),
        3: ("b", set("abc")),
    }


def test_a_node_that_is_only_silent_keeps_its_replicas() -> None:
    assert placed([row(2, "abc")], "ab") == {}
    assert placed([row(2, "abc")], "abd") == {}, "it may come back"


def test_a_lost_node_is_replaced_where_there_is_another() -> None:
    assert placed([row(2, "abc")], "ab", lost="c") == {}
    assert placed([row(2, "abc")], "abd", lost="c") == {2: "abd"}


def test_new_replicas_go_to_who_has_fewest() -> None:
    rows = [row(2, "abc"), row(3, "abc"), row(4, "abd"), row(5, "abx")]
    assert placed(rows, "abcde", lost="x") == {5: "abe"}


def test_a_shard_whose_only_node_is_lost_waits_for_it() -> None:
    assert placed([row(2, "x")], "abc", lost="x") == {}
