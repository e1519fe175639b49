"""CliAccounts: the commands `helio domain` and `helio account`."""

from __future__ import annotations

import getpass
import secrets
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from cluster import cli_tables as tables
from cluster.cli_options import AddressArgument, ConfigOption, DataOption, JsonOption, client_of
from cluster.refusal import EXIT_USAGE, Refused

GENERATED_PASSWORD_BYTES = 12

domain_app = typer.Typer(help="Domains that are ours.", no_args_is_help=True)
account_app = typer.Typer(help="Accounts: who has a mailbox.", no_args_is_help=True)
alias_app = typer.Typer(help="Further addresses of an account.", no_args_is_help=True)
app_password_app = typer.Typer(
    help="Passwords for programs, each for some purposes only.", no_args_is_help=True
)
session_app = typer.Typer(help="Where an account is signed in by token.", no_args_is_help=True)
account_app.add_typer(alias_app, name="alias")
account_app.add_typer(app_password_app, name="app-password")
account_app.add_typer(session_app, name="session")

StdinOption = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password, one line, from stdin.")
]
SignupOption = Annotated[
    str | None,
    typer.Option("--signup", help="Who may sign up: closed (nobody), invitation, or open."),
]
SignupsOption = Annotated[
    int | None, typer.Option("--signups-per-day", help="Sign-ups a day in this domain.")
]
DomainQuotaOption = Annotated[
    str | None,
    typer.Option("--quota", help="Bytes a new account may hold, as 500M; 0 for no limit."),
]


# Domains


@domain_app.command("add")
def domain_add(
    domain: str,
    signup: SignupOption = None,
    signups_per_day: SignupsOption = None,
    quota: DomainQuotaOption = None,
    config: ConfigOption = None,
    data: DataOption = None,
    json: JsonOption = False,
) -> None:
    """Make a domain ours."""
    body = {"domain": domain, **_domain_changes(signup, signups_per_day, quota)}
    facts = client_of(config, data).ask("POST", "domains", body=body)
    _tell(facts, f"{domain} is ours", json=json)


@domain_app.command("set")
def domain_set(
    domain: str,
    signup: SignupOption = None,
    signups_per_day: SignupsOption = None,
    quota: DomainQuotaOption = None,
    catch_all: Annotated[
        str | None,
        typer.Option("--catch-all", help="Account for mail to nobody else; '' for none."),
    ] = None,
    config: ConfigOption = None,
    data: DataOption = None,
    json: JsonOption = False,
) -> None:
    """Change a domain."""
    body = _domain_changes(signup, signups_per_day, quota)
    if catch_all is not None:
        body["catch_all"] = catch_all
    facts = client_of(config, data).ask("PATCH", "domains", domain, body=body)
    tables.print_json(facts) if json else tables.print_domain(facts)


@domain_app.command("show")
def domain_show(
    domain: str, config: ConfigOption = None, data: DataOption = None, json: JsonOption = False
) -> None:
    """Show a domain: who may sign up, what new accounts may hold, who gets the rest."""
    facts = client_of(config, data).ask("GET", "domains", domain)
    tables.print_json(facts) if json else tables.print_domain(facts)


@domain_app.command("list")
def domain_list(
    config: ConfigOption = None, data: DataOption = None, json: JsonOption = False
) -> None:
    """List our domains."""
    facts = client_of(config, data).ask("GET", "domains")
    if json:
        tables.print_json(facts)
    else:
        for domain in facts["domains"]:
            print(domain)


@domain_app.command("remove")
def domain_remove(domain: str, config: ConfigOption = None, data: DataOption = None) -> None:
    """Give up a domain that has no addresses any more."""
    client_of(config, data).ask("DELETE", "domains", domain)


@domain_app.command("invite")
def domain_invite(
    domain: str,
    uses: Annotated[int, typer.Option("--uses", help="Accounts that it is good for.")] = 1,
    days: Annotated[int, typer.Option("--days", help="Days for which it is good.")] = 7,
    config: ConfigOption = None,
    data: DataOption = None,
    json: JsonOption = False,
) -> None:
    """Make an invitation and print its code, which cannot be shown again."""
    body = {"uses": uses, "days": days}
    facts = client_of(config, data).ask("POST", "domains", domain, "invitations", body=body)
    _tell(facts, facts["code"], json=json)


def _domain_changes(
    signup: str | None, signups_per_day: int | None, quota: str | None
) -> dict[str, Any]:
    from cluster.cli_commands import quota_bytes

    changes: dict[str, Any] = {}
    if signup is not None:
        changes["signup"] = signup
    if signups_per_day is not None:
        changes["signups_per_day_max"] = signups_per_day
    if quota is not None:
        changes["quota_bytes"] = quota_bytes(quota)
    return changes


# Accounts


@account_app.command("add")
def account_add(
    address: Annotated[str | None, typer.Argument(help="Address of the account.")] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file",
            help="Make many: a file (or - for stdin) with `address` or `address,password` a line. "
            "Without a password nobody can sign in until `passwd`.",
        ),
    ] = None,
    config: ConfigOption = None,
    data: DataOption = None,
    password_stdin: StdinOption = False,
    quota: Annotated[
        str | None,
        typer.Option(
            "--quota",
            help="Bytes it may hold, as 500M or 2G; 0 for no limit; else as its domain has it.",
        ),
    ] = None,
    admin: Annotated[bool, typer.Option("--admin", help="May administer.")] = False,
    json: JsonOption = False,
) -> None:
    """Make an account, or many. Returns when the mailboxes take mail."""
    from cluster.cli_commands import quota_bytes

    if (address is None) == (file is None):
        raise Refused("give one address, or --file", EXIT_USAGE)
    body: dict[str, Any] = {} if quota is None else {"quota_bytes": quota_bytes(quota)}
    if file is not None:
        if admin or password_stdin:
            raise Refused("--file goes without --admin and --password-stdin", EXIT_USAGE)
        from cluster.cli_batch import add_accounts

        raise SystemExit(add_accounts(client_of(config, data), file, body, json=json))
    body |= {"address": address, "admin": admin}
    client = client_of(config, data)
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
    facts = client_of(config, data).ask("GET", "accounts")
    tables.print_json(facts) if json else tables.print_accounts(facts["accounts"])


@account_app.command("set")
def account_set(
    address: AddressArgument,
    quota: Annotated[
        str | None, typer.Option("--quota", help="Bytes it may hold; 0 for no limit.")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="Name for people.")] = None,
    admin: Annotated[
        bool | None, typer.Option("--admin/--no-admin", help="May administer, or not.")
    ] = None,
    disabled: Annotated[
        bool | None,
        typer.Option("--disable/--enable", help="Let nobody sign in; mail still comes in."),
    ] = None,
    config: ConfigOption = None,
    data: DataOption = None,
    json: JsonOption = False,
) -> None:
    """Change an account."""
    from cluster.cli_commands import quota_bytes

    body = {
        "quota_bytes": None if quota is None else quota_bytes(quota),
        "display_name": name,
        "role": None if admin is None else "admin" if admin else "user",
        "disabled": disabled,
    }
    facts = client_of(config, data).ask("PATCH", "accounts", address, body=body)
    tables.print_json(facts) if json else tables.print_accounts([facts])


@account_app.command("remove")
def account_remove(
    address: AddressArgument, config: ConfigOption = None, data: DataOption = None
) -> None:
    """Remove an account and its mail."""
    client_of(config, data).ask("DELETE", "accounts", address)


@account_app.command("passwd")
def account_passwd(
    address: AddressArgument,
    config: ConfigOption = None,
    data: DataOption = None,
    password_stdin: StdinOption = False,
    end_app_passwords: Annotated[
        bool, typer.Option("--end-app-passwords", help="Take its app passwords away, too.")
    ] = False,
) -> None:
    """Give an account a new password. Everything signed in with the old one ends."""
    client = client_of(config, data)
    password, generated = _password(from_stdin=password_stdin)
    body = {"password": password, "end_app_passwords": end_app_passwords}
    client.ask("PUT", "accounts", address, "password", body=body)
    if generated:
        print(f"{address} has password {password}")


# Aliases


@alias_app.command("add")
def alias_add(
    alias: str, address: AddressArgument, config: ConfigOption = None, data: DataOption = None
) -> None:
    """Let an account take mail for ALIAS too."""
    client_of(config, data).ask("POST", "aliases", body={"alias": alias, "address": address})


@alias_app.command("remove")
def alias_remove(alias: str, config: ConfigOption = None, data: DataOption = None) -> None:
    """Take an alias away."""
    client_of(config, data).ask("DELETE", "aliases", alias)


# App passwords


@app_password_app.command("add")
def app_password_add(
    address: AddressArgument,
    scope: Annotated[
        list[str] | None,
        typer.Option(
            "--scope",
            help="mail, mail:read, submit, imap or admin; may be given several times. "
            "Default: imap and submit, for a mail program.",
        ),
    ] = None,
    label: Annotated[str, typer.Option("--label", help="What it is for.")] = "",
    config: ConfigOption = None,
    data: DataOption = None,
    json: JsonOption = False,
) -> None:
    """Make an app password and print it, which cannot be done again."""
    scopes = [part for one in scope or ["imap,submit"] for part in one.replace(",", " ").split()]
    body = {"label": label, "scopes": scopes}
    facts = client_of(config, data).ask("POST", "accounts", address, "app-passwords", body=body)
    _tell(facts, facts["password"], json=json)


@app_password_app.command("list")
def app_password_list(
    address: AddressArgument,
    config: ConfigOption = None,
    data: DataOption = None,
    json: JsonOption = False,
) -> None:
    """List the app passwords of an account."""
    facts = client_of(config, data).ask("GET", "accounts", address, "app-passwords")
    tables.print_json(facts) if json else tables.print_credentials(facts["app_passwords"])


@app_password_app.command("remove")
def app_password_remove(
    address: AddressArgument,
    number: Annotated[int, typer.Argument(help="Its id, as listed.")],
    config: ConfigOption = None,
    data: DataOption = None,
) -> None:
    """Take an app password away. Everything signed in with it ends."""
    path = ("accounts", address, "app-passwords", str(number))
    client_of(config, data).ask("DELETE", *path)


# Sessions


@session_app.command("list")
def session_list(
    address: AddressArgument,
    config: ConfigOption = None,
    data: DataOption = None,
    json: JsonOption = False,
) -> None:
    """List where an account is signed in by token."""
    facts = client_of(config, data).ask("GET", "accounts", address, "sessions")
    tables.print_json(facts) if json else tables.print_credentials(facts["sessions"])


@session_app.command("end")
def session_end(
    address: AddressArgument,
    session: Annotated[
        str | None, typer.Argument(help="Its id, as listed; without one all of them end.")
    ] = None,
    config: ConfigOption = None,
    data: DataOption = None,
) -> None:
    """End a session of an account, or all."""
    path = ("accounts", address, "sessions", *([session] if session else []))
    client_of(config, data).ask("DELETE", *path)


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
