"""Reporting: a replica tells the supervisor of its node how it is, and does what it is told.

It reports at once when something changes, and otherwise often enough for the supervisor to tell
a process that has stopped from one that has nothing to say. Orders come back on the same link;
none of them can do harm, since the core knows what is allowed.

State       soft: the link.
On failure  the link is opened again; meanwhile the replica does what it did.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable

import structlog

from actors import reports
from actors.link import LOOPBACK, Link, LinkAddress, open_link
from actors.link_options import LinkOptions
from actors.link_peers import LinkPeers
from actors.reports import Report
from actors.shard_host import READ_ONLY, ShardHost
from mail.errors import MailError, Unavailable
from storage.records import Members
from storage.replication.effects import Campaign, ChangeMembers, Release
from storage.replication.messages import ReplicaId

log = structlog.get_logger()

REPORT_S = 0.25  # four to a supervisor's suspicion, nearly
OPEN_AGAIN_S = 0.2


def report_of(host: ShardHost, address: LinkAddress) -> Report:
    """Return what a replica is now, in its own words."""
    options = host.options
    replica = host.replica
    if replica is None:
        return Report(
            options.shard,
            options.kind,
            b"",
            options.node,
            address,
            host.state,
            pid=os.getpid(),
            trouble=host.trouble,
        )
    core = replica.core
    leads = host.state == "serving" or (core.reign is not None and replica.failed is None)
    followers = core.reign.followers if core.reign is not None else {}
    return Report(
        shard=options.shard,
        kind=options.kind,
        replica=replica.replica,
        node=options.node,
        address=address,
        state=host.state,
        role="primary" if leads else core.role.value if core.reign is None else "follower",
        epoch=core.epoch,
        last_epoch=core.last.epoch,
        last_index=core.last.index,
        commit_index=core.committed.index,
        applied_index=replica.applied.index,
        indexed_index=replica.indexed_index,
        members_index=core.members_index,
        voters=core.members.voters,
        learners=core.members.learners,
        primary=core.primary or b"",
        suspect=core.suspect,
        matched=tuple((one, progress.match_index) for one, progress in followers.items()),
        pid=os.getpid(),
        idle_s=host.idle_s,
        trouble=READ_ONLY if replica.read_only else host.trouble,
        flushed_index=core.flushed_index,
        no_room=not host.has_room(),
    )


class Reporter:
    """Reports for one replica."""

    def __init__(
        self,
        name: str,
        report: Callable[[], Report],
        host: Callable[[], ShardHost | None],
        options: LinkOptions = LOOPBACK,
    ) -> None:
        """Report as `name`; `host` returns None while the shard is not open."""
        self._name = name
        self._report = report
        self._host = host
        self._options = options
        self._supervisor: LinkAddress | None = None
        self._link: Link | None = None
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def attach(self, supervisor: LinkAddress) -> None:
        """Report to the supervisor that listens there from now on."""
        if self._supervisor != supervisor:
            self._supervisor = supervisor
            if self._link is not None:
                self._link.end()
                self._link = None
        if self._task is None:
            self._task = asyncio.create_task(self._report_forever(), name="report")

    def changed(self) -> None:
        """Something is worth telling."""
        self._changed.set()

    async def _report_forever(self) -> None:
        while True:
            self._changed.clear()
            try:
                link = await self._linked()
                link.tell(reports.encode(self._report()))
            except Unavailable:
                await asyncio.sleep(OPEN_AGAIN_S)
            except Exception:
                log.exception("not reported", replica=self._name)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REPORT_S):
                    await self._changed.wait()

    async def _linked(self) -> Link:
        if self._link is None or self._link.lost:
            if self._supervisor is None:
                raise Unavailable
            self._link = await open_link(self._supervisor, self._name, self._ordered, self._options)
        return self._link

    def _ordered(self, frame: bytes) -> None:
        """Do what the supervisor says, as far as the core lets us."""
        host = self._host()
        replica = None if host is None else host.replica
        try:
            order = reports.decode(frame)
            match order:
                case reports.Introduce(addresses):
                    if host is not None and isinstance(host.peers, LinkPeers):
                        host.peers.introduce({ReplicaId(one): where for one, where in addresses})
                case reports.StandForElection():
                    if replica is not None and replica.failed is None:
                        replica.step(Campaign())
                case reports.SetMembers(voters, learners, based_on):
                    if replica is not None:
                        members = Members(voters, learners, replica.core.members.incarnation)
                        replica.step(ChangeMembers(members, based_on))
                case reports.HandOver(successor):
                    if replica is not None:
                        replica.step(Release(ReplicaId(successor)))
                case reports.KnowNodes(nodes, factor, silent):
                    if host is not None:
                        host.know_nodes(nodes, silent, factor)
                case _:
                    log.warning("an order of another kind", order=type(order).__name__)
        except MailError as error:
            log.info("order not followed", replica=self._name, error=error.text)
        except Exception:
            log.exception("order failed", replica=self._name)

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._link is not None:
            self._link.end()
