"""Simulator: the production shard and core over a simulated disk, driven by one seed.

Clients deliver, change and destroy mail, repeat what was not answered by its request id, and
the process dies at any disk operation, with or without power. What was acknowledged must be
there, once, whatever the order of events; the seed gives the same order again.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field

from actors import mailbox_turns
from actors.commands import Deliver, Delivered, Done, MailboxId, RequestId
from actors.request_ids import request_id_from
from mail.errors import MailError, NotFound
from mail.summary import EmailAddress, SearchText, Summary
from storage.blobs import digest_of
from storage.collector import Collector
from storage.mailbox_reader import MailboxReader
from storage.mailbox_writer import MailboxWriter
from storage.shard import Shard
from tests.sim.checkers import acknowledged_problems, mailbox_problems
from tests.sim.disk import Crashed, Disk, SimDatabase, SimHardState

MAILBOXES = (1, 2, 3)
START_MS = 1_700_000_000_000


@dataclass
class Mail:
    """What the clients know of one mailbox."""

    acknowledged: dict[bytes, int] = field(default_factory=dict)
    destroyed: dict[int, None] = field(default_factory=dict)
    raws: dict[bytes, None] = field(default_factory=dict)  # every message sent to it
    uids: dict[tuple[int, int], int] = field(default_factory=dict)  # every UID ever seen


class Simulator:
    """One run."""

    shard_class: type[Shard] = Shard

    def __init__(self, seed: int, *, reigns: int = 6, operations: int = 60) -> None:
        self.rng = random.Random(seed)
        self.disk = Disk(self.rng)
        self.reigns = reigns
        self.operations = operations
        self.now_ms = START_MS
        self.mail = {mailbox: Mail() for mailbox in MAILBOXES}
        self.unanswered: list[Deliver] = []
        self.problems: list[str] = []
        self.shard: Shard | None = None  # of this reign

    def run(self) -> list[str]:
        """Return every problem that a checker found."""
        asyncio.run(self._run())
        return self.problems

    async def _run(self) -> None:
        for reign in range(self.reigns):
            last = reign == self.reigns - 1
            self.disk.crash_at = None if last else self.rng.randint(5, 150)
            try:
                await self._reign()
                crashed = False
            except Crashed:
                crashed = True
            left = asyncio.all_tasks() - {asyncio.current_task()}
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)
            self._see_loop_end()
            if crashed and self.rng.random() < 0.7:
                self.disk.lose_power()
            self.disk.crash_at = None
            await self._check()

    def _see_loop_end(self) -> None:
        """Look at how the dead process's commit loop ended, so that asyncio need not ask."""
        task = None if self.shard is None else self.shard._loop_task
        if task is not None and task.done() and not task.cancelled():
            task.exception()

    async def _reign(self) -> None:
        shard = self.shard = self._open()
        await self._or_crash(shard, shard.recover())
        clients = [self._client(shard, self.rng.choice(MAILBOXES)) for _ in range(self.operations)]
        clients += [self._collect(shard) for _ in range(self.rng.randint(0, 5))]
        unanswered, self.unanswered = self.unanswered, []
        repeats = [self._deliver(shard, command) for command in unanswered]
        await self._or_crash(shard, asyncio.gather(*repeats, *clients))
        await shard.close()

    def _open(self) -> Shard:
        return self.shard_class(
            SimDatabase(self.disk),
            SimHardState(self.disk),  # type: ignore[arg-type]
            clock_ms=lambda: self.now_ms,
        )

    async def _or_crash(self, shard: Shard, work: object) -> None:
        """Wait for the work, or for the commit loop to die with the process."""
        task = asyncio.ensure_future(work)  # type: ignore[call-overload]
        while not task.done():
            loop_task = shard._loop_task
            if loop_task is not None and loop_task.done() and loop_task.exception() is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                raise Crashed
            await asyncio.sleep(0)
        task.result()

    async def _client(self, shard: Shard, mailbox: int) -> None:
        for _ in range(self.rng.randint(0, 20)):
            await asyncio.sleep(0)
        self.now_ms += self.rng.randint(0, 50)
        stored = list(self.mail[mailbox].acknowledged.values())
        if stored and self.rng.random() < 0.4:
            await self._change(shard, mailbox, self.rng.choice(stored))
        else:
            command = self._letter(mailbox)
            await self._deliver(shard, command)
            if self.rng.random() < 0.2:  # The answer was lost on its way: once more.
                await self._deliver(shard, command)

    async def _collect(self, shard: Shard) -> None:
        """Drop what nothing refers to, between everything else."""

        async def pause() -> None:
            for _ in range(self.rng.randint(0, 3)):
                await asyncio.sleep(0)

        for _ in range(self.rng.randint(0, 40)):
            await asyncio.sleep(0)
        collector = Collector(shard, pause=pause, dry_run=False)
        try:
            await collector.run()
            await collector.rewrite()
        except MailError:
            return

    def _letter(self, mailbox: int) -> Deliver:
        size = self.rng.choice((0, 10, 2_000, 70_000, 300_000))
        raw = self.rng.randbytes(16) + b"x" * size
        known = self.mail[mailbox].raws
        others = [
            other
            for mail in self.mail.values()
            for other in mail.raws
            if other not in known and mail.acknowledged.get(digest_of(other)) in mail.destroyed
        ]
        if others and self.rng.random() < 0.5:
            raw = self.rng.choice(others)  # What was destroyed elsewhere, and may be dropped now.
        known[raw] = None
        thread = self.rng.randint(1, 8)
        summary = Summary(
            subject=f"thread {thread}",
            from_=(EmailAddress(None, "a@example.test"),),
            message_id=(f"{raw[:8].hex()}@example.test",),
            references=(f"{thread}@example.test",),
        )
        request_id = request_id_from(now_ms=self.now_ms, random=self.rng.randbytes(10))
        return Deliver(MailboxId(mailbox), request_id, raw, summary, SearchText(), self.now_ms)

    async def _deliver(self, shard: Shard, command: Deliver) -> None:
        digest = digest_of(command.raw)
        plan = mailbox_turns.mailbox_plan(command.mailbox, mailbox_turns.deliver(command, digest))
        self.unanswered.append(command)
        try:
            octets = await shard.run(
                command.mailbox, command.request_id, plan, blobs={digest: command.raw}
            )
        except MailError:
            return
        reply = mailbox_turns.decoded(octets)
        assert isinstance(reply, Delivered)
        if command in self.unanswered:
            self.unanswered.remove(command)
        known = self.mail[command.mailbox].acknowledged
        if known.setdefault(digest, reply.email_id) != reply.email_id:
            self.problems.append(f"one request id, two replies: {known[digest]}, {reply}")

    async def _change(self, shard: Shard, mailbox: int, email_id: int) -> None:
        action = self.rng.choice(("seen", "move", "destroy"))
        seen = ("$seen",) if self.rng.random() < 0.5 else ()
        folders = self.rng.sample(range(1, 7), self.rng.randint(1, 3))

        def turn(writer: MailboxWriter, now_ms: int) -> bytes:
            if action == "seen":
                writer.update_email(email_id, keywords=seen, folders=None)
            elif action == "move":
                writer.update_email(email_id, keywords=None, folders=folders)
            else:
                writer.destroy_email(email_id)
            return mailbox_turns.encoded(Done())

        request_id = request_id_from(now_ms=self.now_ms, random=self.rng.randbytes(10))
        known = self.mail[mailbox]
        if action == "destroy":
            # Until the answer comes it may be there or not; the checker then looks.
            known.destroyed[email_id] = None
        try:
            await shard.run(
                mailbox, RequestId(request_id), mailbox_turns.mailbox_plan(mailbox, turn)
            )
        except NotFound:
            return

    async def _check(self) -> None:
        """Open what the crash left, and check all of it."""
        shard = self._open()
        await shard.recover()
        for mailbox, known in self.mail.items():
            reader = MailboxReader(mailbox, shard.state)
            self._settle_destroyed(known, reader)
            self.problems += mailbox_problems(mailbox, shard.state, shard.blobs)
            self.problems += acknowledged_problems(known.acknowledged, known.destroyed, reader)
            self.problems += self._uid_problems(known, reader)
        await shard.close()

    @staticmethod
    def _settle_destroyed(known: Mail, reader: MailboxReader) -> None:
        """A destroy without an answer may have happened or not: believe the disk from now on."""
        for email_id in list(known.destroyed):
            if reader.exists and reader.email(email_id) is not None:
                del known.destroyed[email_id]

    @staticmethod
    def _uid_problems(known: Mail, reader: MailboxReader) -> list[str]:
        """Return UIDs that went to another email than before, or backwards (RFC 9051 §2.3.1.1)."""
        problems = []
        for line in reader.listing() if reader.exists else ():
            state = reader.email_state(line.email_id)
            assert state is not None
            for place in state.places:
                holder = known.uids.setdefault((place.folder, place.uid), line.email_id)
                if holder != line.email_id:
                    problems.append(f"UID {place.uid} of folder {place.folder} was used again")
                folder = reader.folder(place.folder)
                if folder is None or folder.uid_next <= place.uid:
                    problems.append(f"UID {place.uid} is beyond uid_next")
        return problems
