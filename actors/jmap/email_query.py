"""Email/query: search and list emails (RFC 8621 §4.4)."""

from __future__ import annotations

from collections.abc import Mapping

from actors.jmap.arguments import Arguments
from actors.jmap.context import Context
from actors.jmap.email_search import parse_email_search
from actors.jmap.ids import email_id_of, parse_email_id
from actors.jmap.query import begin_results, parse_window, query_response


async def email_query(context: Context, arguments: Arguments) -> Mapping[str, object]:
    """Return the ids of the emails that match, in order."""
    arguments.account(context)
    search = parse_email_search(arguments)
    window = parse_window(arguments)
    arguments.close()
    reader = context.access.reader()
    # Read first: what changes meanwhile changes the state after this answer.
    info = reader.info
    source = await search.begin(context.access, reader, info.next_email)
    results = begin_results(window, parse_email_id)
    to_the_end = window.calculate_total and source.total is None
    if to_the_end or not results.complete:
        await source.walk(lambda email_id, _: results.add(email_id) or to_the_end)
    return query_response(
        context,
        results,
        query_state=str(info.email_modseq),
        id_of=email_id_of,
        total=source.total,
    )
