"""Snippets: what is marked is what is found, and a reader gets the text as it was."""

from __future__ import annotations

import html
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mail import snippets
from mail.search import grams, index_form, matches, parse_query, words
from mail.snippets import SNIPPET_BYTES_MAX, excerpt, highlight
from tests.properties import examples


def marked(text: str, query: str) -> str | None:
    return highlight(text, parse_query(query))


@pytest.mark.parametrize(
    ("text", "query", "found"),
    [
        ("Budget for 2024", "budg", "<mark>Budget</mark> for 2024"),
        ("Budget", "other", None),
        ("", "x", None),
        ("anything", "", None),
        ("a <b> & c", "b", "a &lt;<mark>b</mark>&gt; &amp; c"),
        ("AT&T > all", "at&t", "<mark>AT&amp;T</mark> &gt; all"),
        ("Crème brûlée", "creme BRULEE", "<mark>Crème</mark> <mark>brûlée</mark>"),
        ("cafe\u0301 au lait", "café", "<mark>cafe\u0301</mark> au lait"),
        ("Straße", "strasse", "<mark>Straße</mark>"),
        ("ＡＢＣ wide", "abc", "<mark>ＡＢＣ</mark> wide"),
        ("red apple pie", '"apple pie"', "red <mark>apple pie</mark>"),
        ("apple, pie", '"apple pie"', "<mark>apple, pie</mark>"),
        ("pie apple", '"apple pie"', None),
        ("mail alice@example.test now", "alice@exam", "mail <mark>alice@example</mark>.test now"),
        ("내일 회의를 합니다", "회의", "내일 <mark>회의</mark>를 합니다"),
        ("東京都の会議", "京都", "東<mark>京都</mark>の会議"),
        ("ㅋㅋㅋ", "ㅋㅋ", "<mark>ㅋㅋㅋ</mark>"),
        ("ｶﾞﾗｽの家", "ガラス", "<mark>ｶﾞﾗｽ</mark>の家"),
        ("\u1112\u1161\u11ab\u1100\u1173\u11af", "한",
         "<mark>\u1112\u1161\u11ab</mark>\u1100\u1173\u11af"),
        ("PDF파일2개", "pdf파일", "<mark>PDF파일</mark>2개"),
        ("two  words\tkept", "kept", "two  words\t<mark>kept</mark>"),
    ],
)  # fmt: skip
def test_marks(text: str, query: str, found: str | None) -> None:
    assert marked(text, query) == found


def test_an_excerpt_lies_around_the_first_mark() -> None:
    text = "first line\r\n" + "filler words " * 100 + "the needle <here>\n\nand " + "more " * 100
    found = excerpt(text, parse_query("needle"))
    assert found is not None
    assert "the <mark>needle</mark> &lt;here&gt; and more" in found
    assert len(found.encode()) <= SNIPPET_BYTES_MAX
    assert found.startswith(("filler", "words"))
    assert "\n" not in found
    assert excerpt(text, parse_query("absent")) is None
    assert excerpt("needle", parse_query("needle")) == "<mark>needle</mark>"


@pytest.mark.parametrize("distance", [0, 7_000, 8_190, 8_200, 20_000, 300_000])
def test_far_into_a_text(distance: int) -> None:
    text = ("x" * 30 + " ") * (distance // 31) + "y" * (distance % 31) + " old apple pie, 회의를"
    for query in ('"apple pie"', "회의", "pi"):
        found = excerpt(text, parse_query(query))
        assert found is not None, query
        assert "<mark>" in found


def test_a_word_longer_than_the_excerpt_is_cut_inside_its_mark() -> None:
    found = excerpt("a" * 1000 + " b", parse_query("aaa"))
    assert found is not None
    assert re.fullmatch("<mark>a+</mark>", found)
    assert len(found) <= SNIPPET_BYTES_MAX
    found = excerpt("& 회의" * 200, parse_query("회의"))
    assert found is not None
    assert len(found.encode()) <= SNIPPET_BYTES_MAX
    assert found.count("<mark>") == found.count("</mark>")


@pytest.mark.parametrize("before", ["&" * 300, "회" * 300, "😀" * 300, "<", "a " * 300])
def test_the_mark_is_in_the_excerpt_whatever_is_in_front_of_it(before: str) -> None:
    found = excerpt(before + " needle " + before, parse_query("needle"))
    assert found is not None
    assert "<mark>needle</mark>" in found
    assert len(found.encode()) <= SNIPPET_BYTES_MAX


PIECES = [
    *"가나다회의ㅋあいアー漢字𠮷", *"abcéßøАя07",
    *"ＡｂﷺｶﾞÀ\u0301\u1112\u1161\u11ab😀\"'-_.@&<>\n\t",
    *["ab", "abc", "회의", "a@b.c", " ", " ", " ", "a b", "x" * 63, "x" * 64],
]  # fmt: skip
TEXTS = st.lists(st.sampled_from(PIECES), max_size=14).map("".join)


@examples(400)
@given(TEXTS, TEXTS)
@example("ﷺ", "ﷺ")
def test_marks_are_what_the_search_matches(text: str, query: str) -> None:
    terms = parse_query(query)
    is_found = any(matches((term,), text) for term in terms)
    found = highlight(text, terms)
    assert (found is not None) is is_found
    around = excerpt(text, terms)
    assert (around is not None) is is_found
    if found is not None and around is not None:
        plain = found.replace("<mark>", "").replace("</mark>", "")
        assert html.unescape(plain) == text
        assert "<" not in plain
        assert around.count("<mark>") == around.count("</mark>") > 0
        assert len(around.encode()) <= SNIPPET_BYTES_MAX
        for inside in re.findall("<mark>(.*?)</mark>", found, re.DOTALL):
            assert index_form(html.unescape(inside)) != ("", "")


@examples(100)
@given(st.lists(TEXTS, max_size=30).map(" ".join), TEXTS)
def test_blocks_do_not_hide_anything(text: str, query: str) -> None:
    """As long as what is found is no longer than two blocks have in common."""
    terms = parse_query(query)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(snippets, "BLOCK_CHARS", 120)
        patch.setattr(snippets, "OVERLAP_CHARS", 60)
        around = excerpt(text, terms)
    if any(matches((term,), text) for term in terms):
        assert around is not None


@given(TEXTS)
def test_one_pass_finds_what_two_find(text: str) -> None:
    lines, pairs = index_form(text)
    assert [line for line in lines.split("\n") if line] == words(text)
    assert [pair for pair in pairs.split("\n") if pair] == [pair for pair, _ in grams(text)]
