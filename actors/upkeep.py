"""Upkeep: audits a shard's mailboxes, makes its index anew, collects its unused blobs (R9, R10).

Asked for by an operator the work runs at full speed between others' turns; by itself it runs
once in so many hours, at a small share of one processor. One job at a time.

State       hard: when the last rounds ended (ctl family).  soft: the last jobs; the counts.
On failure  a job that failed says so; what it repaired or dropped until then stays.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import structlog

from actors.commands import MailboxId
from actors.upkeep_commands import (
    AUDIT,
    COLLECT,
    DONE,
    FAILED,
    REINDEX,
    RUNNING,
    WORKS,
    BeginUpkeep,
    FindingShown,
    UpkeepShown,
)
from mail.errors import Invalid, MailError, NotFound, Unavailable
from storage import keys, records
from storage.audit import FINDINGS_MAX, Audit, Finding, Kind
from storage.audit_repair import REPAIRED_AT_ONCE, AuditRepair
from storage.collector import Collector
from storage.database import Family
from storage.indexer import Indexer
from storage.mailbox_reader import MailboxReader, mailboxes
from storage.records import Damaged, Number
from storage.shadow_index import count_emails
from storage.shard import Planned, Shard
from storage.transaction import Overlay

log = structlog.get_logger()

# Of one processor, what work that nobody asked for may take.
SHARE = 0.015
# Work goes on for so long before others have their turn.
SLICE_S = 0.002
# A repair may lay bare what it hid: counters can be right only when threads are.
ROUNDS_MAX = 4
JOBS_KEPT_MAX = 16
FINDINGS_SHOWN_MAX = 1000
# After the shard was opened; the shards of a node begin one after the other.
FIRST_S, SPREAD_S = 60.0, 300
LOOK_AGAIN_S = 60.0

_BLOB_KINDS = (Kind.BLOB_MISSING, Kind.BLOB_DAMAGED)


class Pace:
    """Lets others have their turn: after each slice of work, or for most of the time."""

    def __init__(self, share: float | None = None) -> None:
        self._share = share
        self._began = time.perf_counter()

    async def pause(self) -> None:
        """Wait, if this slice is over."""
        worked_s = time.perf_counter() - self._began
        if worked_s >= SLICE_S:
            await asyncio.sleep(0 if self._share is None else worked_s * (1 / self._share - 1))
            self._began = time.perf_counter()


@dataclass(slots=True)
class Job:
    """One piece of work and how far it is."""

    number: int
    command: BeginUpkeep
    pace: Pace
    state: str = RUNNING
    done: int = 0
    total: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    findings: list[FindingShown] = field(default_factory=list)
    error: str = ""
    task: asyncio.Task[None] | None = None

    def shown(self) -> UpkeepShown:
        return UpkeepShown(
            self.number,
            self.command.work,
            self.state,
            self.done,
            self.total,
            tuple(self.counts.items()),
            tuple(self.findings[:FINDINGS_SHOWN_MAX]),
            self.error,
        )


class Upkeep:
    """The upkeep of one open shard."""

    def __init__(
        self,
        shard: Shard,
        indexer: Indexer,
        *,
        audit_hours: float = 0.0,
        collect_hours: float = 0.0,
        on_damaged: Callable[[str], None] = lambda _: None,
        on_repaired: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._shard = shard
        self._indexer = indexer
        self._on_damaged = on_damaged
        self._on_repaired = on_repaired  # what is kept of that mailbox elsewhere may be wrong
        self._hours = {AUDIT: audit_hours, COLLECT: collect_hours}
        self._jobs: OrderedDict[int, Job] = OrderedDict()
        # Numbers of jobs of this process: not those of the one before it.
        self._next_job = time.time_ns() // 1_000_000
        self._one_at_a_time = asyncio.Lock()
        self._background: asyncio.Task[None] | None = None
        self._left: dict[int, int] = {}  # findings that stay, by mailbox
        self._counts = dict.fromkeys(
            (
                "audits_total", "audit_findings_total", "audit_repairs_total",
                "collected_blobs_total", "reindexes_total",
            ), 0
        )  # fmt: skip

    @property
    def is_working(self) -> bool:
        """Say whether a job runs."""
        return any(job.state == RUNNING for job in self._jobs.values())

    def start(self, number: int) -> None:
        """Begin to do what is due; `number` spreads the shards of a node."""
        if any(self._hours.values()):
            first_s = FIRST_S + number * 37 % SPREAD_S
            self._background = asyncio.create_task(self._keep_up(first_s), name="upkeep")

    async def close(self) -> None:
        """End all work; none may hold the database when it is closed."""
        tasks = [job.task for job in self._jobs.values() if job.task is not None]
        if self._background is not None:
            tasks.append(self._background)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # Jobs

    def begin(self, command: BeginUpkeep) -> UpkeepShown:
        """Begin a job, or join the one that does the same. Raises Invalid, Unavailable."""
        if command.work not in WORKS:
            raise Invalid("no such work")
        if self._shard.read_only:
            raise Unavailable("the shard can be read only now")
        for job in self._jobs.values():
            if job.state == RUNNING and job.command == command:
                return job.shown()
        return self._begin(command, Pace()).shown()

    def show(self, number: int) -> UpkeepShown:
        """Return how far a job is. Raises NotFound."""
        job = self._jobs.get(number)
        if job is None:
            raise NotFound("no such job: the shard was opened again since")
        return job.shown()

    def _begin(self, command: BeginUpkeep, pace: Pace) -> Job:
        self._next_job += 1
        job = self._jobs[self._next_job] = Job(self._next_job, command, pace)
        over = [number for number, one in self._jobs.items() if one.state != RUNNING]
        for number in over[: max(0, len(self._jobs) - JOBS_KEPT_MAX)]:
            del self._jobs[number]
        if len(self._jobs) > 2 * JOBS_KEPT_MAX:
            del self._jobs[job.number]
            raise Unavailable("too much upkeep is waiting")
        job.task = asyncio.create_task(self._run(job), name=command.work)
        return job

    async def _run(self, job: Job) -> None:
        works: dict[str, Callable[[Job], Awaitable[None]]] = {
            AUDIT: self._audit,
            REINDEX: self._reindex,
            COLLECT: self._collect,
        }
        try:
            async with self._one_at_a_time:
                await works[job.command.work](job)
            job.state = DONE
        except asyncio.CancelledError:
            job.state, job.error = FAILED, "ended with the shard"
            raise
        except MailError as error:
            job.state, job.error = FAILED, error.text
        except Damaged as error:
            job.state, job.error = FAILED, str(error)
            self._on_damaged(str(error))
        except Exception as error:
            log.exception("upkeep failed", work=job.command.work)
            job.state, job.error = FAILED, f"{type(error).__name__}: see the log"
        log.info("upkeep", work=job.command.work, state=job.state, counts=job.counts)

    # Work

    async def _audit(self, job: Job) -> None:
        every = [int(job.command.mailbox)] if job.command.mailbox else self._mailboxes()
        job.total = sum(self._emails(mailbox) for mailbox in every)
        job.counts = dict.fromkeys(("mailboxes", "emails", "findings", "repaired", "left"), 0)
        for mailbox in every:
            await self._audit_mailbox(job, mailbox)
            job.counts["mailboxes"] += 1
        self._counts["audits_total"] += 1
        if not job.command.mailbox:
            self._left = {mailbox: n for mailbox, n in self._left.items() if mailbox in every}
            self._shard.replica.note(keys.AUDITED, self._shard.clock_ms())

    async def _audit_mailbox(self, job: Job, mailbox: int) -> None:
        findings = await self.look(job, mailbox)
        job.counts["findings"] += len(findings)
        self._counts["audit_findings_total"] += len(findings)
        left = findings
        if job.command.repair:
            for _ in range(ROUNDS_MAX):
                if not any(finding.kind.repairable for finding in left):
                    break
                await self._repair(mailbox, left)
                left = await self.look(job, mailbox)
        kept = {(finding.kind, finding.email, finding.folder, finding.key) for finding in left}
        for finding in findings:
            name = (finding.kind, finding.email, finding.folder, finding.key)
            job.findings.append(_shown(mailbox, finding, repaired=name not in kept))
        repaired = max(0, len(findings) - len(left))
        job.counts["repaired"] += repaired
        job.counts["left"] += len(left)
        self._counts["audit_repairs_total"] += repaired
        self._left[mailbox] = len(left)
        if findings:
            log.error(
                "audit",
                mailbox=mailbox,
                findings=len(findings),
                repaired=repaired,
                kinds=sorted({finding.kind.value for finding in findings}),
            )

    async def look(self, job: Job, mailbox: int) -> list[Finding]:
        """Audit one mailbox as it is now."""
        done = job.done
        await self._indexer.catch_up()
        view = self._shard.database.view()
        try:
            documents = await self._indexer.documents(mailbox)
            audit = Audit(mailbox, view, self._shard.blobs, documents)
            findings: list[Finding] = []
            for finding in audit.steps():
                if finding is not None and len(findings) < FINDINGS_MAX:
                    findings.append(finding)
                job.done = max(job.done, min(done + audit.done, job.total))
                await job.pace.pause()
        finally:
            view.close()
        job.counts["emails"] = job.counts.get("emails", 0) + audit.done
        return [finding for finding in findings if self._is_still_so(mailbox, finding)]

    def _is_still_so(self, mailbox: int, finding: Finding) -> bool:
        """Say whether a blob that was not there is still referred to: blobs have no view."""
        if finding.kind not in _BLOB_KINDS:
            return True
        record = MailboxReader(mailbox, self._shard.state).email(finding.email)
        return record is not None and record.digest == finding.digest

    async def _repair(self, mailbox: int, findings: list[Finding]) -> None:
        stale = [finding.email for finding in findings if finding.kind is Kind.SEARCH]
        self._indexer.renew(mailbox, stale)
        derived = [f for f in findings if f.kind.repairable and f.kind is not Kind.SEARCH]
        for first in range(0, len(derived), REPAIRED_AT_ONCE):
            some = derived[first : first + REPAIRED_AT_ONCE]

            def plan(overlay: Overlay, now_ms: int, some: list[Finding] = some) -> Planned:
                writer = AuditRepair(mailbox, overlay, now_ms)
                if writer.exists:
                    writer.repair(some)
                    writer.finish()
                return Planned(b"", emails=tuple(writer.index_emails))

            await self._shard.run(mailbox, b"", plan)
            await asyncio.sleep(0)
        if derived:
            self._on_repaired(mailbox)

    async def _reindex(self, job: Job) -> None:
        def progress(done: int, total: int) -> None:
            job.done, job.total = done, total

        await self._indexer.rebuild(progress, pause=job.pace.pause)
        self._counts["reindexes_total"] += 1
        job.counts = {"emails": job.done}

    async def _collect(self, job: Job) -> None:
        emails = count_emails(self._shard.state)
        pace = job.pace

        async def pause() -> None:
            job.done = collector.found.blobs
            job.total = max(job.done, emails)
            await pace.pause()

        collector = Collector(self._shard, pause=pause, dry_run=job.command.dry_run)
        found = await collector.run()
        if not job.command.dry_run:
            await self._indexer.catch_up()
            if self._indexer.has_garbage:
                await self._indexer.rebuild(lambda done, total: None, pause=pace.pause)
            await collector.rewrite()
            self._counts["collected_blobs_total"] += found.dropped_blobs
            self._shard.replica.note(keys.COLLECTED, self._shard.clock_ms())
        job.counts = {
            "blobs": found.blobs,
            "bytes": found.size_bytes,
            "unused_blobs": found.unused_blobs,
            "unused_bytes": found.unused_bytes,
            "expired_uploads": found.expired_uploads,
            "unreadable_blobs": found.unreadable_blobs,
            "dropped_blobs": found.dropped_blobs,
            "rewritten": int(found.rewritten),
        }

    def _mailboxes(self) -> list[int]:
        return [m for m in mailboxes(self._shard.state) if self._emails(m) >= 0]

    def _emails(self, mailbox: int) -> int:
        reader = MailboxReader(mailbox, self._shard.state)
        return reader.info.emails if reader.exists else -1

    # By itself

    async def _keep_up(self, first_s: float) -> None:
        await asyncio.sleep(first_s)
        while True:
            try:
                for work in (AUDIT, COLLECT):
                    if self._is_due(work) and not self._shard.read_only:
                        job = self._begin(BeginUpkeep(work), Pace(SHARE))
                        assert job.task is not None
                        await job.task
            except MailError as error:
                log.info("upkeep put off", error=type(error).__name__)
            except Exception:
                log.exception("upkeep failed")
            await asyncio.sleep(LOOK_AGAIN_S)

    def _is_due(self, work: str) -> bool:
        hours = self._hours[work]
        last_ms = self.last_ms(keys.AUDITED if work == AUDIT else keys.COLLECTED)
        return hours > 0 and self._shard.clock_ms() - last_ms >= hours * 3_600_000

    def last_ms(self, name: bytes) -> int:
        """Return when a round of this kind last ended, 0 for never."""
        octets = self._shard.database.get(Family.CTL, name)
        return 0 if octets is None else records.decode(octets, Number).value

    def metrics(self) -> dict[str, float]:
        """Return counters, and what the last audits have left."""
        return {
            **self._counts,
            "audit_findings": sum(self._left.values()),
            "audit_last_seconds": self.last_ms(keys.AUDITED) / 1000,
            "blobs_unreadable_total": self._shard.blobs.unreadable,
        }


def _shown(mailbox: int, finding: Finding, *, repaired: bool) -> FindingShown:
    return FindingShown(
        MailboxId(mailbox),
        finding.kind.value,
        finding.text,
        finding.email,
        finding.folder,
        finding.thread,
        repaired,
    )
