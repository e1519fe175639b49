"""SCRAM keys of a real directory: who signs in with them, and what names without them get."""

from __future__ import annotations

import base64
import hashlib
import hmac
from pathlib import Path

import pytest

from actors.commands import Account as AccountReply
from actors.commands import AddAlias, Done, SetPassword, SetProfile
from actors.request_ids import new_request_id
from gateways.sasl.exchange import Exchange
from gateways.sasl.steps import Challenge
from mail.errors import SignInRefused
from tests.contract.house import House, house


async def sign_in(built: House, name: str, password: str) -> str:
    """Go through SCRAM as a client does; return whose account it is."""
    exchange = Exchange("scram-sha-256", built.router)
    first = f"n={name},r=abc"
    step = await exchange.respond(f"n,,{first}".encode())
    assert isinstance(step, Challenge)
    server_first = step.octets.decode()
    fields = dict(field.split("=", 1) for field in server_first.split(","))
    salt, iterations = base64.b64decode(fields["s"]), int(fields["i"])
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    said = f"c=biws,r={fields['r']}"
    message = f"{first},{server_first},{said}".encode()
    signature = hmac.digest(hashlib.sha256(client_key).digest(), message, "sha256")
    proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
    step = await exchange.respond(f"{said},p={base64.b64encode(proof).decode()}".encode())
    assert isinstance(step, Challenge)
    access = await exchange.respond(b"")
    assert not isinstance(access, Challenge)
    return access.account.address


async def test_a_password_by_scram(tmp_path: Path) -> None:
    async with house(tmp_path, "alice") as (built, (alice,)):
        await built.ask(AddAlias(new_request_id(), "sales@example.test", alice.address), Done)
        for name in (alice.address, "ALICE@example.test", "sales@example.test"):
            assert await sign_in(built, name, "secret") == alice.address
        with pytest.raises(SignInRefused):
            await sign_in(built, alice.address, "wrong")
        with pytest.raises(SignInRefused):
            await sign_in(built, "nobody@example.test", "secret")
        await built.ask(SetPassword(new_request_id(), alice.address, "another"), Done)
        with pytest.raises(SignInRefused):
            await sign_in(built, alice.address, "secret")
        assert await sign_in(built, alice.address, "another") == alice.address


async def test_app_passwords_have_no_keys(tmp_path: Path) -> None:
    async with house(tmp_path, "alice") as (built, (alice,)):
        access = await built.router.sign_in(alice.address, "secret")
        _, text = await built.router.add_app_password(access, label="phone", scopes=("submit",))
        assert (await built.router.sign_in(alice.address, text)).scopes == ("submit",)
        with pytest.raises(SignInRefused):
            await sign_in(built, alice.address, text)


async def test_who_exists_is_not_told(tmp_path: Path) -> None:
    async with house(tmp_path, "alice", "bob") as (built, (alice, bob)):
        real = await built.router.scram_keys(alice.address)
        await built.ask(SetProfile(new_request_id(), bob.address, disabled=True), AccountReply)
        for name in ("nobody@example.test", "x@elsewhere.test", "no address", "", bob.address):
            decoy = await built.router.scram_keys(name)
            assert decoy == await built.router.scram_keys(name)
            assert decoy.access is None
            assert len(decoy.salt) == len(real.salt)
            assert decoy.iterations == real.iterations
            assert len(decoy.stored_key) == len(real.stored_key)
            assert decoy.salt != real.salt
        one, same = [
            await built.router.scram_keys(name)
            for name in ("Nobody@Example.test", "nobody@example.test")
        ]
        assert one.salt == same.salt
        assert one.salt != (await built.router.scram_keys("other@example.test")).salt
        assert "stored" not in repr(real)
        assert repr(real.salt) not in repr(real)


async def test_a_decoy_outlives_a_restart(tmp_path: Path) -> None:
    said = []
    for _ in range(2):
        built = House(tmp_path)
        await built.start()
        try:
            said.append(await built.router.scram_keys("nobody@example.test"))
        finally:
            await built.close()
    assert said[0] == said[1]
