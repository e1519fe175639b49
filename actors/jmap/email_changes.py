"""Email/changes: which emails were created, updated or destroyed since a state (RFC 8621 §4.3)."""

from __future__ import annotations

from collections.abc import Mapping

from actors.jmap.arguments import Arguments
from actors.jmap.changes import Tracked, changes
from actors.jmap.context import Context
from actors.jmap.ids import email_id_of

EMAILS = Tracked("emails", lambda info: info.email_modseq, email_id_of)


async def email_changes(context: Context, arguments: Arguments) -> Mapping[str, object]:
    """Return the changes since `sinceState` (RFC 8620 §5.2)."""
    response, _ = await changes(context, arguments, EMAILS)
    return response
