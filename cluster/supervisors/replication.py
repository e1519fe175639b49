"""Replication: which replica sets change, and where replicas belong, decided without I/O.

Two decisions. `changes`: the supervisor beside a shard's primary brings its replica set to what
the directory's table wants, one voter at a time. `placements`: the supervisor beside the
directory's primary brings the table to what the nodes allow: the wanted factor where there are
nodes for it, another node for one that has been silent too long.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from actors.commands import ShardId, ShardRow
from actors.reports import HandOver, Members, Report, SetMembers, members_of
from cluster.supervisors.picture import Picture, by_replica

NEARLY_ENTRIES = 256  # a learner that lags no further catches up within one append


def changes(
    picture: Picture, rows: Mapping[ShardId, ShardRow], now_ms: int
) -> list[tuple[ShardId, SetMembers]]:
    """Return the next step of each replica set whose primary is on the own node."""
    found = []
    for shard, row in rows.items():
        primary = picture.primary(shard, now_ms)
        if primary is None or primary.report.node != picture.own_node:
            continue
        if primary.report.state != "serving":
            continue
        wanted = _wanted(picture, row)
        growing = [one for one in wanted.values() if picture.is_alive(one.node, now_ms)]
        members = _next_members(
            primary.report, primary.members, wanted, len(row.replicas), len(growing)
        )
        if members is not None and members != primary.members:
            order = SetMembers(members.voters, members.learners, primary.report.members_index)
            found.append((shard, order))
    return found


def _wanted(picture: Picture, row: ShardRow) -> dict[bytes, Report]:
    """Return the replicas that the table wants and that are known, by their ids."""
    reports = picture.reports.get(row.shard, {})
    return by_replica(reports[node] for node in row.replicas if node in reports)


def _next_members(
    primary: Report, now: Members, wanted: Mapping[bytes, Report], factor: int, alive: int
) -> Members | None:
    """Return the replica set that comes next; None when nothing can be done yet."""
    voters, learners = set(now.voters), set(now.learners)
    matched = dict(primary.matched)
    missing = set(wanted) - voters
    if new := missing - learners:
        return members_of(voters, learners | new)
    ready = {one for one in missing if matched.get(one, 0) + NEARLY_ENTRIES >= primary.last_index}
    # The loss of either stops a set of two, so growth does not stop there; but while the third
    # node is away, two copies are better than one.
    if ready and (len(voters) != 1 or len(ready) >= 2 or min(factor, alive) <= 2):
        chosen = max(ready, key=lambda one: (matched.get(one, 0), one))
        return members_of(voters | {chosen}, learners - {chosen})
    # Only when all that are wanted vote, others go: a dead node never shrinks the set.
    if len(wanted) == factor and not missing:
        strangers = voters - set(wanted) - {primary.replica}
        if strangers:
            return members_of(voters - {min(strangers)}, learners)
    if len(wanted) == factor and (idle := learners - set(wanted)):
        return members_of(voters, learners - idle)
    return None


def hand_overs(
    picture: Picture, rows: Mapping[ShardId, ShardRow], now_ms: int
) -> list[tuple[ShardId, HandOver]]:
    """Return the shards that the own node leads and is to lead no more, with who takes over.

    The table wants them elsewhere, or the disk here is full, and another replica has room.
    """
    found = []
    for shard, row in rows.items():
        primary = picture.primary(shard, now_ms)
        if primary is None or primary.report.node != picture.own_node:
            continue
        leader = primary.report
        if leader.state != "serving":
            continue
        if picture.own_node in row.replicas and not leader.no_room:
            continue
        live = {one.replica for one in picture.live(shard, now_ms) if not one.no_room}
        able = {one for one, index in leader.matched if index == leader.last_index}
        wanted = set(_wanted(picture, row)) & set(leader.voters) & live & able
        if wanted:
            found.append((shard, HandOver(min(wanted))))
    return found


@dataclass(frozen=True, slots=True)
class Renew:
    """A replica of this node is damaged: begin a new one, which the others fill."""

    shard: ShardId


@dataclass(frozen=True, slots=True)
class Remove:
    """A replica of this node belongs to its set no more: its files may go."""

    shard: ShardId


def leavings(
    picture: Picture, rows: Mapping[ShardId, ShardRow], now_ms: int
) -> list[Renew | Remove]:
    """Return what is to be done about replicas of the own node that nobody counts on.

    Only a live primary with a committed replica set says so (rule 12); a damaged one is kept
    aside, since it may hold the last copy of something.
    """
    found: list[Renew | Remove] = []
    for shard, row in rows.items():
        own = picture.reports.get(shard, {}).get(picture.own_node)
        primary = picture.primary(shard, now_ms)
        if own is None or primary is None or primary.report.node == picture.own_node:
            continue
        leader = primary.report
        if leader.state != "serving" or leader.commit_index < leader.members_index:
            continue
        if picture.own_node in row.replicas:
            if own.state == "damaged" and "salvage" not in own.trouble:
                found.append(Renew(shard))
        elif own.replica and own.replica not in (*leader.voters, *leader.learners):
            wanted = _wanted(picture, row)
            if len(wanted) == len(row.replicas) and set(wanted) <= set(leader.voters):
                found.append(Remove(shard))
    return found


@dataclass(frozen=True, slots=True)
class Placement:
    """The nodes where a shard's replicas belong from now on; the first is where it is made."""

    shard: ShardId
    replicas: tuple[str, ...]


def factor_in_force(wanted: int, nodes: int) -> int:
    """Return how many replicas there are to be: the wanted number, 1 while nodes are too few."""
    if nodes >= wanted:
        return wanted
    return 3 if nodes >= 3 and wanted >= 3 else 1


def placements(
    rows: Iterable[ShardRow],
    alive: Sequence[str],
    lost: frozenset[str],
    *,
    factor: int,
    at_once: int,
) -> list[Placement]:
    """Return at most `at_once` rows of the table that are to change.

    `lost` are nodes that have been silent for longer than the grace time; a node that is neither
    alive nor lost keeps its replicas. Nothing is placed where it would have to be taken away.
    """
    rows = list(rows)
    load = dict.fromkeys(alive, 0)
    for row in rows:
        for node in row.replicas:
            if node in load:
                load[node] += 1
    known = {node for row in rows for node in row.replicas} | set(alive)
    target = factor_in_force(factor, len(known - lost))
    found: list[Placement] = []
    for row in rows:
        if len(found) >= at_once:
            break
        kept = [node for node in row.replicas if node not in lost]
        free = sorted((node for node in alive if node not in row.replicas), key=lambda n: load[n])
        added = free[: max(0, max(target, len(row.replicas)) - len(kept))]
        if not added or not kept:
            continue
        if len(row.replicas) == 1 and len(kept) + len(added) < target:
            continue  # From one to three, not to two.
        replaced = len(row.replicas) - len(kept)
        given_up = [node for node in row.replicas if node in lost][: min(replaced, len(added))]
        stay = [node for node in row.replicas if node not in given_up]
        for node in added:
            load[node] += 1
        found.append(Placement(row.shard, (*stay, *added)))
    return found
