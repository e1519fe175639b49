"""Mailbox/changes: which folders changed since a state, and whether only their counters did.

RFC 8621 §2.2.
"""

from __future__ import annotations

from collections.abc import Mapping

from actors.jmap.arguments import Arguments
from actors.jmap.changes import Tracked, changes
from actors.jmap.context import Context
from actors.jmap.ids import folder_id_of

FOLDERS = Tracked("folders", lambda info: info.folder_modseq, folder_id_of)

COUNTER_PROPERTIES = ("totalEmails", "unreadEmails", "totalThreads", "unreadThreads")


async def mailbox_changes(context: Context, arguments: Arguments) -> Mapping[str, object]:
    """Return the changes since `sinceState`, with `updatedProperties`."""
    response, window = await changes(context, arguments, FOLDERS)
    only_counters = bool(window.updated) and not any(window.updated.values())
    response["updatedProperties"] = list(COUNTER_PROPERTIES) if only_counters else None
    return response
