"""Heads: which node's Ray the others join, and how a node that has lost it finds another.

The head says so in its own GCS, which only it runs: cluster, node, term. There every node leaves
the address at which its GCS would listen if it were the head, and each keeps a copy of all of
them. So whoever misses the head, or was away, asks these addresses; nobody answers at any of them
but a head, and of two heads the one of the later term counts. Asking needs the cluster's token.

State       `head.json` and `nodes.json` of the data directory.
On failure  None where nobody answers, Refused where the wrong one does.
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import ray
import structlog
from ray._raylet import GcsClient  # type: ignore[attr-defined]  # Ray's stub is incomplete.

from actors.remote import DATA_LABEL
from cluster.data_directory import ClusterIdentity, Head
from cluster.refusal import Refused

log = structlog.get_logger()

KV = b"heliograph"  # the namespace of our keys in Ray's GCS
HEAD_KEY = b"head"
NODE_PREFIX = b"node/"
CONNECT_TIMEOUT_S = 1.0
KV_TIMEOUT_S = 2.0
# A GCS that is there answers within milliseconds. Ray itself gives up only after 40 s when
# something else listens at the address.
ASK_TIMEOUT_S = 5.0
SEARCH_PAUSE_S = 0.5
NODES_MAX = 256  # Entries that are believed; Ray clusters of our kind have tens.


@dataclass(frozen=True, slots=True)
class Claim:
    """What a head says of itself."""

    cluster: str
    node: str
    term: int
    release: str


Found = TypeVar("Found")
Ask = Callable[[str], Awaitable[Claim | None]]


def own_address(bind: str, port: int, identity: ClusterIdentity, nodes: Mapping[str, str]) -> str:
    """Return where this node's GCS listens if it is the head; the port is never 0.

    `port` 0 keeps the one it had, or finds a free one when it had none or lost it to somebody.
    """
    before = nodes.get(identity.node, "").rpartition(":")[2]
    kept = port or (int(before) if before.isdigit() else 0)
    if port == 0 and kept and not _is_free(bind, kept):
        kept = 0
    return f"{bind}:{kept or _free_port(bind)}"


def superseded(known: Head, claims: Iterable[Claim | None], cluster: str) -> Claim | None:
    """Return the claim to the headship that ends the known one's, or None."""
    later = [
        claim
        for claim in claims
        if claim is not None and claim.cluster == cluster and claim.term > known.term
    ]
    return max(later, key=lambda claim: claim.term, default=None)


async def find_head(
    identity: ClusterIdentity | None,
    known: Head | None,
    *,
    join: str,
    others: Iterable[str],
    ask: Ask,
    timeout_s: float,
) -> tuple[str, Claim] | None:
    """Return address and claim of the head to join, or None when this node is the head.

    `join` is where the operator says that the cluster is; what is remembered comes before it.
    A node that was the head asks the others once; one that was not waits for a head.
    Raises Refused when there is none within `timeout_s`, or `join` is of another cluster.
    """
    term = known.term if known is not None else 0
    if identity is not None and (known is None or known.node == identity.node):
        if known is None and not join:
            return None
        if known is not None:
            others_once = dict.fromkeys((*others, *((join,) if join else ())))
            return await _first(others_once, identity, term + 1, ask)
    elif not join and known is None:
        return None
    remembered = (known.address,) if known is not None else ()
    addresses = dict.fromkeys((*remembered, *((join,) if join else ()), *others))
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    while True:
        found = await _first(addresses, identity, term, ask, join)
        if found is not None:
            return found
        if loop.time() >= deadline:
            names = ", ".join(addresses)
            raise Refused(
                f"no head of the cluster answers at {names}: start it, or make this node the head "
                "with `helio cluster recover-head`"
                if identity is not None
                else f"no cluster answers at {names}, or not to this token"
            )
        await asyncio.sleep(SEARCH_PAUSE_S)


async def _first(
    addresses: Iterable[str],
    identity: ClusterIdentity | None,
    term_min: int,
    ask: Ask,
    join: str = "",
) -> tuple[str, Claim] | None:
    for address in addresses:
        claim = await ask(address)
        if claim is None:
            continue
        if identity is not None and claim.cluster != identity.id:
            if address == join:
                raise Refused(
                    f"this data belongs to another cluster ({identity.id}) "
                    f"than the one at {address} ({claim.cluster})"
                )
            continue
        if claim.term >= term_min:
            return address, claim
    return None


async def ask_head(address: str) -> Claim | None:
    """Return what the head at an address says of itself, or None."""
    if not await listens(address):
        return None
    return await _in_thread(lambda: _claim(address))


async def listens(address: str) -> bool:
    """Say whether anybody accepts connections at an address."""
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            _, writer = await asyncio.open_connection(host, int(port))
    except (OSError, TimeoutError, ValueError):
        return False
    writer.close()
    return True


async def publish(address: str, claim: Claim) -> None:
    """Say in the GCS at an address, which is ours, that this node is the head."""
    octets = json.dumps(asdict(claim)).encode()
    await _in_thread(lambda: _put(address, HEAD_KEY, octets))


async def exchange(address: str, node: str, own: str) -> dict[str, str] | None:
    """Leave our address in the head's GCS; return everybody's by node. None: no answer."""
    return await _in_thread(lambda: _exchange(address, node, own))


async def nodes_alive() -> list[str]:
    """Return the nodes whose Ray is part of the cluster that this process is connected to."""
    return await _in_thread(_alive) or []


def _alive() -> list[str]:
    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    labels = [one["Labels"] for one in nodes if one["Alive"]]
    return sorted(found[DATA_LABEL] for found in labels if DATA_LABEL in found)


def _claim(address: str) -> Claim | None:
    octets = _client(address).internal_kv_get(HEAD_KEY, KV, timeout=KV_TIMEOUT_S)
    if octets is None:
        return None
    record = json.loads(octets)
    return Claim(
        str(record["cluster"]), str(record["node"]), int(record["term"]), str(record["release"])
    )


def _put(address: str, key: bytes, octets: bytes) -> bool:
    _client(address).internal_kv_put(key, octets, True, KV, timeout=KV_TIMEOUT_S)
    return True


def _exchange(address: str, node: str, own: str) -> dict[str, str]:
    client = _client(address)
    key = NODE_PREFIX + node.encode()
    if client.internal_kv_get(key, KV, timeout=KV_TIMEOUT_S) != own.encode():
        client.internal_kv_put(key, own.encode(), True, KV, timeout=KV_TIMEOUT_S)
    found = {}
    keys = client.internal_kv_keys(NODE_PREFIX, KV, timeout=KV_TIMEOUT_S)
    for one in sorted(keys)[:NODES_MAX]:
        octets = client.internal_kv_get(one, KV, timeout=KV_TIMEOUT_S)
        if octets is not None:
            found[one.removeprefix(NODE_PREFIX).decode()] = octets.decode()
    return found


def _client(address: str) -> Any:
    return GcsClient(address=address)


async def _in_thread(work: Callable[[], Found]) -> Found | None:
    """Return what blocking work gives; None when it fails or takes too long.

    In a thread that the end of this process does not wait for.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Found | None] = loop.create_future()

    def settle(found: Found | None) -> None:
        if not done.done():
            done.set_result(found)

    def run() -> None:
        found: Found | None = None
        # Threads of Ray's own are begun here, and inherit this: else one of them would take a
        # signal to stop while Ray's handler is in place, which ends the process at once.
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT))
        try:
            found = work()
        except Exception as error:
            log.info("head not asked", error=type(error).__name__)
        try:
            loop.call_soon_threadsafe(settle, found)
        except RuntimeError:  # The loop was closed meanwhile.
            return

    threading.Thread(target=run, name="ask head", daemon=True).start()
    try:
        async with asyncio.timeout(ASK_TIMEOUT_S):
            return await done
    except TimeoutError:
        return None


def _is_free(bind: str, port: int) -> bool:
    try:
        _bound(bind, port).close()
    except OSError:
        return False
    return True


def _free_port(bind: str) -> int:
    with _bound(bind, 0) as free:
        return int(free.getsockname()[1])


def _bound(bind: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((bind, port))
    except OSError:
        bound.close()
        raise
    return bound
