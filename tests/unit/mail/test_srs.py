"""SRS: what is rewritten comes back, from whoever signed it with one of the keys, for a while."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mail.address import ADDRESS_BYTES_MAX, Address, parse_address
from mail.errors import SrsRefused, SrsTooLong, smtp_reply
from mail.srs import VALID_DAYS, decode, encode, is_srs
from tests.properties import EXAMPLES, examples

KEYS = (b"k" * 32, b"older" * 8)
DAY_MS = 86_400_000
NOW_MS = 20_700 * DAY_MS + 5
SENDER = parse_address("Ann.Lee@Sender.test")


def rewritten(sender: Address = SENDER, domain: str = "here.test") -> Address:
    return encode(sender, domain, KEYS, now_ms=NOW_MS)


def back(address: Address, now_ms: int = NOW_MS) -> Address:
    return decode(address, KEYS, now_ms=now_ms)


def test_the_form_is_that_of_libsrs2() -> None:
    found = rewritten()
    assert found.domain == "here.test"
    tag, signed, day, host, user = found.local.split("=")
    # 20700 modulo 1024 is 220: letters 6 and 28 of base32.
    assert (tag, day, host, user) == ("SRS0", "G4", "sender.test", "Ann.Lee")
    expected = hmac.new(KEYS[0], b"g4sender.testann.lee", hashlib.sha1).digest()
    assert signed == base64.b64encode(expected)[:4].decode()


def test_forwards_of_forwards() -> None:
    first = rewritten()
    second = encode(first, "two.test", [b"other" * 8], now_ms=NOW_MS)
    assert second.local.startswith("SRS1=")
    assert second.local.endswith("=here.test=" + first.local[4:])
    third = encode(second, "three.test", KEYS, now_ms=NOW_MS)
    assert third.domain == "three.test"
    assert third.local.split("=", 2)[2] == second.local.split("=", 2)[2]
    # Both lead straight to the first forwarder, which alone can read the rest.
    assert decode(second, [b"other" * 8], now_ms=NOW_MS) == first
    assert back(third) == first
    assert back(first) == SENDER
    with pytest.raises(SrsRefused):
        back(second)


@pytest.mark.parametrize("separator", "=+-")
def test_other_separators_of_others(separator: str) -> None:
    theirs = Address(f"SRS0{separator}HHHH=TT=a.test=b", "first.test")
    assert is_srs(theirs)
    ours = rewritten(theirs)
    assert f"=first.test={separator}HHHH=TT=a.test=b" in ours.local
    assert back(ours) == theirs


@pytest.mark.parametrize("change", [str.lower, str.upper])
def test_the_case_of_the_hash_is_ignored(change: object) -> None:
    assert callable(change)
    address = rewritten()
    found = back(Address(change(address.local), address.domain))
    assert found.key == SENDER.key


def test_keys_are_replaced_one_after_the_other() -> None:
    old = encode(SENDER, "here.test", KEYS[1:], now_ms=NOW_MS)
    assert back(old) == SENDER
    with pytest.raises(SrsRefused):
        decode(rewritten(), KEYS[1:], now_ms=NOW_MS)


@pytest.mark.parametrize(
    ("days", "valid"),
    [(-2, False), (-1, True), (VALID_DAYS, True), (VALID_DAYS + 1, False), (500, False)],
)
def test_the_time_of_validity(days: int, valid: bool) -> None:
    now_ms = NOW_MS + days * DAY_MS
    if valid:
        assert back(rewritten(), now_ms) == SENDER
    else:
        with pytest.raises(SrsRefused, match="too old"):
            back(rewritten(), now_ms)


@pytest.mark.parametrize(
    "local",
    ["ann", "SRS0", "SRS0=", "SRS0=AAAA=AA=x=", "SRS0=AAAA=A1=x.test=u", "SRS0=AAAA=AA=x.test=u",
     "SRS1=AAAA=x.test=u", "SRS1=AAAA=x.test==AAAA=AA=y.test=u", "SRS0=AAAAA=AA=x=u",
     "SRS2=AAAA=AA=x=u", "SRS0=" + "A" * 300],
)  # fmt: skip
def test_addresses_that_nobody_here_wrote(local: str) -> None:
    with pytest.raises(SrsRefused) as refused:
        back(Address(local, "here.test"))
    assert smtp_reply(refused.value).startswith("550 5.1.1 ")


def test_any_change_is_noticed() -> None:
    address = rewritten()
    for i, letter in enumerate(address.local):
        changed = address.local[:i] + ("b" if letter in "aA" else "a") + address.local[i + 1 :]
        with pytest.raises(SrsRefused):
            back(Address(changed, address.domain))


def test_too_long() -> None:
    sender = parse_address("u" * 64 + "@" + ".".join(["d" * 45] * 3) + ".test")
    assert len(rewritten(sender).local) > 64  # More than everyone must take, yet most do.
    assert back(rewritten(sender)) == sender
    with pytest.raises(SrsTooLong) as refused:
        encode(sender, "h" * 63 + ".test", KEYS, now_ms=NOW_MS)
    assert smtp_reply(refused.value).startswith("550 5.1.7 ")


LOCALS = st.text(min_size=1, max_size=20).filter(str.isprintable)
HOSTS = st.sampled_from(["a.test", "xn--vp2b.test", "[192.0.2.1]", "[IPv6:2001:db8::1]"])


@given(LOCALS, HOSTS, st.integers(0, 1 << 42), st.integers(0, VALID_DAYS))
@examples(EXAMPLES)
def test_round_trips(local: str, host: str, now_ms: int, days: int) -> None:
    sender = Address(local, host)
    one = encode(sender, "here.test", KEYS, now_ms=now_ms)
    if not is_srs(sender):
        assert decode(one, KEYS, now_ms=now_ms + days * DAY_MS) == sender
    two = encode(one, "there.test", KEYS, now_ms=now_ms)
    assert decode(two, KEYS, now_ms=now_ms) == one
    assert len(str(two)) <= ADDRESS_BYTES_MAX


@given(st.text(max_size=80), st.sampled_from(["", "SRS0=", "srs1=AAAA=", "SRS0=AAAA=AA="]))
@examples(EXAMPLES)
def test_hostile_addresses_are_refused(text: str, prefix: str) -> None:
    try:
        back(Address(prefix + text.encode("utf-8", "replace").decode(), "here.test"))
    except SrsRefused:
        return
