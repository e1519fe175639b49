"""Keys of DKIM: written and read again, published as others read them, changed in time."""

import base64
import itertools
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from dkim import evaluate_pk
from hypothesis import given
from hypothesis import strategies as st

from mail.dkim_keys import (
    DAY_MS,
    PUBLISH_MS,
    RETIRE_MS,
    RSA_BITS,
    SIGN_MS,
    STRING_BYTES_MAX,
    Algorithm,
    InvalidKey,
    KeyRecord,
    Rotation,
    State,
    algorithm_of,
    carried_out,
    is_published,
    load,
    make,
    new_record,
    next_selector,
    parse_record,
    parse_tags,
    public_text,
    record_name,
    rotation,
    strings,
)
from tests.properties import EXAMPLES, examples

PEMS = {algorithm: make(algorithm) for algorithm in Algorithm}
TEXTS = {algorithm: public_text(load(pem)) for algorithm, pem in PEMS.items()}
RSA, ED25519 = Algorithm.RSA, Algorithm.ED25519
START_MS = 1_740_787_200_000  # 2025-03-01


# Keys and records ---------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", Algorithm)
def test_a_key_is_written_and_read(algorithm: Algorithm) -> None:
    pem = PEMS[algorithm]
    assert pem.startswith(b"-----BEGIN PRIVATE KEY-----\n")
    key = load(pem)
    assert algorithm_of(key) is algorithm_of(key.public_key()) is algorithm
    assert public_text(load(pem)) == TEXTS[algorithm]
    assert make(algorithm) != pem
    if isinstance(key, rsa.RSAPrivateKey):
        assert key.key_size == RSA_BITS


def test_what_is_no_key_of_ours() -> None:
    def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | dsa.DSAPrivateKey) -> bytes:
        return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    key = load(PEMS[ED25519])
    locked = key.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
    )
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    short = pem(rsa.generate_private_key(65537, 1024))
    curve = pem(ec.generate_private_key(ec.SECP256R1()))
    for octets in (b"", b"x", PEMS[RSA][:-100], PEMS[RSA][100:], locked, public, short, curve):
        with pytest.raises(InvalidKey):
            load(octets)


def test_records_as_another_implementation_reads_them() -> None:
    key, bits, name, _ = evaluate_pk("x", TEXTS[RSA])
    numbers = load(PEMS[RSA]).public_key()
    assert isinstance(numbers, rsa.RSAPublicKey)
    assert (bits, name) == (RSA_BITS, b"rsa")
    assert key["modulus"] == numbers.public_numbers().n
    assert TEXTS[ED25519].startswith("v=DKIM1; k=ed25519; p=")
    assert len(base64.b64decode(TEXTS[ED25519].partition("p=")[2])) == 32


def test_strings_of_a_record() -> None:
    assert [len(piece) for piece in strings(TEXTS[RSA])] == [255, len(TEXTS[RSA]) - 255]
    assert strings(TEXTS[ED25519]) == (TEXTS[ED25519],)
    for length in (0, 1, 254, 255, 256, 510, 511):
        pieces = strings("x" * length)
        assert "".join(pieces) == "x" * length
        assert all(len(piece) <= STRING_BYTES_MAX for piece in pieces)
        assert len(pieces) == max(1, -(-length // 255))


def test_where_a_key_is_published() -> None:
    assert record_name("rsa-20250301", "example.test") == "rsa-20250301._domainkey.example.test"


@pytest.mark.parametrize("algorithm", Algorithm)
def test_a_record_is_read_again(algorithm: Algorithm) -> None:
    found = parse_record(TEXTS[algorithm])
    assert found is not None
    assert found.algorithm is algorithm
    assert found.key == load(PEMS[algorithm]).public_key()
    assert (found.is_usable, found.is_testing, found.is_strict) == (True, False, False)


def _p(algorithm: Algorithm) -> str:
    return TEXTS[algorithm].partition("p=")[2]


@pytest.mark.parametrize(
    "form, algorithm",
    [
        ("{p}", RSA),
        ("k=ed25519;{p}", ED25519),
        (" v = DKIM1 ;\tk = rsa ; {p} ; ", RSA),
        ("v=DKIM1; n=a note; {p}; x_new=1;", RSA),
        ("v=DKIM1; h=sha1:sha256; s=email; {p}", RSA),
        ("v=DKIM1; h= sha256 ; s=other : *; t=s:z; {p}", RSA),
    ],
)
def test_the_same_key_written_otherwise(form: str, algorithm: Algorithm) -> None:
    text = form.format(p=f"p={_p(algorithm)}")
    assert is_published(TEXTS[algorithm], text)
    spaced = " ".join(_p(algorithm)[n : n + 7] for n in range(0, 400, 7))
    assert is_published(TEXTS[algorithm], form.format(p=f"p= {spaced}"))


def test_the_bare_form_of_an_rsa_key() -> None:
    octets = load(PEMS[RSA]).public_key().public_bytes(Encoding.DER, PublicFormat.PKCS1)
    assert is_published(TEXTS[RSA], f"v=DKIM1; p={base64.b64encode(octets).decode()}")


@pytest.mark.parametrize(
    "form",
    [
        "",
        ";",
        "v=spf1 -all",
        "v=DKIM2; {p}",
        "k=rsa; v=DKIM1; {p}",  # `v=` is not the first
        "v=DKIM1; k=ed25519; {p}",
        "v=DKIM1; k=dsa; {p}",
        "v=DKIM1; k=rsa",
        "v=DKIM1; {p}; {p}",
        "v=DKIM1; p=%%%",
        "v=DKIM1; p=AAAA",
        "v=DKIM1; p=ä",
        "v=DKIM1; p={p}x",
        "v=DKIM1; p; {p}",
        "v=DKIM1;; {p}",
        "v=DKIM1; {p}; n=" + "x" * 10_000,
    ],
)
def test_what_is_no_key_record(form: str) -> None:
    text = form.format(p=f"p={_p(RSA)}")
    assert parse_record(text) is None
    assert not is_published(TEXTS[RSA], text)


@pytest.mark.parametrize("form", ["h=sha1", "s=tlsrpt", "s=", "t=y", "t=s:y"])
def test_records_by_which_mail_is_not_verified(form: str) -> None:
    text = f"v=DKIM1; {form}; p={_p(RSA)}"
    found = parse_record(text)
    assert found is not None
    assert found.is_testing or not found.is_usable
    assert not is_published(TEXTS[RSA], text)


def test_a_revoked_key() -> None:
    found = parse_record("v=DKIM1; k=rsa; p=")
    assert found is not None
    assert (found.key, found.is_usable) == (None, False)
    assert not is_published(TEXTS[RSA], "v=DKIM1; p=")
    assert not is_published("v=DKIM1; p=", "v=DKIM1; p=")


def test_another_key() -> None:
    assert not is_published(TEXTS[RSA], TEXTS[ED25519])
    assert not is_published(TEXTS[ED25519], public_text(load(make(ED25519))))


def test_a_key_that_is_too_short_or_too_long() -> None:
    octets = rsa.generate_private_key(65537, 1024).public_key()
    short = base64.b64encode(octets.public_bytes(Encoding.DER, PublicFormat.PKCS1)).decode()
    assert parse_record(f"p={short}") is not None  # RFC 8301 §3.2
    numbers = rsa.RSAPublicNumbers(65537, (1 << 1022) + 1).public_key()
    octets_1023 = numbers.public_bytes(Encoding.DER, PublicFormat.PKCS1)
    assert parse_record(f"p={base64.b64encode(octets_1023).decode()}") is None
    long = rsa.RSAPublicNumbers(65537, (1 << 8200) + 1).public_key()
    octets_8201 = long.public_bytes(Encoding.DER, PublicFormat.PKCS1)
    assert parse_record(f"p={base64.b64encode(octets_8201).decode()}") is None


@examples(EXAMPLES)
@given(st.one_of(st.text(), st.lists(st.sampled_from(
    ["v=DKIM1", "p=", "k=rsa", "k=ed25519", ";", " ", "=", "\n", "AAAA", _p(RSA), _p(ED25519)]
)).map("".join)))  # fmt: skip
def test_any_text_is_a_record_or_none(text: str) -> None:
    found = parse_record(text)
    if found is not None and found.key is not None:
        assert algorithm_of(found.key) is found.algorithm


def test_tags() -> None:
    assert parse_tags("a=1; b = x y ;c=") == {"a": "1", "b": "x y", "c": ""}
    assert parse_tags("a==;\r\n b=c=d;\t") == {"a": "=", "b": "c=d"}
    assert parse_tags("a=1; a=2") is None
    assert parse_tags("") is parse_tags("a") is parse_tags("1=a") is None


# Rotation -----------------------------------------------------------------------------------


def key(
    selector: str, algorithm: Algorithm = RSA, state: State = State.ACTIVE,
    created_days: float = 0, since_days: float | None = None,
) -> KeyRecord:  # fmt: skip
    since = created_days if since_days is None else since_days
    return KeyRecord(
        selector, algorithm, "", START_MS + int(created_days * DAY_MS), state,
        START_MS + int(since * DAY_MS),
    )  # fmt: skip


def due(
    keys: list[KeyRecord], days: float = 0, published: tuple[str, ...] = (), early: bool = False
) -> Rotation:
    now_ms = START_MS + int(days * DAY_MS)
    return rotation(keys, now_ms, published=published, algorithms=(RSA,), early=early)


def test_a_new_domain_gets_a_key_of_each_algorithm() -> None:
    first = rotation([], START_MS, published=())
    assert first == Rotation(make=(RSA, ED25519))
    assert first.is_due
    made = [new_record(PEMS[algorithm], START_MS, ()) for algorithm in first.make]
    keys = carried_out([], first, START_MS, made)
    assert [k.selector for k in keys] == ["rsa-20250301", "ed25519-20250301"]
    assert [k.public_text for k in keys] == list(TEXTS.values())
    # There is nothing better to sign with, so they do at once.
    second = rotation(keys, START_MS, published=())
    names = ("rsa-20250301", "ed25519-20250301")
    assert second == Rotation(activate=names, signing=names)
    keys = carried_out(keys, second, START_MS + 1)
    assert {(k.state, k.state_since_ms) for k in keys} == {(State.ACTIVE, START_MS + 1)}
    third = rotation(keys, START_MS + 2, published=())
    assert not third.is_due
    assert third.signing == names


def test_a_key_signs_for_half_a_year() -> None:
    assert due([key("a")], 179.99) == Rotation(signing=("a",))
    assert due([key("a")], 180) == Rotation(make=(RSA,), signing=("a",))
    # It counts from its first signature.
    assert not due([key("a", created_days=-30, since_days=0)], 179).is_due


def test_the_next_key_waits_until_it_is_seen() -> None:
    keys = [key("a"), key("b", state=State.PENDING, created_days=180)]
    assert due(keys, 180) == Rotation(signing=("a",))
    assert due(keys, 181, published=("a", "b")) == Rotation(signing=("a",))
    assert due(keys, 300, published=("a",)) == Rotation(signing=("a",))
    assert due(keys, 182, published=("a", "b")) == Rotation(
        activate=("b",), retire=("a",), signing=("b",)
    )


def test_a_retired_key_stays_for_two_weeks() -> None:
    keys = [key("b"), key("a", state=State.RETIRED, created_days=-180, since_days=0)]
    assert not due(keys, 13.99).is_due
    after = due(keys, 14)
    assert after == Rotation(remove=("a",), signing=("b",))
    assert carried_out(keys, after, START_MS + RETIRE_MS) == (keys[0],)


def test_a_key_that_was_stolen_is_followed_early() -> None:
    assert due([key("a")], 1, early=True) == Rotation(make=(RSA,), signing=("a",))
    keys = [key("a"), key("b", state=State.PENDING, created_days=1)]
    assert due(keys, 1, early=True) == Rotation(signing=("a",))
    assert due(keys, 3, ("b",), early=True).activate == ("b",)


def test_of_two_that_sign_the_newer_stays() -> None:
    assert due([key("b", created_days=1), key("a")], 2) == Rotation(retire=("a",), signing=("b",))


def test_a_pending_key_that_was_overtaken_retires() -> None:
    keys = [key("a", state=State.PENDING), key("b", created_days=1)]
    assert due(keys, 9, ("a", "b")) == Rotation(retire=("a",), signing=("b",))
    keys = [key(name, state=State.PENDING, created_days=n) for n, name in enumerate("abc")]
    assert due(keys, 3, ("a", "b")) == Rotation(activate=("b",), retire=("a",), signing=("b",))


def test_algorithms_that_are_not_wanted() -> None:
    keys = [key("a"), key("e", ED25519), key("f", ED25519, State.PENDING)]
    assert due(keys, 1) == Rotation(retire=("e", "f"), signing=("a",))


def test_a_clock_that_was_set_back() -> None:
    keys = [
        key("a"),
        key("b", state=State.PENDING, created_days=1),
        key("c", state=State.RETIRED, created_days=-1, since_days=0),
    ]
    assert due(keys, -1000, ("a", "b", "c")) == Rotation(signing=("a",))


def test_selectors_are_not_used_again() -> None:
    assert next_selector(RSA, START_MS, ()) == "rsa-20250301"
    taken = {"rsa-20250301", "rsa-20250301-2", "ed25519-20250301"}
    assert next_selector(RSA, START_MS, taken) == "rsa-20250301-3"
    assert next_selector(ED25519, START_MS + DAY_MS, taken) == "ed25519-20250302"


@examples(EXAMPLES)
@given(st.data())
def test_years_of_a_domain(data: st.DataObject) -> None:
    """Whenever the operator looks, mail that is on its way can be verified."""
    keys: tuple[KeyRecord, ...] = ()
    seen: set[str] = set()
    last_signature_ms: dict[str, int] = {}
    begun: set[str] = set()
    steps = st.lists(st.tuples(st.sampled_from([1, 3, 20, 190]), st.booleans(), st.booleans()),
                     max_size=30)  # fmt: skip
    now_ms = START_MS
    for days, operator_publishes, early in data.draw(steps):
        now_ms += days * DAY_MS
        for signer in (k for k in keys if k.state is State.ACTIVE):
            last_signature_ms[signer.selector] = now_ms
        if operator_publishes:
            seen |= {k.selector for k in keys}
        step = rotation(keys, now_ms, published=seen, early=early)
        for selector in step.remove:
            assert now_ms - last_signature_ms.get(selector, 0) >= RETIRE_MS
        for selector in step.activate:
            followed = next(k for k in keys if k.selector == selector)
            first = not any(k.algorithm is followed.algorithm and k.selector in begun for k in keys)
            assert first or (selector in seen and now_ms - followed.created_at_ms >= PUBLISH_MS)
        begun |= set(step.activate)
        taken = [k.selector for k in keys]
        made = [
            replace(key(next_selector(a, now_ms, taken), a, State.PENDING),
                    created_at_ms=now_ms, state_since_ms=now_ms)
            for a in step.make
        ]  # fmt: skip
        keys = carried_out(keys, step, now_ms, made)
        active = [k for k in keys if k.state is State.ACTIVE]
        assert sorted(k.selector for k in active) == sorted(step.signing)
        for algorithm, state in itertools.product(Algorithm, (State.ACTIVE, State.PENDING)):
            same = [k for k in keys if (k.algorithm, k.state) == (algorithm, state)]
            assert len(same) <= 1
        assert len({k.selector for k in keys}) == len(keys)
        if operator_publishes and days > 2:
            # Whoever publishes what is asked never signs with a key that is too old.
            assert all(now_ms - k.state_since_ms <= SIGN_MS + 200 * DAY_MS for k in active)
