"""Cli: the command `helio`. Thin: it asks the running cluster and prints what that says.

Exit code   0 done; 1 it could not be done, said in one line on stderr; 2 wrong usage or setting.
"""

from __future__ import annotations

import getpass
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from cluster import cli_tables as tables
from cluster.refusal import EXIT_FAILED, EXIT_USAGE, Refused

GENERATED_PASSWORD_BYTES = 12

app = typer.Typer(
    name="helio",
    help="Heliograph: a mail cluster in which every mailbox is an actor.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
config_app = typer.Typer(help="Settings.", no_args_is_help=True)
domain_app = typer.Typer(help="Domains that are ours.", no_args_is_help=True)
account_app = typer.Typer(help="Accounts: who has a mailbox.", no_args_is_help=True)
alias_app = typer.Typer(help="Further addresses of an account.", no_args_is_help=True)
mailbox_app = typer.Typer(help="One mailbox.", no_args_is_help=True)
app.add_typer(config_app, name="config")
app.add_typer(domain_app, name="domain")
app.add_typer(account_app, name="account")
account_app.add_typer(alias_app, name="alias")
app.add_typer(mailbox_app, name="mailbox")

ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="Settings file instead of ./heliograph.toml.")
]
DataOption = Annotated[
    Path | None, typer.Option("--data", help="Data directory instead of the setting `data`.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print facts for programs.")]
AddressArgument = Annotated[str, typer.Argument(help="Address of the account.")]
StdinOption = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password, one line, from stdin.")
]


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

    stop(_client(config, data))


@app.command()
def status(config: ConfigOption = None, data: DataOption = None, json: JsonOption = False) -> None:
    """Show nodes, shards, listeners and queues."""
    facts = _client(config, data).ask("GET", "status")
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


@domain_app.command("add")
def domain_add(
    domain: str, config: ConfigOption = None, data: DataOption = None, json: JsonOption = False
) -> None:
    """Make a domain ours."""
    facts = _client(config, data).ask("POST", "domains", body={"domain": domain})
    _tell(facts, f"{domain} is ours", json=json)


@domain_app.command("list")
def domain_list(
    config: ConfigOption = None, data: DataOption = None, json: JsonOption = False
) -> None:
    """List our domains."""
    facts = _client(config, data).ask("GET", "domains")
    if json:
        tables.print_json(facts)
    else:
        for domain in facts["domains"]:
            print(domain)


@domain_app.command("remove")
def domain_remove(domain: str, config: ConfigOption = None, data: DataOption = None) -> None:
    """Give up a domain that has no addresses any more."""
    _client(config, data).ask("DELETE", "domains", domain)


@account_app.command("add")
def account_add(
    address: AddressArgument,
    config: ConfigOption = None,
    data: DataOption = None,
    password_stdin: StdinOption = False,
    quota: Annotated[
        str, typer.Option("--quota", help="Bytes it may hold, as 500M or 2G; 0 for no limit.")
    ] = "0",
    admin: Annotated[bool, typer.Option("--admin", help="May administer.")] = False,
    json: JsonOption = False,
) -> None:
    """Make an account. Returns when its mailbox takes mail."""
    from cluster.cli_commands import quota_bytes

    body: dict[str, Any] = {"address": address, "quota_bytes": quota_bytes(quota), "admin": admin}
    client = _client(config, data)
    password, generated = _password(from_stdin=password_stdin)
    facts = client.ask("POST", "accounts", body=body | {"password": password})
    if generated:
        facts["password"] = password
    shown = f", password {password}" if generated else ""
    _tell(facts, f"{facts['address']} has shard {facts['shard']}{shown}", json=json)


@account_app.command("list")
def account_list(
    config: ConfigOption = None, data: DataOption = None, json: JsonOption = False
) -> None:
    """List the accounts."""
    facts = _client(config, data).ask("GET", "accounts")
    tables.print_json(facts) if json else tables.print_accounts(facts["accounts"])


@account_app.command("remove")
def account_remove(
    address: AddressArgument, config: ConfigOption = None, data: DataOption = None
) -> None:
    """Remove an account and its mail."""
    _client(config, data).ask("DELETE", "accounts", address)


@account_app.command("passwd")
def account_passwd(
    address: AddressArgument,
    config: ConfigOption = None,
    data: DataOption = None,
    password_stdin: StdinOption = False,
) -> None:
    """Give an account a new password."""
    client = _client(config, data)
    password, generated = _password(from_stdin=password_stdin)
    client.ask("PUT", "accounts", address, "password", body={"password": password})
    if generated:
        print(f"{address} has password {password}")


@alias_app.command("add")
def alias_add(
    alias: str, address: AddressArgument, config: ConfigOption = None, data: DataOption = None
) -> None:
    """Let an account take mail for ALIAS too."""
    _client(config, data).ask("POST", "aliases", body={"alias": alias, "address": address})


@alias_app.command("remove")
def alias_remove(alias: str, config: ConfigOption = None, data: DataOption = None) -> None:
    """Take an alias away."""
    _client(config, data).ask("DELETE", "aliases", alias)


@mailbox_app.command("show")
def mailbox_show(
    address: AddressArgument,
    config: ConfigOption = None,
    data: DataOption = None,
    json: JsonOption = False,
) -> None:
    """Show one mailbox: its shard, its process, what is in it."""
    facts = _client(config, data).ask("GET", "mailboxes", address)
    tables.print_json(facts) if json else tables.print_mailbox(facts)


def _client(config: Path | None, data: Path | None) -> Any:
    from cluster import settings
    from cluster.control_client import ControlClient
    from cluster.data_directory import DataDirectory

    return ControlClient(DataDirectory(settings.load(config, data).settings.data))


def _password(*, from_stdin: bool) -> tuple[str, bool]:
    """Return a password, and whether it was made here and has to be shown."""
    if from_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
        if not password:
            raise Refused("no password on stdin", EXIT_USAGE)
        return password, False
    if not sys.stdin.isatty():
        return secrets.token_urlsafe(GENERATED_PASSWORD_BYTES), True
    password = getpass.getpass("Password (empty: one is made): ")
    if not password:
        return secrets.token_urlsafe(GENERATED_PASSWORD_BYTES), True
    if getpass.getpass("Again: ") != password:
        raise Refused("the two passwords differ", EXIT_USAGE)
    return password, False


def _tell(facts: dict[str, Any], text: str, *, json: bool) -> None:
    if json:
        tables.print_json(facts)
    else:
        print(text)


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
