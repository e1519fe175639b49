"""Email update: what a PatchObject makes of an email's keywords and folders (RFC 8621 §4.6).

Pure: given the email as it is and the folders that there are, the answer is what it will
be, or a SetError. Everything else of an email never changes; it may be repeated unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from actors.jmap.email_properties import BODY_PROPERTIES, RECORD_PROPERTIES
from actors.jmap.ids import parse_folder_id
from actors.jmap.limits import FOLDERS_PER_EMAIL_MAX
from actors.jmap.patch import InvalidPatch, parse_patch
from actors.jmap.problems import SetError, set_error
from mail.errors import Invalid
from mail.keywords import KEYWORDS_MAX, check_keyword
from storage.records import EmailRecord, EmailState

Resolve = Callable[[str], str | None]


class Refused(Exception):
    """One object of a `/set` cannot be changed as asked."""

    def __init__(self, error: SetError) -> None:
        super().__init__(error["type"])
        self.error = error


@dataclass(frozen=True, slots=True)
class Update:
    """What an email's keywords and folders will be."""

    keywords: frozenset[str]
    folders: frozenset[int]


@dataclass(slots=True)
class _Draft:
    """An update under way, and the properties in which something is wrong."""

    keywords: set[str]
    folders: set[int]
    wrong: dict[str, str] = field(default_factory=dict)  # property to description


def updated(
    email: EmailRecord,
    state: EmailState,
    patch: Mapping[str, Any],
    *,
    folders: Collection[int],
    resolve: Resolve,
) -> Update:
    """Return the email after the patch. Raises Refused."""
    try:
        values = parse_patch(patch)
    except InvalidPatch as error:
        raise Refused(set_error("invalidPatch", str(error))) from None
    draft = _Draft(set(state.keywords), {place.folder for place in state.places})
    for path, value in values.items():
        match path:
            case ("keywords",):
                _replace_keywords(draft, value)
            case ("keywords", keyword):
                _patch_keyword(draft, keyword, value)
            case ("mailboxIds",):
                _replace_folders(draft, value, folders, resolve)
            case ("mailboxIds", folder_id):
                _patch_folder(draft, folder_id, value, folders, resolve)
            case (name,):
                _check_unchanged(draft, name, value, email, state)
            case _:
                raise Refused(_deeper(path))
    return _checked(draft, state)


def _checked(draft: _Draft, state: EmailState) -> Update:
    if not draft.folders:
        # RFC 8621 §4.1.1: an email is in one folder or more, until it is destroyed.
        draft.wrong.setdefault("mailboxIds", "an email is in at least one Mailbox")
    if draft.wrong:
        description = "; ".join(f"{name[:100]}: {why}" for name, why in draft.wrong.items())
        raise Refused(set_error("invalidProperties", description, properties=list(draft.wrong)))
    # An email that has more already may still lose some.
    if len(draft.keywords) > max(KEYWORDS_MAX, len(state.keywords)):
        raise Refused(set_error("tooManyKeywords", f"more than {KEYWORDS_MAX}"))
    if len(draft.folders) > max(FOLDERS_PER_EMAIL_MAX, len(state.places)):
        raise Refused(set_error("tooManyMailboxes", f"more than {FOLDERS_PER_EMAIL_MAX}"))
    return Update(frozenset(draft.keywords), frozenset(draft.folders))


def _deeper(path: tuple[str, ...]) -> SetError:
    """Return why a path into something that is neither keywords nor folders is refused."""
    if path[0] in RECORD_PROPERTIES or path[0] in BODY_PROPERTIES:
        return set_error("invalidPatch", f"nothing inside {path[0]} can be changed")
    return set_error("invalidPatch", "the path leads nowhere")


def _replace_keywords(draft: _Draft, value: object) -> None:
    """Set all keywords; null is the default, none (RFC 8621 §4.1.1)."""
    draft.keywords.clear()
    match value:
        case None:
            pass
        case dict():
            for keyword, item in value.items():
                if item is True:
                    _patch_keyword(draft, keyword, True)
                else:
                    draft.wrong["keywords"] = "every value is true"
        case _:
            draft.wrong["keywords"] = "a map of keyword to true is expected"


def _patch_keyword(draft: _Draft, keyword: str, value: object) -> None:
    if value is None:
        draft.keywords.discard(keyword.lower())
        return
    if value is not True:
        draft.wrong["keywords"] = "true or null is expected"
        return
    try:
        draft.keywords.add(check_keyword(keyword))
    except Invalid:
        draft.wrong["keywords"] = "not a keyword"


def _replace_folders(
    draft: _Draft, value: object, folders: Collection[int], resolve: Resolve
) -> None:
    draft.folders.clear()
    if not isinstance(value, dict):
        draft.wrong["mailboxIds"] = "a map of Id to true is expected"
        return
    for folder_id, item in value.items():
        if item is True:
            _patch_folder(draft, folder_id, True, folders, resolve)
        else:
            draft.wrong["mailboxIds"] = "every value is true"


def _patch_folder(
    draft: _Draft, folder_id: str, value: object, folders: Collection[int], resolve: Resolve
) -> None:
    resolved = resolve(folder_id)
    number = None if resolved is None else parse_folder_id(resolved)
    if value is None:
        if number is not None:
            draft.folders.discard(number)
    elif value is not True:
        draft.wrong["mailboxIds"] = "true or null is expected"
    elif number is None or number not in folders:
        draft.wrong["mailboxIds"] = "there is no such Mailbox"
    else:
        draft.folders.add(number)


def _check_unchanged(
    draft: _Draft, name: str, value: object, email: EmailRecord, state: EmailState
) -> None:
    """Accept a property that cannot change if it does not (RFC 8620 §5.3)."""
    make = RECORD_PROPERTIES.get(name)
    if make is None:
        draft.wrong[name] = "this property cannot be changed, or does not exist"
    elif msgspec.json.decode(msgspec.json.encode(make(email, state))) != value:
        draft.wrong[name] = "this property cannot be changed"
