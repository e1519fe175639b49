"""DKIM signatures: another implementation verifies them, and nothing signed can be changed.

`dkimpy` is the oracle. For Ed25519 it asks PyNaCl, in whose place `cryptography` stands here:
everything that DKIM adds to the algorithm is still checked by the oracle.
"""

import base64
import re
import time
from collections.abc import Iterator
from itertools import chain
from types import SimpleNamespace
from typing import Any

import dkim as oracle
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from mail import dkim_keys
from mail.dkim import (
    ALWAYS_ONE_MORE,
    IF_THERE,
    LINE_BYTES_MAX,
    ONE_MORE_IF_THERE,
    SAME_NAME_MAX,
    Canonical,
    Field,
    SigningKey,
    canonical_body,
    canonical_field,
    fields,
    sign,
    split,
)
from mail.dkim_keys import Algorithm
from tests.properties import EXAMPLES, examples

NOW_MS = 1_700_000_000_999
DOMAIN = "example.test"
KEYS = [
    SigningKey(DOMAIN, f"key-{algorithm}", dkim_keys.load(dkim_keys.make(algorithm)))
    for algorithm in Algorithm
]
BOTH = [pytest.param(key, id=key.selector) for key in KEYS]
ZONE = {
    dkim_keys.record_name(key.selector, key.domain): dkim_keys.public_text(key.private)
    for key in KEYS
}
LETTER = (
    b"Received: from a by b; Mon, 1 Jan 2024 10:00:00 +0000\r\n"
    b"From: Anna <anna@example.test>\r\n"
    b"To: bert@example.org,\r\n\tcarl@example.org\r\n"
    b"Subject: Hello  there\r\n"
    b"Date: Mon, 1 Jan 2024 10:00:00 +0000\r\n"
    b"Message-ID: <1@example.test>\r\n"
    b"List-Unsubscribe: <https://example.test/u>\r\n"
    b"List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"
    b"X-Mailer: none\r\n"
    b"\r\n"
    b"Dear Bert, \r\n\r\n  how are\tyou?\r\n\r\n\r\n"
)


class _VerifyKey:
    """What dkimpy uses of PyNaCl."""

    def __init__(self, text: bytes, encoder: object) -> None:
        self.key = Ed25519PublicKey.from_public_bytes(base64.b64decode(text))

    def verify(self, digest: bytes, signature: bytes) -> None:
        self.key.verify(signature, digest)


@pytest.fixture(autouse=True, scope="module")
def ed25519() -> Iterator[None]:
    nacl = SimpleNamespace(
        signing=SimpleNamespace(VerifyKey=_VerifyKey),
        encoding=SimpleNamespace(Base64Encoder=None),
        exceptions=SimpleNamespace(BadSignatureError=InvalidSignature, ValueError=ValueError),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(oracle, "nacl", nacl, raising=False)
        yield


def verdicts(message: bytes, zone: dict[str, str] = ZONE) -> list[bool]:
    """Return what dkimpy says of each signature of a message."""

    def lookup(name: bytes, timeout: int = 5) -> bytes | None:
        text = zone.get(name.decode().rstrip("."))
        return None if text is None else text.encode()

    count = len(re.findall(rb"(?m)^DKIM-Signature:", message.partition(b"\r\n\r\n")[0]))
    said = []
    for index in range(count):
        try:
            said.append(bool(oracle.DKIM(message).verify(index, dnsfunc=lookup)))
        except oracle.DKIMException:
            said.append(False)
    return said


def signed(message: bytes, **options: Any) -> bytes:
    return sign(message, KEYS, now_ms=NOW_MS, **options) + message


def signature_fields(octets: bytes) -> list[Field]:
    """Return the signatures, the topmost first."""
    return fields(octets, [b"DKIM-Signature"])[b"dkim-signature"][::-1]


def tags_of(signature: bytes) -> dict[str, str]:
    value = signature.replace(b"\r\n", b"").partition(b":")[2]
    tags = dkim_keys.parse_tags(value.decode())
    assert tags is not None
    return tags


# Signatures ---------------------------------------------------------------------------------


@pytest.mark.parametrize("header", Canonical)
@pytest.mark.parametrize("body", Canonical)
def test_both_algorithms_verify(header: Canonical, body: Canonical) -> None:
    assert verdicts(signed(LETTER, header=header, body=body)) == [True, True]


@pytest.mark.parametrize("key", BOTH)
def test_tags(key: SigningKey) -> None:
    tags = tags_of(sign(LETTER, [key], now_ms=NOW_MS))
    assert list(tags) == ["v", "a", "c", "d", "s", "t", "h", "bh", "b"]
    assert tags["a"] == key.selector.removeprefix("key-") + "-sha256"
    assert (tags["v"], tags["c"], tags["d"]) == ("1", "relaxed/relaxed", DOMAIN)
    assert (tags["s"], tags["t"]) == (key.selector, "1700000000")


def test_an_end_of_validity() -> None:
    tags = tags_of(sign(LETTER, KEYS[:1], now_ms=NOW_MS, lifetime_s=3600))
    assert tags["x"] == "1700003600"
    assert verdicts(signed(LETTER, lifetime_s=3600)) == [False, False]  # It is long past.
    assert verdicts(signed(LETTER, lifetime_s=100 * 365 * 86400)) == [True, True]


def test_without_keys_nothing_is_signed() -> None:
    assert sign(LETTER, [], now_ms=NOW_MS) == b""


def test_a_signature_for_each_key_in_order() -> None:
    signature = sign(LETTER, KEYS[::-1], now_ms=NOW_MS)
    found = signature_fields(signature)
    assert [tags_of(field.octets)["s"] for field in found] == [k.selector for k in KEYS[::-1]]
    # Each stands alone: whoever takes one out leaves the other good.
    for key in KEYS:
        assert verdicts(sign(LETTER, [key], now_ms=NOW_MS) + LETTER) == [True]


def test_signing_again_does_not_spoil_the_first() -> None:
    assert verdicts(signed(signed(LETTER))) == [True] * 4


@pytest.mark.parametrize("domain", [DOMAIN, "a" * 63 + "." + "b" * 63 + ".test"])
@pytest.mark.parametrize("private", [key.private for key in KEYS])
def test_lines_are_folded(domain: str, private: dkim_keys.PrivateKey) -> None:
    for length in range(1, 63):
        key = SigningKey(domain, "s" * length, private)
        signature = sign(LETTER, [key], now_ms=NOW_MS)
        assert signature.endswith(b"\r\n")
        lines = signature[:-2].split(b"\r\n")
        assert all(line.startswith(b" ") for line in lines[1:])
        assert all(line.strip() for line in lines)
        longest = max(LINE_BYTES_MAX, len(f" d={domain};"))
        assert all(len(line) <= longest for line in lines)
        assert b"\n" not in signature.replace(b"\r\n", b"")
        zone = {dkim_keys.record_name(key.selector, domain): dkim_keys.public_text(private)}
        assert verdicts(signature + LETTER, zone) == [True]


def test_the_wrong_key_does_not_verify() -> None:
    other = {name: dkim_keys.public_text(dkim_keys.load(dkim_keys.make(a)))
             for name, a in zip(ZONE, Algorithm, strict=True)}  # fmt: skip
    assert verdicts(signed(LETTER), other) == [False, False]


# What is signed -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*ALWAYS_ONE_MORE])
@pytest.mark.parametrize("above", [True, False])
def test_fields_that_nobody_may_add(name: bytes, above: bool) -> None:
    added = name + b": text/html\r\n"
    if above:
        changed = added + signed(LETTER)
    else:
        head, empty, body = signed(LETTER).partition(b"\r\n\r\n")
        changed = head + b"\r\n" + added.rstrip() + empty + body
    assert verdicts(changed) == [False, False]


@pytest.mark.parametrize("name", [*ONE_MORE_IF_THERE, *IF_THERE, b"Received", b"X-Spam", b"Bcc"])
def test_fields_that_may_be_added_when_there_was_none(name: bytes) -> None:
    if name.startswith(b"List-Unsubscribe"):
        return  # The letter has them.
    assert verdicts(name + b": <x@example.org>\r\n" + signed(LETTER)) == [True, True]


@pytest.mark.parametrize("name", ONE_MORE_IF_THERE)
def test_fields_that_nobody_may_add_where_there_is_one(name: bytes) -> None:
    letter = name + b": a\r\n" + LETTER
    assert verdicts(signed(letter)) == [True, True]
    assert verdicts(name + b": b\r\n" + signed(letter)) == [False, False]
    assert verdicts(signed(letter).replace(name + b": a\r\n", b"")) == [False, False]


@pytest.mark.parametrize("name", IF_THERE)
def test_fields_of_which_those_that_are_there_stay(name: bytes) -> None:
    letter = name + b": a\r\n" + LETTER
    assert verdicts(name + b": b\r\n" + signed(letter)) == [True, True]
    assert verdicts(signed(letter).replace(name + b": a\r\n", name + b": b\r\n")) == [False, False]


def test_one_click_unsubscription_is_signed() -> None:
    names = tags_of(sign(LETTER, KEYS[:1], now_ms=NOW_MS))["h"].replace(" ", "").split(":")
    assert {"List-Unsubscribe", "List-Unsubscribe-Post"} <= set(names)
    assert names.count("From") == 2
    assert names.count("Cc") == 1
    assert not {"Received", "X-Mailer", "DKIM-Signature", "Bcc"} & set(names)


def test_the_body_cannot_be_continued() -> None:
    assert "l" not in tags_of(sign(LETTER, KEYS[:1], now_ms=NOW_MS))
    assert verdicts(signed(LETTER) + b"Buy now!\r\n") == [False, False]
    assert verdicts(signed(LETTER) + b"\r\n\r\n") == [True, True]


def test_what_relays_do_to_white_space_does_not_matter() -> None:
    changed = signed(LETTER).replace(b"Subject: Hello  there", b"subject:\tHello\r\n there ")
    changed = changed.replace(b"Dear Bert, \r\n", b"Dear Bert,\r\n").replace(b"\tyou", b"  you")
    assert verdicts(changed) == [True, True]


def test_too_many_of_a_field() -> None:
    letter = b"To: a@example.test\r\n" * 10_000 + LETTER
    signature = sign(letter, KEYS, now_ms=NOW_MS)
    assert len(signature) < 4000
    assert tags_of(signature_fields(signature)[0].octets)["h"].count("To") == (
        SAME_NAME_MAX + 1  # of Reply-To
    )
    assert verdicts(signature + letter) == [True, True]


# Random mail --------------------------------------------------------------------------------

NAMES = [*ALWAYS_ONE_MORE, *ONE_MORE_IF_THERE, *IF_THERE, b"Received", b"X-A", b"DKIM-Other"]
# Neither CR nor LF alone, which no mail has, nor the two other characters that dkimpy, and only
# it, takes for white space at the end of a value.
NOT_HERE = b"\r\n\x0b\x0c"
PIECES = st.one_of(
    st.sampled_from([b" ", b"\t", b"  \t", b"a", b":", b";", b"b=", b"\xc3\xa4", b"\0"]),
    st.just(b"long " * 30),
    st.binary(max_size=8).map(lambda octets: octets.translate(None, NOT_HERE)),
)
VALUES = st.lists(st.one_of(PIECES, st.sampled_from([b"\r\n ", b"\r\n\t"])), max_size=8).map(
    b"".join
)
FIELDS = st.tuples(
    st.sampled_from(NAMES), st.sampled_from([bytes.lower, bytes.upper, bytes]), VALUES
).map(lambda field: field[1](field[0]) + b":" + field[2] + b"\r\n")
BODIES = st.lists(st.one_of(PIECES, st.just(b"\r\n"), st.just(b" \r\n\r\n")), max_size=12).map(
    lambda pieces: b"".join(pieces) + b"\r\n"
)
MESSAGES = st.tuples(st.lists(FIELDS, max_size=8).map(b"".join), BODIES).map(b"\r\n".join)


@examples(EXAMPLES)
@given(MESSAGES, st.sampled_from(Canonical), st.sampled_from(Canonical))
def test_random_messages_verify(message: bytes, header: Canonical, body: Canonical) -> None:
    assert verdicts(signed(message, header=header, body=body)) == [True, True]


@examples(EXAMPLES)
@given(MESSAGES, st.data())
def test_a_changed_octet_breaks_the_signature(message: bytes, data: st.DataObject) -> None:
    header, body = split(message)
    start = len(message) - len(body)
    places = [n for n in range(start, len(message)) if message[n] not in b" \t\r\n"]
    covered = fields(header, [*ALWAYS_ONE_MORE, *ONE_MORE_IF_THERE, *IF_THERE])
    for field in chain(*covered.values()):
        begin = message.index(field.octets) + len(field.name) + 1
        end = begin + len(field.octets) - len(field.name) - 1
        places += [n for n in range(begin, end) if message[n] not in b" \t\r\n"]
    # More of one name than are signed are not covered, and not in this test.
    if not places or max(map(len, covered.values())) >= SAME_NAME_MAX:
        return
    place = data.draw(st.sampled_from(places))
    changed = message[:place] + (b"y" if message[place] == 0x78 else b"x") + message[place + 1 :]
    assert verdicts(sign(message, KEYS, now_ms=NOW_MS) + changed) == [False, False]


@examples(EXAMPLES)
@given(st.lists(st.one_of(st.binary(max_size=20), st.sampled_from(
    [b"\r\n", b"\r", b"\n", b"\n\n", b"\r\n\r\n", b" ", b"\t", b":", b"From:", b"To :", b"From"]
)), max_size=20).map(b"".join))  # fmt: skip
def test_any_octets_get_a_signature(octets: bytes) -> None:
    signature = sign(octets, KEYS, now_ms=NOW_MS)
    found = signature_fields(signature)
    assert len(found) == 2
    assert signature == b"".join(field.octets + b"\r\n" for field in found)
    for how in Canonical:
        for field in chain(*fields(split(octets)[0], NAMES).values()):
            assert b"\r\n" not in canonical_field(field, Canonical.RELAXED)
            canonical_field(field, how)
        canonical = canonical_body(split(octets)[1], how)
        assert canonical_body(canonical, how) == canonical  # What is canonical stays so.


MIB = 1 << 20
HOSTILE = {
    "empty": b"",
    "no header": b"\r\n" + b"x" * MIB,
    "no body": LETTER.partition(b"\r\n\r\n")[0],
    "one line": b"Subject: " + b"x" * 4 * MIB,
    "folds": b"Subject: a" + b"\r\n " * MIB,
    "fields": b"X-F: 1\r\n" * (MIB // 2),
    "signed fields": b"To: 1\r\n" * (MIB // 2),
    "names": b"Subject\r\n" * (MIB // 2),
    "space before the colon": b"Subject" + b" " * 4 * MIB,
    "spaces before colons": (b"Subject" + b" " * 1000 + b"\r\n") * (4 * MIB // 1009),
    "spaces": b"\r\n" + b" " * 4 * MIB + b"x",
    "tabs and spaces": b"\r\n" + b" \t" * 2 * MIB + b"\r\n",
    "spaces at the ends": b"\r\n" + (b" " * 500 + b"\r\n") * (4 * MIB // 502) + b"x",
    "line ends": b"\r\n" * 2 * MIB,
    "line ends in the middle": b"\r\n" * MIB + b"x" + b"\r\n" * MIB + b"x",
    "CRs": b"\r\n" + b"\r" * 4 * MIB + b"\r\n",
    "LFs": b"\n" * 4 * MIB,
    "LF CR": b"\r\n" + b"\n\r" * 2 * MIB,
    "NULs": b"\0" * 4 * MIB,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_messages_made_to_hurt_are_signed_in_time(name: str) -> None:
    begun = time.process_time()
    signature = sign(HOSTILE[name], KEYS, now_ms=NOW_MS)
    assert time.process_time() - begun < 3  # A tenth of that, where nothing else is done.
    assert signature.count(b"DKIM-Signature:") == 2


# Canonical forms ----------------------------------------------------------------------------


def test_the_example_of_canonical_forms() -> None:  # RFC 6376 §3.4.5
    header, body = split(b"A: X\r\nB : Y\t\r\n\tZ  \r\n\r\n C \r\nD \t E\r\n\r\n\r\n")
    found = [*fields(header, [b"A"])[b"a"], *fields(header, [b"B"])[b"b"]]
    assert [canonical_field(f, Canonical.RELAXED) for f in found] == [b"a:X", b"b:Y Z"]
    assert canonical_body(body, Canonical.RELAXED) == b" C\r\nD E\r\n"
    assert [canonical_field(f, Canonical.SIMPLE) for f in found] == [
        b"A: X",
        b"B : Y\t\r\n\tZ  ",
    ]
    assert canonical_body(body, Canonical.SIMPLE) == b" C \r\nD \t E\r\n"


@pytest.mark.parametrize("body", [b"", b"\r\n", b"\r\n\r\n", b" \t\r\n \r\n"])
def test_empty_bodies(body: bytes) -> None:
    assert canonical_body(body, Canonical.RELAXED) == b""
    if not body.strip(b"\r\n"):
        assert canonical_body(body, Canonical.SIMPLE) == b"\r\n"


@examples(EXAMPLES)
@given(BODIES)
def test_bodies_as_others_see_them(body: bytes) -> None:
    theirs = oracle.canonicalization
    assert canonical_body(body, Canonical.RELAXED) == theirs.Relaxed.canonicalize_body(body)
    assert canonical_body(body, Canonical.SIMPLE) == theirs.Simple.canonicalize_body(body)


def test_a_last_line_without_its_end_is_as_it_will_be_sent() -> None:
    for how in Canonical:
        for body in (b"a", b"a\r\nb ", b" ", b"\r"):
            assert canonical_body(body, how) == canonical_body(body + b"\r\n", how)


@pytest.mark.parametrize(
    "octets, header, body",
    [
        (b"A: b\r\n\r\nc", b"A: b", b"c"),
        (b"\r\nc", b"", b"c"),
        (b"A: b\r\n", b"A: b\r\n", b""),
        (b"A: b", b"A: b", b""),
        (b"A: b\n\nc", b"A: b\n\nc", b""),
        (b"", b"", b""),
    ],
)
def test_where_the_header_ends(octets: bytes, header: bytes, body: bytes) -> None:
    assert split(octets) == (header, body)


def test_fields_among_lines_that_are_none() -> None:
    header = (
        b" begins folded\r\nFrom nobody\r\nA:1\r\nno colon\r\n folded\r\n"
        b"a : 2\r\n more\r\nAB: 3\r\n"
    )
    lowest = Field(b"a", b"a : 2\r\n more")
    assert fields(header, [b"A"]) == {b"a": [lowest, Field(b"A", b"A:1")]}
    assert fields(header, [b"A", b"From"], same_name_max=1) == {b"a": [lowest], b"from": []}
    assert fields(header, []) == {}
    assert fields(header, [b"a.", b"B"]) == {b"a.": [], b"b": []}


STANDARD_EXAMPLE = (  # Appendix A.3, the key of A.2
    b"DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;\r\n"
    b" d=football.example.com; i=@football.example.com;\r\n"
    b" q=dns/txt; s=brisbane; t=1528637909; h=from : to :\r\n"
    b" subject : date : message-id : from : subject : date;\r\n"
    b" bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n"
    b" b=/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11Bus\r\n"
    b" Fa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==\r\n"
    b"From: Joe SixPack <joe@football.example.com>\r\n"
    b"To: Suzie Q <suzie@shopping.example.net>\r\n"
    b"Subject: Is dinner ready?\r\n"
    b"Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)\r\n"
    b"Message-ID: <20030712040037.46341.5F8J@football.example.com>\r\n"
    b"\r\n"
    b"Hi.\r\n\r\nWe lost the game.  Are you hungry yet?\r\n\r\nJoe.\r\n"
)
BRISBANE = "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="


def test_the_example_of_the_standard() -> None:
    zone = {"brisbane._domainkey.football.example.com": BRISBANE}
    assert verdicts(STANDARD_EXAMPLE, zone) == [True]
    header, body = split(STANDARD_EXAMPLE)
    digest = tags_of(signature_fields(header)[0].octets)["bh"]
    ours = tags_of(sign(b"From: x\r\n\r\n" + body, KEYS[1:], now_ms=0))
    assert ours["bh"] == digest
