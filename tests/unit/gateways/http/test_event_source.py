"""The parameters of an event source, and its events as text (RFC 8620 §7.3)."""

from __future__ import annotations

import pytest
from starlette.datastructures import QueryParams

from gateways.http.event_source import Wish, parse_wish, ping_event, state_event
from gateways.http.problem import Problem
from gateways.http.push_state import Change


@pytest.mark.parametrize(
    "query, wish",
    [
        ("", Wish(None, False, 0)),
        ("types=*&closeafter=no&ping=0", Wish(None, False, 0)),
        ("types=Email,Mailbox&closeafter=state", Wish(frozenset({"Email", "Mailbox"}), True, 0)),
        ("ping=1", Wish(None, False, 5)),
        ("ping=17", Wish(None, False, 17)),
        ("ping=300", Wish(None, False, 30)),
    ],
)
def test_wishes(query: str, wish: Wish) -> None:
    assert parse_wish(QueryParams(query)) == wish


@pytest.mark.parametrize(
    "query", ["ping=", "ping=-1", "ping=1e3", "ping=1234567890", "closeafter=", "types=" + "," * 99]
)
def test_what_is_none(query: str) -> None:
    with pytest.raises(Problem):
        parse_wish(QueryParams(query))


def test_events() -> None:
    data = b'{"@type":"StateChange","changed":{"A1":{"Email":"7"}}}'
    expected = b"event: state\nid: 7.5.6\ndata: " + data + b"\n\n"
    assert state_event("A1", Change({"Email": "7"}, "7.5.6")) == expected
    assert ping_event(30) == b'event: ping\ndata: {"interval":30}\n\n'
