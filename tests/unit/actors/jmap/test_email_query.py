"""Email/query (RFC 8621 §4.4, RFC 8620 §5.5)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mail.search import matches, parse_query
from tests.properties import examples
from tests.unit.actors.jmap.memory_access import (
    ARCHIVE,
    INBOX,
    TRASH,
    MemoryAccess,
    message,
)

DAY_MS = 24 * 3600 * 1000
NEWEST_FIRST = [{"property": "receivedAt", "isAscending": False}]
OLDEST_FIRST = [{"property": "receivedAt"}]


@pytest.fixture
def mail(access: MemoryAccess) -> MemoryAccess:
    """Return a mailbox with five emails, M1 the oldest."""
    attached = (
        "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nsee report\r\n--b\r\n"
        "Content-Type: application/pdf; name=figures.pdf\r\nContent-Disposition: attachment"
        "\r\n\r\nx\r\n--b--"
    )
    emails: list[tuple[bytes, tuple[int, ...], tuple[str, ...]]] = [
        (message("budget", message_id="1@x", body="money matters"), (INBOX,), ("$seen",)),
        (
            message("Re: budget", sender="Bob <bob@example.test>", to="carol@example.test",
                    reply_to_id="1@x", more="Cc: Dave <dave@example.test>"),
            (INBOX, ARCHIVE), ("$flagged", "$seen"),
        ),
        (message("holiday", more="Bcc: dave@example.test\r\nX-Spam: Yes, very"), (TRASH,), ()),
        (message("한국어 제목", sender="김 <kim@example.test>", more=attached), (INBOX,), ()),
        (message("Zebra", sender="<a@example.test>", body="y" * 5000,
                 date="Mon, 1 Jan 2001 00:00:00 +0000"), (ARCHIVE,), ("$draft",)),
    ]  # fmt: skip
    for day, (raw, folders, keywords) in enumerate(emails, 1):
        access.add(raw, folders=folders, keywords=keywords, received_at_ms=day * DAY_MS)
    return access


async def _query(access: MemoryAccess, **arguments: Any) -> str:
    """Return the numbers of the emails found, in order."""
    result = await access.call("Email/query", **arguments)
    return "".join(email_id.removeprefix("M") for email_id in result["ids"])


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (None, "12345"),
        ({}, "12345"),
        ({"inMailbox": "F1"}, "124"),
        ({"inMailbox": "F4"}, ""),
        ({"inMailbox": "F99"}, ""),
        ({"inMailbox": "F0"}, ""),
        ({"inMailbox": "nonsense"}, ""),
        ({"inMailboxOtherThan": ["F5"]}, "1245"),
        ({"inMailboxOtherThan": ["F1"]}, "235"),
        ({"inMailboxOtherThan": ["F1", "F6", "F5"]}, ""),
        ({"inMailboxOtherThan": []}, "12345"),
        ({"inMailboxOtherThan": ["F99", "x"]}, "12345"),
        ({"before": "1970-01-04T00:00:00Z"}, "12"),
        ({"before": "1970-01-04T00:00:00.0000001Z"}, "123"),
        ({"after": "1970-01-04T00:00:00Z"}, "345"),
        ({"after": "1970-01-04T00:00:00.001Z"}, "45"),
        ({"after": "1970-01-02T00:00:00Z", "before": "1970-01-02T00:00:00.001Z"}, "1"),
        ({"minSize": 5000}, "5"),
        ({"maxSize": 5000}, "1234"),
        ({"hasKeyword": "$seen"}, "12"),
        ({"hasKeyword": "$SEEN"}, "12"),
        ({"notKeyword": "$seen"}, "345"),
        ({"allInThreadHaveKeyword": "$seen"}, "12"),
        ({"allInThreadHaveKeyword": "$flagged"}, ""),
        ({"someInThreadHaveKeyword": "$flagged"}, "12"),
        ({"noneInThreadHaveKeyword": "$flagged"}, "345"),
        ({"noneInThreadHaveKeyword": "$draft"}, "1234"),
        ({"hasAttachment": True}, "4"),
        ({"hasAttachment": False}, "1235"),
        ({"text": "budget"}, "12"),
        ({"text": "money"}, "1"),
        ({"text": "dave"}, "23"),
        ({"text": "국어"}, "4"),
        ({"text": "figures"}, "4"),
        ({"text": "kim report"}, "4"),
        ({"text": ""}, "12345"),
        ({"text": " ... "}, "12345"),
        ({"from": "bob"}, "2"),
        ({"from": "김"}, "4"),
        ({"to": "bob"}, "1345"),
        ({"to": "dave"}, ""),
        ({"cc": "dave"}, "2"),
        ({"cc": "dave@example.test"}, "2"),
        ({"bcc": "dave"}, "3"),
        ({"bcc": "..."}, "12345"),
        ({"subject": "budget"}, "12"),
        ({"subject": "money"}, ""),
        ({"body": "money"}, "1"),
        ({"body": '"money matters"'}, "1"),
        ({"body": '"matters money"'}, ""),
        ({"body": "budget"}, ""),
        ({"header": ["X-Spam"]}, "3"),
        ({"header": ["x-spam", "yes"]}, "3"),
        ({"header": ["X-Spam", "yes very"]}, "3"),
        ({"header": ["X-Spam", "no"]}, ""),
        ({"header": ["X-None"]}, ""),
        ({"header": ["Subject", "udge"]}, "12"),
        ({"header": ["Message-ID", "1@x"]}, "1"),
        ({"inMailbox": "F1", "hasKeyword": "$seen", "from": "alice"}, "1"),
        ({"operator": "AND", "conditions": [{"inMailbox": "F1"}, {"inMailbox": "F6"}]}, "2"),
        ({"operator": "OR", "conditions": [{"inMailbox": "F5"}, {"inMailbox": "F6"}]}, "235"),
        ({"operator": "NOT", "conditions": [{"inMailbox": "F5"}, {"inMailbox": "F6"}]}, "14"),
        ({"operator": "NOT", "conditions": [{"text": "budget"}]}, "345"),
        ({"operator": "OR", "conditions": [{"text": "budget"}, {"text": "zebra"}]}, "125"),
        ({"operator": "OR", "conditions": []}, ""),
        (
            {
                "operator": "AND",
                "conditions": [
                    {"operator": "NOT", "conditions": [{"hasKeyword": "$flagged"}]},
                    {"operator": "OR", "conditions": [{"from": "alice"}, {"cc": "dave"}]},
                ],
            },
            "13",
        ),
    ],
)
async def test_filters(mail: MemoryAccess, wanted: Any, found: str) -> None:
    assert await _query(mail, filter=wanted, sort=OLDEST_FIRST) == found
    assert await _query(mail, filter=wanted, sort=NEWEST_FIRST) == found[::-1]
    assert await _query(mail, filter=wanted) == found[::-1]
    by_size_first = [{"property": "hasKeyword", "keyword": "none"}, {"property": "receivedAt"}]
    assert await _query(mail, filter=wanted, sort=by_size_first) == found
    result = await mail.call("Email/query", filter=wanted, calculateTotal=True, limit=1)
    assert result["total"] == len(found)


@pytest.mark.parametrize(
    ("sort", "found"),
    [
        ([], "54321"),
        ([{"property": "receivedAt"}], "12345"),
        ([{"property": "receivedAt", "isAscending": True}], "12345"),
        ([{"property": "size", "isAscending": False}], "54231"),
        ([{"property": "subject"}], "21354"),
        ([{"property": "subject"}, {"property": "receivedAt"}], "12354"),
        ([{"property": "subject", "collation": "i;ascii-casemap"}], "21354"),
        ([{"property": "from"}, {"property": "receivedAt"}], "51324"),
        ([{"property": "to"}, {"property": "receivedAt"}], "13452"),
        ([{"property": "sentAt"}, {"property": "receivedAt"}], "51234"),
        ([{"property": "hasKeyword", "keyword": "$seen"}], "54321"),
        ([{"property": "hasKeyword", "keyword": "$Flagged", "isAscending": False}], "25431"),
        ([{"property": "allInThreadHaveKeyword", "keyword": "$flagged"}], "54321"),
        (
            [
                {"property": "someInThreadHaveKeyword", "keyword": "$flagged",
                 "isAscending": False},
                {"property": "subject", "collation": "i;ascii-casemap"},
                {"property": "receivedAt", "isAscending": False},
            ],
            "21354",
        ),
    ],
)  # fmt: skip
async def test_sorts(mail: MemoryAccess, sort: Any, found: str) -> None:
    assert await _query(mail, sort=sort) == found


async def test_collapsed_threads(mail: MemoryAccess) -> None:
    assert await _query(mail, collapseThreads=True) == "5432"
    assert await _query(mail, collapseThreads=True, sort=OLDEST_FIRST) == "1345"
    flagged = {"notKeyword": "$flagged"}
    assert await _query(mail, collapseThreads=True, filter=flagged) == "5431"
    by_subject = [{"property": "subject"}, {"property": "receivedAt"}]
    assert await _query(mail, collapseThreads=True, sort=by_subject) == "1354"
    for wanted, total in (({"inMailbox": "F1"}, 2), (None, 4), ({"hasKeyword": "$seen"}, 1)):
        result = await mail.call(
            "Email/query", filter=wanted, collapseThreads=True, calculateTotal=True
        )
        assert result["total"] == total == len(result["ids"])


@pytest.mark.parametrize(
    ("window", "position", "found"),
    [
        ({}, 0, "54321"),
        ({"limit": 2}, 0, "54"),
        ({"position": 3}, 3, "21"),
        ({"position": 3, "limit": 1}, 3, "2"),
        ({"position": 5}, 5, ""),
        ({"position": 99, "limit": 5}, 99, ""),
        ({"position": -2}, 3, "21"),
        ({"position": -2, "limit": 1}, 3, "2"),
        ({"position": -99, "limit": 1}, 0, "5"),
        ({"limit": 0}, 0, ""),
        ({"anchor": "M3"}, 2, "321"),
        ({"anchor": "M3", "limit": 1}, 2, "3"),
        ({"anchor": "M3", "anchorOffset": -1, "limit": 2}, 1, "43"),
        ({"anchor": "M3", "anchorOffset": 1}, 3, "21"),
        ({"anchor": "M3", "anchorOffset": -99, "limit": 1}, 0, "5"),
        ({"anchor": "M3", "anchorOffset": 99}, 101, ""),
        ({"anchor": "M3", "position": 4, "limit": 0}, 2, ""),
        ({"anchorOffset": 2, "limit": 1}, 0, "5"),
    ],
)
@pytest.mark.parametrize("total", [False, True])
async def test_windows(
    mail: MemoryAccess, window: dict[str, Any], position: int, found: str, total: bool
) -> None:
    result = await mail.call("Email/query", calculateTotal=total, **window)
    assert "".join(email_id[1:] for email_id in result["ids"]) == found
    assert result["position"] == position
    assert result.get("total") == (5 if total else None)
    assert result["queryState"] == str(mail.reader().info.email_modseq)
    assert result["canCalculateChanges"] is True
    assert ("limit" in result) == ("limit" not in window)


async def test_our_limit_is_told(mail: MemoryAccess) -> None:
    assert (await mail.call("Email/query"))["limit"] == 5000
    assert (await mail.call("Email/query", limit=5001))["limit"] == 5000
    assert "limit" not in await mail.call("Email/query", limit=5000)


async def test_anchor_not_found(mail: MemoryAccess) -> None:
    for anchor in ("M9", "F1", "x"):
        assert await mail.refusal("Email/query", anchor=anchor) == "anchorNotFound"
    refused = await mail.refusal("Email/query", anchor="M3", filter={"inMailbox": "F1"})
    assert refused == "anchorNotFound"


async def test_refusals(mail: MemoryAccess) -> None:
    deep: Any = {}
    for _ in range(20):
        deep = {"operator": "NOT", "conditions": [deep]}
    wide = {"operator": "AND", "conditions": [{"hasKeyword": "a"}] * 201}
    texts = {"operator": "OR", "conditions": [{"subject": "a"}] * 17}
    for arguments, kind in (
        ({"filter": {"colour": "red"}}, "unsupportedFilter"),
        ({"filter": deep}, "unsupportedFilter"),
        ({"filter": wide}, "unsupportedFilter"),
        ({"filter": texts}, "unsupportedFilter"),
        ({"filter": {"hasKeyword": "a b"}}, "invalidArguments"),
        ({"filter": {"hasKeyword": None}}, "invalidArguments"),
        ({"filter": {"inMailbox": None}}, "invalidArguments"),
        ({"filter": {"inMailboxOtherThan": "F1"}}, "invalidArguments"),
        ({"filter": {"before": "1970-01-01"}}, "invalidArguments"),
        ({"filter": {"before": "1970-01-01T00:00:00+01:00"}}, "invalidArguments"),
        ({"filter": {"before": "1970-02-30T00:00:00Z"}}, "invalidArguments"),
        ({"filter": {"after": "1970-01-01T24:00:00Z"}}, "invalidArguments"),
        ({"filter": {"after": 0}}, "invalidArguments"),
        ({"filter": {"minSize": -1}}, "invalidArguments"),
        ({"filter": {"maxSize": 1.5}}, "invalidArguments"),
        ({"filter": {"hasAttachment": 1}}, "invalidArguments"),
        ({"filter": {"text": 1}}, "invalidArguments"),
        ({"filter": {"header": []}}, "invalidArguments"),
        ({"filter": {"header": ["a", "b", "c"]}}, "invalidArguments"),
        ({"filter": {"header": "a"}}, "invalidArguments"),
        ({"sort": [{"property": "colour"}]}, "unsupportedSort"),
        ({"sort": [{"property": "hasKeyword"}]}, "invalidArguments"),
        ({"sort": [{"property": "hasKeyword", "keyword": "a b"}]}, "invalidArguments"),
        ({"sort": [{"property": "subject", "collation": "x"}]}, "unsupportedSort"),
        ({"sort": [{"property": "size"}] * 17}, "unsupportedSort"),
        ({"position": "1"}, "invalidArguments"),
        ({"position": True}, "invalidArguments"),
        ({"limit": -1}, "invalidArguments"),
        ({"anchor": 1}, "invalidArguments"),
        ({"collapseThreads": None}, "invalidArguments"),
    ):
        assert await mail.refusal("Email/query", **arguments) == kind, arguments


async def test_first_page_reads_no_more_than_the_page(access: MemoryAccess) -> None:
    """A folder by date stops when the page is full; not even the total needs a walk."""
    for n in range(300):
        access.add(message(f"{n}"), received_at_ms=n)
    access.state.gets = access.state.scanned = 0
    result = await access.call(
        "Email/query", filter={"inMailbox": "F1"}, sort=NEWEST_FIRST, limit=50, calculateTotal=True
    )
    assert result["total"] == 300
    assert result["ids"][0] == "M12c"
    assert access.state.scanned == 50
    assert access.state.gets < 5


async def test_few_hits_read_only_those(access: MemoryAccess) -> None:
    for n in range(300):
        access.add(message("needle" if n == 150 else f"{n}"), received_at_ms=n)
    access.state.scanned = 0
    assert (await access.call("Email/query", filter={"text": "needle"}))["ids"] == ["M97"]
    assert access.state.scanned == 0


async def test_long_walk_lets_others_have_the_loop(access: MemoryAccess) -> None:
    for n in range(1200):
        access.add(message("same"), received_at_ms=n)
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(others())
    await _query(access, filter={"hasKeyword": "none"})
    walked, turns = turns, 0
    await _query(access, filter={"header": ["X-None"]}, sort=[{"property": "size"}])
    task.cancel()
    assert walked >= 2
    assert turns >= 50


async def test_destroyed_while_walking_is_no_failure(mail: MemoryAccess) -> None:
    search = mail.search

    async def meanwhile(fields: Any, text: str) -> set[int] | None:
        found = await search(fields, text)
        mail.run(lambda writer: writer.destroy_email(2))
        return found

    mail.search = meanwhile  # type: ignore[method-assign]
    assert await _query(mail, filter={"subject": "budget"}) == "1"


KEYWORDS = ("$seen", "$flagged", "x")
CONDITIONS = st.one_of(
    st.fixed_dictionaries({"inMailbox": st.sampled_from(["F1", "F2", "F9"])}),
    st.fixed_dictionaries({"inMailboxOtherThan": st.lists(st.sampled_from(["F1", "F2"]))}),
    st.fixed_dictionaries({"hasKeyword": st.sampled_from(KEYWORDS)}),
    st.fixed_dictionaries({"notKeyword": st.sampled_from(KEYWORDS)}),
    st.fixed_dictionaries({"subject": st.sampled_from(["apple", "pear", "apple pear"])}),
    st.fixed_dictionaries(
        {"inMailbox": st.just("F1"), "hasKeyword": st.just("x"), "text": st.just("pear")}
    ),
)
FILTERS = st.recursive(
    CONDITIONS,
    lambda inner: st.fixed_dictionaries(
        {"operator": st.sampled_from(["AND", "OR", "NOT"]),
         "conditions": st.lists(inner, max_size=3)}
    ),
    max_leaves=6,
)  # fmt: skip
EMAILS = st.lists(
    st.tuples(
        st.sampled_from([(1,), (2,), (1, 2)]),
        st.lists(st.sampled_from(KEYWORDS), unique=True).map(tuple),
        st.sampled_from(["apple", "pear", "apple pear", "plum"]),
        st.integers(1, 5),
    ),
    max_size=8,
)


def _holds(wanted: Any, folders: tuple[int, ...], keywords: Any, subject: str) -> bool:
    if "operator" in wanted:
        inner = [_holds(item, folders, keywords, subject) for item in wanted["conditions"]]
        operator = wanted["operator"]
        return {"AND": all(inner), "OR": any(inner), "NOT": not any(inner)}[operator]
    ids = {f"F{folder}" for folder in folders}
    tests = {
        "inMailbox": lambda value: value in ids,
        "inMailboxOtherThan": lambda value: bool(ids - set(value)),
        "hasKeyword": lambda value: value in keywords,
        "notKeyword": lambda value: value not in keywords,
        "subject": lambda value: matches(parse_query(value), subject),
        "text": lambda value: matches(parse_query(value), subject),
    }
    return all(tests[name](value) for name, value in wanted.items())


@examples(80)
@given(EMAILS, FILTERS, st.booleans(), st.integers(-9, 9), st.integers(0, 5), st.booleans())
async def test_any_filter_and_window_against_a_model(
    emails: Any, wanted: Any, ascending: bool, position: int, limit: int, by_listing: bool
) -> None:
    access = MemoryAccess()
    rows = []
    for number, (folders, keywords, subject, when) in enumerate(emails, 1):
        raw = message(subject)
        access.add(raw, folders=folders, keywords=keywords, received_at_ms=when)
        if _holds(wanted, folders, keywords, subject):
            rows.append((when, len(raw), number))
    sort = [{"property": "receivedAt", "isAscending": ascending}]
    if by_listing:
        rows.sort(key=lambda row: (row[0], row[2]), reverse=not ascending)
    else:
        # Equal in both: newest first, that is the greater number.
        sort.append({"property": "size"})
        sign = 1 if ascending else -1
        rows.sort(key=lambda row: (sign * row[0], row[1], -row[2]))
    result = await access.call(
        "Email/query", filter=wanted, sort=sort, position=position, limit=limit,
        calculateTotal=True,
    )  # fmt: skip
    start = position if position >= 0 else max(0, len(rows) + position)
    assert result["total"] == len(rows)
    assert result["position"] == start
    assert result["ids"] == [f"M{number:x}" for *_, number in rows][start : start + limit]
