"""Mailbox/get: the folders of the account with their counters (RFC 8621 §2.1)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from actors.jmap.arguments import Arguments
from actors.jmap.context import Context
from actors.jmap.get import begin, check_properties
from actors.jmap.ids import folder_id_of, parse_folder_id
from mail.folders import INBOX, Counters
from storage.records import FolderRecord

_RIGHTS = (
    "mayReadItems", "mayAddItems", "mayRemoveItems", "maySetSeen", "maySetKeywords",
    "mayCreateChild", "mayRename", "mayDelete", "maySubmit",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Folder:
    """One folder, as its properties are made from it."""

    number: int
    record: FolderRecord
    counters: Counters


def _parent_id(folder: Folder) -> str | None:
    parent = folder.record.parent
    return None if parent is None else folder_id_of(parent)


def _my_rights(folder: Folder) -> dict[str, bool]:
    """Return the owner's rights: all, but the inbox stays."""
    return {name: name != "mayDelete" or folder.record.role != INBOX for name in _RIGHTS}


# RFC 8621 §2, in its order.
PROPERTIES: Mapping[str, Callable[[Folder], object]] = {
    "id": lambda folder: folder_id_of(folder.number),
    "name": lambda folder: folder.record.name,
    "parentId": _parent_id,
    "role": lambda folder: folder.record.role,
    "sortOrder": lambda folder: folder.record.sort_order,
    "totalEmails": lambda folder: folder.counters.total_emails,
    "unreadEmails": lambda folder: folder.counters.unread_emails,
    "totalThreads": lambda folder: folder.counters.total_threads,
    "unreadThreads": lambda folder: folder.counters.unread_threads,
    "myRights": _my_rights,
    "isSubscribed": lambda folder: folder.record.subscribed,
}


async def mailbox_get(context: Context, arguments: Arguments) -> Mapping[str, object]:
    """Return folders by id, or all of them."""
    get = begin(context, arguments)
    properties = check_properties(get.properties, PROPERTIES)
    arguments.close()
    reader = context.access.reader()
    state = str(reader.info.folder_modseq)
    folders = reader.folders()
    # RFC 8621 §2.1: null fetches all at once, however many the account may have.
    ids = [folder_id_of(number) for number in folders] if get.ids is None else get.ids
    for folder_id in ids:
        number = parse_folder_id(folder_id)
        record = None if number is None else folders.get(number)
        if number is None or record is None:
            get.not_found.append(folder_id)
            continue
        folder = Folder(number, record, reader.counters(number))
        get.add(context, {name: PROPERTIES[name](folder) for name in properties})
    return get.response(context, state)
