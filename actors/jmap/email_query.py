"""Email/query: search and list emails (RFC 8621 §4.4).

A folder by date, the common case, is read from its listing, newest first, until the page is
full. A search whose hits are few reads only those. Anything else walks a listing to its end.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from actors.jmap.arguments import Arguments
from actors.jmap.context import Context, pause
from actors.jmap.email_filter import (
    MESSAGE,
    InFolder,
    candidates,
    look_up_text,
    parse_condition,
)
from actors.jmap.email_rows import Row, Rows
from actors.jmap.email_sort import is_by_arrival, parse_email_sort, sort_rows
from actors.jmap.ids import email_id_of, parse_email_id
from actors.jmap.limits import MESSAGES_PER_STEP, ROWS_PER_STEP
from actors.jmap.query import (
    Operator,
    Results,
    begin_results,
    conjuncts,
    parse_filter,
    parse_window,
    query_response,
)
from storage.mailbox_reader import MailboxReader

# Up to so many hits are read one by one, at 20 µs each; more are met sooner on a walk.
CANDIDATES_READ_MAX = 1000


async def email_query(context: Context, arguments: Arguments) -> Mapping[str, object]:
    """Return the ids of the emails that match, in order."""
    arguments.account(context)
    wanted = parse_filter(arguments.any("filter"), parse_condition)
    sort = parse_email_sort(arguments.any("sort"))
    collapse = arguments.flag("collapseThreads")
    window = parse_window(arguments)
    arguments.close()
    reader = context.access.reader()
    # Read first: mail that arrives meanwhile then changes the state after this answer.
    state = str(reader.info.email_modseq)
    await look_up_text(wanted, context.access)
    rows = Rows(reader, context.access.blobs)
    by_arrival = is_by_arrival(sort)
    source = _source(rows, wanted, newest_first=not (by_arrival and sort[0].ascending))
    if not by_arrival:
        source = await sort_rows(await _matching(source, wanted), sort)
    results = begin_results(window, parse_email_id)
    total = _known_total(reader, wanted, collapse=collapse) if window.calculate_total else None
    await _fill(
        results,
        source,
        wanted if by_arrival else None,
        collapse=collapse,
        to_the_end=window.calculate_total and total is None,
    )
    return query_response(context, results, query_state=state, id_of=email_id_of, total=total)


def _source(rows: Rows, wanted: Operator, *, newest_first: bool) -> Iterable[Row]:
    """Return emails by time of arrival, among them all that match."""
    hits = candidates(wanted)
    if hits is not None and len(hits) <= CANDIDATES_READ_MAX:
        return rows.of(hits, newest_first=newest_first)
    for condition in conjuncts(wanted):
        if isinstance(condition, InFolder):
            if condition.folder is None:
                return ()
            return rows.listed(condition.folder, newest_first=newest_first)
    return rows.listed(newest_first=newest_first)


def _step(wanted: Operator) -> int:
    return ROWS_PER_STEP if wanted.cost < MESSAGE else MESSAGES_PER_STEP


async def _matching(source: Iterable[Row], wanted: Operator) -> list[Row]:
    found = []
    step = _step(wanted)
    for looked_at, row in enumerate(source, 1):
        if wanted.matches(row):
            found.append(row)
        if looked_at % step == 0:
            await pause()
    return found


async def _fill(
    results: Results,
    source: Iterable[Row],
    wanted: Operator | None,
    *,
    collapse: bool,
    to_the_end: bool,
) -> None:
    """Put matching emails into the results until the rest does not matter."""
    threads: set[int] = set()
    step = ROWS_PER_STEP if wanted is None else _step(wanted)
    if results.complete and not to_the_end:
        return
    for looked_at, row in enumerate(source, 1):
        if looked_at % step == 0:
            await pause()
        if wanted is not None and not wanted.matches(row):
            continue
        if collapse:
            # RFC 8621 §4.4.3: of a thread only the first email in this order.
            if row.thread_id in threads:
                continue
            threads.add(row.thread_id)
        if not results.add(row.email_id) and not to_the_end:
            return


def _known_total(reader: MailboxReader, wanted: Operator, *, collapse: bool) -> int | None:
    """Return the number of results where a counter has it (RFC 8621 §4.4), else None."""
    match list(conjuncts(wanted)):
        case [] if not collapse:
            return reader.info.emails
        case [InFolder(folder=int(folder))]:
            counters = reader.counters(folder)
            return counters.total_threads if collapse else counters.total_emails
        case _:
            return None
