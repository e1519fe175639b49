"""CliTables: facts as people read them."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from cluster.settings import Shown

UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


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
    for node in facts["nodes"]:
        free = size_text(node["disk_free_bytes"])
        print(f"node {node['name']} is {node['state']}, {node['shards']} shards, {free} free")
    print()
    listeners = [(one["name"], f"{one['host']}:{one['port']}") for one in facts["listeners"]]
    print_table(("listener", "address"), listeners)
    print()
    print_table(
        ("shard", "kind", "state", "epoch", "mailboxes", "lag", "process", "trouble"),
        [
            (
                shard["id"],
                shard["kind"],
                shard["replicas"][0]["state"],
                shard["epoch"],
                shard["mailboxes"],
                shard["replicas"][0]["lag_entries"],
                shard["pid"],
                shard.get("trouble"),
            )
            for shard in facts["shards"]
        ],
    )


def print_mailbox(facts: dict[str, Any]) -> None:
    """Print `helio mailbox show`."""
    rows = [(name, value) for name, value in facts.items() if name != "replicas"]
    rows = [(name, size_text(value) if name == "bytes" else str(value)) for name, value in rows]
    states = ", ".join(f"{one['role']} {one['state']}" for one in facts["replicas"])
    print_table(("mailbox", ""), [*rows, ("replicas", states)])


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
