"""Account ids: one spelling each, the one that the JMAP evaluator uses."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.commands import MailboxId
from actors.jmap.ids import account_id_of
from actors.jmap.ids import parse_account_id as evaluators_parse
from gateways.http.ids import make_account_id, parse_account_id


@settings(deadline=None)
@given(st.integers(0, 2**64 - 1))
def test_there_and_back_and_as_the_evaluator_does(mailbox: int) -> None:
    text = make_account_id(MailboxId(mailbox))
    assert parse_account_id(text) == mailbox
    assert text == account_id_of(mailbox)
    assert evaluators_parse(text) == mailbox


@pytest.mark.parametrize(
    "text", ["", "A", "a1", "A01", "AFF", "A1 ", "A1\n", "B1", "A" + "f" * 17, "A-1", "A١"]
)
def test_what_is_none(text: str) -> None:
    assert parse_account_id(text) is None
