"""Membership: one node's place in its cluster: whose it is, whom it joins, when that changes.

Start       `settle`: a new data directory founds a cluster or becomes a node of the one it joins;
            any other finds its head, which may have moved while it was away.
Serve       `watch` keeps the addresses of all nodes, and notices a head of a later term.
Move        `lead` makes this node the head, `follow` another one: `watch` then raises HeadMoved,
            and the process starts again with what the data directory says by then.

State       identity, head and nodes in the data directory; on the head, Ray's own in `gcs/`.
On failure  Refused: no head, another cluster, a head that still answers.
"""

from __future__ import annotations

import asyncio
import datetime
import shutil
from pathlib import Path

import ray
import structlog

from cluster import ray_environment
from cluster.cluster_ca import ClusterCa, Invitation
from cluster.data_directory import ClusterIdentity, DataDirectory, Head
from cluster.heads import (
    Claim,
    ask_head,
    exchange,
    find_head,
    listens,
    nodes_alive,
    own_address,
    publish,
    superseded,
)
from cluster.node_settings import Nodes
from cluster.refusal import Refused

log = structlog.get_logger()

# A whole cluster that starts anew waits for its head's Ray.
HEAD_S_MAX = 60.0
BEAT_S = 1.0
# The others are asked whether one of them is a head: seldom while all is well, and nobody listens
# at their addresses then; often while the head is missing.
ASK_EVERY_S = 15.0
MISSING_AFTER_S = 4.0
STORE_MARK = "heliograph"  # whose store this is; another Ray or term does not read it


class HeadMoved(Exception):
    """Another node is the head now, or this one: the process has to start again."""


class Membership:
    """This node in its cluster. One instance a process."""

    def __init__(self, data: DataDirectory, settings: Nodes, release: str) -> None:
        self._data = data
        self._settings = settings
        self._release = release
        self._moved = asyncio.Event()
        self._identity: ClusterIdentity | None = None
        self._head: Head | None = None
        self._own = ""

    async def settle(self) -> ClusterIdentity:
        """Find out whose this node is and whom it joins. Raises Refused."""
        data, settings = self._data, self._settings
        identity, known = data.identity(), data.read_head()
        if identity is None:
            data.refuse_strange_content()
            given = settings.token_file or settings.invitation
            if settings.join and given is None and not data.token_file.exists():
                raise Refused(
                    "who joins a cluster needs its token: --token-file (the file ray-token of any "
                    "of its nodes), or --invitation (of `helio cluster invite`)"
                )
        self._be_certified(identity, is_new=known is None)
        given = settings.token_file if settings.join and known is None else None
        ray_environment.admit(data.token(given))
        nodes = data.read_nodes()
        found = await find_head(
            identity,
            known,
            join=settings.join,
            others=_others(nodes, identity),
            ask=ask_head,
            timeout_s=HEAD_S_MAX,
        )
        identity = data.identify(self._release, found[1].cluster if found is not None else None)
        self._own = own_address(settings.bind, settings.port, identity, nodes)
        data.write_nodes(nodes | {identity.node: self._own})
        if found is not None:
            address, claim = found
            self._head = Head(claim.node, address, claim.term)
            shutil.rmtree(data.gcs, ignore_errors=True)  # Of an earlier reign.
        else:
            self._head = Head(identity.node, self._own, known.term if known is not None else 1)
        data.write_head(self._head)
        self._identity = identity
        log.info("settled", head=self._head.node, address=self._head.address, own=self._own)
        return identity

    def _be_certified(self, identity: ClusterIdentity | None, *, is_new: bool) -> None:
        """See to this node's certificate for the others, if it needs one. Raises Refused."""
        settings, ca = self._settings, ClusterCa(self._data.cluster_tls)
        now = datetime.datetime.now(datetime.UTC)
        # Who has joined may delete the file, which is a secret.
        if settings.invitation is not None and (is_new or settings.invitation.exists()):
            invitation = Invitation.read(settings.invitation)
            if identity is not None and identity.id != invitation.cluster:
                raise Refused(f"the invitation is to another cluster ({invitation.cluster})")
            ca.accept(invitation, now)
            if is_new and not ca.issues:
                self._data.keep_token(invitation.token)
        if settings.encrypts:
            founds = identity.founder if identity is not None else not settings.join
            ca.make(settings.bind, now) if founds else ca.check(settings.bind, now)

    @property
    def head(self) -> Head:
        """The head of this start."""
        assert self._head is not None, "settle() comes first"
        return self._head

    @property
    def identity(self) -> ClusterIdentity:
        """Whose data this is."""
        assert self._identity is not None, "settle() comes first"
        return self._identity

    @property
    def is_head(self) -> bool:
        return self.head.node == self.identity.node

    def gcs_store(self) -> Path:
        """Return the head's store, emptied when nobody else relies on what is in it.

        With other nodes it is kept: their actors may be running, and go on when the GCS is back.
        """
        store, mark = self._data.gcs, self._data.gcs / STORE_MARK
        wanted = f"ray {ray.__version__} term {self.head.term}"
        alone = set(self._data.read_nodes()) == {self.identity.node}
        if alone or not mark.exists() or mark.read_text() != wanted:
            shutil.rmtree(store, ignore_errors=True)
            store.mkdir(mode=0o700)
            mark.write_text(wanted)
        return store

    async def enter(self) -> None:
        """Say what there is to say, now that Ray runs."""
        if self.is_head:
            identity, term = self.identity, self.head.term
            await publish(self.head.address, Claim(identity.id, identity.node, term, self._release))
        await self._exchange()

    async def watch(self) -> None:
        """Keep the list of nodes and look for a later head. Ends with HeadMoved."""
        loop = asyncio.get_running_loop()
        seen = asked = loop.time()
        while not self._moved.is_set():
            now = loop.time()
            if self.is_head or await listens(self.head.address):
                seen = now
            missing = now - seen >= MISSING_AFTER_S
            if missing or now - asked >= ASK_EVERY_S:
                asked = now
                if not missing:
                    await self._exchange()
                later = await self._later_head()
                if later is not None:
                    self._move(later)
            try:
                await asyncio.wait_for(self._moved.wait(), BEAT_S)
            except TimeoutError:
                continue
        head = self._data.read_head()
        assert head is not None, "written before _moved was set"
        raise HeadMoved(head.address)

    async def lead(self) -> Head:
        """Make this node the head. Raises Refused when it is, or when the old one answers."""
        if self.is_head:
            raise Refused("this node is the head")
        if await ask_head(self.head.address) is not None:
            raise Refused(
                f"the head still answers at {self.head.address}: stop its node first, for good"
            )
        head = Head(self.identity.node, self._own, self.head.term + 1)
        self._move(head)
        return head

    async def follow(self, address: str) -> Head:
        """Join the head at an address. Raises Refused when none of this cluster is there."""
        claim = await ask_head(address)
        if claim is None:
            raise Refused(f"no head answers at {address}, or not to this cluster's token")
        if claim.cluster != self.identity.id:
            raise Refused(f"the head at {address} is of another cluster ({claim.cluster})")
        if claim.term < self.head.term:
            raise Refused(f"the head at {address} was replaced by that at {self.head.address}")
        head = Head(claim.node, address, claim.term)
        if head != self.head:
            self._move(head)
        return head

    async def shown(self) -> dict[str, object]:
        """Return what there is to know, as `helio cluster show --json` has it.

        `alive` are the nodes that Ray has now; none while the head does not answer.
        """
        alive = await nodes_alive() if await listens(self.head.address) else []
        return {
            "cluster": self.identity.id,
            "node": self.identity.node,
            "head": {
                "node": self.head.node,
                "address": self.head.address,
                "term": self.head.term,
            },
            "nodes": self._data.read_nodes(),
            "alive": alive,
            "token_file": str(self._data.token_file),
        }

    def _move(self, head: Head) -> None:
        log.warning("the head has moved", node=head.node, address=head.address, term=head.term)
        self._data.write_head(head)
        self._moved.set()

    async def _later_head(self) -> Head | None:
        addresses = _others(self._data.read_nodes(), self.identity)
        claims = await asyncio.gather(*map(ask_head, addresses))
        by_claim = {
            claim: address for claim, address in zip(claims, addresses, strict=True) if claim
        }
        later = superseded(self.head, by_claim, self.identity.id)
        return None if later is None else Head(later.node, by_claim[later], later.term)

    async def _exchange(self) -> None:
        found = await exchange(self.head.address, self.identity.node, self._own)
        if found is not None:
            self._data.write_nodes(self._data.read_nodes() | found)


def _others(nodes: dict[str, str], identity: ClusterIdentity | None) -> list[str]:
    own = identity.node if identity is not None else ""
    return [address for node, address in nodes.items() if node != own]
