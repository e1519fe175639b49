"""QueryChanges: what `/queryChanges` of every type has in common (RFC 8620 §5.6).

A query state is the state of the type. What changed since then is in the change log: all of
it leaves the old results, and what is in the new ones comes back at its index there. A
client that removes and then adds has the new results, whatever it had cached of the old.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from actors.jmap.arguments import Arguments
from actors.jmap.changes import Position, Tracked, Window, collect, parse_state
from actors.jmap.context import Context
from actors.jmap.ids import account_id_of
from actors.jmap.limits import QUERY_CHANGES_MAX
from actors.jmap.problems import MethodError
from mail.errors import CannotCalculateChanges
from storage.mailbox_reader import MailboxReader

Added = tuple[int, int]  # index and number, in the new results


@dataclass(frozen=True, slots=True)
class Since:
    """The arguments that say which changes to return."""

    state: str
    changes_max: int | None
    up_to: str | None
    calculate_total: bool


def parse_since(arguments: Arguments) -> Since:
    """Take the arguments that every `/queryChanges` has beside those of its `/query`."""
    return Since(
        arguments.text("sinceQueryState"),
        arguments.optional_unsigned("maxChanges"),
        arguments.optional_id("upToId"),
        arguments.flag("calculateTotal"),
    )


async def changed_since(
    reader: MailboxReader, tracked: Tracked, since: Since
) -> tuple[Window, Position]:
    """Return what changed since a query state, and the state after that.

    Raises CannotCalculateChanges when it was so much that to query anew is quicker.
    """
    window, position, more = await collect(
        reader, tracked, parse_state(since.state), changes_max=QUERY_CHANGES_MAX
    )
    if more:
        raise CannotCalculateChanges("too much has changed")
    return window, position


def query_changes_response(
    context: Context,
    since: Since,
    position: Position,
    *,
    removed: Collection[int],
    added: Sequence[Added],
    total: int,
    id_of: Callable[[int], str],
) -> Mapping[str, object]:
    """Return the response of a `/queryChanges` call. Raises tooManyChanges."""
    if since.changes_max is not None and len(removed) + len(added) > since.changes_max:
        raise MethodError("tooManyChanges")
    response: dict[str, object] = {
        "accountId": account_id_of(context.access.mailbox_id),
        "oldQueryState": since.state,
        "newQueryState": str(position),
        "removed": [id_of(number) for number in removed],
        "added": [{"id": id_of(number), "index": index} for index, number in added],
    }
    if since.calculate_total:
        response["total"] = total
    return response
