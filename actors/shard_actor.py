"""ShardActor: one shard inside its Ray actor.

A call that arrives before the shard is open waits for it. A shard that could not be opened for
a passing reason is tried again with the next call; meanwhile calls fail as Unavailable. A shard
that nobody uses is closed and its process ended; the next caller has it started again.

State       none of its own: that is the shard's (`actors/shard_host.py`).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import structlog

from actors import wire
from actors.commands import Failed
from actors.link import LinkAddress, LinkListener
from actors.link_peers import LinkPeers
from actors.mailbox import Mailbox
from actors.options import ShardOptions
from actors.ray_ports import replica_name, shard_name
from actors.remote import Pulse, leave
from actors.reporting import Reporter, report_of
from actors.reports import Report
from actors.shard_host import ShardHost
from storage.files import sync_directory

log = structlog.get_logger()


class ShardActor:
    """A Mailbox that opens itself; another kind of host in a subclass."""

    host_class: ClassVar[type[ShardHost]] = Mailbox

    def __init__(self, options: ShardOptions, prepare: Callable[[str], None]) -> None:
        prepare(shard_name(options.shard).replace("/", "-"))
        self._options = options
        self._name = replica_name(options.shard, options.node)
        self._listener = LinkListener(self._answer, self._heard)
        self._peers = LinkPeers(self._name, options.link)
        self._reporter = Reporter(self._name, self._report, self._host, options.link)
        self._address: LinkAddress | None = None
        self._open_now = False
        self._starting: asyncio.Task[ShardHost] | None = None

    async def pulse(self, supervisor: LinkAddress | None = None) -> Pulse:
        """Answer at once; open the shard if it is not open; report to that supervisor."""
        self._start()
        self._address = await self._listener.listen(self._options.link)
        if supervisor is not None:
            self._reporter.attach(supervisor)
        return Pulse(os.getpid(), self._open_now, self._idle_s())

    def _host(self) -> ShardHost | None:
        return self._starting.result() if self._open_now and self._starting else None

    def _report(self) -> Report:
        assert self._address is not None
        host = self._host()
        if host is not None:
            return report_of(host, self._address)
        options = self._options
        return Report(
            options.shard,
            options.kind,
            b"",
            options.node,
            self._address,
            "recovering",
            pid=os.getpid(),
        )

    def _heard(self, name: str, frame: bytes) -> None:
        """Take a frame of another replica."""
        host = self._host()
        if host is not None:
            host.receive(frame)

    async def shown(self) -> bytes:
        """Return a frame of ShardShown, or of Failed while the shard is not open; uses nothing."""
        starting = self._starting
        if starting is None or not starting.done() or not self._open_now:
            return wire.encode([Failed("Unavailable", "the shard is not open yet")])
        return wire.encode([starting.result().shown()])

    async def retire(self, idle_s: float) -> None:
        """Close the shard and end this process for good, if nobody asked for it in `idle_s`."""
        if self._idle_s() < idle_s or self._starting is None:
            return
        log.info("shard retires", shard=self._options.shard)
        self._listener.close()
        self._peers.close()
        await self._reporter.close()
        await self._starting.result().close()
        leave()

    def _idle_s(self) -> float:
        return self._starting.result().idle_s if self._open_now and self._starting else 0.0

    async def link(self) -> LinkAddress:
        """Return where this process takes frames of commands; begin to open the shard."""
        self._start()
        return await self._listener.listen(self._options.link)

    async def _answer(self, frame: bytes) -> bytes:
        try:
            host = await asyncio.shield(self._start())
        except Exception:
            log.exception("shard not opened", shard=self._options.shard)
            count = len(wire.decode_commands(frame))
            return wire.encode([Failed("Unavailable", "the shard is not open yet")] * count)
        return await host.handle(frame)

    def _start(self) -> asyncio.Task[ShardHost]:
        if self._starting is None or (self._starting.done() and not self._open_now):
            self._starting = asyncio.create_task(self._open(), name="open shard")
        return self._starting

    async def _open(self) -> ShardHost:
        # A shard is made once, ever: the mark outlives the shard's directory, so that one whose
        # disk was wiped comes back as damaged and not as empty (R16).
        mark = Path(f"{self._options.path}.made")
        made = await asyncio.to_thread(mark.exists)
        options = replace(self._options, create=self._options.create and not made)
        host = self.host_class(options, self._listener)
        host.peers = self._peers
        host.changed = self._reporter.changed
        await host.start()
        if options.create and not host.trouble:
            await asyncio.to_thread(_leave_mark, mark)
        self._open_now = True
        log.info("shard open", shard=options.shard, kind=options.kind, trouble=host.trouble)
        return host


def _leave_mark(mark: Path) -> None:
    handle = os.open(mark, os.O_WRONLY | os.O_CREAT, 0o600)
    os.close(handle)
    sync_directory(mark.parent)
