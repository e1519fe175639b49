"""Thread/changes: which threads got or lost an email since a state (RFC 8621 §3.2)."""

from __future__ import annotations

from collections.abc import Mapping

from actors.jmap.arguments import Arguments
from actors.jmap.changes import Tracked, changes
from actors.jmap.context import Context
from actors.jmap.ids import thread_id_of

THREADS = Tracked("threads", lambda info: info.thread_modseq, thread_id_of)


async def thread_changes(context: Context, arguments: Arguments) -> Mapping[str, object]:
    """Return the changes since `sinceState` (RFC 8620 §5.2)."""
    response, _ = await changes(context, arguments, THREADS)
    return response
