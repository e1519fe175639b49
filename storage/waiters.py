"""Waiters: who waits for a replica: for a proposal, for the lease, for anything to change."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from mail.errors import NotPrimary, OutcomeUnknown
from storage.database import WriteFailed


@dataclass(slots=True)
class Proposal:
    """The one batch that is on its way (R12)."""

    last_index: int
    blobs: Mapping[bytes, bytes]
    done: asyncio.Future[None]


class Waiters:
    """The futures of one replica. All are on one event loop."""

    def __init__(self) -> None:
        self.proposal: Proposal | None = None
        self._lease: dict[asyncio.Future[None], None] = {}  # in the order of their coming
        self._watchers: list[asyncio.Future[None]] = []

    def propose(self, last_index: int, blobs: Mapping[bytes, bytes]) -> asyncio.Future[None]:
        """Return what is done when everything up to `last_index` is applied in this reign."""
        assert self.proposal is None, "one batch is in flight at a time"
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.proposal = Proposal(last_index, blobs, done)
        return done

    async def lease(self, timeout_s: float) -> None:
        """Wait for the lease. Raises NotPrimary when it does not come, or the reign ends."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lease[waiter] = None
        try:
            async with asyncio.timeout(timeout_s):
                await waiter
        except TimeoutError:
            raise NotPrimary from None
        finally:
            del self._lease[waiter]

    async def change(self) -> None:
        """Wait until the core has been told something. Raises what `fail` was told."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._watchers.append(waiter)
        await waiter

    def wake(self, *, applied_index: int, reigns: bool, may_answer: bool) -> None:
        """Tell those whose time has come."""
        proposal = self.proposal
        if proposal is not None and reigns and applied_index >= proposal.last_index:
            _settle(proposal.done)
        if may_answer:
            for waiter in self._lease:
                _settle(waiter)
        watchers, self._watchers = self._watchers, []
        for watcher in watchers:
            _settle(watcher)

    def end_reign(self) -> None:
        """Tell who waits for the reign that it is over (R12)."""
        if self.proposal is not None:
            _settle(self.proposal.done, OutcomeUnknown())
        for waiter in self._lease:
            _settle(waiter, NotPrimary())

    def fail(self, error: Exception) -> None:
        """Tell everybody that this replica takes no part any more."""
        if self.proposal is not None:
            unknown = error if isinstance(error, WriteFailed) else OutcomeUnknown()
            _settle(self.proposal.done, unknown)
        self.end_reign()
        for watcher in self._watchers:
            _settle(watcher, error)


def _settle(future: asyncio.Future[None], error: Exception | None = None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
