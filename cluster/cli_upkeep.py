"""CliUpkeep: the operator's commands that audit, index, collect and salvage.

Exit code   as in `cluster/cli.py`; 1 too when an audit has left something unrepaired, or when
            messages were lost.
"""

from __future__ import annotations

import asyncio
import datetime
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from cluster import cli_tables as tables
from cluster.cli_options import ConfigOption, DataOption, JsonOption, client_of
from cluster.cli_progress import CountProgress
from cluster.control_client import ControlClient
from cluster.data_directory import DataDirectory
from cluster.refusal import EXIT_FAILED, EXIT_USAGE, Refused

POLL_S = 0.2
DIRECTORY_SHARD = 1

AddressOption = Annotated[str | None, typer.Argument(help="Address of the account.")]
AllOption = Annotated[bool, typer.Option("--all", help="Of every shard.")]

shard_app = typer.Typer(help="Shards: where mailboxes are kept.", no_args_is_help=True)


def mailbox_audit(
    address: AddressOption = None,
    every: AllOption = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="Make anew what is derived and wrong.")
    ] = False,
    config: ConfigOption = None,
    data: DataOption = None,
    json: JsonOption = False,
) -> None:
    """Prove that messages, folders, UIDs, counters and search agree."""
    client = client_of(config, data)
    places, names = _places(client, address, every=every)
    facts: dict[str, Any] = {"findings": []}
    for shard, mailbox in places:
        body = {"work": "audit", "mailbox": mailbox, "repair": repair}
        done = _work(client, shard, body, f"auditing shard {shard}", quiet=json)
        for name, count in done["counts"].items():
            facts[name] = facts.get(name, 0) + count if name != "findings" else facts[name]
        facts["findings"] += [
            one | {"shard": shard, "address": names.get(one["mailbox"])} for one in done["findings"]
        ]
    if json:
        tables.print_json(facts)
    else:
        _print_audit(facts)
    if facts.get("left"):
        raise SystemExit(EXIT_FAILED)


def mailbox_reindex(
    address: AddressOption = None,
    every: AllOption = False,
    config: ConfigOption = None,
    data: DataOption = None,
    json: JsonOption = False,
) -> None:
    """Make the search index of a mailbox's shard anew, while the old one is used."""
    client = client_of(config, data)
    places, _ = _places(client, address, every=every)
    shards = {}
    for shard in dict.fromkeys(shard for shard, _ in places):
        done = _work(client, shard, {"work": "reindex"}, f"indexing shard {shard}", quiet=json)
        shards[shard] = done["counts"].get("emails", 0)
    if json:
        tables.print_json({"shards": [{"id": s, "emails": n} for s, n in shards.items()]})
    else:
        for shard, emails in shards.items():
            print(f"shard {shard}: {emails} emails indexed")


@shard_app.command("collect")
def shard_collect(
    shard: Annotated[int | None, typer.Argument(help="Number of the shard.")] = None,
    every: AllOption = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be deleted.")
    ] = False,
    config: ConfigOption = None,
    data: DataOption = None,
    json: JsonOption = False,
) -> None:
    """Delete the bodies that nothing refers to any more, and their traces on disk."""
    client = client_of(config, data)
    rows = []
    for number in _shards(client, shard, every=every):
        body = {"work": "collect", "dry_run": dry_run}
        done = _work(client, number, body, f"collecting in shard {number}", quiet=json)
        rows.append({"id": number, **done["counts"]})
    if json:
        tables.print_json({"dry_run": dry_run, "shards": rows})
        return
    for row in rows:
        unused = f"{row['unused_blobs']} unused, {tables.size_text(row['unused_bytes'])}"
        told = "nothing deleted (dry run)" if dry_run else f"{row['dropped_blobs']} deleted"
        print(f"shard {row['id']}: {row['blobs']} bodies, {unused}; {told}")
        if row["unreadable_blobs"]:
            print(
                f"shard {row['id']}: {row['unreadable_blobs']} bodies cannot be read, so files "
                "were not rewritten: traces of deleted ones may stay (helio mailbox audit)"
            )


@shard_app.command("salvage")
def shard_salvage(
    shard: Annotated[int, typer.Argument(help="Number of the shard.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Save to this new directory, and leave the shard as it is."),
    ] = None,
    config: ConfigOption = None,
    data: DataOption = None,
    json: JsonOption = False,
) -> None:
    """Save what can be read of a damaged shard; list what is lost.

    The result takes the shard's place; the damaged directory is kept beside it.
    """
    from actors.commands import ShardId
    from actors.salvaging import accounts_on_disk, salvage_shard
    from mail.errors import MailError

    directory = _directory(config, data)
    client = _running(directory)
    if client is None:
        directory.take()
    try:
        if client is not None:
            _refuse_sound(client, shard)
            accounts = _accounts(client, shard)
        else:
            accounts = accounts_on_disk(directory.shards, ShardId(shard))
        now = datetime.datetime.now(datetime.UTC)
        console = Console(stderr=True, highlight=False)
        with console.status("") as status:
            facts = asyncio.run(
                salvage_shard(
                    directory.shards / f"{shard:06d}",
                    out=out,
                    cluster_id=_cluster_id(directory),
                    shard=ShardId(shard),
                    accounts=accounts,
                    now_ms=int(now.timestamp() * 1000),
                    stamp=now.strftime("%Y%m%dT%H%M%SZ"),
                    release=lambda: None if client is None else _told(client, shard, "release"),
                    progress=lambda step, done: status.update(f"{step}: {done}"),
                )
            )
    except MailError as error:
        raise Refused(error.text) from None
    finally:
        if client is not None:
            _told(client, shard, "reopen")
        else:
            directory.release()
    if json:
        tables.print_json(facts)
    else:
        _print_salvage(facts)
    if facts["lost"] or facts["unresolved"]:
        raise SystemExit(EXIT_FAILED)


# The cluster


def _directory(config: Path | None, data: Path | None) -> DataDirectory:
    from cluster.settings import load

    return DataDirectory(load(config, data).settings.data)


def _mailbox_of(account: str) -> int:
    """Return the mailbox of an account id of JMAP."""
    from actors.jmap.ids import parse_account_id

    return parse_account_id(account) or 0


def _running(directory: DataDirectory) -> ControlClient | None:
    """Return the way to the cluster that serves this data, None when none does."""
    try:
        client = ControlClient(directory)
        client.ask("GET", "status")
    except Refused:
        return None
    return client


def _cluster_id(directory: DataDirectory) -> str:
    try:
        return directory.owner_file.read_text().strip()
    except OSError:
        raise Refused(f"{directory.path} is no data directory of a cluster") from None


def _refuse_sound(client: ControlClient, shard: int) -> None:
    for one in client.ask("GET", "status")["shards"]:
        if one["id"] == shard and one["primary"] is not None:
            raise Refused(f"shard {shard} is serving: there is nothing to salvage")


def _told(client: ControlClient, shard: int, what: str) -> None:
    client.ask("POST", "shards", str(shard), what, body={})


def _accounts(client: ControlClient, shard: int) -> dict[str, int]:
    """Return the addresses of a shard and their mailboxes; none when the directory is away."""
    try:
        accounts = client.ask("GET", "accounts")["accounts"]
    except Refused:
        return {}
    return {
        address: _mailbox_of(one["account"])
        for one in accounts
        if one["shard"] == shard
        for address in (one["address"], *one["aliases"])
    }


def _places(
    client: ControlClient, address: str | None, *, every: bool
) -> tuple[Sequence[tuple[int, int]], dict[int, str]]:
    """Return (shard, mailbox) of what is meant, 0 for all of a shard; and mailboxes' addresses."""
    if (address is None) is not every:
        raise Refused("give one address, or --all", EXIT_USAGE)
    if address is not None:
        facts = client.ask("GET", "mailboxes", address)
        mailbox = _mailbox_of(facts["account"])
        return [(facts["shard"], mailbox)], {mailbox: facts["address"]}
    accounts = client.ask("GET", "accounts")["accounts"]
    names = {_mailbox_of(one["account"]): one["address"] for one in accounts}
    return [(shard, 0) for shard in _shards(client, None, every=True)], names


def _shards(client: ControlClient, shard: int | None, *, every: bool) -> list[int]:
    if (shard is None) is not every:
        raise Refused("give the number of a shard, or --all", EXIT_USAGE)
    if shard is not None:
        return [shard]
    shards = client.ask("GET", "status")["shards"]
    return [one["id"] for one in shards if one["id"] != DIRECTORY_SHARD]


def _work(
    client: ControlClient, shard: int, body: dict[str, Any], title: str, *, quiet: bool
) -> dict[str, Any]:
    """Have a shard do something and wait for it, with a bar. Raises Refused when it fails."""
    facts = client.ask("POST", "shards", str(shard), "upkeep", body=body)
    with CountProgress(title, quiet=quiet) as progress:
        while facts["state"] == "running":
            progress.reach(facts["done"], facts["total"])
            time.sleep(POLL_S)
            facts = client.ask("GET", "shards", str(shard), "upkeep", str(facts["job"]))
    if facts["state"] != "done":
        raise Refused(f"shard {shard}: {facts['error'] or 'not done'}")
    return facts


# What people read


def _print_audit(facts: dict[str, Any]) -> None:
    found = facts["findings"]
    if found:
        tables.print_table(
            ("mailbox", "kind", "email", "folder", "thread", "finding", ""),
            [
                (
                    one["address"] or one["mailbox"],
                    one["kind"],
                    one["email"] or "",
                    one["folder"] or "",
                    one["thread"] or "",
                    one["text"],
                    "repaired" if one["repaired"] else "",
                )
                for one in found
            ],
        )
    print(
        f"{facts.get('mailboxes', 0)} mailboxes, {facts.get('emails', 0)} emails looked at; "
        f"{facts.get('repaired', 0)} findings repaired, {facts.get('left', 0)} left"
    )


def _print_salvage(facts: dict[str, Any]) -> None:
    print(
        f"shard {facts['shard']}: {facts['messages']} messages of {facts['mailboxes']} mailboxes "
        f"saved, {facts['rebuilt']} of them with records made anew, {facts['recovered']} in the "
        f"folder Recovered; {len(facts['lost'])} lost"
    )
    for loss in facts["losses"]:
        print(f"could not be read: {loss}")
    for line in facts["unresolved"]:
        print(f"still wrong: {line}")
    if facts["lost"]:
        tables.print_table(
            ("mailbox", "email", "received", "size", "sender"),
            [
                (
                    one["mailbox"],
                    one["email"],
                    _time_text(one["received_at_ms"]),
                    tables.size_text(one["size_bytes"]),
                    one["sender"],
                )
                for one in facts["lost"]
            ],
        )
    print(f"the saved shard is {facts['directory']}")
    if "damaged" in facts:
        print(f"the damaged one is kept as {facts['damaged']}: delete it when it is not needed")


def _time_text(at_ms: int) -> str:
    at = datetime.datetime.fromtimestamp(at_ms / 1000, datetime.UTC)
    return at.isoformat(timespec="seconds") if at_ms else ""
