"""JMAP over WebSocket, without sockets: every message becomes one event, nothing raises."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateways.http.websocket_protocol import (
    NOT_JSON,
    NOT_REQUEST,
    Broken,
    PushDisable,
    PushEnable,
    Request,
    broken_message,
    parse_message,
    request_error_message,
    response_message,
    state_change_message,
)
from tests.properties import examples

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=6,
)


def test_request_is_taken_apart_but_not_looked_into() -> None:
    text = (
        '{"@type": "Request", "id": "R1", "using": ["a"], "createdIds": {"k": "v"},'
        ' "methodCalls": [["Core/echo", {"é": 1.50}, "0"]], "other": [1]}'
    )
    event = parse_message(text)
    assert isinstance(event, Request)
    assert event.request_id == "R1"
    body = b'{"using":["a"],"methodCalls":[["Core/echo", {"\xc3\xa9": 1.50}, "0"]],'
    assert event.body == body + b'"createdIds":{"k": "v"}}'


def test_what_is_missing_is_left_to_the_evaluator() -> None:
    assert parse_message('{"@type": "Request"}') == Request(None, b"{}")
    assert parse_message('{"@type": "Request", "id": null, "using": 7}') == Request(
        None, b'{"using":7}'
    )


def test_push_messages() -> None:
    enable = '{"@type": "WebSocketPushEnable"%s}'
    assert parse_message(enable % "") == PushEnable(None, None)
    assert parse_message(enable % ', "dataTypes": null, "pushState": null') == PushEnable(
        None, None
    )
    text = enable % ', "dataTypes": ["Email", "Email"], "pushState": "x"'
    assert parse_message(text) == PushEnable(frozenset({"Email"}), "x")
    assert parse_message('{"@type": "WebSocketPushDisable"}') == PushDisable()


@pytest.mark.parametrize(
    "text, kind, request_id",
    [
        ("", NOT_JSON, None),
        ("{", NOT_JSON, None),
        ("\ud800", NOT_JSON, None),
        ('{"a":' * 100_000, NOT_JSON, None),
        ('{"@type": "Request", "using": tru}', NOT_JSON, None),
        ("7", NOT_REQUEST, None),
        ("[]", NOT_REQUEST, None),
        ("[" * 100_000, NOT_REQUEST, None),
        ('{"id": "a"}', NOT_REQUEST, "a"),
        ('{"id": "a", "@type": 7}', NOT_REQUEST, "a"),
        ('{"id": "a", "@type": "request"}', NOT_REQUEST, "a"),
        ('{"id": {}, "@type": "Request"}', NOT_REQUEST, None),
        ('{"id": "%s", "@type": "Request"}' % ("x" * 256), NOT_REQUEST, None),
        ('{"@type": "WebSocketPushEnable", "dataTypes": [7]}', NOT_REQUEST, None),
        ('{"@type": "WebSocketPushEnable", "dataTypes": {}}', NOT_REQUEST, None),
        ('{"@type": "WebSocketPushEnable", "pushState": 7}', NOT_REQUEST, None),
        (
            json.dumps({"@type": "WebSocketPushEnable", "dataTypes": ["x"] * 65}),
            NOT_REQUEST,
            None,
        ),
    ],
)
def test_broken_messages(text: str, kind: str, request_id: str | None) -> None:
    event = parse_message(text)
    assert isinstance(event, Broken)
    assert (event.kind, event.request_id) == (kind, request_id)
    error = json.loads(broken_message(event))
    assert error["@type"] == "RequestError"
    assert error["requestId"] == request_id
    assert (error["type"], error["status"]) == (kind, 400)


@examples(50)
@given(st.text() | JSON.map(json.dumps))
def test_nothing_raises(text: str) -> None:
    assert parse_message(text) is not None


@examples(50)
@given(st.dictionaries(st.sampled_from(["using", "methodCalls", "createdIds"]), JSON), st.text())
def test_requests_keep_their_meaning(members: dict[str, Any], request_id: str) -> None:
    text = json.dumps(members | {"@type": "Request", "id": request_id[:255]})
    event = parse_message(text)
    assert isinstance(event, Request)
    assert event.request_id == request_id[:255]
    assert json.loads(event.body) == members


@examples(50)
@given(st.none() | st.text(), st.dictionaries(st.text(min_size=1), JSON))
def test_answers_keep_their_members(request_id: str | None, body: dict[str, Any]) -> None:
    for members in ("@type", "requestId"):
        body.pop(members, None)
    octets = json.dumps(body, indent=1).encode()
    response = json.loads(response_message(request_id, octets))
    assert response.pop("@type") == "Response"
    assert response.pop("requestId", None) == request_id
    assert response == body
    error = json.loads(request_error_message(request_id, octets))
    assert error.pop("@type") == "RequestError"
    assert error.pop("requestId") == request_id
    assert error == body


def test_state_change() -> None:
    assert json.loads(state_change_message("A1", {"Email": "7"}, "7.5.6")) == {
        "@type": "StateChange",
        "changed": {"A1": {"Email": "7"}},
        "pushState": "7.5.6",
    }
