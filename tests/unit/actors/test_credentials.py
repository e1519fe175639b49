"""Passwords: prepared alike, hashed in two ways, checked in the same time."""

from __future__ import annotations

import pytest

from actors import credentials
from actors.credentials import HashCost, Hasher, prepared, scram_keys
from mail.errors import Invalid, Overloaded

CHEAP = HashCost(passes=1, memory_kib=8, lanes=1)


def test_scram_keys_are_those_of_rfc_7677() -> None:
    import base64
    import hashlib
    import hmac

    # RFC 7677 §3: user "user", password "pencil".
    salt = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
    stored_key, server_key = scram_keys(b"pencil", salt, 4096)
    auth_message = (
        b"n=user,r=rOprNGfwEbeRWgbNEkqO,"
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
        b"s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,"
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    )
    proof = base64.b64decode("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
    signature = hmac.digest(stored_key, auth_message, "sha256")
    client_key = bytes(a ^ b for a, b in zip(proof, signature, strict=True))
    assert hashlib.sha256(client_key).digest() == stored_key
    verifier = base64.b64decode("6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")
    assert hmac.digest(server_key, auth_message, "sha256") == verifier


async def test_a_password_is_right_or_wrong() -> None:
    hasher = Hasher(CHEAP)
    record = await hasher.make("비밀번호 1", now_ms=5)
    for _ in range(2):
        assert await hasher.check(record, "비밀번호 1")
        assert await hasher.check(record, "비밀번호\u30001"), "ideographic space is a space"
        assert not await hasher.check(record, "비밀번호 2")
        assert not await hasher.check(record, "")
        assert not await hasher.check(None, "비밀번호 1")
    changed = await hasher.make("another", now_ms=6)
    assert not await hasher.check(changed, "비밀번호 1")


@pytest.mark.parametrize("password", ["", "a\nb", "x" * 1025, "\ud800"])
def test_passwords_that_cannot_be(password: str) -> None:
    with pytest.raises(Invalid):
        prepared(password)


async def test_a_crowd_of_hashes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credentials, "HASHES_WAITING_MAX", 0)
    with pytest.raises(Overloaded):
        await Hasher(CHEAP).make("secret", now_ms=1)
