"""JMAP over WebSocket, without I/O: messages in, events out (RFC 8887 §4.3).

`parse_message` turns a text message of the client into one event; the `…_message` functions
build what the server sends. The JMAP request itself is not looked into: `using`,
`methodCalls` and `createdIds` are passed on as they came, to be evaluated next to the data,
and the answer is passed back with two members put in front.

On failure  `Broken`: the client gets a RequestError, the connection goes on (RFC 8887 §4.3.4).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import msgspec

SUBPROTOCOL = "jmap"  # RFC 8887 §4.2
NOT_JSON = "urn:ietf:params:jmap:error:notJSON"
NOT_REQUEST = "urn:ietf:params:jmap:error:notRequest"
DATA_TYPES_MAX = 64  # more than there are
REQUEST_ID_LENGTH_MAX = 255


@dataclass(frozen=True, slots=True)
class Request:
    """A JMAP request (RFC 8887 §4.3.2): `body` is the Request object of RFC 8620 §3.3."""

    request_id: str | None
    body: bytes


@dataclass(frozen=True, slots=True)
class PushEnable:
    """The client wants StateChanges of these types, None for all (RFC 8887 §4.3.5.2)."""

    data_types: frozenset[str] | None
    push_state: str | None


@dataclass(frozen=True, slots=True)
class PushDisable:
    """The client wants no more StateChanges (RFC 8887 §4.3.5.3)."""


@dataclass(frozen=True, slots=True)
class Broken:
    """A message that is none of the above; `kind` is a type of RFC 8620 §3.6.1."""

    request_id: str | None
    kind: str
    detail: str


Event: TypeAlias = Request | PushEnable | PushDisable | Broken


class _Envelope(msgspec.Struct):
    """The members of any message; values are taken raw and checked one by one."""

    kind: msgspec.Raw = msgspec.field(name="@type", default_factory=msgspec.Raw)
    request_id: msgspec.Raw = msgspec.field(name="id", default_factory=msgspec.Raw)
    using: msgspec.Raw = msgspec.field(default_factory=msgspec.Raw)
    method_calls: msgspec.Raw = msgspec.field(name="methodCalls", default_factory=msgspec.Raw)
    created_ids: msgspec.Raw = msgspec.field(name="createdIds", default_factory=msgspec.Raw)
    data_types: msgspec.Raw = msgspec.field(name="dataTypes", default_factory=msgspec.Raw)
    push_state: msgspec.Raw = msgspec.field(name="pushState", default_factory=msgspec.Raw)


_decoder = msgspec.json.Decoder(_Envelope)


def parse_message(text: str) -> Event:
    """Return the event of one text message; never raises."""
    try:
        envelope = _decoder.decode(text)
    except msgspec.ValidationError:
        return Broken(None, NOT_REQUEST, "The message is not a JSON object.")
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        return Broken(None, NOT_JSON, "The message is not JSON.")
    try:
        request_id = _optional(envelope.request_id, str)
    except msgspec.DecodeError:
        return Broken(None, NOT_REQUEST, "The id is not a string.")
    if request_id is not None and len(request_id) > REQUEST_ID_LENGTH_MAX:
        return Broken(None, NOT_REQUEST, "The id is too long.")
    try:
        kind = _optional(envelope.kind, str)
        match kind:
            case "Request":
                return Request(request_id, _request_object(envelope))
            case "WebSocketPushEnable":
                return _push_enable(envelope)
            case "WebSocketPushDisable":
                return PushDisable()
    except (msgspec.DecodeError, RecursionError):
        return Broken(request_id, NOT_REQUEST, "A member has the wrong type.")
    return Broken(request_id, NOT_REQUEST, "The @type is not one that a client sends.")


def _optional(raw: msgspec.Raw, kind: Any) -> Any:
    """Return the value of a member, or None when it is absent or null."""
    if not bytes(raw):
        return None
    return msgspec.json.decode(raw, type=kind | None)


def _request_object(envelope: _Envelope) -> bytes:
    """Return the Request object alone; what is missing is the evaluator's to refuse."""
    members = (
        (b'"using":', envelope.using),
        (b'"methodCalls":', envelope.method_calls),
        (b'"createdIds":', envelope.created_ids),
    )
    return b"{" + b",".join(name + raw for name, raw in members if bytes(raw)) + b"}"


def _push_enable(envelope: _Envelope) -> Event:
    data_types: list[str] | None = _optional(envelope.data_types, list[str])
    push_state: str | None = _optional(envelope.push_state, str)
    if data_types is not None and len(data_types) > DATA_TYPES_MAX:
        return Broken(None, NOT_REQUEST, "Too many data types.")
    return PushEnable(None if data_types is None else frozenset(data_types), push_state)


def response_message(request_id: str | None, response: bytes) -> str:
    """Return a Response (RFC 8887 §4.3.3) around the Response object of RFC 8620 §3.4."""
    head: dict[str, Any] = {"@type": "Response"}
    if request_id is not None:
        head["requestId"] = request_id
    return _splice(head, response)


def request_error_message(request_id: str | None, problem: Mapping[str, Any] | bytes) -> str:
    """Return a RequestError (RFC 8887 §4.3.4) around the problem of RFC 8620 §3.6.1."""
    head = {"@type": "RequestError", "requestId": request_id}
    return _splice(head, problem if isinstance(problem, bytes) else msgspec.json.encode(problem))


def broken_message(event: Broken) -> str:
    """Return the RequestError for a message that is none."""
    problem = {"type": event.kind, "status": 400, "detail": event.detail}
    return request_error_message(event.request_id, problem)


def state_change_message(account_id: str, states: Mapping[str, str], push_state: str) -> str:
    """Return a StateChange (RFC 8887 §4.3.5.1)."""
    change = {"@type": "StateChange", "changed": {account_id: states}, "pushState": push_state}
    return msgspec.json.encode(change).decode()


def _splice(head: Mapping[str, Any], json_object: bytes) -> str:
    """Return a JSON object with the members of `head` before those of `json_object`."""
    rest = json_object.strip()
    assert rest[:1] == b"{", "our own evaluator answers with objects"
    rest = rest[1:].lstrip()
    separator = b"" if rest.startswith(b"}") else b","
    return (msgspec.json.encode(head)[:-1] + separator + rest).decode()
