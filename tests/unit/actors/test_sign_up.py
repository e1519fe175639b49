"""What strangers may call themselves, which passwords they may have, and how many they may be."""

from __future__ import annotations

import pytest

from actors import sign_up
from actors.sign_up import DAY_MS, SignUpLimits, check_password, checked_address
from mail.errors import Invalid, TooManySignUps


@pytest.mark.parametrize("name", ["ab", "a.b", "a-b_c.d", "A.B", "x" * 64, "42"])
def test_names(name: str) -> None:
    assert str(checked_address(f"{name}@Example.test")) == f"{name.lower()}@example.test"


@pytest.mark.parametrize(
    "name", ["a", "a.", ".a", "a..b", "a+b", '"a b"', "ä", "x" * 65, "a'b", "a/b", "-a", "a-"]
)
def test_no_names(name: str) -> None:
    with pytest.raises(Invalid):
        checked_address(f"{name}@example.test")


def test_passwords() -> None:
    address = checked_address("caroline@example.test")
    check_password("correct horse", address)
    check_password("비밀번호는열글자이상이다", address)
    for bad in (
        "",
        "nine char",
        "aaaaaaaaaaaa",
        "ababababab",
        "Caroline@Example.test",
        "caroline@example.test1",
        "example.test",
    ):
        with pytest.raises(Invalid):
            check_password(bad, address)


def test_a_network_has_so_many_attempts_a_day(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sign_up, "ATTEMPTS_PER_NETWORK_PER_DAY_MAX", 3)
    monkeypatch.setattr(sign_up, "MADE_PER_NETWORK_PER_DAY_MAX", 1)
    monkeypatch.setattr(sign_up, "NETWORKS_MAX", 2)
    limits = SignUpLimits()
    for _ in range(3):
        limits.attempt("a", 0)
    with pytest.raises(TooManySignUps):
        limits.attempt("a", DAY_MS - 1)
    limits.attempt("b", 0)
    limits.made("b", 0)
    with pytest.raises(TooManySignUps):
        limits.attempt("b", 0)
    limits.attempt("a", DAY_MS)
    limits.attempt("c", DAY_MS)
    limits.attempt("d", DAY_MS)
    assert len(limits._counts) == 2
