"""Cli: the command `helio`. Thin: it asks the running cluster and prints what that says.

Exit code   0 done; 1 it could not be done, said in one line on stderr; 2 wrong usage or setting.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from cluster import cli_tables as tables
from cluster.cli_accounts import account_app, domain_app
from cluster.cli_cluster import cluster_app
from cluster.cli_cluster_tls import cluster_init, cluster_invite
from cluster.cli_nodes import node_app, shard_list
from cluster.cli_options import (
    AddressArgument,
    ConfigOption,
    DataOption,
    JsonOption,
    client_of,
    clients_of,
)
from cluster.cli_transfer import export_mail, import_mail
from cluster.cli_upkeep import mailbox_audit, mailbox_reindex, shard_app
from cluster.data_directory import DataDirectory
from cluster.refusal import EXIT_FAILED, EXIT_USAGE, Refused

app = typer.Typer(
    name="helio",
    help="Heliograph: a mail cluster in which every mailbox is an actor.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
config_app = typer.Typer(help="Settings.", no_args_is_help=True)
mailbox_app = typer.Typer(help="One mailbox.", no_args_is_help=True)
app.add_typer(config_app, name="config")
app.add_typer(domain_app, name="domain")
app.add_typer(account_app, name="account")
app.add_typer(mailbox_app, name="mailbox")
app.add_typer(shard_app, name="shard")
app.add_typer(cluster_app, name="cluster")
app.add_typer(node_app, name="node")
cluster_app.command("init")(cluster_init)
cluster_app.command("invite")(cluster_invite)
shard_app.command("list")(shard_list)
mailbox_app.command("audit")(mailbox_audit)
mailbox_app.command("reindex")(mailbox_reindex)


@app.command()
def up(
    config: ConfigOption = None,
    data: DataOption = None,
    nodes: Annotated[
        int | None,
        typer.Option("--nodes", help="Nodes on this machine, each with a directory in --data."),
    ] = None,
    join: Annotated[
        str | None,
        typer.Option(
            "--join",
            "--address",
            envvar="RAY_ADDRESS",
            help="host:port of the head of the cluster to become a node of.",
        ),
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option("--token-file", help="The token of the cluster to join.")
    ] = None,
    invitation: Annotated[
        Path | None,
        typer.Option("--invitation", help="Token and certificate (`helio cluster invite`)."),
    ] = None,
    demo: Annotated[
        bool, typer.Option("--demo", help="Make the accounts alice and bob @example.test.")
    ] = False,
) -> None:
    """Start a node, the first of its cluster or one that joins it, and serve until SIGTERM."""
    from cluster import ray_environment, settings
    from cluster.cli_progress import CliProgress
    from cluster.cluster_ca import certify_beside, link_options
    from cluster.several_nodes import SeveralNodes, node_directories

    join = None if join in ("", "auto", "local") else join
    loaded = settings.load(config, data, join=join, token_file=token_file, invitation=invitation)
    if nodes is None:
        nodes = len(node_directories(loaded.settings.data)) or 1
    if nodes != 1 or node_directories(loaded.settings.data):
        if loaded.settings.cluster.join:
            raise Refused("--nodes is a cluster of its own and joins none", EXIT_USAGE)
        several = SeveralNodes(
            loaded,
            nodes,
            config=config,
            demo=demo,
            progress=CliProgress(),
            certify=certify_beside,
        )
        raise SystemExit(several.run())
    ray_environment.prepare()
    directory = DataDirectory(loaded.settings.data)
    ray_environment.encrypt(link_options(loaded.settings.cluster, directory.cluster_tls))
    from cluster import up as node  # Imports Ray, which reads what was just prepared.

    raise SystemExit(node.run(loaded, demo=demo, progress=CliProgress()))


@app.command()
def down(config: ConfigOption = None, data: DataOption = None) -> None:
    """Stop the cluster: finish what was accepted, close everything."""
    from cluster.cli_commands import stop

    stop(clients_of(config, data))


@app.command()
def status(config: ConfigOption = None, data: DataOption = None, json: JsonOption = False) -> None:
    """Show nodes, shards, listeners and queues."""
    facts = client_of(config, data).ask("GET", "status")
    tables.print_json(facts) if json else tables.print_status(facts)


@config_app.command("show")
def config_show(
    config: ConfigOption = None, data: DataOption = None, json: JsonOption = False
) -> None:
    """Show every setting: its value, where it came from, what it does."""
    from cluster import settings

    shown = settings.load(config, data).shown()
    if not json:
        tables.print_settings(shown)
        return
    names = ("name", "variable", "value", "source", "doc")
    tables.print_json([{name: getattr(one, name) for name in names} for one in shown])


@mailbox_app.command("show")
def mailbox_show(
    address: AddressArgument,
    message: Annotated[
        str | None,
        typer.Option("--message", help="Id or Message-ID of a message: show where it is on disk."),
    ] = None,
    config: ConfigOption = None,
    data: DataOption = None,
    json: JsonOption = False,
) -> None:
    """Show one mailbox: its shard, its process, what is in it; or the receipt of one message."""
    client = client_of(config, data)
    if message is not None:
        facts = client.ask("GET", "mailboxes", address, "receipts", message)
        tables.print_json(facts) if json else tables.print_receipt(facts)
        return
    facts = client.ask("GET", "mailboxes", address)
    tables.print_json(facts) if json else tables.print_mailbox(facts)


app.command("import")(import_mail)
app.command("export")(export_mail)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command `helio`."""
    try:
        app(args=arguments, prog_name="helio")
    except Refused as refused:
        print(f"helio: {refused.text}", file=sys.stderr)
        raise SystemExit(refused.exit_code) from None
    except KeyboardInterrupt:
        raise SystemExit(EXIT_FAILED) from None


if __name__ == "__main__":
    main()
