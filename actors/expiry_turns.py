"""Turns of expiry: what has been in Trash or Junk for long enough, and what becomes of it."""

from __future__ import annotations

from actors.commands import Done
from actors.mailbox_turns import WriterPlan, encoded
from storage.mailbox_reader import MailboxReader
from storage.mailbox_writer import MailboxWriter

# Emails of one turn: some 20 ms of a shard's time, which others wait for.
EXPIRED_AT_ONCE = 100


def due(
    reader: MailboxReader, role: str, placed_before_ms: int, *, limit: int = EXPIRED_AT_ONCE
) -> list[int]:
    """Return the emails that were put into the folder with `role` before `placed_before_ms`.

    UIDs grow in the order of placement, so the first one that is young enough ends the search.
    For emails that an older release has put there, the time of their arrival counts.
    """
    folder = reader.folder_with_role(role)
    found: list[int] = []
    if folder is None:
        return found
    for _, email_id in reader.uids(folder):
        if len(found) == limit or _since_ms(reader, folder, email_id) >= placed_before_ms:
            break
        found.append(email_id)
    return found


def _since_ms(reader: MailboxReader, folder: int, email_id: int) -> int:
    email, state = reader.email(email_id), reader.email_state(email_id)
    assert email is not None, "a UID without an email"
    assert state is not None, "an email without a state"
    (place,) = (place for place in state.places if place.folder == folder)
    return place.since_ms or email.received_at_ms


def expire(role: str, placed_before_ms: int) -> WriterPlan:
    """Return the turn that takes out of a folder what is due.

    An email that is in no other folder is destroyed; one that is keeps its other folders.
    """

    def turn(writer: MailboxWriter, now_ms: int) -> bytes:
        for email_id in due(writer, role, placed_before_ms):
            folder = writer.folder_with_role(role)
            state = writer.email_state(email_id)
            assert state is not None
            others = [place.folder for place in state.places if place.folder != folder]
            if others:
                writer.update_email(email_id, keywords=None, folders=others)
            else:
                writer.destroy_email(email_id)
        return encoded(Done())

    return turn
