"""Thread/get: the emails of threads, oldest first (RFC 8621 §3.1)."""

from __future__ import annotations

from collections.abc import Mapping

from actors.jmap.arguments import Arguments
from actors.jmap.context import Context, pause
from actors.jmap.get import begin, check_count, check_properties
from actors.jmap.ids import email_id_of, parse_thread_id, thread_id_of
from actors.jmap.limits import OBJECTS_IN_GET_MAX, ROWS_PER_STEP
from storage.mailbox_reader import MailboxReader

PROPERTIES = ("id", "emailIds")


async def thread_get(context: Context, arguments: Arguments) -> Mapping[str, object]:
    """Return threads by id, or all of them if they are few enough."""
    get = begin(context, arguments)
    properties = check_properties(get.properties, PROPERTIES)
    arguments.close()
    reader = context.access.reader()
    state = str(reader.info.thread_modseq)
    ids = await _all(reader) if get.ids is None else get.ids
    emails_read = 0
    for thread_id in ids:
        number = parse_thread_id(thread_id)
        emails = None if number is None else _email_ids(reader, number)
        if emails is None:
            get.not_found.append(thread_id)
            continue
        thread = {"id": thread_id, "emailIds": emails}
        get.add(context, {name: thread[name] for name in properties})
        emails_read += len(emails)
        if emails_read > ROWS_PER_STEP:
            emails_read = 0
            await pause()
    return get.response(context, state)


async def _all(reader: MailboxReader) -> list[str]:
    """Return the ids of all threads, of as many as tell that there are too many."""
    threads: dict[int, None] = {}
    for row, line in enumerate(reader.listing()):
        threads[line.record.thread_id] = None
        if len(threads) > OBJECTS_IN_GET_MAX:
            break
        if row % ROWS_PER_STEP == 0:
            await pause()
    return check_count([thread_id_of(number) for number in threads])


def _email_ids(reader: MailboxReader, thread_id: int) -> list[str] | None:
    """Return the thread's emails by date of arrival, by number where that is equal."""
    thread = reader.thread(thread_id)
    if thread is None:
        return None
    dated = []
    for member in thread.members:
        email = reader.email(member.email_id)
        if email is not None:
            dated.append((email.received_at_ms, email.email_id))
    return [email_id_of(number) for _, number in sorted(dated)]
