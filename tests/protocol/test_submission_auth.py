"""AUTH on the submission listeners: who gets in, how, and what is refused on the way."""

from __future__ import annotations

import asyncio
import base64
import smtplib
import ssl
from pathlib import Path

import pytest

from mail.errors import Unavailable
from tests.protocol.smtp_fakes import HOSTNAME, server_tls
from tests.protocol.submission_fakes import (
    SIGNED_IN,
    Submissions,
    b64,
    client_tls,
    plain,
    scram,
)

NAME = "alice@example.test"
OFFERED = "AUTH SCRAM-SHA-256 PLAIN LOGIN"


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    directory: Path = tmp_path_factory.mktemp("tls")
    return server_tls(directory)


async def test_auth_is_offered_over_tls_only(tls: ssl.SSLContext) -> None:
    async with Submissions(tls) as world, world.client(tls_at_once=False, ehlo=False) as peer:
        assert (await peer.ask("EHLO me.test")).split("\n") == [
            f"250-{HOSTNAME}",
            "250-PIPELINING",
            "250-SIZE 52428800",
            "250-8BITMIME",
            "250-CHUNKING",
            "250-SMTPUTF8",
            "250-DSN",
            "250-ENHANCEDSTATUSCODES",
            "250 STARTTLS",
        ]
        assert (await peer.ask(plain(NAME, "secret"))).startswith("538 5.7.11 ")
        assert (await peer.ask("MAIL FROM:<alice@example.test>")).startswith("530 5.7.0 ")
        assert (await peer.ask("STARTTLS")).startswith("220 2.0.0 ")
        await peer.start_tls()
        assert (await peer.ask(plain(NAME, "secret"))).startswith("503 5.5.1 ")  # EHLO comes first.
        said = (await peer.ask("EHLO me.test")).split("\n")
        assert said[-1] == f"250 {OFFERED}"
        assert not any("STARTTLS" in line for line in said)
        assert await peer.ask(plain(NAME, "secret")) == SIGNED_IN
        assert OFFERED not in await peer.ask("EHLO me.test")


async def test_what_was_pipelined_behind_starttls_does_not_count(tls: ssl.SSLContext) -> None:
    async with Submissions(tls) as world, world.client(tls_at_once=False) as peer:
        await peer.send(b"STARTTLS\r\nNOOP\r\n")
        assert (await peer.reply()).startswith("220 ")
        await peer.start_tls()
        assert (await peer.ask("RSET")).startswith("250 2.0.0 Ok")
        assert (await peer.ask("MAIL FROM:<>")).startswith("503 ")


async def test_each_mechanism(tls: ssl.SSLContext) -> None:
    async with Submissions(tls) as world:
        async with world.client() as peer:
            assert await peer.ask("AUTH PLAIN") == "334 "
            assert await peer.ask(b64(f"\0{NAME}\0secret")) == SIGNED_IN
        async with world.client() as peer:
            assert await peer.ask("auth login") == f"334 {b64('Username:')}"
            assert await peer.ask(b64(NAME)) == f"334 {b64('Password:')}"
            assert await peer.ask(b64("secret")) == SIGNED_IN
        async with world.client() as peer:
            assert await peer.ask(f"AUTH LOGIN {b64(NAME)}") == f"334 {b64('Password:')}"
            assert await peer.ask(b64("secret")) == SIGNED_IN
        async with world.client() as peer:
            assert await scram(peer, NAME, "secret") == SIGNED_IN
            assert (await peer.ask("MAIL FROM:<alice@example.test>")).startswith("250 2.1.0 ")
        async with world.client() as peer:
            assert await peer.ask("AUTH SCRAM-SHA-256") == "334 "
            assert (await peer.ask(b64(f"n,,n={NAME},r=abc"))).startswith("334 ")


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("AUTH", "501 5.5.4"),
        ("AUTH CRAM-MD5", "504 5.5.4"),
        ("AUTH XOAUTH2 abcd", "504 5.5.4"),
        ("AUTH SCRAM-SHA-256-PLUS", "504 5.5.4"),
        ("AUTH PLAIN =", "501 5.5.2"),
        ("AUTH PLAIN abc", "501 5.5.2"),
        ("AUTH PLAIN a b c", "501 5.5.2"),
        ("AUTH PLAIN ÄÖ==", "501 5.5.2"),
        (f"AUTH PLAIN {b64('no nul')}", "501 5.5.2"),
        (plain(NAME, "wrong"), "535 5.7.8"),
        (plain(NAME, ""), "535 5.7.8"),
        (plain("nobody@example.test", "secret"), "535 5.7.8"),
        (plain(NAME, "secret", acts_for="bob@example.test"), "535 5.7.8"),
        (plain(NAME, "may-only-read"), "535 5.7.8"),
        (plain(NAME, "se\ncret"), "535 5.7.8"),
        (f"AUTH SCRAM-SHA-256 {b64(f'p=tls-unique,,n={NAME},r=abc')}", "501 5.5.2"),
        (f"AUTH SCRAM-SHA-256 {b64(f'n,a=bob@example.test,n={NAME},r=abc')}", "535 5.7.8"),
    ],
)
async def test_what_is_refused(tls: ssl.SSLContext, command: str, code: str) -> None:
    async with Submissions(tls) as world, world.client() as peer:
        assert (await peer.ask(command)).startswith(code + " ")
        assert (await peer.ask("MAIL FROM:<alice@example.test>")).startswith("530 5.7.0 ")
        assert await peer.ask(plain(NAME, "secret")) == SIGNED_IN


async def test_scram_with_another_password_and_of_nobody(tls: ssl.SSLContext) -> None:
    async with Submissions(tls) as world:
        for name, password in ((NAME, "wrong"), ("nobody@example.test", "secret")):
            async with world.client() as peer:
                reply = await scram(peer, name, password)
                assert reply.startswith("535 5.7.8 "), name
        assert world.gateway.metrics()["sign_ins_refused"] == 2


async def test_a_star_cancels(tls: ssl.SSLContext) -> None:
    async with Submissions(tls) as world, world.client() as peer:
        assert await peer.ask("AUTH LOGIN") == f"334 {b64('Username:')}"
        assert (await peer.ask("*")).startswith("501 5.7.0 ")
        assert (await peer.ask("NOOP")).startswith("250 ")


async def test_long_lines(tls: ssl.SSLContext) -> None:  # RFC 4954 §4
    async with Submissions(tls) as world, world.client() as peer:
        assert await peer.ask("AUTH PLAIN") == "334 "
        longest = base64.b64encode(b"\0a\0" + b"x" * (12288 * 3 // 4 - 3))
        assert len(longest) == 12288
        assert (await peer.ask(longest)).startswith("535 5.7.8 ")
        assert await peer.ask("AUTH PLAIN") == "334 "
        assert (await peer.ask(longest + b"A")).startswith("500 5.5.6 ")
        assert (await peer.ask(b"NOOP " + b"x" * 20_000)).startswith("500 5.5.2 ")
        assert await peer.ask(plain(NAME, "secret")) == SIGNED_IN


async def test_attempts_are_bounded(tls: ssl.SSLContext) -> None:
    async with Submissions(tls) as world, world.client() as peer:
        for _ in range(2):
            assert (await peer.ask(plain(NAME, "wrong"))).startswith("535 5.7.8 ")
        assert (await peer.ask(plain(NAME, "wrong"))).startswith("421 4.7.0 ")
        assert await peer.closed()


async def test_a_wrong_password_is_answered_late(tls: ssl.SSLContext) -> None:
    async with Submissions(tls, refusal_delay_s=0.3) as world, world.client() as peer:
        loop = asyncio.get_running_loop()
        began = loop.time()
        assert (await peer.ask(plain(NAME, "wrong"))).startswith("535 ")
        assert loop.time() - began >= 0.3
        began = loop.time()
        assert await peer.ask(plain(NAME, "secret")) == SIGNED_IN
        assert loop.time() - began < 0.3


async def test_once_signed_in(tls: ssl.SSLContext) -> None:
    async with Submissions(tls) as world, world.alice() as peer:
        assert (await peer.ask(plain(NAME, "secret"))).startswith("503 5.5.1 ")
        assert (await peer.ask("RSET")).startswith("250 ")
        assert (await peer.ask("EHLO again.test")).startswith("250-")
        assert (await peer.ask("MAIL FROM:<alice@example.test>")).startswith("250 2.1.0 ")
        assert (await peer.ask("AUTH PLAIN")).startswith("503 5.5.1 ")


async def test_when_the_directory_is_away(tls: ssl.SSLContext) -> None:
    async with Submissions(tls) as world:
        async with world.client() as peer:
            world.sign_ins.failure = Unavailable()
            for _ in range(5):  # No fault of the client's.
                assert (await peer.ask(plain(NAME, "secret"))).startswith("454 4.7.0 ")
            world.sign_ins.failure = KeyError("ours")
            assert (await peer.ask(plain(NAME, "secret"))).startswith("451 4.3.0 ")
            world.sign_ins.failure = None
            assert await peer.ask(plain(NAME, "secret")) == SIGNED_IN
            world.sign_ins.failure = Unavailable()
            assert (await peer.ask("MAIL FROM:<alice@example.test>")).startswith("451 4.3.0 ")


async def test_a_sign_in_that_has_ended(tls: ssl.SSLContext) -> None:
    async with Submissions(tls) as world, world.alice() as peer:
        world.sign_ins.ended.add(NAME)
        reply = await peer.ask("MAIL FROM:<alice@example.test>")
        assert reply == "530 5.7.0 Your sign-in has ended, sign in again"
        world.sign_ins.ended.clear()
        assert await peer.ask(plain(NAME, "secret")) == SIGNED_IN


async def test_the_client_goes_away_in_the_midst(tls: ssl.SSLContext) -> None:
    async with Submissions(tls) as world:
        for last in (b"AUTH LOGIN\r\n", b"AUTH PLAIN\r\nAAAA"):
            async with world.client() as peer:
                await peer.send(last)
                assert (await peer.reply()).startswith("334 ")
        async with world.alice():
            pass


@pytest.mark.parametrize("tls_at_once", [True, False])
async def test_a_common_client(tls: ssl.SSLContext, tls_at_once: bool) -> None:
    def send() -> None:
        if tls_at_once:
            smtp = smtplib.SMTP_SSL("127.0.0.1", world.ports["submissions"], context=client_tls())
        else:
            smtp = smtplib.SMTP("127.0.0.1", world.ports["submission"])
            smtp.starttls(context=client_tls())
        with smtp:
            smtp.login(NAME, "secret")
            smtp.sendmail(NAME, ["bob@example.org"], "From: alice@example.test\r\n\r\nhello\r\n")

    async with Submissions(tls) as world:
        await asyncio.to_thread(send)
        [(access, envelope, _)] = world.queue.taken
        assert access.account.address == NAME
        assert [str(one.address) for one in envelope.recipients] == ["bob@example.org"]
