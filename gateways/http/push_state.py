"""The states of one account as a push channel tells them, without I/O (RFC 8620 §7.1).

A `StateChange` says what changed since the last one on the same channel. The states of a
beat are those of the last one: then all are said again, as an ordinary `StateChange`, so
that a client notices within one beat when a notification was lost on the way to us.
The state of each type is the decimal number that the JMAP evaluator gives out as `state`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from actors.commands import MailboxState

DATA_TYPES = ("Email", "Mailbox", "Thread")


@dataclass(frozen=True, slots=True)
class Change:
    """What one StateChange says: the new states by type, and the state of the whole channel."""

    states: dict[str, str]
    push_state: str


def states_of(state: MailboxState) -> dict[str, str]:
    """Return the JMAP state string of each data type."""
    return {"Email": str(state.email), "Mailbox": str(state.folder), "Thread": str(state.thread)}


def push_state_of(states: dict[str, str]) -> str:
    """Return one string for all states, which a client gives back later (RFC 8887 §4.3.5.2)."""
    return ".".join(states[data_type] for data_type in DATA_TYPES)


def parse_push_state(text: str) -> dict[str, str] | None:
    """Return the states in a pushState, or None when it is not one of ours."""
    parts = text.split(".")
    if len(parts) != len(DATA_TYPES):
        return None
    return dict(zip(DATA_TYPES, parts, strict=True))


class PushState:
    """What one channel has told its client, and therefore what it has to tell next."""

    def __init__(
        self,
        data_types: Collection[str] | None,
        push_state: str | None = None,
        *,
        repeats: bool = True,
    ) -> None:
        """Begin a channel for `data_types` (None: all) with what the client knows already.

        One that does not repeat says nothing at a beat.
        """
        self._repeats = repeats
        self._wanted = [name for name in DATA_TYPES if data_types is None or name in data_types]
        self._told = parse_push_state(push_state) if push_state is not None else None
        self._first = True

    def next(self, state: MailboxState) -> Change | None:
        """Return what to say of `state`; None when the client knows, or cares for no type."""
        states = states_of(state)
        told, self._told = self._told, states
        first, self._first = self._first, False
        known = told or {}
        changed = {name: states[name] for name in self._wanted if known.get(name) != states[name]}
        if not changed and not first and self._repeats:  # a beat
            changed = {name: states[name] for name in self._wanted}
        return Change(changed, push_state_of(states)) if changed else None
