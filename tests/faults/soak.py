"""Soak: random faults under a load of clients, for minutes; then a tally.

    python -m tests.faults.soak --minutes 30 [--seed N] [--fault "kill node"]… [--data DIR]

As root each node is a machine with a network of its own, which can be cut, and one of them has a
small disk, which can be full; with Debian's fiu-utils system calls can be made to fail.

Exit code 0 when nothing contradicts what clients were told, 1 otherwise; 2 when the cluster did
not recover from a fault in time.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e.cluster_fixture import NotStarted
from tests.faults import faults
from tests.faults.clients import Clients
from tests.faults.history import History
from tests.faults.network import Network, is_possible, own_network, python
from tests.faults.nodes import Nodes, NotWhole

ACCOUNTS = 6
CALM_S = 4.0  # between two faults, once the cluster is whole
TAKEN_S_MAX = 120.0


@dataclass(slots=True)
class Tally:
    """What was done to the cluster."""

    done: Counter[str] = field(default_factory=Counter)
    worst_s: dict[str, float] = field(default_factory=dict)  # until every replica was there again


def main() -> int:
    options = _options()
    machines = is_possible() and not options.one_machine
    if machines:
        own_network(python("tests.faults.soak", *sys.argv[1:]))
    directory = Path(tempfile.mkdtemp(prefix="soak-", dir=options.data))
    code = _soak(options, directory, machines=machines)
    if code == 0:
        shutil.rmtree(directory)
    else:
        print(f"the nodes' data and logs are left in {directory}", flush=True)
    return code


def _soak(options: argparse.Namespace, directory: Path, *, machines: bool) -> int:
    rng = random.Random(options.seed)
    nodes = Nodes(
        directory,
        settings=faults.failing_calls(directory),
        network=Network() if machines else None,
        small_disks=(3,) if machines else (),
    )
    kinds = options.fault or [*faults.possible(nodes)]
    print(f"seed {options.seed}: {', '.join(kinds)}", flush=True)
    tally = Tally()
    whole = True
    try:
        nodes.start_all()
        nodes.add_accounts([f"user{place}@faults.test" for place in range(ACCOUNTS)])
        clients = Clients(nodes, History(), seed=options.seed)
        clients.start()
        try:
            _hurt(nodes, clients, kinds, rng, options.minutes * 60.0, tally)
        except (NotWhole, NotStarted) as error:
            print(f"not whole again: {error}", flush=True)
            whole = False
        clients.stop()
        found = clients.contradictions()
    finally:
        nodes.close()
    _print_tally(clients, tally, found)
    return 1 if found else 0 if whole else 2


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--fault", action="append", help="only these")
    parser.add_argument("--one-machine", action="store_true", help="one network and disk for all")
    parser.add_argument("--data", type=Path, default=None)
    return parser.parse_args()


def _hurt(
    nodes: Nodes,
    clients: Clients,
    kinds: list[str],
    rng: random.Random,
    seconds: float,
    tally: Tally,
) -> None:
    """Hurt the cluster until the time is over."""
    done, worst = tally.done, tally.worst_s
    ends_s = time.monotonic() + seconds
    while time.monotonic() < ends_s:
        clients.wait_taken(10, TAKEN_S_MAX)
        kind = kinds[len(done)] if len(done) < len(kinds) else rng.choice(kinds)
        began_s = time.monotonic()
        what = faults.possible(nodes)[kind](nodes, rng)
        nodes.wait_whole()
        took_s = time.monotonic() - began_s
        clients.wait_taken(10, TAKEN_S_MAX)
        done[kind] += 1
        worst[kind] = max(worst.get(kind, 0.0), took_s)
        print(f"{kind}: {what}; whole after {took_s:.1f} s; {clients.taken()} taken", flush=True)
        time.sleep(CALM_S)


def _print_tally(clients: Clients, tally: Tally, found: list[str]) -> None:
    print("\nfaults, and the longest time until every replica was there again:")
    for kind, count in tally.done.most_common():
        print(f"  {count:4d}  {kind:<20} {tally.worst_s[kind]:6.1f} s")
    for what, count in clients.tally().items():
        print(f"{count:7d}  {what}")
    print(f"{len(found):7d}  contradictions")
    for text in found:
        print(f"         {text}")
    print(json.dumps({"faults": tally.done, "contradictions": len(found)} | clients.tally()))


if __name__ == "__main__":
    sys.exit(main())
