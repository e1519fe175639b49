"""Search: analysis of text and queries, and their agreement."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mail.search import (
    END,
    TERMS_MAX,
    CjkSubstring,
    WordPhrase,
    WordPrefix,
    grams,
    matches,
    parse_query,
    query_grams,
    words,
)


def test_words() -> None:
    assert words("Hello, World! it's 42_b") == ["hello", "world", "it", "s", "42", "b"]
    assert words("Crème BRÛLÉE Straße Łódź smørrebrød") == [
        "creme", "brulee", "strasse", "lodz", "smorrebrod",
    ]  # fmt: skip
    assert words("alice@example.test") == ["alice", "example", "test"]
    assert words("ＡＢＣ１") == ["abc1"]
    assert words("회의2024자료") == ["2024"]
    assert words("Привет Ελλάδα") == ["привет", "ελλαδα"]
    assert words("cafe\u0301") == words("café") == ["cafe"]
    assert words("हिन्दी") == ["हिन्दी"]
    assert words("x" * 100) == ["x" * 64]
    assert words("") == words("회의 _ -") == []


def test_grams() -> None:
    assert grams("회의 자료") == [("회의", 0), ("의" + END, 1), ("자료", 4), ("료" + END, 5)]
    assert grams("a회b") == [("회" + END, 0)]
    assert grams("ｶﾞﾗｽ") == grams("ガラス")
    assert grams("한") == grams("한")  # NFD
    assert grams("plain") == []
    assert query_grams("회의를") == ("회의", "의를")
    assert query_grams("회") == ()


def test_queries() -> None:
    assert parse_query("") == parse_query("  -- _ ") == ()
    assert parse_query("Hello wor") == (WordPrefix("hello"), WordPrefix("wor"))
    assert parse_query("alice@example.te") == (WordPhrase(("alice", "example", "te"), True),)
    assert parse_query('"foo bar" x') == (WordPhrase(("foo", "bar"), False), WordPrefix("x"))
    assert parse_query("'foo bar'") == (WordPhrase(("foo", "bar"), False),)
    assert parse_query('"foo"') == (WordPhrase(("foo",), False),)
    assert parse_query("don't") == (WordPhrase(("don", "t"), True),)
    assert parse_query("회의 자료") == (CjkSubstring("회의"), CjkSubstring("자료"))
    assert parse_query("PDF파일2") == (WordPrefix("pdf"), CjkSubstring("파일"), WordPrefix("2"))
    assert parse_query('"open') == (WordPrefix("open"),)
    assert parse_query("a a A") == (WordPrefix("a"),)
    assert len(parse_query(" ".join(f"w{i}" for i in range(500)))) <= TERMS_MAX


@pytest.mark.parametrize(
    ("query", "text", "expected"),
    [
        ("hel", "say Hello", True), ("ello", "say Hello", False), ("회의", "오늘 회의를", True),
        ("의를", "오늘 회의를", True), ("회의를 오", "오늘 회의를", True), ("회", "회의", True),
        ("자회", "자료 회의", False), ('"big cat"', "a big cat", True),
        ('"big cat"', "cat big", False), ('"big ca"', "a big cat", False),
        ("alice@exam", "to alice@example.test", True), ("alice@test", "alice@example.test", False),
        ("", "anything", True), ("크레마", "creme", False), ("creme", "Crème", True),
    ],
)  # fmt: skip
def test_matches(query: str, text: str, expected: bool) -> None:
    assert matches(parse_query(query), text) is expected


def indexed(query: str, text: str) -> bool:
    """Answer a query from words and positioned grams alone, as an index does."""
    text_words = words(text)
    positions = {(position, gram) for gram, position in grams(text)}
    for term in parse_query(query):
        match term:
            case WordPrefix(prefix):
                found = any(word.startswith(prefix) for word in text_words)
            case WordPhrase(phrase, last_is_prefix):
                windows = (
                    text_words[i : i + len(phrase)]
                    for i in range(len(text_words) - len(phrase) + 1)
                )
                found = any(
                    window[:-1] == list(phrase[:-1])
                    and (
                        window[-1].startswith(phrase[-1])
                        if last_is_prefix
                        else window[-1] == phrase[-1]
                    )
                    for window in windows
                )
            case CjkSubstring(wanted):
                pairs = query_grams(wanted)
                found = any(
                    all((position + i, pair) in positions for i, pair in enumerate(pairs))
                    if pairs
                    else gram[0] == wanted
                    for position, gram in positions
                )
        if not found:
            return False
    return True


MIXED = st.text(st.sampled_from("가나다漢字カあab1 Éé@.'\"_"), max_size=25)


@given(MIXED, MIXED)
def test_the_index_answers_as_the_matcher(query: str, text: str) -> None:
    assert indexed(query, text) == matches(parse_query(query), text)


@given(st.text(st.sampled_from("가나다라漢字"), min_size=1, max_size=15), st.data())
def test_every_substring_is_found(run: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(run) - 1))
    end = data.draw(st.integers(start + 1, len(run)))
    assert matches(parse_query(run[start:end]), f"x {run} y")


@given(st.text(max_size=60))
def test_any_text_and_any_query(text: str) -> None:
    terms = parse_query(text)
    assert matches(terms, "") or terms
    assert [position for _gram, position in grams(text)] == sorted(
        position for _gram, position in grams(text)
    )
