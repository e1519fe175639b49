"""What one account may send in an hour."""

from __future__ import annotations

from actors.commands import MailboxId
from gateways.smtp.account_rates import HOUR_S, AccountRates, Sending

ALICE, BOB = MailboxId(1), MailboxId(2)


def test_an_hours_worth_and_then_the_rate() -> None:
    rates = AccountRates(messages_per_hour=4, recipients_per_hour=0)
    assert [rates.take(ALICE, Sending.MESSAGE, 1000.0) for _ in range(4)] == [0.0] * 4
    assert rates.take(ALICE, Sending.MESSAGE, 1000.0) == HOUR_S / 4
    assert rates.take(ALICE, Sending.MESSAGE, 1000.0 + HOUR_S / 4) == 0.0
    assert rates.take(ALICE, Sending.MESSAGE, 1000.0 + HOUR_S / 4) == HOUR_S / 4
    assert rates.take(BOB, Sending.MESSAGE, 1000.0) == 0.0


def test_what_is_refused_is_not_counted() -> None:
    rates = AccountRates(messages_per_hour=1, recipients_per_hour=1)
    assert rates.take(ALICE, Sending.RECIPIENT, 0.0) == 0.0
    for _ in range(100):
        assert rates.take(ALICE, Sending.RECIPIENT, 1.0) > 0
    assert rates.take(ALICE, Sending.MESSAGE, 1.0) == 0.0
    assert rates.take(ALICE, Sending.RECIPIENT, HOUR_S) == 0.0


def test_no_limit() -> None:
    rates = AccountRates(messages_per_hour=0, recipients_per_hour=0)
    assert not any(rates.take(ALICE, Sending.MESSAGE, 0.0) for _ in range(10_000))
    assert len(rates) == 0


def test_as_many_accounts_are_remembered() -> None:
    rates = AccountRates(messages_per_hour=1, recipients_per_hour=1, tracked_max=2)
    for number in range(5):
        rates.take(MailboxId(number), Sending.MESSAGE, 0.0)
    assert len(rates) == 2
