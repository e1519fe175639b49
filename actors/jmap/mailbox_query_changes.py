"""Mailbox/queryChanges: how the results of a Mailbox/query changed (RFC 8621 §2.4)."""

from __future__ import annotations

from collections.abc import Mapping

from actors.jmap.arguments import Arguments
from actors.jmap.context import Context
from actors.jmap.ids import folder_id_of
from actors.jmap.mailbox_changes import FOLDERS
from actors.jmap.mailbox_query import parse_folder_query, path_of
from actors.jmap.query_changes import changed_since, parse_since, query_changes_response


async def mailbox_query_changes(context: Context, arguments: Arguments) -> Mapping[str, object]:
    """Return the folders that left the results since a state, and those that came.

    Every property to filter or sort by is mutable, so `upToId` is not looked at. Counters are
    none of them. In a tree a folder takes along what is under it.
    """
    arguments.account(context)
    query = parse_folder_query(arguments)
    since = parse_since(arguments)
    arguments.close()
    reader = context.access.reader()
    window, position = await changed_since(reader, FOLDERS, since)
    folders = reader.folders()
    changed = {number for number, more in window.updated.items() if more} | window.created.keys()
    if query.as_tree:
        changed |= {n for n in folders if not changed.isdisjoint(path_of(folders, n))}
    results = query.results(folders)
    return query_changes_response(
        context,
        since,
        position,
        removed=[*window.destroyed, *sorted(changed - window.created.keys())],
        added=[(index, number) for index, number in enumerate(results) if number in changed],
        total=len(results),
        id_of=folder_id_of,
    )
