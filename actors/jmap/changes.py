"""Changes: what `/changes` of every type has in common (RFC 8620 §5.2).

A state is the modseq of the newest change of its type, in decimal. Between two states lie
log entries, one a turn. An answer that must end inside an entry leads to the intermediate
state `modseq.n`: everything up to that modseq, and the first n changes of the next entry.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from actors.jmap.arguments import Arguments
from actors.jmap.context import Context, pause
from actors.jmap.ids import account_id_of
from actors.jmap.limits import CHANGES_MAX, ROWS_PER_STEP
from mail.errors import CannotCalculateChanges
from storage.mailbox_reader import MailboxReader
from storage.records import ChangeRecord, MailboxRecord

_STATE = re.compile(r"(0|[1-9]\d{0,18})(?:\.([1-9]\d{0,9}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Tracked:
    """One type whose changes are kept."""

    name: str  # how the fields of ChangeRecord begin
    state_of: Callable[[MailboxRecord], int]
    id_of: Callable[[int], str]


@dataclass(frozen=True, slots=True)
class Position:
    """How far a client has come: the changes up to `modseq`, and some of the next entry."""

    modseq: int
    within: int = 0  # changes of the entry `modseq` + 1

    def __str__(self) -> str:
        return f"{self.modseq}.{self.within}" if self.within else str(self.modseq)


def parse_state(text: str) -> Position:
    """Return the position that a state names. Raises CannotCalculateChanges."""
    match = _STATE.fullmatch(text)
    if match is None:
        raise CannotCalculateChanges("that is no state of this type")
    return Position(int(match[1]), int(match[2] or 0))


@dataclass(slots=True)
class Window:
    """Changes one after another, made into one list of each kind."""

    created: dict[int, None] = field(default_factory=dict)
    updated: dict[int, bool] = field(default_factory=dict)  # whether more than its counters
    destroyed: dict[int, None] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.created) + len(self.updated) + len(self.destroyed)

    def has(self, number: int) -> bool:
        """Say whether another change of that object takes no more room."""
        return number in self.created or number in self.updated or number in self.destroyed

    def add(self, what: str, number: int) -> None:
        """Add one change. Created and destroyed since: left out, as RFC 8620 §5.2 prefers."""
        match what:
            case "created":
                self.created[number] = None
            case "destroyed":
                self.updated.pop(number, None)
                if number in self.created:
                    del self.created[number]
                else:
                    self.destroyed[number] = None
            case _:
                if number not in self.created and number not in self.destroyed:
                    seen = self.updated.get(number, False)
                    self.updated[number] = seen or what == "updated"


async def collect(
    reader: MailboxReader, tracked: Tracked, since: Position, *, changes_max: int
) -> tuple[Window, Position, bool]:
    """Return the changes after `since`, the position after them, and whether there are more.

    Raises CannotCalculateChanges.
    """
    info = reader.info
    if since.within and since.modseq >= info.modseq:
        raise CannotCalculateChanges("that state lies in the future")
    window = Window()
    looked_at = 0
    for modseq, change in reader.changes(since.modseq):
        if modseq > info.modseq:
            break
        skip = since.within if modseq == since.modseq + 1 else 0
        for within, (what, number) in enumerate(_of_type(change, tracked.name)):
            if within < skip:
                continue
            if len(window) >= changes_max and not window.has(number):
                return window, Position(modseq - 1, within), True
            window.add(what, number)
        looked_at += 1
        if looked_at % ROWS_PER_STEP == 0:
            await pause()
    return window, Position(tracked.state_of(info)), False


def _of_type(change: ChangeRecord, name: str) -> Iterator[tuple[str, int]]:
    for what in ("created", "updated", "counted", "destroyed"):
        for number in getattr(change, f"{name}_{what}", ()):
            yield what, number


async def changes(
    context: Context, arguments: Arguments, tracked: Tracked
) -> tuple[dict[str, object], Window]:
    """Return the response of a `/changes` call, and the changes it was made from."""
    arguments.account(context)
    since_state = arguments.text("sinceState")
    changes_max = arguments.optional_unsigned("maxChanges", least=1)
    arguments.close()
    window, position, has_more = await collect(
        context.access.reader(),
        tracked,
        parse_state(since_state),
        changes_max=min(changes_max or CHANGES_MAX, CHANGES_MAX),
    )
    response: dict[str, object] = {
        "accountId": account_id_of(context.access.mailbox_id),
        "oldState": since_state,
        "newState": str(position),
        "hasMoreChanges": has_more,
        "created": [tracked.id_of(number) for number in window.created],
        "updated": [tracked.id_of(number) for number in window.updated],
        "destroyed": [tracked.id_of(number) for number in window.destroyed],
    }
    return response, window
