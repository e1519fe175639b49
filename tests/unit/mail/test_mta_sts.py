"""MTA-STS records and policies: what is valid, which hosts match, what follows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mail.mta_sts import (
    MAX_AGE_S_MAX,
    HostVerdict,
    Mode,
    Policy,
    judge,
    parse_policy,
    parse_records,
)

POLICY = (
    b"version: STSv1\r\nmode: enforce\r\nmx: mx.example.org\r\nmx: *.example.net\r\nmax_age: 60\r\n"
)


@pytest.mark.parametrize(
    ("records", "policy_id"),
    [
        ([b"v=STSv1; id=20260831085700Z;"], "20260831085700Z"),
        ([b"v=STSv1;id=1"], "1"),
        ([b"v=STSv1 \t;\t id=1 ; "], "1"),
        ([b"v=STSv1; a=b; id=1"], "1"),
        ([b"v=STSv1; id=1; id=2"], "1"),
        ([b"v=spf1 -all", b"v=STSv1; id=1"], "1"),
        ([b"v=STSv1; id=1; x-y.z_1=!:<~"], "1"),
        ([], None),
        ([b"v=spf1 -all"], None),
        ([b"v=STSv1; id=1", b"v=STSv1; id=2"], None),  # two
        ([b"v=STSv1;"], None),
        ([b"v=STSv1"], None),
        ([b"v=STSv2; id=1"], None),
        ([b"V=STSv1; id=1"], None),
        ([b" v=STSv1; id=1"], None),
        ([b"id=1; v=STSv1"], None),  # the version comes first
        ([b"v=STSv1; id=" + b"1" * 33], None),
        ([b"v=STSv1; id="], None),
        ([b"v=STSv1; id=a-b"], None),
        ([b"v=STSv1; id=1;; a=b"], None),
        ([b"v=STSv1; id=1; a=b=c"], None),
        ([b"v=STSv1; id=1; =b"], None),
        ([b"v=STSv1; id=1; a=\xc3\xa4"], None),
    ],
)
def test_records(records: list[bytes], policy_id: str | None) -> None:
    assert parse_records(records) == policy_id


def test_a_policy() -> None:
    policy = Policy(Mode.ENFORCE, 60, ("mx.example.org", "*.example.net"))
    assert parse_policy(POLICY) == policy
    assert parse_policy(POLICY.replace(b"\r\n", b"\n")) == policy
    assert parse_policy(POLICY.rstrip()) == policy
    assert parse_policy(POLICY.replace(b": ", b":")) == policy
    assert parse_policy(POLICY.replace(b"\r\n", b" \t\r\n")) == policy
    assert parse_policy(POLICY + b"new-field: caf\xc3\xa9 au lait\r\n") == policy
    assert parse_policy(POLICY + b"mode: none\r\nmax_age: 1\r\n") == policy  # the first counts
    assert parse_policy(POLICY.upper().replace(b"VERSION: STSV1", b"version: STSv1")) is None


@pytest.mark.parametrize(
    ("was", "is_now"),
    [
        (b"STSv1", b"STSv2"),
        (b"version: STSv1\r\n", b""),
        (b"mode: enforce\r\n", b""),
        (b"enforce", b"Enforce"),
        (b"max_age: 60\r\n", b""),
        (b"max_age: 60", b"max_age: -1"),
        (b"max_age: 60", b"max_age: 12345678901"),
        (b"max_age: 60", b"max_age:"),
        (b"mx: mx.example.org", b"mx mx.example.org"),
        (b"mx: mx.example.org", b"mx: mx.*.org"),
        (b"mx: mx.example.org", b"mx: *"),
        (b"mx: mx.example.org", b"mx: [192.0.2.1]"),
        (b"mx: mx.example.org", "mx: bücher.example".encode()),
        (b"mx: mx.example.org", b"mx: \xff"),
        (b"mode: enforce\r\n", b"mode: enforce\r\n\r\n"),
        (b"mode: enforce", b"mode: enforce\x00"),
    ],
)
def test_what_is_not_valid_is_no_policy(was: bytes, is_now: bytes) -> None:
    assert was in POLICY
    assert parse_policy(POLICY.replace(was, is_now)) is None


def test_a_policy_needs_hosts_unless_it_ends_the_policy() -> None:
    assert parse_policy(b"version: STSv1\nmode: testing\nmax_age: 1") is None
    ended = parse_policy(b"version: STSv1\nmode: none\nmax_age: 1")
    assert ended == Policy(Mode.NONE, 1, ())


def test_bounds() -> None:
    assert parse_policy(POLICY + b"a: b\r\n" * 20_000) is None
    assert parse_policy(POLICY + b"mx: a.example\r\n" * 101) is None
    long = parse_policy(POLICY.replace(b"60", b"9999999999"))
    assert long is not None
    assert long.max_age_s == MAX_AGE_S_MAX


@pytest.mark.parametrize(
    ("host", "matches"),
    [
        ("mx.example.org", True),
        ("MX.Example.ORG.", True),
        ("a.mx.example.org", False),
        ("mx.example.net", True),
        ("example.net", False),
        ("a.b.example.net", False),
        ("mxexample.net", False),
        ("*.example.net", True),
        ("", False),
    ],
)
def test_hosts(host: str, matches: bool) -> None:
    policy = parse_policy(POLICY)
    assert policy is not None
    assert policy.matches(host) is matches


def test_verdicts() -> None:
    enforced = Policy(Mode.ENFORCE, 60, ("mx.example.org",))
    tested, ended = Policy(Mode.TESTING, 60, enforced.patterns), Policy(Mode.NONE, 60, ())
    assert judge(None, "mx.example.org") is HostVerdict.NO_POLICY
    assert judge(ended, "mx.example.org") is HostVerdict.NO_POLICY
    assert judge(enforced, "mx.example.org") is HostVerdict.VERIFY
    assert judge(enforced, "mx.example.net") is HostVerdict.REFUSE
    assert judge(tested, "mx.example.org") is HostVerdict.TESTED
    assert judge(tested, "mx.example.net") is HostVerdict.TESTED_FOREIGN
    assert [v for v in HostVerdict if v.names_host] == [HostVerdict.TESTED, HostVerdict.VERIFY]


@given(st.binary(max_size=200))
def test_nothing_raises(octets: bytes) -> None:
    parse_policy(octets)
    parse_policy(b"version: STSv1\nmode: none\nmax_age: 1\n" + octets)
    parse_records([octets, b"v=STSv1;" + octets])
