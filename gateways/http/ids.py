"""Account ids as JMAP clients see them (RFC 8620 §1.2): `A` and lower-case hex digits.

The JMAP evaluator writes the same form, so that `accountId` means one thing everywhere.
"""

from __future__ import annotations

import re

from actors.commands import MailboxId

_ACCOUNT_ID = re.compile(r"A(0|[1-9a-f][0-9a-f]{0,15})")  # one spelling for each u64


def make_account_id(mailbox: MailboxId) -> str:
    """Return the JMAP id of the account whose mailbox is `mailbox`."""
    assert 0 <= mailbox < 1 << 64
    return f"A{mailbox:x}"


def parse_account_id(text: str) -> MailboxId | None:
    """Return the mailbox that `text` names, or None when it is not one of our ids."""
    match = _ACCOUNT_ID.fullmatch(text)
    return MailboxId(int(match[1], 16)) if match else None
