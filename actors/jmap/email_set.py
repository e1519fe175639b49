"""Email/set: keywords, folders and the end of emails, in one turn (RFC 8621 §4.6).

All that one call changes is one entry of the log: it happens as a whole and once, however
often the request is repeated. Emails are not created by this release: each is `forbidden`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from actors.jmap.arguments import Arguments
from actors.jmap.context import Context
from actors.jmap.email_update import Refused, Resolve, updated
from actors.jmap.ids import account_id_of, parse_email_id
from actors.jmap.limits import OBJECTS_IN_SET_MAX
from actors.jmap.problems import MethodError, SetError, set_error
from storage.mailbox_reader import MailboxReader
from storage.mailbox_writer import MailboxWriter


@dataclass(frozen=True, slots=True)
class EmailSet:
    """What one call asks for."""

    account_id: str
    if_in_state: str | None
    create: Mapping[str, Any]
    update: Mapping[str, Mapping[str, Any]]
    destroy: list[str]
    resolve: Resolve

    def check_state(self, reader: MailboxReader) -> str:
        """Return the state before the call. Raises stateMismatch."""
        state = str(reader.info.email_modseq)
        if self.if_in_state is not None and self.if_in_state != state:
            raise MethodError("stateMismatch")
        return state


@dataclass(slots=True)
class Outcome:
    """What became of every object."""

    updated: dict[str, None] = field(default_factory=dict)
    destroyed: list[str] = field(default_factory=list)
    not_created: dict[str, SetError] = field(default_factory=dict)
    not_updated: dict[str, SetError] = field(default_factory=dict)
    not_destroyed: dict[str, SetError] = field(default_factory=dict)

    def response(self, account_id: str, *, old_state: str, new_state: str) -> dict[str, Any]:
        """Return the response (RFC 8620 §5.3); what is empty is null."""
        return {
            "accountId": account_id,
            "oldState": old_state,
            "newState": new_state,
            "created": None,
            "updated": self.updated or None,
            "destroyed": self.destroyed or None,
            "notCreated": self.not_created or None,
            "notUpdated": self.not_updated or None,
            "notDestroyed": self.not_destroyed or None,
        }


async def email_set(context: Context, arguments: Arguments) -> Mapping[str, object]:
    """Change and destroy emails; raise stateMismatch when `ifInState` is not the state."""
    arguments.account(context)
    wanted = EmailSet(
        account_id=account_id_of(context.access.mailbox_id),
        if_in_state=arguments.optional_text("ifInState"),
        create=arguments.objects("create"),
        update=arguments.objects("update"),
        destroy=arguments.optional_references("destroy"),
        resolve=context.resolve,
    )
    arguments.close()
    if len(wanted.create) + len(wanted.update) + len(wanted.destroy) > OBJECTS_IN_SET_MAX:
        raise MethodError("requestTooLarge", f"more than {OBJECTS_IN_SET_MAX} objects")
    if not wanted.update and not wanted.destroy:
        state = wanted.check_state(context.access.reader())
        return _refuse_creates(wanted).response(wanted.account_id, old_state=state, new_state=state)
    reply = await context.access.turn(
        context.request_id, lambda writer, now_ms: plan(writer, wanted)
    )
    return answer_of(reply)


def plan(writer: MailboxWriter, wanted: EmailSet) -> bytes:
    """Change what can be changed; return the answer as it is remembered. Pure."""
    try:
        old_state = wanted.check_state(writer)
    except MethodError as error:
        return msgspec.json.encode(("error", error.arguments()))
    outcome = _refuse_creates(wanted)
    _update(writer, wanted, outcome)
    _destroy(writer, wanted, outcome)
    new_state = str(writer.modseq_after("emails"))
    response = outcome.response(wanted.account_id, old_state=old_state, new_state=new_state)
    return msgspec.json.encode(("Email/set", response))


def answer_of(reply: bytes) -> Mapping[str, object]:
    """Return the response in a remembered reply. Raises MethodError."""
    name, arguments = msgspec.json.decode(reply, type=tuple[str, dict[str, Any]])
    if name == "error":
        raise MethodError(arguments["type"], arguments.get("description"))
    return arguments


def _refuse_creates(wanted: EmailSet) -> Outcome:
    error = set_error("forbidden", "this server does not create emails by Email/set yet")
    return Outcome(not_created=dict.fromkeys(wanted.create, error))


def _update(writer: MailboxWriter, wanted: EmailSet, outcome: Outcome) -> None:
    folders = writer.folders().keys()
    doomed = {wanted.resolve(email_id) for email_id in wanted.destroy}
    for email_id, patch in wanted.update.items():
        resolved = wanted.resolve(email_id)
        number = None if resolved is None else parse_email_id(resolved)
        email = None if number is None else writer.email(number)
        state = None if number is None else writer.email_state(number)
        if number is None or email is None or state is None:
            outcome.not_updated[email_id] = set_error("notFound")
            continue
        if resolved in doomed:
            outcome.not_updated[email_id] = set_error("willDestroy")
            continue
        try:
            new = updated(email, state, patch, folders=folders, resolve=wanted.resolve)
        except Refused as refused:
            outcome.not_updated[email_id] = refused.error
            continue
        writer.update_email(number, keywords=new.keywords, folders=sorted(new.folders))
        outcome.updated[email_id] = None


def _destroy(writer: MailboxWriter, wanted: EmailSet, outcome: Outcome) -> None:
    for email_id in wanted.destroy:
        resolved = wanted.resolve(email_id)
        number = None if resolved is None else parse_email_id(resolved)
        if number is None or writer.email(number) is None:
            outcome.not_destroyed[email_id] = set_error("notFound")
            continue
        writer.destroy_email(number)
        outcome.destroyed.append(email_id)
