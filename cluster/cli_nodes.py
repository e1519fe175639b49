"""CliNodes: the operator's lists of nodes and of shards.

Exit code   as in `cluster/cli.py`.
"""

from __future__ import annotations

import typer

from cluster import cli_tables as tables
from cluster.cli_options import ConfigOption, DataOption, JsonOption, client_of

node_app = typer.Typer(help="Nodes: the machines of a cluster.", no_args_is_help=True)


@node_app.command("list")
def node_list(
    config: ConfigOption = None, data: DataOption = None, json: JsonOption = False
) -> None:
    """List the nodes: what each holds, its room, and whether it is heard."""
    facts = client_of(config, data).ask("GET", "status")
    tables.print_json({"nodes": facts["nodes"]}) if json else tables.print_nodes(facts["nodes"])


def shard_list(
    config: ConfigOption = None, data: DataOption = None, json: JsonOption = False
) -> None:
    """List the shards: their replicas, which of them leads, and how far the others are behind."""
    facts = client_of(config, data).ask("GET", "status")
    if json:
        tables.print_json({"shards": facts["shards"]})
    else:
        tables.print_shards(facts["shards"], facts["cluster"]["replication"]["wanted"])
