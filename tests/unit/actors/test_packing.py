"""Elastic packing: own actors below the limit, the least loaded ones above it."""

from __future__ import annotations

from actors.commands import ShardId, ShardRow
from actors.packing import choose_shard


def rows(*mailboxes: int) -> list[ShardRow]:
    return [
        ShardRow(ShardId(number), "mailbox", ("node",), count)
        for number, count in enumerate(mailboxes, start=2)
    ]


def test_a_mailbox_has_its_own_shard_until_the_limit() -> None:
    assert choose_shard([], actors_max=2) is None
    assert choose_shard(rows(1), actors_max=2) is None
    assert choose_shard(rows(1, 1), actors_max=2) == 2


def test_above_the_limit_the_least_loaded_is_shared() -> None:
    assert choose_shard(rows(3, 2, 2), actors_max=3) == 3
    assert choose_shard(rows(3, 2, 2), actors_max=2) == 3


def test_an_empty_shard_is_used_again() -> None:
    assert choose_shard(rows(1, 0), actors_max=8) == 3


def test_the_directory_is_no_place_for_mail() -> None:
    directory = ShardRow(ShardId(1), "directory", ("node",), 0)
    assert choose_shard([directory], actors_max=8) is None
