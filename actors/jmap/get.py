"""Get: what `/get` of every type has in common (RFC 8620 §5.1)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from actors.jmap.arguments import Arguments
from actors.jmap.context import Context
from actors.jmap.ids import account_id_of
from actors.jmap.limits import OBJECTS_IN_GET_MAX
from actors.jmap.problems import MethodError, invalid


@dataclass(slots=True)
class Get:
    """One `/get` call under way."""

    ids: list[str] | None  # None for all objects; every id once
    properties: list[str] | None  # None for the default
    found: list[msgspec.Raw] = field(default_factory=list)  # JSON
    not_found: list[str] = field(default_factory=list)

    def add(self, context: Context, found: Mapping[str, object]) -> None:
        """Add an object. Raises requestTooLarge when the answer becomes too large.

        It is written as JSON at once, so that only one at a time is held in both forms.
        """
        octets = msgspec.json.encode(found)
        context.budget.take(len(octets))
        self.found.append(msgspec.Raw(octets))

    def response(self, context: Context, state: str) -> dict[str, object]:
        """Return the response; `state` was read before the objects were."""
        return {
            "accountId": account_id_of(context.access.mailbox_id),
            "state": state,
            "list": self.found,
            "notFound": self.not_found,
        }


def begin(context: Context, arguments: Arguments) -> Get:
    """Take the standard arguments. Raises requestTooLarge for too many ids."""
    arguments.account(context)
    ids = arguments.optional_ids("ids")
    if ids is not None:
        check_count(ids)
    return Get(ids, arguments.optional_properties("properties"))


def check_count(ids: list[str]) -> list[str]:
    """Return `ids`. Raises requestTooLarge when they are more than one call may get."""
    if len(ids) > OBJECTS_IN_GET_MAX:
        raise MethodError("requestTooLarge", f"more than {OBJECTS_IN_GET_MAX} objects")
    return ids


def check_properties(wanted: Sequence[str] | None, known: Collection[str]) -> list[str]:
    """Return the properties to fetch, `id` among them. Raises invalidArguments."""
    if wanted is None:
        return list(known)
    for name in wanted:
        if name not in known:
            raise invalid(f"there is no property {name[:100]}")
    return list(dict.fromkeys(("id", *wanted)))
