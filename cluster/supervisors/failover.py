"""Failover: who is to stand for election, decided without I/O.

Every supervisor decides by itself, and only about the replicas of its own node; the replicas'
own votes make it safe, whatever several supervisors think (rule 1). They mostly think alike, so
that one replica stands and wins at once.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from actors.commands import ShardId
from actors.reports import Report, quorum
from cluster.supervisors.picture import Picture, by_replica

PATIENCE_MS = 400  # for replicas that have not reported yet to do so
ROUND_MS = 700  # for an election; then the next best replica has its turn


@dataclass(slots=True)
class Attempts:
    """Since when each shard has no primary, and when somebody was last told to stand."""

    headless_ms: dict[ShardId, int] = field(default_factory=dict)
    told_ms: dict[ShardId, int] = field(default_factory=dict)


def elections(picture: Picture, attempts: Attempts, now_ms: int) -> list[ShardId]:
    """Return the shards whose replica on the own node is to stand for election now."""
    wanted = []
    for shard in picture.shards():
        if picture.primary(shard, now_ms) is not None:
            attempts.headless_ms.pop(shard, None)
            attempts.told_ms.pop(shard, None)
            continue
        since_ms = attempts.headless_ms.setdefault(shard, now_ms)
        chosen = _chosen(picture, shard, now_ms - since_ms, now_ms)
        if chosen is None or chosen.node != picture.own_node:
            continue
        if now_ms - attempts.told_ms.get(shard, now_ms - ROUND_MS) >= ROUND_MS:
            attempts.told_ms[shard] = now_ms
            wanted.append(shard)
    return wanted


def _chosen(picture: Picture, shard: ShardId, headless_ms: int, now_ms: int) -> Report | None:
    """Return the replica that is to lead: the longest log, room, then preference."""
    members = picture.members(shard)
    if members is None:
        return None
    live = by_replica(picture.live(shard, now_ms))
    voters = [live[voter] for voter in members.voters if voter in live]
    if len(voters) < quorum(len(members.voters)):
        return None
    if len(voters) < len(members.voters) and headless_ms < PATIENCE_MS:
        return None
    able = [one for one in voters if one.state == "following" and not one.suspect]
    if not able:
        return None
    ranked = sorted(able, key=lambda one: _rank(one, [voter.node for voter in voters]))
    return ranked[(headless_ms // ROUND_MS) % len(ranked)]


def _rank(report: Report, nodes: Sequence[str]) -> tuple[int, int, bool, int]:
    preferred = preference(report.shard, nodes)[report.node]
    return (-report.last_epoch, -report.last_index, report.no_room, preferred)


def preference(shard: ShardId, nodes: Sequence[str]) -> dict[str, int]:
    """Return an order of nodes that differs from shard to shard, so that primaries spread."""
    ordered = sorted(nodes, key=lambda node: zlib.crc32(f"{shard}/{node}".encode()))
    return {node: place for place, node in enumerate(ordered)}
