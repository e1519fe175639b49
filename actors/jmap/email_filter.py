"""Email filter: the conditions of Email/query (RFC 8621 §4.4.1).

Text is found by the search index, exactly and before the emails are walked; To, Cc and Bcc
share a field there, so that a hit is compared once more with the right one. Nothing else
here waits for anything.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Protocol, cast

from actors.jmap.arguments import check_unsigned, check_utc_date, is_strings
from actors.jmap.columns import Columns, bits_of
from actors.jmap.context import MailboxAccess
from actors.jmap.email_rows import Row
from actors.jmap.ids import parse_folder_id
from actors.jmap.limits import FILTER_TEXTS_MAX
from actors.jmap.problems import MethodError, invalid
from actors.jmap.query import Condition, Operator, Where, conjuncts, leaves
from mail import headers
from mail.keywords import check_keyword
from mail.search import Term, matches, parse_query
from mail.summary import EmailAddress

# What a test costs, in reads.
LISTED, STATE, RECORD, MESSAGE = range(4)

ALL_FIELDS = ("subject", "from", "to", "body", "names")

# The condition, the fields of the index it is looked up in, and the part of the summary
# that it is compared with after that.
TEXT_CONDITIONS: Mapping[str, tuple[tuple[str, ...], str | None]] = {
    "text": (ALL_FIELDS, None),
    "from": (("from",), None),
    "to": (("to",), "to"),
    "cc": (("to",), "cc"),
    "bcc": (("to",), "bcc"),
    "subject": (("subject",), None),
    "body": (("body",), None),
}


class Selecting(Protocol):
    """A condition that columns may know of."""

    def select(self, columns: Columns) -> int | None:
        """Return all emails that pass, None when they have to be looked at."""


@dataclass(frozen=True, slots=True)
class InFolder:
    """The email is in this folder; None is a folder that there is not."""

    folder: int | None
    cost: int = STATE
    mutable: bool = True

    def matches(self, row: Row, /) -> bool:
        return self.folder is not None and row.is_in(self.folder)

    def select(self, columns: Columns) -> int:
        return 0 if self.folder is None else columns.folder(self.folder)


@dataclass(frozen=True, slots=True)
class InOtherFolder:
    """The email is in some folder beside these."""

    folders: frozenset[int | None]
    cost: int = STATE
    mutable: bool = True

    def matches(self, row: Row, /) -> bool:
        return any(folder not in self.folders for folder in row.folders)

    def select(self, columns: Columns) -> int:
        return columns.other_folders(self.folders)


@dataclass(frozen=True, slots=True)
class Property(Where):
    """A condition on a property of the email, or of its thread.

    `by_column` finds all that pass; None is returned by it, or in its place, when they have
    to be looked at.
    """

    by_column: Callable[[Columns], int | None] | None = None
    of_thread: bool = False

    def select(self, columns: Columns) -> int | None:
        return None if self.by_column is None else self.by_column(columns)


@dataclass(slots=True)
class Found:
    """Every term of the text is found in the fields."""

    fields: tuple[str, ...]
    text: str
    exactly: str | None = None  # to, cc or bcc of the summary
    terms: tuple[Term, ...] = field(init=False)
    emails: set[int] | None = None  # None until looked up, and when there are no terms

    def __post_init__(self) -> None:
        self.terms = parse_query(self.text) if self.exactly else ()

    @property
    def cost(self) -> int:
        return RECORD if self.exactly else LISTED

    @property
    def mutable(self) -> bool:
        return False

    async def look_up(self, access: MailboxAccess) -> None:
        """Ask the index, once."""
        self.emails = await access.search(self.fields, self.text)

    def select(self, columns: Columns) -> int | None:
        """Return the emails found; None when they have to be compared once more."""
        if self.emails is None:
            return columns.everything
        return None if self.exactly else bits_of(self.emails)

    def matches(self, row: Row, /) -> bool:
        if self.emails is None:
            return True
        if row.email_id not in self.emails:
            return False
        if self.exactly is None:
            return True
        if row.email is None:
            return False
        return matches(self.terms, _addresses_text(getattr(row.email.summary, self.exactly)))


def _addresses_text(addresses: tuple[EmailAddress, ...] | None) -> str:
    """Return addresses as text, in the form in which they are indexed."""
    return "\n".join(f"{a.name} {a.email}" if a.name else a.email for a in addresses or ())


@dataclass(frozen=True, slots=True)
class HeaderHas:
    """Some header field of that name holds the text; any that is there when text is None."""

    name: str
    text: str | None
    terms: tuple[Term, ...] = ()
    cost: int = MESSAGE
    mutable: bool = False

    def matches(self, row: Row, /) -> bool:
        message = row.header
        if message is None:
            return False
        values = message.header_all(self.name)
        if self.text is None:
            return bool(values)
        return any(self._holds(headers.as_text(v, message.charset_hint)) for v in values)

    def _holds(self, value: str) -> bool:
        # Ids and other machine text are searched for by any part of them, too.
        if (self.text or "").casefold() in value.casefold():
            return True
        return bool(self.terms) and matches(self.terms, value)

    def select(self, columns: Columns) -> None:
        return None


async def look_up_text(wanted: Operator, access: MailboxAccess) -> None:
    """Ask the index for all text conditions of a filter. Raises unsupportedFilter."""
    texts = [leaf for leaf in leaves(wanted) if isinstance(leaf, Found)]
    if len(texts) > FILTER_TEXTS_MAX:
        raise MethodError("unsupportedFilter", "the filter has too many text conditions")
    for text in texts:
        await text.look_up(access)


def select(condition: Condition[Row], columns: Columns) -> int | None:
    """Return the emails that pass, as far as columns can tell; None when they cannot."""
    if not isinstance(condition, Operator):
        found: int | None = cast(Selecting, condition).select(columns)
        return found
    found = columns.everything if condition.operator == "AND" else 0
    for inner in condition.conditions:
        part = select(inner, columns)
        if part is None:
            return None
        found = found & part if condition.operator == "AND" else found | part
    return columns.everything & ~found if condition.operator == "NOT" else found


def by_columns(condition: Condition[Row]) -> bool:
    """Say whether columns may tell all that a condition asks."""
    return all(
        isinstance(leaf, InFolder | InOtherFolder)
        or (isinstance(leaf, Property) and leaf.by_column is not None)
        or (isinstance(leaf, Found) and leaf.exactly is None)
        for leaf in leaves(condition)
    )


def folders_of(wanted: Operator, folders: Collection[int]) -> set[int]:
    """Return those of `folders`, which are all there are, that a filter has to know of."""
    asked: set[int] = set()
    for leaf in leaves(wanted):
        if isinstance(leaf, InFolder) and leaf.folder is not None:
            asked.add(leaf.folder)
        elif isinstance(leaf, InOtherFolder):
            asked.update(folder for folder in folders if folder not in leaf.folders)
    return asked


def is_of_thread(wanted: Operator) -> bool:
    """Say whether an email may pass or fail for what another of its thread is."""
    return any(isinstance(leaf, Property) and leaf.of_thread for leaf in leaves(wanted))


def candidates(wanted: Operator) -> set[int] | None:
    """Return emails among which all matches are, None when text does not tell."""
    sets = [
        leaf.emails
        for leaf in conjuncts(wanted)
        if isinstance(leaf, Found) and leaf.emails is not None
    ]
    return set.intersection(*sets) if sets else None


def parse_condition(name: str, value: object) -> Condition[Row]:
    """Return one condition. Raises invalidArguments, unsupportedFilter."""
    if name in TEXT_CONDITIONS:
        fields, exactly = TEXT_CONDITIONS[name]
        return Found(fields, _text(name, value), exactly)
    if name in _CONDITIONS:
        return _CONDITIONS[name](name, value)
    raise MethodError("unsupportedFilter", f"no condition {name[:100]}")


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise invalid(f"filter: {name} is a String")
    return value


def _keyword(name: str, value: object) -> str:
    return check_keyword(_text(name, value))


def _in_mailbox(name: str, value: object) -> Condition[Row]:
    return InFolder(parse_folder_id(_text(name, value)))


def _in_mailbox_other_than(name: str, value: object) -> Condition[Row]:
    if not isinstance(value, list) or not is_strings(value):
        raise invalid(f"filter: {name} is an array of Ids")
    return InOtherFolder(frozenset(parse_folder_id(text) for text in value))


def _before(name: str, value: object) -> Condition[Row]:
    limit_ms = check_utc_date(name, value)
    return Property(
        lambda row: row.received_at_ms < limit_ms,
        by_column=lambda columns: columns.everything & columns.arrived_before(limit_ms),
    )


def _after(name: str, value: object) -> Condition[Row]:
    limit_ms = check_utc_date(name, value)
    return Property(
        lambda row: row.received_at_ms >= limit_ms,
        by_column=lambda columns: columns.everything & ~columns.arrived_before(limit_ms),
    )


def _min_size(name: str, value: object) -> Condition[Row]:
    size_bytes = check_unsigned(name, value)
    return Property(lambda row: row.size_bytes >= size_bytes)


def _max_size(name: str, value: object) -> Condition[Row]:
    size_bytes = check_unsigned(name, value)
    return Property(lambda row: row.size_bytes < size_bytes)


def _all_in_thread(name: str, value: object) -> Condition[Row]:
    keyword = _keyword(name, value)

    def find(columns: Columns) -> int | None:
        have = columns.keyword(keyword)
        if have is None:
            return None
        return columns.everything & ~columns.of_threads(columns.everything & ~have)

    return _of_thread(lambda row: all(keyword in k for k in row.thread_keywords), find)


def _some_in_thread(name: str, value: object) -> Condition[Row]:
    keyword = _keyword(name, value)

    def find(columns: Columns) -> int | None:
        have = columns.keyword(keyword)
        return None if have is None else columns.of_threads(have)

    return _of_thread(lambda row: any(keyword in k for k in row.thread_keywords), find)


def _none_in_thread(name: str, value: object) -> Condition[Row]:
    keyword = _keyword(name, value)

    def find(columns: Columns) -> int | None:
        have = columns.keyword(keyword)
        return None if have is None else columns.everything & ~columns.of_threads(have)

    return _of_thread(lambda row: not any(keyword in k for k in row.thread_keywords), find)


def _of_thread(test: Callable[[Row], bool], find: Callable[[Columns], int | None]) -> Property:
    return Property(test, STATE, mutable=True, by_column=find, of_thread=True)


def _has_keyword(name: str, value: object) -> Condition[Row]:
    keyword = _keyword(name, value)
    return Property(
        lambda row: keyword in row.keywords,
        mutable=True,
        by_column=lambda columns: columns.keyword(keyword),
    )


def _not_keyword(name: str, value: object) -> Condition[Row]:
    keyword = _keyword(name, value)

    def find(columns: Columns) -> int | None:
        have = columns.keyword(keyword)
        return None if have is None else columns.everything & ~have

    return Property(lambda row: keyword not in row.keywords, mutable=True, by_column=find)


def _has_attachment(name: str, value: object) -> Condition[Row]:
    if not isinstance(value, bool):
        raise invalid(f"filter: {name} is a Boolean")
    return Property(
        lambda row: row.has_attachment is value,
        by_column=lambda columns: (
            columns.everything & (columns.attached if value else ~columns.attached)
        ),
    )


def _header(name: str, value: object) -> Condition[Row]:
    match value:
        case [str(field_name)]:
            return HeaderHas(field_name, None)
        case [str(field_name), str(text)]:
            return HeaderHas(field_name, text, parse_query(text))
        case _:
            raise invalid(f"filter: {name} is an array of one or two Strings")


_CONDITIONS: Mapping[str, Callable[[str, object], Condition[Row]]] = {
    "inMailbox": _in_mailbox,
    "inMailboxOtherThan": _in_mailbox_other_than,
    "before": _before,
    "after": _after,
    "minSize": _min_size,
    "maxSize": _max_size,
    "allInThreadHaveKeyword": _all_in_thread,
    "someInThreadHaveKeyword": _some_in_thread,
    "noneInThreadHaveKeyword": _none_in_thread,
    "hasKeyword": _has_keyword,
    "notKeyword": _not_keyword,
    "hasAttachment": _has_attachment,
    "header": _header,
}
