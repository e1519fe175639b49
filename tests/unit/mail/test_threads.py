"""Threads: base subjects and the ids that join messages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mail.summary import Summary
from mail.threads import LAST_IDS_MAX, base_subject, thread_keys


@pytest.mark.parametrize(
    ("subject", "base"),
    [
        (None, ""), ("", ""), ("Hello", "hello"), ("  Hello \t World ", "hello world"),
        ("Re: Hello", "hello"), ("RE: re:Re : Hello", "hello"), ("Fwd: Fw: Hello", "hello"),
        ("Re[2]: Hello", "hello"), ("Re(3): Hello", "hello"), ("Re^2: Hello", "hello"),
        ("[list] Re: [list] Hello", "hello"), ("Re: [list] Hello (fwd)", "hello"),
        ("[Fwd: Re: Hello]", "hello"), ("[Fwd: [Fwd: Hello]] (fwd)", "hello"),
        ("[list]", "[list]"), ("Re: [list]", "[list]"), ("Reply: Hello", "reply: hello"),
        ("Regarding: x", "regarding: x"), ("답장: 전달: 회의", "회의"), ("회신:회의", "회의"),
        ("RE：회의", "회의"), ("AW: WG: Hallo", "hallo"), ("SV: VS: Hej", "hej"),
        ("[회사] 답장: [팀] 회의 (FWD)", "회의"), ("Re:", ""), ("회의 자료", "회의 자료"),
        ("e\u0301t\u0065\u0301", "été"), ("STRASSE", "strasse"), ("Straße", "strasse"),
    ],
)  # fmt: skip
def test_base_subject(subject: str | None, base: str) -> None:
    assert base_subject(subject) == base


@given(st.text(st.sampled_from("re:fwd[] ()2x가답장"), max_size=60))
def test_a_base_subject_is_its_own(subject: str) -> None:
    base = base_subject(subject)
    assert base_subject(base) == base
    assert base_subject(f"Re: {subject}") in (base, base_subject(f"Re: {base}"))


@pytest.mark.parametrize("unit", ["re:", "[a]", "[fwd:", "(fwd)", "[", "re: [x] "])
def test_long_subjects_take_little_time(unit: str) -> None:
    base_subject(unit * 100_000)


def test_thread_keys() -> None:
    summary = Summary(message_id=("a",), in_reply_to=("b", "a"), references=("r", "b", "q"))
    assert thread_keys(summary) == ("a", "b", "r", "q")
    assert thread_keys(Summary()) == ()
    many = tuple(f"r{i}" for i in range(1000))
    keys = thread_keys(Summary(message_id=("a",), references=many))
    assert keys == ("a", "r0", *many[-LAST_IDS_MAX:])
