"""The Request object, its errors and its effects (RFC 8620 §3)."""

from __future__ import annotations

import logging
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.jmap.limits import CAPABILITIES, CAPABILITY_CORE, CAPABILITY_MAIL
from actors.jmap.methods import METHODS
from actors.jmap.request import call_request_id, evaluate
from mail.errors import DiskFull, NotPrimary, OutcomeUnknown, Overloaded
from tests.unit.actors.jmap.memory_access import ACCOUNT, MemoryAccess, message

CORE_ONLY = [CAPABILITY_CORE]


async def _raw(access: MemoryAccess, body: bytes) -> tuple[int, Any]:
    answer = await evaluate(access, body, request_id=b"r" * 16, session_state="s1")
    return answer.status, msgspec.json.decode(answer.body)


async def _problem(access: MemoryAccess, body: bytes) -> str:
    status, details = await _raw(access, body)
    assert status == details["status"] == 400
    assert details["detail"]
    prefix, _, kind = str(details["type"]).rpartition(":")
    assert prefix == "urn:ietf:params:jmap:error"
    return kind


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"nonsense", b"\xff\xfe", b'{"using": ["\xff"]}', b"[" * 50, b'{"a":NaN}',
        b'{"a":1e999}', b'{"a":"\\ud800"}', b"9" * 5000, b'{"a":"\x01"}', b"{} {}",
    ],
)  # fmt: skip
async def test_not_json(access: MemoryAccess, body: bytes) -> None:
    assert await _problem(access, body) == "notJSON"


@pytest.mark.parametrize(
    "body",
    [
        b"1", b"null", b"[]", b"{}", b'{"using": [], "methodCalls": {}}', b'{"methodCalls": []}',
        b'{"using": "x", "methodCalls": []}', b'{"using": [1], "methodCalls": []}',
        b'{"using": [], "methodCalls": [["a", {}]]}',
        b'{"using": [], "methodCalls": [[1, {}, ""]]}',
        b'{"using": [], "methodCalls": [["a", [], ""]]}',
        b'{"using": [], "methodCalls": [["a", {}, null]]}',
        b'{"using": [], "methodCalls": [], "createdIds": {"a": 1}}',
        b'{"using": [], "methodCalls": [], "createdIds": []}',
        b"[" * 100_000 + b"]" * 100_000, b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    ],
)  # fmt: skip
async def test_not_a_request(access: MemoryAccess, body: bytes) -> None:
    assert await _problem(access, body) == "notRequest"


async def test_unknown_capability(access: MemoryAccess) -> None:
    body = msgspec.json.encode({"using": [CAPABILITY_CORE, "urn:x"], "methodCalls": []})
    assert await _problem(access, body) == "unknownCapability"


async def test_known_capabilities_and_unknown_properties_are_accepted(
    access: MemoryAccess,
) -> None:
    # RFC 8620 §3.3: other properties of the Request object are ignored.
    body = {"using": sorted(CAPABILITIES), "methodCalls": [], "later": 1}
    status, response = await _raw(access, msgspec.json.encode(body))
    assert (status, response) == (200, {"methodResponses": [], "sessionState": "s1"})


async def test_too_many_calls(access: MemoryAccess) -> None:
    call = ["Core/echo", {}, "c"]
    body = {"using": CORE_ONLY, "methodCalls": [call] * 17}
    status, details = await _raw(access, msgspec.json.encode(body))
    assert (status, details["limit"]) == (400, "maxCallsInRequest")
    assert details["type"].endswith(":limit")
    body["methodCalls"] = [call] * 16
    assert (await _raw(access, msgspec.json.encode(body)))[0] == 200


async def test_echo(access: MemoryAccess) -> None:
    given_ = {"hello": True, "high": 5, "nested": {"a": [1, 2.5, None, "ä"]}}
    assert (await access.request(("Core/echo", given_)))[0][1] == given_


async def test_error_in_one_call_does_not_end_the_others(access: MemoryAccess) -> None:
    responses = await access.request(
        ("Foo/bar", {}),
        ("Email/get", {"accountId": ACCOUNT, "ids": 7}),
        ("Mailbox/get", {"accountId": ACCOUNT, "ids": [], "nonsense": 1}),
        ("Core/echo", {"a": 1}),
    )
    assert [name for name, _, _ in responses] == ["error", "error", "error", "Core/echo"]
    kinds = [arguments.get("type") for _, arguments, _ in responses]
    assert kinds[:3] == ["unknownMethod", "invalidArguments", "invalidArguments"]
    assert "ids" in responses[1][1]["description"]
    assert "nonsense" in responses[2][1]["description"]


@pytest.mark.parametrize("name", sorted(METHODS))
async def test_method_needs_its_capability(access: MemoryAccess, name: str) -> None:
    other = CAPABILITY_MAIL if name == "Core/echo" else CAPABILITY_CORE
    responses = await access.request((name, {"accountId": ACCOUNT}), using=[other])
    assert responses[0][:2] == ["error", {"type": "unknownMethod"}]


@pytest.mark.parametrize("name", sorted(set(METHODS) - {"Core/echo"}))
async def test_account(access: MemoryAccess, name: str) -> None:
    for account, kind in (
        ({}, "invalidArguments"),
        ({"accountId": None}, "invalidArguments"),
        ({"accountId": 7}, "invalidArguments"),
        ({"accountId": "A7"}, "accountNotFound"),
        ({"accountId": "u1"}, "accountNotFound"),
        ({"accountId": ACCOUNT.lower()}, "accountNotFound"),
    ):
        [(answered, arguments, _)] = await access.request((name, account))
        assert (answered, arguments["type"]) == ("error", kind)


async def test_removed_mailbox(access: MemoryAccess) -> None:
    access.removed = True
    assert await access.refusal("Mailbox/get", ids=None) == "accountNotFound"


async def test_created_ids_are_passed_through(access: MemoryAccess) -> None:
    body = {"using": CORE_ONLY, "methodCalls": [], "createdIds": {"k1": "M1"}}
    _, response = await _raw(access, msgspec.json.encode(body))
    assert response["createdIds"] == {"k1": "M1"}


async def test_created_ids_stand_for_folders(access: MemoryAccess) -> None:
    email = access.add(message())
    arguments = {"accountId": ACCOUNT, "update": {email: {"mailboxIds/#k1": True}}}
    [(_, result, _)] = await access.request(("Email/set", arguments), createdIds={"k1": "F6"})
    assert result["updated"] == {email: None}
    [(_, result, _)] = await access.request(("Email/set", arguments), createdIds={"k2": "F6"})
    assert result["notUpdated"][email]["type"] == "invalidProperties"


async def test_repeated_request_has_one_effect(access: MemoryAccess) -> None:
    one, other = access.add(message("one")), access.add(message("two"))
    calls = (
        ("Email/set", {"accountId": ACCOUNT, "update": {one: {"keywords/$seen": True}}}),
        ("Email/set", {"accountId": ACCOUNT, "destroy": [other]}),
    )
    first = await access.request(*calls, request_id=b"r" * 16)
    assert access.plans_run == 2
    assert await access.request(*calls, request_id=b"r" * 16) == first
    assert access.plans_run == 2
    await access.request(*calls, request_id=b"s" * 16)
    assert access.plans_run == 4


def test_request_ids_of_calls() -> None:
    request_id = bytes(range(16))
    ids = [call_request_id(request_id, position) for position in range(16)]
    assert len(set(ids)) == 16
    assert all(len(i) == 16 and i[:6] == request_id[:6] for i in ids)
    assert ids[3] == call_request_id(request_id, 3)
    assert ids[3] != call_request_id(bytes(16), 3)


@pytest.mark.parametrize("failure", [NotPrimary(), OutcomeUnknown()])
async def test_what_the_caller_must_repeat_is_no_answer(
    access: MemoryAccess, failure: Exception
) -> None:
    email = access.add(message())
    access.failure = failure
    with pytest.raises(type(failure)):
        await access.call("Email/set", destroy=[email])


@pytest.mark.parametrize("failure", [Overloaded(), DiskFull()])
async def test_what_may_pass_is_server_unavailable(
    access: MemoryAccess, failure: Exception
) -> None:
    email = access.add(message())
    access.failure = failure
    assert await access.refusal("Email/set", destroy=[email]) == "serverUnavailable"


async def test_our_own_failure_is_server_fail(
    access: MemoryAccess, caplog: pytest.LogCaptureFixture
) -> None:
    email = access.add(message())
    access.failure = ZeroDivisionError()
    with caplog.at_level(logging.CRITICAL, "actors.jmap.request"):
        assert await access.refusal("Email/set", destroy=[email]) == "serverFail"


# Hostile input ------------------------------------------------------------------------------


async def test_echoes_cannot_multiply_without_measure(access: MemoryAccess) -> None:
    """Each echo names the one before a hundred times: 100^15 octets unless it is bounded."""
    calls: list[Any] = [("Core/echo", {"a": "x" * 1000})]
    for i in range(15):
        reference = {"resultOf": f"c{i}", "name": "Core/echo", "path": ""}
        calls.append(("Core/echo", {f"#{n}": reference for n in range(100)}))
    responses = await access.request(*calls)
    kinds = [arguments.get("type") for name, arguments, _ in responses if name == "error"]
    assert set(kinds) == {"invalidResultReference"}
    assert sum(len(msgspec.json.encode(response)) for response in responses) < 10 << 20


async def test_deep_arguments(access: MemoryAccess) -> None:
    for depth in range(100, 1000, 25):
        deep = b"[" * depth + b"]" * depth
        body = (
            b'{"using":["urn:ietf:params:jmap:core"],"methodCalls":[["Core/echo",{"a":%b},"c"]]}'
            % deep
        )
        status, _ = await _raw(access, body)
        assert status in (200, 400)


async def test_huge_numbers(access: MemoryAccess) -> None:
    for number in (2**53, -(2**53), 2**64, 10**300, 1.5, 1e300, -1):
        assert await access.refusal("Email/query", limit=number) == "invalidArguments"
        body = b'{"using":["urn:ietf:params:jmap:core"],"methodCalls":[["Core/echo",{"a":%b},"c"]]}'
        status, response = await _raw(access, body % str(number).encode())
        assert status == 200
        assert response["methodResponses"][0][0] == "Core/echo"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False)
    | st.text(max_size=8) | st.sampled_from(["M1", "F1", "T1", "$seen", "AND", "receivedAt"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["operator", "conditions", "property", "keyword", "inMailbox", "M1",
                         "keywords", "mailboxIds", "keywords/$seen", "header", "text", ""]),
        inner, max_size=3,
    ),
    max_leaves=12,
)  # fmt: skip
NAMES = st.sampled_from(
    ["ids", "properties", "filter", "sort", "position", "limit", "anchor", "anchorOffset",
     "sinceState", "maxChanges", "update", "destroy", "create", "ifInState", "bodyProperties",
     "maxBodyValueBytes", "collapseThreads", "#ids", "#filter"]
)  # fmt: skip


@given(st.sampled_from(sorted(METHODS)), st.dictionaries(NAMES, JSON, max_size=4))
async def test_nothing_is_a_server_failure(name: str, arguments: dict[str, Any]) -> None:
    access = MemoryAccess()
    access.add(message())
    [(answered, result, _)] = await access.request((name, {"accountId": ACCOUNT, **arguments}))
    if answered == "error":
        assert result["type"] not in ("serverFail", "serverUnavailable"), result
