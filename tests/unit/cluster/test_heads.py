"""Whom a node joins, decided without a network."""

import asyncio
from collections.abc import Mapping

import pytest

from cluster.data_directory import ClusterIdentity, Head
from cluster.heads import Claim, find_head, superseded
from cluster.refusal import Refused

IDENTITY = ClusterIdentity("c", "me", 1, "1.0")
ME = Head("me", "me:1", 3)
OTHER = Head("other", "other:1", 3)


def claim(node: str, term: int, cluster: str = "c") -> Claim:
    return Claim(cluster, node, term, "1.0")


def find(
    identity: ClusterIdentity | None,
    known: Head | None,
    answers: Mapping[str, Claim],
    *,
    join: str = "",
    others: tuple[str, ...] = (),
) -> tuple[str, Claim] | None:
    async def ask(address: str) -> Claim | None:
        return answers.get(address)

    return asyncio.run(find_head(identity, known, join=join, others=others, ask=ask, timeout_s=0.0))


def test_an_empty_directory_founds_a_cluster() -> None:
    assert find(None, None, {}) is None


def test_data_of_a_release_without_heads_is_the_head() -> None:
    assert find(IDENTITY, None, {}) is None


def test_an_empty_directory_joins_whom_it_is_told() -> None:
    assert find(None, None, {"a:1": claim("a", 7)}, join="a:1") == ("a:1", claim("a", 7))


def test_nobody_to_join() -> None:
    with pytest.raises(Refused, match=r"no cluster answers at a:1, or not to this token"):
        find(None, None, {}, join="a:1")


def test_a_node_joins_the_head_that_it_remembers() -> None:
    answers = {OTHER.address: claim("other", 3)}
    assert find(IDENTITY, OTHER, answers) == (OTHER.address, claim("other", 3))


def test_a_node_finds_the_head_that_took_over_while_it_was_away() -> None:
    answers = {"third:1": claim("third", 4)}
    found = find(IDENTITY, OTHER, answers, others=("other:1", "third:1"))
    assert found == ("third:1", claim("third", 4))


def test_a_head_of_an_earlier_term_is_not_joined() -> None:
    with pytest.raises(Refused, match="recover-head"):
        find(IDENTITY, OTHER, {"old:1": claim("old", 2)}, others=("old:1",))


def test_a_head_that_was_replaced_joins_its_successor() -> None:
    answers = {"other:1": claim("other", 4)}
    assert find(IDENTITY, ME, answers, others=("other:1",)) == ("other:1", claim("other", 4))


def test_a_head_stays_the_head_when_nobody_is_later() -> None:
    assert find(IDENTITY, ME, {"old:1": claim("old", 2)}, join="old:1") is None


def test_the_head_of_another_cluster_is_refused_where_it_was_named() -> None:
    answers = {"a:1": claim("a", 9, cluster="another")}
    with pytest.raises(Refused, match=r"another cluster \(c\) than the one at a:1 \(another\)"):
        find(IDENTITY, OTHER, answers, join="a:1")
    with pytest.raises(Refused, match="no head"):
        find(IDENTITY, OTHER, answers, others=("a:1",))


def test_the_latest_term_supersedes() -> None:
    claims = [None, claim("a", 4), claim("b", 5), claim("x", 9, cluster="another")]
    assert superseded(ME, claims, "c") == claim("b", 5)
    assert superseded(ME, [claim("a", 3), None], "c") is None
