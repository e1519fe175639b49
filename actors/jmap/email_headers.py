"""Header properties: `header:Name:asForm:all` of emails and body parts (RFC 8621 §4.1.3).

A form may be fetched only for the fields that it makes sense for (RFC 8621 §4.1.2): those
listed with it, and every field that neither RFC 5322 nor RFC 2369 defines.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from actors.jmap.problems import invalid
from mail import headers
from mail.mime import Part
from mail.summary import EmailAddress

Headers = Sequence[tuple[str, bytes]]
Form = Callable[[bytes, str | None], object]

# Octets of one email's fields that are put into parsed forms, at up to 2 µs each; of what
# comes after them only the beginning is looked at. Raw forms have all.
FORM_BYTES_MAX = 1 << 19
FORM_BYTES_MIN = 100

_PROPERTY = re.compile(r"header:([!-9;-~]+)(?::as([A-Za-z]+))?(:all)?")

_ADDRESS_FIELDS = frozenset(
    (
        "from", "sender", "reply-to", "to", "cc", "bcc", "resent-from", "resent-sender",
        "resent-reply-to", "resent-to", "resent-cc", "resent-bcc",
    )
)  # fmt: skip
_TEXT_FIELDS = frozenset(("subject", "comments", "keywords", "list-id"))
_ID_FIELDS = frozenset(("message-id", "in-reply-to", "references", "resent-message-id"))
_DATE_FIELDS = frozenset(("date", "resent-date"))
_URL_FIELDS = frozenset(
    (
        "list-help", "list-unsubscribe", "list-subscribe", "list-post", "list-owner",
        "list-archive",
    )
)  # fmt: skip
# What RFC 5322 §3.6 and §4.5 and RFC 2369 §3 define.
_DEFINED_FIELDS = (
    _ADDRESS_FIELDS | _ID_FIELDS | _DATE_FIELDS | _URL_FIELDS
    | {"subject", "comments", "keywords", "return-path", "received"}
)  # fmt: skip


def address_json(address: EmailAddress) -> dict[str, str | None]:
    """Return an EmailAddress object (RFC 8621 §4.1.2.3)."""
    return {"name": address.name, "email": address.email}


def _raw(value: bytes, hint: str | None) -> str:
    return headers.as_raw(value)


def _addresses(value: bytes, hint: str | None) -> object:
    return [address_json(address) for address in headers.as_addresses(value, hint)]


def _grouped_addresses(value: bytes, hint: str | None) -> object:
    return [
        {"name": group.name, "addresses": [address_json(a) for a in group.addresses]}
        for group in headers.as_grouped_addresses(value, hint)
    ]


def _message_ids(value: bytes, hint: str | None) -> object:
    return headers.as_message_ids(value)


def _date(value: bytes, hint: str | None) -> object:
    return headers.as_date(value)


def _urls(value: bytes, hint: str | None) -> object:
    return headers.as_urls(value)


# Each form with the fields it is listed for; None for every field.
FORMS: Mapping[str, tuple[Form, frozenset[str] | None]] = {
    "Raw": (_raw, None),
    "Text": (headers.as_text, _TEXT_FIELDS),
    "Addresses": (_addresses, _ADDRESS_FIELDS),
    "GroupedAddresses": (_grouped_addresses, _ADDRESS_FIELDS),
    "MessageIds": (_message_ids, _ID_FIELDS),
    "Date": (_date, _DATE_FIELDS),
    "URLs": (_urls, _URL_FIELDS),
}


@dataclass(slots=True)
class Reading:
    """One email's fields being put into forms.

    `hint` is the charset that octets beyond ASCII are likely to be in.
    """

    hint: str | None
    bytes_left: int = FORM_BYTES_MAX

    def parsed(self, value: bytes, form: Form) -> object:
        """Return a value in a form, as far as the bound allows."""
        if form is not _raw:
            value = value[: max(self.bytes_left, FORM_BYTES_MIN)]
            self.bytes_left -= len(value)
        return form(value, None if value.isascii() else self.hint)


@dataclass(frozen=True, slots=True)
class HeaderProperty:
    """One property that names a header field."""

    field: str  # in lower case
    form: Form
    all: bool

    def value(self, part: Part, reading: Reading) -> object:
        """Return the last field's value, or those of all; null or [] when there is none."""
        values = part.header_all(self.field)
        if self.all:
            return [reading.parsed(value, self.form) for value in values]
        return reading.parsed(values[-1], self.form) if values else None


def parse_header_property(name: str) -> HeaderProperty:
    """Return what a property `header:…` asks for. Raises invalidArguments."""
    match = _PROPERTY.fullmatch(name)
    if match is None:
        raise invalid(f"{name[:100]} is no header property")
    field, form_name, all_of_them = match.groups()
    form, listed = FORMS.get(form_name or "Raw", (None, None))
    if form is None:
        raise invalid(f"{name[:100]}: there is no such form")
    field = field.lower()
    if listed is not None and field not in listed and field in _DEFINED_FIELDS:
        raise invalid(f"{name[:100]}: that form is not for that field")
    return HeaderProperty(field, form, all_of_them is not None)


def headers_json(fields: Headers) -> list[dict[str, str]]:
    """Return EmailHeader objects in the order of the message (RFC 8621 §4.1.3)."""
    return [{"name": name, "value": headers.as_raw(value)} for name, value in fields]
