"""Email filter: the conditions of Email/query (RFC 8621 §4.4.1).

Text is found by the search index, exactly and before the emails are walked; To, Cc and Bcc
share a field there, so that a hit is compared once more with the right one. Nothing else
here waits for anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from actors.jmap.arguments import check_unsigned, check_utc_date, is_strings
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


@dataclass(frozen=True, slots=True)
class InFolder:
    """The email is in this folder; None is a folder that there is not."""

    folder: int | None
    cost: int = STATE

    def matches(self, row: Row, /) -> bool:
        return self.folder is not None and row.is_in(self.folder)


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

    async def look_up(self, access: MailboxAccess) -> None:
        """Ask the index, once."""
        self.emails = await access.search(self.fields, self.text)

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


async def look_up_text(wanted: Operator, access: MailboxAccess) -> None:
    """Ask the index for all text conditions of a filter. Raises unsupportedFilter."""
    texts = [leaf for leaf in leaves(wanted) if isinstance(leaf, Found)]
    if len(texts) > FILTER_TEXTS_MAX:
        raise MethodError("unsupportedFilter", "the filter has too many text conditions")
    for text in texts:
        await text.look_up(access)


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
    folders = {parse_folder_id(text) for text in value}
    return Where(lambda row: any(folder not in folders for folder in row.folders), STATE)


def _before(name: str, value: object) -> Condition[Row]:
    limit_ms = check_utc_date(name, value)
    return Where(lambda row: row.received_at_ms < limit_ms)


def _after(name: str, value: object) -> Condition[Row]:
    limit_ms = check_utc_date(name, value)
    return Where(lambda row: row.received_at_ms >= limit_ms)


def _min_size(name: str, value: object) -> Condition[Row]:
    size_bytes = check_unsigned(name, value)
    return Where(lambda row: row.size_bytes >= size_bytes)


def _max_size(name: str, value: object) -> Condition[Row]:
    size_bytes = check_unsigned(name, value)
    return Where(lambda row: row.size_bytes < size_bytes)


def _all_in_thread(name: str, value: object) -> Condition[Row]:
    keyword = _keyword(name, value)
    return Where(lambda row: all(keyword in k for k in row.thread_keywords), STATE)


def _some_in_thread(name: str, value: object) -> Condition[Row]:
    keyword = _keyword(name, value)
    return Where(lambda row: any(keyword in k for k in row.thread_keywords), STATE)


def _none_in_thread(name: str, value: object) -> Condition[Row]:
    keyword = _keyword(name, value)
    return Where(lambda row: not any(keyword in k for k in row.thread_keywords), STATE)


def _has_keyword(name: str, value: object) -> Condition[Row]:
    keyword = _keyword(name, value)
    return Where(lambda row: keyword in row.keywords)


def _not_keyword(name: str, value: object) -> Condition[Row]:
    keyword = _keyword(name, value)
    return Where(lambda row: keyword not in row.keywords)


def _has_attachment(name: str, value: object) -> Condition[Row]:
    if not isinstance(value, bool):
        raise invalid(f"filter: {name} is a Boolean")
    return Where(lambda row: row.has_attachment is value)


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
