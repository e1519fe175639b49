"""Context: what a method call may use, and the contract with the actor that runs it.

`MailboxAccess` is all that the evaluator knows of the actor: committed state to read, one
turn at a time to write, and exact search. Tests implement it over a dictionary.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from actors.jmap.limits import ANSWER_BYTES_MAX, MESSAGES_BYTES_MAX
from actors.jmap.problems import MethodError
from storage.mailbox_reader import Blobs, MailboxReader
from storage.mailbox_writer import MailboxWriter

if TYPE_CHECKING:
    from actors.jmap.columns import Columns

Plan = Callable[[MailboxWriter, int], bytes]


class MailboxAccess(Protocol):
    """One mailbox of a shard, as the evaluator sees it."""

    mailbox_id: int
    now_ms: Callable[[], int]

    @property
    def blobs(self) -> Blobs:
        """Return read access to the shard's blobs."""

    @property
    def columns(self) -> Columns:
        """Return what queries keep of this mailbox in memory, from one request to the next."""

    def reader(self) -> MailboxReader:
        """Return the committed state, a fresh view for each method call.

        Raises NoSuchMailbox when the mailbox was removed.
        """

    async def turn(self, request_id: bytes, plan: Plan) -> bytes:
        """Commit one turn and return its reply.

        `plan(writer, now_ms)` is pure and returns the reply, which is remembered: a repeat of
        the same request id returns the first reply and runs no plan. Whoever implements this
        calls `writer.finish()`. Raises MailErrors; after OutcomeUnknown it may have happened.
        """

    async def search(self, fields: Collection[str], text: str) -> set[int] | None:
        """Return the emails in which every term of `text` is found in any of the fields.

        Fields are subject, from, to (which holds To, Cc and Bcc), body and names. The answer
        is exact and knows the newest mail. None when `text` has no terms.
        """


@dataclass(slots=True)
class Budget:
    """What is left of the limits that hold for a whole request."""

    answer_bytes: int = ANSWER_BYTES_MAX
    message_bytes: int = MESSAGES_BYTES_MAX

    def take(self, size_bytes: int) -> None:
        """Account for an object that goes into the answer. Raises requestTooLarge."""
        self.answer_bytes -= size_bytes
        if self.answer_bytes < 0:
            raise MethodError("requestTooLarge", "the objects are too large for one answer")

    def read(self, size_bytes: int) -> None:
        """Account for a message that is taken apart. Raises requestTooLarge."""
        self.message_bytes -= size_bytes
        if self.message_bytes < 0:
            raise MethodError("requestTooLarge", "the messages are too large for one request")


@dataclass(frozen=True, slots=True)
class Context:
    """What one method call may use."""

    access: MailboxAccess
    request_id: bytes  # of this call; the same when the whole request is repeated
    created_ids: dict[str, str] = field(default_factory=dict)  # of the request, RFC 8620 §3.3
    budget: Budget = field(default_factory=Budget)

    def resolve(self, id_or_reference: str) -> str | None:
        """Return an id, or the one that a `#` creation id stands for, None if unknown."""
        if id_or_reference.startswith("#"):
            return self.created_ids.get(id_or_reference[1:])
        return id_or_reference


async def pause() -> None:
    """Let others have the loop; called within long walks (`limits.ROWS_PER_STEP`)."""
    await asyncio.sleep(0)
