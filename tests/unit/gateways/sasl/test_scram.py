"""SCRAM-SHA-256: the exchange of RFC 7677 §3, and what is refused on the way."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.account_commands import ScramKeys
from gateways.sasl.scram import ScramSha256
from gateways.sasl.steps import Challenge, FindKeys, Malformed, Proven
from mail.errors import MailError, SignInRefused

# RFC 7677 §3: user "user", password "pencil".
CLIENT_NONCE, SERVER_NONCE = "rOprNGfwEbeRWgbNEkqO", "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
NONCE = CLIENT_NONCE + SERVER_NONCE
SALT = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
CLIENT_FIRST = f"n,,n=user,r={CLIENT_NONCE}".encode()
SERVER_FIRST = f"r={NONCE},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096".encode()
CLIENT_FINAL = f"c=biws,r={NONCE},p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=".encode()
SERVER_FINAL = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


def keys(password: str = "pencil") -> ScramKeys:
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), SALT, 4096)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    return ScramKeys(SALT, 4096, hashlib.sha256(client_key).digest(), server_key)


def client_final(header: bytes, first_bare: bytes, *, password: str = "pencil") -> bytes:
    """Return a right final message for another first one."""
    said = b"c=" + base64.b64encode(header) + b",r=" + NONCE.encode()
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), SALT, 4096)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    message = b",".join((first_bare, SERVER_FIRST, said))
    signature = hmac.digest(hashlib.sha256(client_key).digest(), message, "sha256")
    proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
    return said + b",p=" + base64.b64encode(proof)


def begun(first: bytes = CLIENT_FIRST) -> ScramSha256:
    scram = ScramSha256(SERVER_NONCE)
    assert isinstance(scram.respond(first), FindKeys)
    assert scram.found(keys()) == Challenge(SERVER_FIRST)
    return scram


def test_the_exchange_of_the_rfc() -> None:
    scram = ScramSha256(SERVER_NONCE)
    assert scram.respond(None) == Challenge(b"")
    assert scram.respond(CLIENT_FIRST) == FindKeys("user")
    assert scram.found(keys()) == Challenge(SERVER_FIRST)
    assert scram.respond(CLIENT_FINAL) == Challenge(SERVER_FINAL)
    assert scram.respond(b"") == Proven()


@pytest.mark.parametrize("header", [b"n,,", b"y,,", b"n,a=user,", b"y,a=USER,"])
def test_headers_that_bind_no_channel(header: bytes) -> None:
    bare = f"n=user,r={CLIENT_NONCE}".encode()
    if b"USER" in header:  # Names are one when they are one address.
        bare = f"n=user@x.test,r={CLIENT_NONCE}".encode()
        header = header.replace(b"USER", b"User@X.test")
    scram = begun(header + bare)
    assert isinstance(scram.respond(client_final(header, bare)), Challenge)
    assert scram.respond(b"") == Proven()


@pytest.mark.parametrize(
    "first",
    [
        b"",
        b"n,,",
        b"x,,n=user,r=abc",
        b"p=tls-unique,,n=user,r=abc",
        b"p=tls-exporter,,n=user,r=abc",
        b"n,n=user,r=abc",
        b"n,,n=,r=abc",
        b"n,,n=user,r=",
        b"n,,n=us=er,r=abc",
        b"n,,n=us=2cer,r=abc",
        b"n,,m=ext,n=user,r=abc",
        b"n,,n=us\0er,r=abc",
        b"n,,n=user,r=a\nb",
        b"n,,n=\xff,r=abc",
        b"n,,n=user,r=" + b"a" * 600,
    ],
)
def test_first_messages_that_are_none(first: bytes) -> None:
    with pytest.raises(Malformed):
        ScramSha256(SERVER_NONCE).respond(first)


def test_a_name_is_decoded() -> None:  # RFC 5802 §5.1
    scram = ScramSha256(SERVER_NONCE)
    assert scram.respond("n,,n=a=2Cb=3D2C가@x.test,r=abc,x=1".encode()) == FindKeys(
        "a,b=2C가@x.test"
    )


def test_nobody_acts_for_somebody_else() -> None:
    with pytest.raises(SignInRefused):
        ScramSha256(SERVER_NONCE).respond(b"n,a=root,n=user,r=abc")


@pytest.mark.parametrize(
    ("final", "error"),
    [
        (CLIENT_FINAL[:-6] + b"AAAAA=", SignInRefused),  # another proof
        (f"c=biws,r={NONCE},p=AAAA".encode(), SignInRefused),  # a short one
        (CLIENT_FINAL.replace(b"c=biws", b"c=eSws"), SignInRefused),  # said `n` before, `y` now
        (CLIENT_FINAL.replace(NONCE.encode(), CLIENT_NONCE.encode()), SignInRefused),
        (CLIENT_FINAL.replace(NONCE.encode(), NONCE.encode() + b"x"), SignInRefused),
        (CLIENT_FINAL.replace(b",p=", b",x=ext,p="), SignInRefused),  # the signature covers it
        (f"c=biws,r={NONCE}".encode(), Malformed),
        (f"r={NONCE},c=biws,p=AAAA".encode(), Malformed),
        (f"c=b,r={NONCE},p=AAAA".encode(), Malformed),
        (f"c=biws,r={NONCE},p=A".encode(), Malformed),
        (CLIENT_FINAL + b",x=1", Malformed),
        (b"", Malformed),
        (b"\xff", Malformed),
    ],
)
def test_final_messages_that_prove_nothing(final: bytes, error: type[MailError]) -> None:
    with pytest.raises(error):
        begun().respond(final)


def test_another_password() -> None:
    with pytest.raises(SignInRefused):
        begun().respond(client_final(b"n,,", CLIENT_FIRST[3:], password="pen"))


def test_nothing_is_said_after_the_end() -> None:
    scram = begun()
    scram.respond(CLIENT_FINAL)
    with pytest.raises(Malformed):
        scram.respond(b"x")


@given(st.binary(max_size=80), st.binary(max_size=80))
def test_any_octets(first: bytes, final: bytes) -> None:
    for scram, response in ((ScramSha256(SERVER_NONCE), first), (begun(), final)):
        try:
            step = scram.respond(response)
        except (Malformed, SignInRefused):
            continue
        assert isinstance(step, FindKeys)
