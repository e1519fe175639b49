"""Secrets as text: what is one of ours, what is none, and what is never shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.commands import MailboxId
from actors.tokens import (
    AccessSecret,
    RefreshSecret,
    code_digest,
    make_code,
    parse_access_token,
    parse_refresh_token,
)

U64 = st.integers(0, (1 << 64) - 1)


@given(U64, U64, st.binary(min_size=32, max_size=32), st.binary(min_size=16, max_size=16))
def test_tokens_come_back(mailbox: int, session: int, secret: bytes, family: bytes) -> None:
    access = AccessSecret(MailboxId(mailbox), session, secret)
    assert parse_access_token(access.text) == access
    assert parse_refresh_token(access.text) is None
    refresh = RefreshSecret(MailboxId(mailbox), session, family, secret)
    assert parse_refresh_token(refresh.text) == refresh
    assert parse_access_token(refresh.text) is None


@given(st.text())
def test_nothing_raises(text: str) -> None:
    for one in (text, "hla_" + text, "hlr_" + text):
        parse_access_token(one)
        parse_refresh_token(one)
        code_digest(one)


@pytest.mark.parametrize(
    "text", ["", "hla_", "hla_" + "A" * 63, "hla_" + "A" * 65, "hla_" + "!" * 64, "HLA_" + "A" * 64]
)
def test_what_is_no_access_token(text: str) -> None:
    assert parse_access_token(text) is None


def test_secrets_are_in_no_repr() -> None:
    secret, family = b"s" * 32, b"f" * 16
    for one in (
        AccessSecret(MailboxId(1), 2, secret),
        RefreshSecret(MailboxId(1), 2, family, secret),
    ):
        assert "sss" not in repr(one)
        assert "fff" not in repr(one)


@given(st.binary(min_size=16, max_size=16))
def test_codes_are_taken_as_people_type_them(random: bytes) -> None:
    code = make_code(random)
    digest = code_digest(code)
    assert digest is not None
    assert len(digest) == 32
    assert code_digest(code.upper().replace("-", " ")) == digest
    assert code_digest(code.replace("-", "")) == digest
    assert code_digest(code[:-1]) is None
    assert code_digest(code + "a") is None


def test_different_octets_make_different_codes() -> None:
    codes = {make_code(number.to_bytes(16, "big")) for number in range(2_000)}
    assert len(codes) == 2_000
