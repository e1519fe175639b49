"""What notifications say: every language explains the same, and something is said of any code."""

from __future__ import annotations

import dataclasses
import re
import string

import pytest

from mail.dsn_texts import ENGLISH, KOREAN, TEXTS, Texts, reason_for, texts_for


def placeholders(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


@pytest.mark.parametrize("texts", TEXTS.values())
def test_every_language_says_the_same(texts: Texts) -> None:
    assert texts.reasons.keys() == ENGLISH.reasons.keys()
    for field in dataclasses.fields(Texts):
        text = getattr(texts, field.name)
        if isinstance(text, str):
            assert text.strip() == text != ""
            assert placeholders(text) == placeholders(getattr(ENGLISH, field.name)), field.name
    for reason in texts.reasons.values():
        assert all(sentence.endswith(".") for sentence in reason)


def test_korean_is_korean() -> None:
    for reason in KOREAN.reasons.values():
        assert all(re.search("[가-힣]", sentence) for sentence in reason)


@pytest.mark.parametrize(
    ("tag", "texts"),
    [
        ("ko", KOREAN),
        ("ko-KR", KOREAN),
        ("KO_kr", KOREAN),
        ("en-GB", ENGLISH),
        ("kok", ENGLISH),
        ("de", ENGLISH),
        ("", ENGLISH),
    ],
)
def test_language_tags(tag: str, texts: Texts) -> None:
    assert texts_for(tag) is texts


@pytest.mark.parametrize(
    ("status", "key"),
    [("5.1.1", "1.1"), ("4.4.99", "4"), ("5.7.30", "7.30"), ("5.9.9", ""), ("5.0.0", ""), ("", "")],
)
def test_reasons(status: str, key: str) -> None:
    assert reason_for(ENGLISH, status) == ENGLISH.reasons[key]
