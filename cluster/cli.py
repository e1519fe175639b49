"""Cli: the command `helio`. Thin: it asks the running cluster and prints what that says.

Exit code   0 done; 1 it could not be done, said in one line on stderr; 2 wrong usage or setting.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from cluster import cli_tables as tables
from cluster.cli_accounts import account_app, domain_app
from cluster.cli_options import AddressArgument, ConfigOption, DataOption, JsonOption, client_of
from cluster.cli_transfer import export_mail, import_mail
from cluster.cli_upkeep import mailbox_audit, mailbox_reindex, shard_app
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
mailbox_app.command("audit")(mailbox_audit)
mailbox_app.command("reindex")(mailbox_reindex)


@app.command()
def up(
    config: ConfigOption = None,
    data: DataOption = None,
    nodes: Annotated[int, typer.Option("--nodes", help="Ray nodes on this machine.")] = 1,
    address: Annotated[
        str | None, typer.Option("--address", envvar="RAY_ADDRESS", help="Ray cluster to join.")
    ] = None,
    demo: Annotated[
        bool, typer.Option("--demo", help="Make the accounts alice and bob @example.test.")
    ] = False,
) -> None:
    """Start the cluster and serve until SIGTERM."""
    from cluster import ray_environment, settings

    if nodes != 1:
        raise Refused("this release runs one node: leave --nodes out", EXIT_USAGE)
    if address and address != "local":
        raise Refused(
            "this release starts a Ray of its own and joins none: "
            "leave --address out and RAY_ADDRESS unset",
            EXIT_USAGE,
        )
    loaded = settings.load(config, data)
    ray_environment.prepare()
    from cluster import up as node  # Imports Ray, which reads what was just prepared.
    from cluster.cli_progress import CliProgress

    raise SystemExit(node.run(loaded, demo=demo, progress=CliProgress()))


@app.command()
def down(config: ConfigOption = None, data: DataOption = None) -> None:
    """Stop the cluster: finish what was accepted, close everything."""
    from cluster.cli_commands import stop

    stop(client_of(config, data))


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
    config: ConfigOption = None,
    data: DataOption = None,
    json: JsonOption = False,
) -> None:
    """Show one mailbox: its shard, its process, what is in it."""
    facts = client_of(config, data).ask("GET", "mailboxes", address)
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
