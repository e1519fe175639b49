"""CliBatch: `helio account add --file`: many accounts, some hundreds in one call.

May be broken off and given again: accounts that are there already are counted and left alone.
Progress goes to stderr, facts to stdout.

Exit code   0 every address has an account; 1 some were refused, and are named; 2 wrong usage.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from actors.account_commands import ACCOUNTS_IN_BATCH_MAX, PASSWORDS_IN_BATCH_MAX
from cluster import cli_tables as tables
from cluster.cli_progress import CountProgress
from cluster.control_client import ControlClient
from cluster.refusal import EXIT_FAILED, EXIT_USAGE, Refused

LINES_MAX = 10_000_000
REFUSALS_SHOWN_MAX = 50

Line = tuple[str, str]  # address and password


def add_accounts(
    client: ControlClient, file: Path, options: Mapping[str, Any], *, json: bool
) -> int:
    """Make the accounts of a file; print what came of it; return the exit code."""
    lines = read_lines(file)
    began = time.monotonic()
    made, there = 0, 0
    refused: list[dict[str, str]] = []
    with CountProgress("accounts", len(lines)) as progress:
        for batch in batches(lines):
            body = dict(options) | {"accounts": batch}
            facts = client.ask("POST", "accounts", "batch", body=body)
            made += facts["made"]
            known = [one for one in facts["refused"] if one["kind"] == "AlreadyExists"]
            there += len(known)
            refused += [one for one in facts["refused"] if one["kind"] != "AlreadyExists"]
            progress.advance(len(batch))
    seconds = time.monotonic() - began
    if json:
        tables.print_json(
            {
                "made": made,
                "present": there,
                "refused": [{"address": o["address"], "error": o["error"]} for o in refused],
                "seconds": round(seconds, 3),
            }
        )
    else:
        print(f"{made:,} accounts made, {there:,} were there already, {seconds:.1f} s")
    for one in refused[:REFUSALS_SHOWN_MAX]:
        print(f"helio: {one['address']}: {one['error']}", file=sys.stderr)
    if len(refused) > REFUSALS_SHOWN_MAX:
        more = len(refused) - REFUSALS_SHOWN_MAX
        print(f"helio: and {more:,} more were refused", file=sys.stderr)
    return EXIT_FAILED if refused else 0


def read_lines(file: Path) -> list[Line]:
    """Return addresses and passwords; empty lines and those that begin with # are none.

    Raises Refused.
    """
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"{file} cannot be read: {error}", EXIT_USAGE) from None
    lines: list[Line] = []
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        if len(lines) >= LINES_MAX:
            raise Refused(f"{file} has more than {LINES_MAX:,} lines", EXIT_USAGE)
        address, _, password = line.partition(",")
        lines.append((address.strip(), password))
    return lines


def batches(lines: Iterable[Line]) -> Iterator[list[Line]]:
    """Yield lines in their order, as many as one call takes."""
    batch: list[Line] = []
    passwords = 0
    for line in lines:
        full = len(batch) >= ACCOUNTS_IN_BATCH_MAX
        if full or (line[1] and passwords >= PASSWORDS_IN_BATCH_MAX):
            yield batch
            batch, passwords = [], 0
        batch.append(line)
        passwords += bool(line[1])
    if batch:
        yield batch
