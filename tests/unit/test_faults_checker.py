"""The checker finds each kind of contradiction, and none where there is none."""

from dataclasses import replace

import pytest

from tests.faults.checker import contradictions, possible
from tests.faults.history import Attempt, Change, History, Look, Outcome, Sent, Stored, Sync

ADDRESS = "a@faults.test"
DONE, REFUSED, UNKNOWN = Outcome.DONE, Outcome.REFUSED, Outcome.UNKNOWN


def sent(token: str, *outcomes: Outcome, at_s: float = 1.0, text: str = "250 ok") -> Sent:
    attempts = [
        Attempt(at_s + place, at_s + place + 0.5, 1, outcome, text)
        for place, outcome in enumerate(outcomes)
    ]
    return Sent(token, (ADDRESS,), f"octets of {token}", 10, attempts)


def stored(email_id: str, token: str, version: int = 0) -> Stored:
    return Stored(email_id, token, version, f"octets of {token}")


def change(email_id: str, version: int | None, at_s: float, outcome: Outcome = DONE) -> Change:
    return Change(ADDRESS, email_id, version, at_s, at_s + 0.5, outcome)


def sync(at_s: float, known: dict[str, str], *gone: str, whole: bool = False) -> Sync:
    return Sync(ADDRESS, "r", 1, at_s, at_s + 0.5, tuple(known.items()), gone, whole=whole)


def look(at_s: float, email_id: str, version: int | None, reader: str = "r") -> Look:
    return Look(ADDRESS, reader, 1, at_s, at_s + 0.5, ((email_id, version),))


def found(history: History, *emails: Stored) -> list[str]:
    return contradictions(history, {ADDRESS: emails})


def whole() -> History:
    """A history in which everything is as it should be, of every kind."""
    return History(
        sent=[
            sent("one", DONE),
            sent("two", REFUSED, DONE, text="451 later"),
            sent("three", UNKNOWN, DONE),
            sent("four", REFUSED, REFUSED, text="451 later"),
            sent("five", DONE),
        ],
        changes=[change("M1", 1, 5), change("M1", 2, 7, UNKNOWN), change("M5", None, 8)],
        syncs=[
            sync(0.1, {}, whole=True),
            sync(4, {"M1": "one", "M2": "two", "M3": "three", "M5": "five"}),
            sync(9, {}, "M5"),
        ],
        looks=[look(6, "M1", 1), look(7, "M1", 2), look(8.2, "M5", 0), look(9, "M5", None)],
    )


EMAILS = (stored("M1", "one", 2), stored("M2", "two"), stored("M3", "three"))


def test_what_is_as_it_should_be_is_no_contradiction() -> None:
    assert found(whole(), *EMAILS) == []
    # The try without an answer has stored it as well.
    assert found(whole(), *EMAILS, stored("M4", "three")) == []


def test_a_message_that_was_acknowledged_and_is_not_there() -> None:
    assert found(whole(), *EMAILS[1:]) == [f"lost: one of {ADDRESS}, acknowledged at 1.500"]


@pytest.mark.parametrize("token", ["one", "two", "four"])
def test_a_message_that_is_there_more_often_than_it_was_sent(token: str) -> None:
    [text] = found(whole(), *EMAILS, stored("M8", token))
    assert f"copies of {token}" in text


def test_a_message_that_nobody_sent_and_one_that_is_another() -> None:
    assert found(whole(), *EMAILS, stored("M8", "x")) == [f"nobody sent x to {ADDRESS}"]
    other = replace(EMAILS[0], octets_sha256="other octets")
    assert found(whole(), other, *EMAILS[1:]) == [f"one of {ADDRESS} is not what was sent"]


def test_a_refusal_for_good() -> None:
    history = whole()
    history.sent.append(sent("six", REFUSED, text="550 no such user"))
    assert found(history, *EMAILS) == ["six was refused for good: 550 no such user"]


def test_a_list_without_what_was_acknowledged_before() -> None:
    history = whole()
    history.syncs.append(
        Sync(ADDRESS, "other", 2, 3.0, 3.5, (("M1", "one"), ("M5", "five")), (), whole=True)
    )
    texts = found(history, *EMAILS)
    assert len(texts) == 2, "two and three, which were acknowledged before it began"
    assert all("not in a list" in text for text in texts)


def test_a_message_that_was_seen_and_is_gone() -> None:
    history = whole()
    history.syncs.append(sync(10, {}, "M2"))
    assert any("was there, gone" in text for text in found(history, *EMAILS))
    history = whole()
    history.looks.append(look(10, "M2", None))
    assert [f"r: M2 of {ADDRESS} is gone at 10.500"] == found(history, *EMAILS)


def test_a_destroyed_message_that_is_back() -> None:
    history = whole()
    history.looks.append(look(10, "M5", 0))
    assert any("is back" in text for text in found(history, *EMAILS))


def test_a_value_that_is_too_old_or_was_never_written() -> None:
    history = whole()
    history.looks.append(look(10, "M1", 0))
    assert any("version 0" in text for text in found(history, *EMAILS))
    history = whole()
    history.looks.append(look(10, "M2", 3))
    assert any("version 3" in text for text in found(history, *EMAILS))


def test_a_value_that_was_read_and_then_its_predecessor() -> None:
    history = whole()
    history.looks.append(look(8, "M1", 1, reader="another"))
    assert any("after version 2" in text for text in found(history, *EMAILS))


def test_a_read_may_show_what_is_under_way_and_what_nobody_knows_of() -> None:
    writes = [change("M", 1, 1), change("M", 2, 2, UNKNOWN), change("M", 3, 4)]
    assert possible(writes, 0.0, 0.5) == {0}
    assert possible(writes, 1.2, 1.3) == {0, 1}
    assert possible(writes, 1.6, 1.7) == {1}
    assert possible(writes, 3.0, 3.5) == {1, 2}
    assert possible(writes, 4.1, 4.2) == {1, 2, 3}
    assert possible(writes, 5.0, 6.0) == {3}
