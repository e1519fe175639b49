"""Whatever JSON comes: a problem of the request or errors of its methods, never our fault."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from actors.jmap.limits import CONTAINERS_IN_REQUEST_MAX, MESSAGES_BYTES_MAX
from actors.jmap.methods import METHODS
from actors.jmap.request import evaluate
from tests.contract.hostile import USING, check_problem, check_response
from tests.properties import EXAMPLES
from tests.unit.actors.jmap.memory_access import ACCOUNT, MemoryAccess, message

# One value of every kind of JSON, and some that look right at first sight.
VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 2**53, -(2**63), 0.5, 1e300, "", "a", "#a", "M1", "F1", "\x00", "😀", "~",
    [], [None], ["M1"], [["M1"]], [{}], {}, {"": None}, {"a": 1}, {"M1": None}, {"M1": {}},
    {"a": {"b": {"c": [1]}}}, {"operator": "NOT"}, {"operator": 1, "conditions": {}},
    {"operator": "AND", "conditions": [None]}, [{"property": 1}], [{"property": "size"}],
)  # fmt: skip
# Every argument that some method takes.
ARGUMENTS = (
    "accountId", "ids", "properties", "bodyProperties", "fetchTextBodyValues",
    "fetchHTMLBodyValues", "fetchAllBodyValues", "maxBodyValueBytes", "filter", "sort", "position",
    "anchor", "anchorOffset", "limit", "calculateTotal", "collapseThreads", "sortAsTree",
    "filterAsTree", "sinceState", "sinceQueryState", "upToId", "maxChanges", "ifInState",
    "ifFromInState", "create", "update", "destroy", "onDestroyRemoveEmails", "fromAccountId",
    "onSuccessDestroyOriginal", "destroyFromIfInState", "onSuccessUpdateEmail",
    "onSuccessDestroyEmail", "blobIds", "emails", "typeNames", "emailIds", "#ids", "#filter",
    "#accountId", "unheard of",
)  # fmt: skip
FILTERS = (
    "inMailbox", "inMailboxOtherThan", "before", "after", "minSize", "maxSize",
    "allInThreadHaveKeyword", "someInThreadHaveKeyword", "noneInThreadHaveKeyword", "hasKeyword",
    "notKeyword", "hasAttachment", "text", "from", "to", "cc", "bcc", "subject", "body", "header",
    "name", "role", "parentId", "hasAnyRole", "isSubscribed", "operator", "conditions",
)  # fmt: skip
PATCHES = (
    "", "/", "//", "~", "~2", "keywords", "keywords/", "keywords/$seen", "keywords/a/b",
    "keywords/~0", "mailboxIds", "mailboxIds/F1", "mailboxIds/#a", "mailboxIds/F999", "id", "name",
    "subject", "from/0", "bodyStructure", "parentId", "sortOrder", "isSubscribed", "role",
    "identityId", "sendAt", "undoStatus", "envelope", "emailId", "replyTo", "bcc",
)  # fmt: skip


@pytest.fixture(scope="module")
def house() -> MemoryAccess:
    access = MemoryAccess()
    for number in range(3):
        access.add(message(f"number {number}", message_id=f"{number}@x.test"))
    return access


async def ask(access: MemoryAccess, body: bytes) -> tuple[int, Any]:
    """Evaluate and check the form of the answer."""
    access.requests += 1
    request_id = access.requests.to_bytes(16, "big")
    answer = await evaluate(access, body, request_id=request_id, session_state="s1")
    value = msgspec.json.decode(answer.body)
    if answer.status == 200:
        check_response(value)
    else:
        assert answer.status == 400
        check_problem(value)
    return answer.status, value


async def ask_calls(access: MemoryAccess, *calls: Any, **more: Any) -> list[Any]:
    body = {"using": USING, "methodCalls": list(calls), **more}
    status, value = await ask(access, msgspec.json.encode(body))
    assert status == 200, value
    responses: list[Any] = value["methodResponses"]
    return responses


@pytest.mark.parametrize("method", sorted(METHODS))
async def test_every_argument_of_every_method_with_every_type(
    house: MemoryAccess, method: str
) -> None:
    calls = [
        [method, {"accountId": ACCOUNT, "ids": [], name: value}, "c"]
        if name != "ids" else [method, {"accountId": ACCOUNT, "ids": value}, "c"]
        for name in ARGUMENTS
        for value in VALUES
    ]  # fmt: skip
    calls += [
        [method, {"accountId": ACCOUNT, name: value}, "c"] for name in ARGUMENTS for value in VALUES
    ]
    for start in range(0, len(calls), 16):
        await ask_calls(house, *calls[start : start + 16])


@pytest.mark.parametrize("method", sorted(name for name in METHODS if name.endswith("/query")))
async def test_every_condition_with_every_type(house: MemoryAccess, method: str) -> None:
    for name in FILTERS:
        calls = [[method, {"accountId": ACCOUNT, "filter": {name: value}}, "c"] for value in VALUES]
        for start in range(0, len(calls), 16):
            await ask_calls(house, *calls[start : start + 16])


@pytest.mark.parametrize("method", sorted(name for name in METHODS if name.endswith("/set")))
async def test_every_patch_with_every_type(house: MemoryAccess, method: str) -> None:
    for name in PATCHES:
        calls = []
        for value in VALUES:
            calls.append([method, {"accountId": ACCOUNT, "update": {"M1": {name: value}}}, "c"])
            calls.append([method, {"accountId": ACCOUNT, "create": {"k": {name: value}}}, "c"])
        for start in range(0, len(calls), 16):
            await ask_calls(house, *calls[start : start + 16])


@pytest.mark.parametrize(
    "patch",
    [
        {"/".join("a" * 100_000): True},
        {"keywords/" + "/".join("a" * 100_000): True},
        {f"keywords/{n}": True for n in range(100_000)},
        {"/".join("a" * (n + 1)): True for n in range(2000)},
        {"x" * 1_000_000: True},
        {"mailboxIds": {f"F{n}": True for n in range(1, 50_000)}},
        {"keywords": {f"k{n}": True for n in range(100_000)}},
    ],
    ids=range(7),
)
async def test_hostile_patches_take_linear_time(house: MemoryAccess, patch: Any) -> None:
    begun = time.process_time()
    ((_, value, _),) = await ask_calls(
        house, ["Email/set", {"accountId": ACCOUNT, "update": {"M1": patch}}, "c"]
    )
    assert list(value["notUpdated"]) == ["M1"]
    assert time.process_time() - begun < 3.0


WORDS = st.sampled_from(
    (*METHODS, *ARGUMENTS, *FILTERS, *PATCHES, *USING, ACCOUNT, "A1", "M1", "F1", "T1", "using",
     "methodCalls", "createdIds", "resultOf", "name", "path", "/ids", "/list/*/id", "/*", "AND")
)  # fmt: skip
SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | WORDS
    | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5)
)  # fmt: skip
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=12,
)
CALLS = st.tuples(
    st.sampled_from(sorted(METHODS)),
    st.dictionaries(st.sampled_from(ARGUMENTS), JSON, max_size=5).map(
        lambda found: {"accountId": ACCOUNT} | found
    ),
    st.sampled_from(["a", "b"]),
)
REFERENCES = st.fixed_dictionaries(
    {
        "resultOf": st.sampled_from(["a", "b"]),
        "name": st.sampled_from(sorted(METHODS)),
        "path": st.lists(WORDS | st.just("*") | st.just("0"), max_size=4).map("/".join)
        | st.sampled_from(["", "/ids", "/list/*/id", "/list/*", "/*", "/ids/*/*", "/list/0"]),
    }
)
FUZZ = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@FUZZ
@given(JSON)
async def test_any_json_is_answered(house: MemoryAccess, value: Any) -> None:
    await ask(house, msgspec.json.encode(value))


@FUZZ
@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda t: t.encode("utf-8", "replace")))
@example(b'{"using": [], "methodCalls": [], "using": 1}')
@example(b'{"using": [], "methodCalls": [["Core/echo", {"a": 1e999}, "c"]]}')
async def test_any_octets_are_answered(house: MemoryAccess, body: bytes) -> None:
    await ask(house, body)


@FUZZ
@given(st.lists(CALLS, min_size=1, max_size=4))
async def test_any_arguments_are_answered(house: MemoryAccess, calls: list[Any]) -> None:
    await ask_calls(house, *calls)


@FUZZ
@given(st.lists(st.tuples(st.sampled_from(sorted(METHODS)), REFERENCES), min_size=1, max_size=5))
async def test_any_reference_is_answered(house: MemoryAccess, wanted: list[Any]) -> None:
    calls = [["Email/query", {"accountId": ACCOUNT}, "a"]]
    for method, reference in wanted:
        calls.append([method, {"accountId": ACCOUNT, "#ids": reference, "ids": ["M1"]}, "b"])
        calls.append([method, {"accountId": ACCOUNT, "#ids": reference}, "b"])
    await ask_calls(house, *calls)


async def test_circular_and_forward_references_lead_nowhere(house: MemoryAccess) -> None:
    def echo(of: str, call_id: str) -> list[Any]:
        reference = {"resultOf": of, "name": "Core/echo", "path": "/a"}
        return ["Core/echo", {"#a": reference}, call_id]

    responses = await ask_calls(house, echo("x", "x"), echo("z", "y"), echo("y", "z"))
    assert [(name, value["type"]) for name, value, _ in responses] == [
        ("error", "invalidResultReference")
    ] * 3


async def test_references_do_not_multiply(house: MemoryAccess) -> None:
    calls: list[Any] = [["Core/echo", {"a0": ["x" * 1000] * 10}, "c0"]]
    for n in range(15):
        reference = {"resultOf": f"c{n}", "name": "Core/echo", "path": ""}
        calls.append(["Core/echo", {f"#a{i}": reference for i in range(100)}, f"c{n + 1}"])
    body = msgspec.json.encode({"using": USING, "methodCalls": calls})
    _, value = await ask(house, body)
    assert len(msgspec.json.encode(value)) < 32 << 20
    assert value["methodResponses"][-1][1]["type"] == "invalidResultReference"


async def test_flat_arrays_in_arrays_under_stars(house: MemoryAccess) -> None:
    value: Any = [1] * 100
    for _ in range(30):
        value = [value]
    reference = {"resultOf": "c", "name": "Core/echo", "path": "/a" + "/*" * 30}
    responses = await ask_calls(
        house, ["Core/echo", {"a": value}, "c"], ["Core/echo", {"#b": reference}, "d"]
    )
    assert responses[1][1] == {"b": [1] * 100}


MANY = CONTAINERS_IN_REQUEST_MAX
HUGE = (
    b'{"using":[],"methodCalls":[' + b'["a",{},"c"],' * 700_000 + b'["a",{},"c"]]}',
    b'{"using":[],"methodCalls":[["a",' + b"[[],[]]," * 1_100_000 + b"1]]}",
    b'{"using":' + b"[" * 4_000_000 + b"]" * 4_000_000 + b"}",
    b'{"a":' * 1_000_000,
    b"[" * 9_000_000,
)


@pytest.mark.parametrize("body", HUGE, ids=range(len(HUGE)))
async def test_huge_requests_are_refused_in_no_time(house: MemoryAccess, body: bytes) -> None:
    begun = time.process_time()
    status, problem = await ask(house, body)
    assert (status, problem["limit"]) == (400, "maxSizeRequest")
    assert time.process_time() - begun < 3.0


async def test_brackets_within_strings_do_not_count(house: MemoryAccess) -> None:
    text = '[{\\"' * MANY
    (response,) = await ask_calls(house, ["Core/echo", {"text": text}, "c"])
    assert response == ["Core/echo", {"text": text}, "c"]


async def test_ten_thousand_calls(house: MemoryAccess) -> None:
    body = {"using": USING, "methodCalls": [["Core/echo", {}, "c"]] * 10_000}
    status, problem = await ask(house, msgspec.json.encode(body))
    assert (status, problem["limit"]) == (400, "maxCallsInRequest")


@pytest.mark.parametrize("limit", [16, 17])
async def test_calls_at_the_limit(house: MemoryAccess, limit: int) -> None:
    body = {"using": USING, "methodCalls": [["Core/echo", {}, "c"]] * limit}
    status, _ = await ask(house, msgspec.json.encode(body))
    assert status == (200 if limit == 16 else 400)


async def test_call_ids_may_repeat(house: MemoryAccess) -> None:
    responses = await ask_calls(house, *[["Core/echo", {"n": n}, "same"] for n in range(3)])
    assert responses == [["Core/echo", {"n": n}, "same"] for n in range(3)]


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"Core/echo"}))
@pytest.mark.parametrize("account", ["A0", "A2b", "A" + "f" * 16, "A" * 255, "a2a", "x"])
async def test_accounts_of_others_do_not_exist(
    house: MemoryAccess, method: str, account: str
) -> None:
    ((name, error, _),) = await ask_calls(house, [method, {"accountId": account}, "c"])
    assert (name, error["type"]) == ("error", "accountNotFound")


async def test_objects_at_the_limit(house: MemoryAccess) -> None:
    for count, refused in ((500, False), (501, True)):
        ids = [f"M{n:x}" for n in range(1000, 1000 + count)]
        got, destroyed = await ask_calls(
            house,
            ["Email/get", {"accountId": ACCOUNT, "ids": ids}, "c"],
            ["Email/set", {"accountId": ACCOUNT, "destroy": ids}, "d"],
        )
        if refused:
            assert got[1]["type"] == destroyed[1]["type"] == "requestTooLarge"
        else:
            assert len(got[1]["notFound"]) == len(destroyed[1]["notDestroyed"]) == 500


async def test_messages_read_at_once_have_a_bound(access: MemoryAccess) -> None:
    raw = message("large", more="Content-Type: a/b", body="x" * 45_000_000)
    ids = [access.add(raw) for _ in range(7)]
    assert 7 * len(raw) > MESSAGES_BYTES_MAX > 5 * len(raw)
    refusal = await access.refusal("Email/get", ids=ids, properties=["bodyStructure"])
    assert refusal == "requestTooLarge"
    for wanted in (["subject", "size"], ["headers", "header:To:asAddresses"]):
        found = (await access.call("Email/get", ids=ids, properties=wanted))["list"]
        assert len(found) == 7
    found = (await access.call("Email/get", ids=ids[:5], properties=["bodyStructure"]))["list"]
    assert len(found) == 5


@pytest.mark.parametrize(
    "fields",
    [
        "\r\n".join(f"To: {':' * 120_000}" for _ in range(40)),
        "\r\n".join(f"X-{n}: {'(' * 120_000}" for n in range(40)),
        "\r\n".join("To: a@b.test, c@d.test" for _ in range(5000)),
    ],
    ids=["groups", "comments", "many"],
)
async def test_forms_of_hostile_fields_take_bounded_time(access: MemoryAccess, fields: str) -> None:
    email = access.add(message("x", more=fields))
    properties = [f"header:X-{n}:asGroupedAddresses:all" for n in range(40)]
    properties += ["header:To:asGroupedAddresses:all", "header:To:asAddresses", "header:To:all"]
    begun = time.process_time()
    (found,) = (await access.call("Email/get", ids=[email], properties=properties))["list"]
    assert time.process_time() - begun < 5.0
    assert len(found["header:To:asGroupedAddresses:all"]) == len(found["header:To:all"])
