"""Email search: which emails a filter finds, in which order, each thread once if so wished.

Three ways lead to them. A folder by date is read from its listing. What columns in memory
can tell is computed from them. Anything else is tried email by email: few hits one by one,
many along a listing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from actors.jmap.arguments import Arguments
from actors.jmap.columns import Columns, numbers_of
from actors.jmap.context import MailboxAccess, pause
from actors.jmap.email_filter import (
    MESSAGE,
    InFolder,
    by_columns,
    candidates,
    folders_of,
    is_of_thread,
    look_up_text,
    parse_condition,
    select,
)
from actors.jmap.email_rows import Row, Rows
from actors.jmap.email_sort import (
    is_by_arrival,
    is_by_thread,
    is_mutable,
    parse_email_sort,
    sort_rows,
)
from actors.jmap.limits import MESSAGES_PER_STEP, ROWS_PER_STEP
from actors.jmap.query import Comparator, Operator, conjuncts, parse_filter
from storage.mailbox_reader import MailboxReader

# Up to so many hits are read one by one, at 20 µs each, to be put in order; for more there
# are columns, and more than that are met sooner on a walk.
HITS_READ_MAX = 200
CANDIDATES_READ_MAX = 1000

# Email and thread; None where others may have the loop.
Hit = tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class EmailSearch:
    """Which emails are wanted, and in which order."""

    wanted: Operator
    sort: tuple[Comparator, ...]
    collapse: bool

    @property
    def mutable(self) -> bool:
        """Say whether an email may enter, leave or move although it is neither new nor gone."""
        return self.wanted.mutable or is_mutable(self.sort) or self.collapse

    @property
    def by_thread(self) -> bool:
        """Say whether an email may do so for what another of its thread does."""
        return self.collapse or is_of_thread(self.wanted) or is_by_thread(self.sort)

    async def begin(self, access: MailboxAccess, reader: MailboxReader, below: int) -> Source:
        """Return what is found, of the emails numbered below `below`, ready to be walked.

        Whoever reads the state first and passes `next_email` as of then has no email that
        came later. Raises unsupportedFilter.
        """
        total = self._counted(reader)
        await look_up_text(self.wanted, access)
        rows = Rows(reader, access.blobs)
        by_arrival = is_by_arrival(self.sort)
        newest_first = not (by_arrival and self.sort[0].ascending)
        found, tested = self._few_or_listed(rows, newest_first=newest_first), False
        if found is None:
            columns = await self._columns(access, reader)
            emails, tested = _narrowed(self.wanted, columns)
            emails &= (1 << below) - 1
            if tested and not self.collapse:
                total = emails.bit_count()
            if tested and by_arrival:
                return Source(self, _walk(columns, emails, newest_first=newest_first), total)
            found = _read(rows, self.wanted, emails, newest_first=newest_first)
        found = (row for row in found if row.email_id < below)
        wanted = None if tested else self.wanted
        if not by_arrival:
            found = await sort_rows(await _matching(found, wanted), self.sort)
            wanted = None
        return Source(self, _tried(found, wanted), total)

    def _counted(self, reader: MailboxReader) -> int | None:
        """Return the number of results where a counter has it (RFC 8621 §4.4), else None."""
        match list(conjuncts(self.wanted)):
            case [] if not self.collapse:
                return reader.info.emails
            case [InFolder(folder=int(folder))]:
                counters = reader.counters(folder)
                return counters.total_threads if self.collapse else counters.total_emails
            case _:
                return None

    def _few_or_listed(self, rows: Rows, *, newest_first: bool) -> Iterable[Row] | None:
        """Return emails among which all matches are; None where columns know them better."""
        hits = candidates(self.wanted)
        if hits is not None and len(hits) <= HITS_READ_MAX:
            return rows.of(hits, newest_first=newest_first)
        if any(not isinstance(c, InFolder) and by_columns(c) for c in conjuncts(self.wanted)):
            return None
        return _listed(rows, self.wanted, newest_first=newest_first)

    async def _columns(self, access: MailboxAccess, reader: MailboxReader) -> Columns:
        columns = access.columns
        await columns.refresh(reader, folders_of(self.wanted, reader.folders()))
        return columns


@dataclass(slots=True)
class Source:
    """What a search finds, in order."""

    search: EmailSearch
    found: Iterator[Hit]
    total: int | None  # where it is known without counting

    async def walk(self, add: Callable[[int, int], bool]) -> int:
        """Tell `add` every email and thread until it wants no more; return how many it got."""
        threads: set[int] = set()
        count = 0
        for one in self.found:
            if one is None:
                await pause()
                continue
            email_id, thread_id = one
            if self.search.collapse:
                # RFC 8621 §4.4.3: of a thread only the first email in this order.
                if thread_id in threads:
                    continue
                threads.add(thread_id)
            count += 1
            if not add(email_id, thread_id):
                break
        return count


def parse_email_search(arguments: Arguments) -> EmailSearch:
    """Take the arguments that say which emails are wanted."""
    return EmailSearch(
        parse_filter(arguments.any("filter"), parse_condition),
        parse_email_sort(arguments.any("sort")),
        arguments.flag("collapseThreads"),
    )


async def matching(search: EmailSearch, rows: Rows, emails: Sequence[int]) -> list[Row]:
    """Return those of `emails` that pass the filter, whose texts are looked up."""
    kept = []
    for start in range(0, len(emails), ROWS_PER_STEP):
        some = rows.of(emails[start : start + ROWS_PER_STEP])
        kept += await _matching(some, search.wanted)
        await pause()
    return kept


def _narrowed(wanted: Operator, columns: Columns) -> tuple[int, bool]:
    """Return emails among which all matches are, and whether they are no others."""
    emails, exact = columns.everything, True
    for condition in conjuncts(wanted):
        part = select(condition, columns)
        if part is None:
            exact = False
        else:
            emails &= part
    return emails, exact


def _walk(columns: Columns, emails: int, *, newest_first: bool) -> Iterator[Hit]:
    return (one if one[0] else None for one in columns.walk(emails, newest_first=newest_first))


def _read(rows: Rows, wanted: Operator, emails: int, *, newest_first: bool) -> Iterable[Row]:
    """Return emails by time of arrival, if there are many from a listing with others."""
    if emails.bit_count() <= CANDIDATES_READ_MAX:
        return rows.of(numbers_of(emails), newest_first=newest_first)
    listed = _listed(rows, wanted, newest_first=newest_first)
    octets = emails.to_bytes(emails.bit_length() // 8 + 1, "little")
    return (
        row
        for row in listed
        if row.email_id >> 3 < len(octets) and octets[row.email_id >> 3] >> (row.email_id & 7) & 1
    )


def _listed(rows: Rows, wanted: Operator, *, newest_first: bool) -> Iterable[Row]:
    for condition in conjuncts(wanted):
        if isinstance(condition, InFolder):
            if condition.folder is None:
                return ()
            return rows.listed(condition.folder, newest_first=newest_first)
    return rows.listed(newest_first=newest_first)


def _step(wanted: Operator | None) -> int:
    return ROWS_PER_STEP if wanted is None or wanted.cost < MESSAGE else MESSAGES_PER_STEP


def _tried(found: Iterable[Row], wanted: Operator | None) -> Iterator[Hit]:
    step = _step(wanted)
    for looked_at, row in enumerate(found, 1):
        if looked_at % step == 0:
            yield None
        if wanted is None or wanted.matches(row):
            yield row.email_id, row.thread_id


async def _matching(found: Iterable[Row], wanted: Operator | None) -> list[Row]:
    kept = []
    step = _step(wanted)
    for looked_at, row in enumerate(found, 1):
        if wanted is None or wanted.matches(row):
            kept.append(row)
        if looked_at % step == 0:
            await pause()
    return kept
