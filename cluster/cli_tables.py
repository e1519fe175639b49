"""CliTables: facts as people read them."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from cluster.settings import Shown

UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
DURATIONS = ((86_400_000, "days"), (3_600_000, "h"), (60_000, "min"), (1000, "s"), (1, "ms"))


def print_json(facts: Any) -> None:
    """Print facts for programs."""
    print(json.dumps(facts, ensure_ascii=False, default=str))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table; columns of numbers are to the right."""
    lines = [list(row) for row in rows]
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for index, column in enumerate(columns):
        numbers = bool(lines) and all(isinstance(line[index], int) for line in lines)
        table.add_column(column, justify="right" if numbers else "left", overflow="fold")
    for line in lines:
        table.add_row(*("" if cell is None else str(cell) for cell in line))
    Console(highlight=False, markup=False, soft_wrap=False).print(table)


def size_text(size_bytes: int) -> str:
    """Return a size as people write it."""
    size, unit = float(size_bytes), UNITS[0]
    for unit in UNITS:
        if size < 1024 or unit == UNITS[-1]:
            break
        size /= 1024
    return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"


def print_status(facts: dict[str, Any]) -> None:
    """Print `helio status`."""
    cluster = facts["cluster"]
    print(f"cluster {cluster['id']} is {cluster['state']}, release {facts['version']}")
    print(replication_text(cluster["replication"], len(facts["shards"])))
    print()
    print_nodes(facts["nodes"])
    print()
    listeners = [
        (one["name"], f"{one['host']}:{one['port']}", one["node"]) for one in facts["listeners"]
    ]
    print_table(("listener", "address", "node"), listeners)
    print()
    print_shards(facts["shards"], cluster["replication"]["wanted"])


def replication_text(facts: Mapping[str, Any], shards: int) -> str:
    """Return in one line how many copies of each shard there are to be, and whether there are."""
    fewer = facts["under_replicated_shards"]
    state = "under-replicated" if fewer else facts["state"]
    text = f"{state} (wanted {facts['wanted']}, in force {facts['in_force']})"
    if fewer and facts["in_force"] >= facts["wanted"]:  # Else it is so of all of them.
        text += f", {fewer} of {shards} shards have fewer copies now"
    return text


def print_nodes(nodes: Sequence[Mapping[str, Any]]) -> None:
    """Print `helio node list`."""
    print_table(
        ("node", "state", "replicas", "primaries", "free", "release"),
        [
            (
                node["name"],
                node_state(node),
                node["shards"],
                node["primaries"],
                None if node["disk_free_bytes"] is None else size_text(node["disk_free_bytes"]),
                node["version"],
            )
            for node in nodes
        ],
    )


def node_state(node: Mapping[str, Any]) -> str:
    """Return a node's state as people read it."""
    match node["state"]:
        case "silent":
            return f"silent for {duration_text(node['silent_ms'])}"
        case "unknown":
            return "unknown, never heard"
        case state:
            return str(state)


def duration_text(duration_ms: int) -> str:
    """Return a duration as people write it."""
    unit_ms, unit = next((one for one in DURATIONS if duration_ms >= 2 * one[0]), DURATIONS[-1])
    return f"{duration_ms // unit_ms} {unit}"


def print_shards(shards: Sequence[Mapping[str, Any]], wanted: int) -> None:
    """Print `helio shard list`; `wanted` is how many copies there are to be."""
    print_table(
        ("shard", "kind", "epoch", "primary", "replicas", "copies", "mailboxes", "pid", "trouble"),
        [
            (
                shard["id"],
                shard["kind"],
                shard["epoch"],
                shard["primary"] or "none",
                replicas_text(shard["replicas"]),
                _copies_text(shard, wanted),
                shard["mailboxes"],
                shard["pid"],
                shard.get("trouble"),
            )
            for shard in shards
        ],
    )


def _copies_text(shard: Mapping[str, Any], wanted: int) -> str:
    text = f"{shard['copies']} of {wanted}"
    return f"{text}, under-replicated" if shard["under_replicated"] else text


def replicas_text(replicas: Iterable[Mapping[str, Any]]) -> str:
    """Return the replicas of a shard: the node of each, what it is, and how far it is behind.

    A state that goes without saying is not said.
    """
    return ", ".join(f"{one['node']} {_replica_text(one)}" for one in replicas)


def _replica_text(one: Mapping[str, Any]) -> str:
    role, state = one["role"], one["state"]
    words = [] if role == "none" else [role]
    if role == "none" or state != ("serving" if role == "primary" else "following"):
        words.append(state)
    if one["lag_entries"]:
        words.append(f"lag {one['lag_entries']}")
    return " ".join(words)


def print_mailbox(facts: dict[str, Any]) -> None:
    """Print `helio mailbox show`."""
    rows = [(name, value) for name, value in facts.items() if name != "replicas"]
    rows = [(name, size_text(value) if name == "bytes" else str(value)) for name, value in rows]
    print_table(("mailbox", ""), [*rows, ("replicas", replicas_text(facts["replicas"]))])


def print_receipt(facts: Mapping[str, Any]) -> None:
    """Print `helio mailbox show --message`."""
    place = "where in the log it was committed is not recorded: an older release stored it"
    if facts["index"] is not None:
        place = f"committed in epoch {facts['epoch']} at index {facts['index']}"
    print(f"message {facts['message']} of {facts['address']}, shard {facts['shard']}")
    print(place)
    print()
    told = {True: "yes", False: "no", None: "not known"}
    rows = [(one["node"], one["role"], told[one["on_disk"]]) for one in facts["replicas"]]
    print_table(("node", "role", "on disk"), rows)


def print_accounts(accounts: Sequence[dict[str, Any]]) -> None:
    """Print `helio account list`."""
    print_table(
        ("address", "role", "shard", "quota", "aliases", ""),
        [
            (
                one["address"],
                one["role"],
                one["shard"],
                size_text(one["quota_bytes"]) if one["quota_bytes"] else "",
                ", ".join(one["aliases"]),
                "disabled" if one["disabled"] else "",
            )
            for one in accounts
        ],
    )


def print_domain(facts: dict[str, Any]) -> None:
    """Print `helio domain show`."""
    quota = size_text(facts["quota_bytes"]) if facts["quota_bytes"] else "no limit"
    rows = [
        ("sign-up", facts["signup"]),
        ("sign-ups a day", str(facts["signups_per_day_max"])),
        ("quota of new accounts", quota),
        ("catch-all", facts["catch_all"] or "none"),
    ]
    print_table(("domain", facts["domain"]), rows)


def print_credentials(rows: Sequence[dict[str, Any]]) -> None:
    """Print app passwords or sessions."""
    print_table(
        ("id", "label", "scopes", "made", "last used"),
        [
            (
                one["id"],
                one["label"],
                " ".join(one["scopes"]),
                _date(one["created_at_ms"]),
                _date(one["used_at_ms"]),
            )
            for one in rows
        ],
    )


def _date(at_ms: int | None) -> str:
    if not at_ms:
        return "never"
    return datetime.datetime.fromtimestamp(at_ms // 1000, datetime.UTC).strftime("%Y-%m-%d %H:%M Z")


def print_settings(settings: Sequence[Shown]) -> None:
    """Print `helio config show`."""
    print_table(
        ("setting", "value", "source", "meaning"),
        [(one.name, _value(one.value), one.source, one.doc) for one in settings],
    )


def _value(value: object) -> str:
    return "" if value is None else str(value)
