"""Receipts: where a message is on disk, by what its primary and the other replicas say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from actors.commands import Receipt, ShardRow
from actors.jmap.ids import email_id_of
from actors.reports import Report
from cluster.status import shard_facts


def receipt_facts(row: ShardRow, receipt: Receipt, reports: Sequence[Report]) -> dict[str, Any]:
    """Return a receipt as `helio mailbox show --message --json` has it.

    `on_disk` is None for a replica that is not heard. So is everything of a message whose
    place in the log was not recorded, but for replicas that have all that was applied.
    """
    flushed = dict(receipt.flushed)
    by_node = {report.node: report for report in reports}
    return {
        "message": email_id_of(receipt.email_id),
        "shard": row.shard,
        "epoch": receipt.epoch or None,
        "index": receipt.index or None,
        "replicas": [
            {
                "node": replica["node"],
                "role": replica["role"],
                "on_disk": _on_disk(receipt, by_node.get(replica["node"]), flushed),
            }
            for replica in shard_facts(row, reports)["replicas"]
        ],
    }


def _on_disk(receipt: Receipt, report: Report | None, flushed: dict[bytes, int]) -> bool | None:
    if report is None or report.state in ("recovering", "unreachable"):
        return None
    # Beyond what it knows to be committed, its log may hold other entries than the primary's.
    own = min(report.flushed_index, report.commit_index)
    has = max(own, flushed.get(report.replica, 0))
    if receipt.index:
        return has >= receipt.index
    return True if has >= receipt.applied_index else None
