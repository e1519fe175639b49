"""What a push channel says: differences, beats, and what a client knew before."""

from __future__ import annotations

import pytest

from actors.commands import MailboxId, MailboxState
from gateways.http.push_state import Change, PushState, parse_push_state


def state(email: int, folder: int, thread: int) -> MailboxState:
    return MailboxState(MailboxId(1), email, folder, thread)


def test_first_all_then_differences_then_all_again_at_a_beat() -> None:
    channel = PushState(None)
    everything = {"Email": "3", "Mailbox": "1", "Thread": "2"}
    assert channel.next(state(3, 1, 2)) == Change(everything, "3.1.2")
    assert channel.next(state(3, 1, 4)) == Change({"Thread": "4"}, "3.1.4")
    assert channel.next(state(3, 1, 4)) == Change(everything | {"Thread": "4"}, "3.1.4")


@pytest.mark.parametrize("first", ["3.1.2"])
def test_a_client_that_knows_is_told_nothing_until_the_beat(first: str) -> None:
    channel = PushState(None, first)
    assert channel.next(state(3, 1, 2)) is None
    assert channel.next(state(3, 1, 2)) is not None


def test_filtered_types_that_did_not_change() -> None:
    channel = PushState(["Mailbox"], "9.1.9")
    assert channel.next(state(3, 1, 2)) is None, "what the client asks for, it knows"
    assert channel.next(state(4, 1, 2)) == Change({"Mailbox": "1"}, "4.1.2")
    assert PushState([]).next(state(1, 1, 1)) is None
    assert PushState(["Nonsense"]).next(state(1, 1, 1)) is None


def test_an_older_state_is_a_difference_too() -> None:
    channel = PushState(None)
    channel.next(state(3, 3, 3))
    assert channel.next(state(2, 3, 3)) == Change({"Email": "2"}, "2.3.3")


@pytest.mark.parametrize("text", ["", "1", "1.2", "1.2.3.4"])
def test_what_is_no_push_state(text: str) -> None:
    assert parse_push_state(text) is None
