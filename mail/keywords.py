"""Keywords: the flags of a message (RFC 8621 §4.1.1, RFC 5788), in lower case as JMAP has them."""

from __future__ import annotations

import re
from collections.abc import Container

from mail.errors import Invalid

SEEN = "$seen"
DRAFT = "$draft"
FLAGGED = "$flagged"
ANSWERED = "$answered"
FORWARDED = "$forwarded"
JUNK = "$junk"
NOT_JUNK = "$notjunk"
PHISHING = "$phishing"
MDN_SENT = "$mdnsent"  # RFC 3503 §3.

# The flags of IMAP that are keywords here (RFC 8621 §4.1.1, RFC 9051 §2.3.2).
IMAP_FLAGS = {
    "\\Seen": SEEN,
    "\\Draft": DRAFT,
    "\\Flagged": FLAGGED,
    "\\Answered": ANSWERED,
}

KEYWORD_CHARS_MAX = 255  # RFC 8621 §4.1.1.
KEYWORDS_MAX = 100  # Of one message; people use a handful, programs must not use it as a store.

# RFC 8621 §4.1.1: %x21–%x7e without ( ) { ] % * " \ .
_KEYWORD = re.compile(r"[!#$&'+-Z\[^-z|}~]{1,255}")


def check_keyword(text: str) -> str:
    """Return a keyword in lower case. Raises Invalid (RFC 8621 §4.1.1)."""
    if len(text) > KEYWORD_CHARS_MAX or _KEYWORD.fullmatch(text) is None:
        raise Invalid("The keyword is not valid")
    return text.lower()


def is_unread(keywords: Container[str]) -> bool:
    """Say whether a message counts as unread: neither seen nor a draft (RFC 8621 §2)."""
    return SEEN not in keywords and DRAFT not in keywords
