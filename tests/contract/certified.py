"""Certified: link options of nodes that one CA has certified, on loopback."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path

from actors.link_options import LinkOptions
from cluster.cluster_ca import ClusterCa


def certified(
    directory: Path, names: Sequence[str], now: datetime.datetime | None = None
) -> dict[str, LinkOptions]:
    """Make a CA below `directory`, and a certificate for each node; the first has the CA's key."""
    now = now or datetime.datetime.now(datetime.UTC)
    nodes = {name: ClusterCa(directory / name) for name in names}
    first = nodes[names[0]]
    first.make("127.0.0.1", now)
    for node in list(nodes.values())[1:]:
        first.certify(node, "127.0.0.1", now)
    return {name: node.link_options("127.0.0.1") for name, node in nodes.items()}
