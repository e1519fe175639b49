"""CliCluster: the operator's commands about the nodes of a cluster and its head.

Exit code   as in `cluster/cli.py`; 1 too when not all nodes have come within RECOVER_S_MAX.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from cluster import cli_tables as tables
from cluster.cli_options import ConfigOption, DataOption, JsonOption, client_of
from cluster.control_client import ControlClient
from cluster.data_directory import DataDirectory, Head
from cluster.processes import Process
from cluster.refusal import EXIT_FAILED, Refused

RECOVER_S_MAX = 60.0
POLL_S = 0.3

cluster_app = typer.Typer(help="The nodes of a cluster and their head.", no_args_is_help=True)


@cluster_app.command("show")
def cluster_show(
    config: ConfigOption = None, data: DataOption = None, json: JsonOption = False
) -> None:
    """Show which node is the head, and where every node would be it."""
    facts = client_of(config, data).ask("GET", "cluster")
    if json:
        tables.print_json(facts)
        return
    head = facts["head"]["node"]
    rows = [
        (node, address, "head" if node == head else "")
        for node, address in sorted(facts["nodes"].items())
    ]
    tables.print_table(("node", "address", ""), rows)


@cluster_app.command("join")
def cluster_join(
    address: Annotated[str, typer.Argument(help="host:port of the head.")],
    config: ConfigOption = None,
    data: DataOption = None,
) -> None:
    """Have the running node join the head at an address, when it has not found it by itself."""
    client_of(config, data).ask("POST", "cluster", "join", body={"address": address})


@cluster_app.command("recover-head")
def cluster_recover_head(
    config: ConfigOption = None, data: DataOption = None, json: JsonOption = False
) -> None:
    """Make this node the head, when the head's machine is gone for good.

    Every other node finds the new head by itself, and starts again from its data directory.
    """
    from cluster.settings import load

    directory = DataDirectory(load(config, data).settings.data)
    client = _running(directory)
    if client is None:
        head = _lead_while_stopped(directory)
        if json:
            tables.print_json({"head": head, "missing": [], "state": "stopped"})
        else:
            print(f"node {head['node']} will be the head: start it with `helio up`")
        return
    began = time.monotonic()
    before = client.ask("GET", "cluster")
    nodes = client.ask("GET", "status")["nodes"]
    heard = {node["id"] for node in nodes if node["state"] == "alive"}
    head = client.ask("POST", "cluster", "head")
    # Who was silent before is not waited for: perhaps it is gone for good.
    expected = heard & set(before["nodes"]) - {before["head"]["node"]}
    present, state = set[str](), "starting"
    while time.monotonic() - began < RECOVER_S_MAX and (
        not expected <= present or state == "starting"
    ):
        time.sleep(POLL_S)
        present, state = _look(directory, head["node"]) or (present, state)
    missing = sorted(expected - present)
    if json:
        tables.print_json({"head": head, "missing": missing, "state": state})
    else:
        print(f"node {head['node']} is the head now, at {head['address']}")
        for node in missing:
            print(f"node {node} is not back yet: `helio cluster join {head['address']}` there")
        print(f"the cluster is {state} after {time.monotonic() - began:.0f} s")
    if missing:
        raise SystemExit(EXIT_FAILED)


def _running(directory: DataDirectory) -> ControlClient | None:
    try:
        client = ControlClient(directory)
    except Refused:
        return None
    return client if Process.of(client.pid) is not None else None


def _look(directory: DataDirectory, head: str) -> tuple[set[str], str] | None:
    """Return which nodes the new head's Ray has, and the cluster's state; None: it starts."""
    try:
        client = ControlClient(directory)
        facts = client.ask("GET", "cluster")
        if facts["node"] != head or facts["head"]["node"] != head:
            return None  # Still the old process.
        return set(facts["alive"]), str(client.ask("GET", "status")["cluster"]["state"])
    except Refused:
        return None


def _lead_while_stopped(directory: DataDirectory) -> dict[str, Any]:
    """Have a node that does not run become the head at its next start. Raises Refused."""
    if not Path(directory.identity_file).exists():
        raise Refused(f"{directory.path} is the data of no node")
    directory.take()
    try:
        identity, known = directory.identity(), directory.read_head()
        assert identity is not None
        if known is None or known.node == identity.node:
            raise Refused("this node is the head")
        address = directory.read_nodes().get(identity.node, "")
        head = Head(identity.node, address, known.term + 1)
        directory.write_head(head)
    finally:
        directory.release()
    return {"node": head.node, "address": head.address, "term": head.term}
