"""Simulated clients: they deliver, change, destroy and read mail, one thing at a time each.

A client repeats by its request id what was not answered, wherever it believes the primary to
be, until it has an answer. So all that a run began is settled when it ends.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from actors import mailbox_turns
from actors.commands import Deliver, Delivered, Done, MailboxId, RequestId
from actors.request_ids import request_id_from
from mail.errors import Invalid, MailError, NotFound
from mail.summary import EmailAddress, SearchText, Summary
from storage.blobs import digest_of
from storage.collector import Collector
from storage.mailbox_reader import MailboxReader
from storage.mailbox_writer import MailboxWriter
from storage.shard import Shard
from tests.sim.history import Seen, look_at

if TYPE_CHECKING:
    from tests.sim.simulator import Simulator

T = TypeVar("T")
MAILBOXES = (1, 2, 3)
SIZES = (0, 10, 500, 1_500, 1_500, 6_000)  # blobs up to 600 octets travel with their entry
PATIENCE_S = 0.8


class Client:
    """One client, from its first command to the answer of its last."""

    def __init__(self, simulator: Simulator, operations: int) -> None:
        self.simulator = simulator
        self.rng = random.Random(simulator.rng.getrandbits(64))
        self.history = simulator.history
        self.operations = operations
        self._guess = ""
        self._avoided = ""

    async def run(self) -> None:
        kinds: list[Callable[[], Awaitable[None]]] = [
            self.deliver,
            self._change,
            self._read,
            self._collect,
        ]
        for _ in range(self.operations):
            await asyncio.sleep(self.rng.random() ** 2 * self.simulator.think_s)
            await self.rng.choices(kinds, (8, 6, 5, 2))[0]()

    async def _ask(self, work: Callable[[Shard], Awaitable[T]]) -> T:
        """Return the answer of whoever gives one. Raises what is permanent."""
        while True:
            node = self._guess
            if not node or self.rng.random() < 0.1:
                node = self.rng.choice([n for n in self.simulator.nodes if n != self._avoided])
            try:
                async with asyncio.timeout(PATIENCE_S * (0.1 + self.rng.random())):
                    answer = await self.simulator.ask(node, work)
                self._guess = node
                return answer
            except (NotFound, Invalid):
                raise
            except (MailError, TimeoutError):
                self._guess = ""
                await asyncio.sleep(self.rng.random() * 0.1)

    def _request_id(self) -> RequestId:
        return request_id_from(now_ms=self.simulator.clock_ms(), random=self.rng.randbytes(10))

    # Deliveries

    def _letter(self, mailbox: int) -> bytes:
        """Return a new message; or what was destroyed elsewhere, and may be dropped now."""
        known = self.history.mail[mailbox].raws
        others = [
            other
            for mail in self.history.mail.values()
            for other in mail.raws
            if other not in known and mail.acknowledged.get(digest_of(other)) in mail.destroying
        ]
        if others and self.rng.random() < 0.6:
            return self.rng.choice(others)
        return self.rng.randbytes(16) + b"x" * self.rng.choice(SIZES)

    async def deliver(self) -> None:
        mailbox = self.rng.choice(MAILBOXES)
        await self._send(mailbox, self._letter(mailbox))

    async def _send(self, mailbox: int, raw: bytes) -> int:
        """Deliver a message that was not sent to this mailbox before; return its email."""
        digest = digest_of(raw)
        self.history.mail[mailbox].raws[raw] = None
        thread = self.rng.randint(1, 8)
        summary = Summary(
            subject=f"thread {thread}",
            from_=(EmailAddress(None, "a@example.test"),),
            message_id=(f"{raw[:8].hex()}@example.test",),
            references=(f"{thread}@example.test",),
        )
        now_ms = self.simulator.clock_ms()
        command = Deliver(
            MailboxId(mailbox), self._request_id(), raw, summary, SearchText(), now_ms
        )
        plan = mailbox_turns.mailbox_plan(mailbox, mailbox_turns.deliver(command, digest))

        async def work(shard: Shard) -> bytes:
            return await shard.run(mailbox, command.request_id, plan, blobs={digest: raw})

        email_id = 0
        for _ in range(2 if self.rng.random() < 0.15 else 1):  # An answer may be lost, too.
            reply = mailbox_turns.decoded(await self._ask(work))
            assert isinstance(reply, Delivered)
            email_id = reply.email_id
            self.history.see_delivered(mailbox, digest, email_id)
        return email_id

    # Changes

    async def _change(self) -> None:
        mailbox = self.rng.choice(MAILBOXES)
        mail = self.history.mail[mailbox]
        stored = [email for email in mail.acknowledged.values() if email not in mail.destroying]
        if not stored:
            return
        email_id = self.rng.choice(stored)
        action = self.rng.choice(("seen", "move", "destroy"))
        seen = ("$seen",) if self.rng.random() < 0.5 else ()
        folders = self.rng.sample(range(1, 7), self.rng.randint(1, 3))
        if action == "destroy":
            await self._destroy(mailbox, email_id)
        elif action == "seen":
            await self._turn(
                mailbox, email_id, lambda w: w.update_email(email_id, keywords=seen, folders=None)
            )
        else:
            await self._turn(
                mailbox,
                email_id,
                lambda w: w.update_email(email_id, keywords=None, folders=folders),
            )

    async def _destroy(self, mailbox: int, email_id: int) -> None:
        mail = self.history.mail[mailbox]
        if email_id not in mail.destroying:
            mail.destroying.add(email_id)
            await self._turn(mailbox, email_id, lambda w: w.destroy_email(email_id))
            mail.destroyed.add(email_id)

    async def _turn(
        self, mailbox: int, email_id: int, change: Callable[[MailboxWriter], None]
    ) -> None:
        def turn(writer: MailboxWriter, now_ms: int) -> bytes:
            change(writer)
            return mailbox_turns.encoded(Done())

        request_id = self._request_id()
        plan = mailbox_turns.mailbox_plan(mailbox, turn)
        try:
            await self._ask(lambda shard: shard.run(mailbox, request_id, plan))
        except NotFound:
            if email_id not in self.history.mail[mailbox].destroying:
                self.history.problem(f"email {email_id} of {mailbox} is said not to be there")

    # Reads

    async def read_forever(self) -> None:
        while not self.simulator.mended:
            await asyncio.sleep(self.rng.random() * 0.15)
            await self._read()

    async def pester(self, node: str) -> None:
        """Ask one node again and again, as clients do that know no better."""

        async def work(shard: Shard) -> None:
            return

        while True:
            await asyncio.sleep(0.1)
            with suppress(MailError, TimeoutError):
                async with asyncio.timeout(0.2):
                    await self.simulator.ask(node, work)

    async def watch(self, former: str, for_s: float) -> None:
        """Write wherever another primary may be, and read at the former one."""
        self._avoided = former
        end_s = self.simulator.loop.time() + for_s
        reads = []
        while self.simulator.loop.time() < end_s:
            await asyncio.sleep(0.1)
            with suppress(TimeoutError):
                async with asyncio.timeout(0.3):
                    await self.deliver()
            reads.append(asyncio.ensure_future(self._read(former)))
        await asyncio.gather(*reads)

    async def _read(self, at: str = "") -> None:
        mailbox = self.rng.choice(MAILBOXES)
        slow_s = self.rng.choice((0.0, 0.0, 0.0, 0.01, 0.3, 1.5))
        floor = self.history.floor(mailbox)

        async def work(shard: Shard) -> tuple[Seen, bool]:
            seen = look_at(MailboxReader(mailbox, shard.state))
            await asyncio.sleep(slow_s)
            return seen, shard.read_only

        # Whoever believes to lead is the most interesting, and of two the former one.
        serving = [
            (one.core.epoch, node.name)
            for node, one in self.simulator.replicas()
            if one.core.serving
        ]
        node = min(serving)[1] if serving else self.rng.choice(list(self.simulator.nodes))
        node = at or node
        try:
            async with asyncio.timeout(PATIENCE_S + slow_s + (2.0 if at else 0.0)):
                seen, read_only = await self.simulator.ask(node, work)
        except (MailError, TimeoutError):
            return
        if read_only and self.simulator.nodes[node].disk.mark_fell_back:
            return  # It cannot apply its log now, nor tell what of it was acknowledged.
        self.history.see_read(node, mailbox, floor, seen)

    async def _collect(self) -> None:
        """Drop what nothing refers to, while it comes again."""
        dirty = self.rng.random() < 0.5
        pause_s = self.rng.choice((0.0, 0.0, 0.001, 0.02))

        async def work(shard: Shard) -> None:
            collector = self.simulator.classes.collector(
                shard, pause=lambda: asyncio.sleep(pause_s), dry_run=False
            )
            await collector.run()
            if dirty:
                await collector.rewrite()

        one, other = self.rng.sample(MAILBOXES, 2)
        raw = self.rng.randbytes(16) + b"y" * self.rng.choice(SIZES)
        self.history.mail[other].raws[raw] = None  # Nobody else sends it there.
        await self._destroy(one, await self._send(one, raw))

        async def bring_again() -> None:
            await asyncio.sleep(self.rng.random() * 0.012)
            await self._send(other, raw)

        bringing = asyncio.ensure_future(bring_again())
        with suppress(MailError, TimeoutError):
            async with asyncio.timeout(5 * PATIENCE_S):
                await self.simulator.ask(self._guess or "a", work)
        await bringing


__all__ = ["MAILBOXES", "Client", "Collector"]
