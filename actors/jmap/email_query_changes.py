"""Email/queryChanges: how the results of an Email/query changed (RFC 8621 §4.5)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from actors.jmap.arguments import Arguments
from actors.jmap.changes import Window
from actors.jmap.context import Context
from actors.jmap.email_changes import EMAILS
from actors.jmap.email_rows import Rows
from actors.jmap.email_search import EmailSearch, Source, matching, parse_email_search
from actors.jmap.ids import email_id_of, parse_email_id
from actors.jmap.query_changes import (
    Added,
    Since,
    changed_since,
    parse_since,
    query_changes_response,
)
from actors.jmap.thread_changes import THREADS
from storage.mailbox_reader import MailboxReader


async def email_query_changes(context: Context, arguments: Arguments) -> Mapping[str, object]:
    """Return the emails that left the results since a state, and those that came."""
    arguments.account(context)
    search = parse_email_search(arguments)
    since = parse_since(arguments)
    arguments.close()
    reader = context.access.reader()
    info = reader.info
    window, position = await changed_since(reader, EMAILS, since)
    touched = set(window.created)
    if search.mutable:
        touched.update(window.updated)
    if search.by_thread:
        threads, _ = await changed_since(reader, THREADS, since)
        touched |= _thread_members(reader, threads, (*window.created, *window.updated))
    source = await search.begin(context.access, reader, info.next_email)
    rows = Rows(reader, context.access.blobs)
    passing = {row.email_id: row.thread_id for row in await matching(search, rows, sorted(touched))}
    added, total = await _find(search, source, since, passing)
    return query_changes_response(
        context,
        since,
        position,
        removed=[*window.destroyed, *sorted(touched - window.created.keys())],
        added=added,
        total=total,
        id_of=email_id_of,
    )


def _thread_members(reader: MailboxReader, threads: Window, emails: Iterable[int]) -> set[int]:
    """Return all emails of threads that changed, and of those that some of `emails` are in.

    What was destroyed is found by its thread only.
    """
    numbers = {*threads.created, *threads.updated}
    for email_id in emails:
        email = reader.email(email_id)
        if email is not None:
            numbers.add(email.thread_id)
    members: set[int] = set()
    for number in numbers:
        thread = reader.thread(number)
        if thread is not None:
            members.update(member.email_id for member in thread.members)
    return members


async def _find(
    search: EmailSearch, source: Source, since: Since, passing: Mapping[int, int]
) -> tuple[list[Added], int]:
    """Return the index of each of the `passing` emails in the results, and the total.

    With a mutable filter or sort `upToId` is not looked at (RFC 8620 §5.6).
    """
    added: list[Added] = []
    up_to = None if since.up_to is None or search.mutable else parse_email_id(since.up_to)
    # Of a thread only the first email is in the results.
    expected = len(set(passing.values()) if search.collapse else passing)
    to_the_end = since.calculate_total and source.total is None
    index = 0
    ended = False

    def look(email_id: int, _: int) -> bool:
        nonlocal index, ended
        if email_id in passing and not ended:
            added.append((index, email_id))
        index += 1
        ended = ended or email_id == up_to or len(added) == expected
        return not ended or to_the_end

    if expected or to_the_end:
        count = await source.walk(look)
        return added, count if source.total is None else source.total
    return added, source.total or 0
