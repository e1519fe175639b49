"""STARTTLS, and clients that others wrote: swaks and smtplib."""

from __future__ import annotations

import asyncio
import os
import shutil
import smtplib
import ssl
from collections.abc import Callable, Coroutine
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path

import pytest
import uvloop

from tests.protocol.smtp_fakes import World, server_tls

needs_swaks = pytest.mark.skipif(shutil.which("swaks") is None, reason="swaks is not installed")


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    return server_tls(tmp_path_factory.mktemp("tls"))


async def test_starttls_and_what_received_says_of_it(tls: ssl.SSLContext) -> None:
    async with World(tls) as world, world.peer() as peer:
        assert "250 STARTTLS" in await peer.ask("EHLO client.test")
        assert await peer.ask("STARTTLS") == "220 2.0.0 Ready to start TLS"
        await peer.start_tls()
        assert (await peer.ask("MAIL FROM:<>")).startswith("503 5.5.1 ")  # RFC 3207 §4.2
        ehlo = await peer.ask("EHLO client.test")
        assert "STARTTLS" not in ehlo
        assert "SIZE" in ehlo
        assert (await peer.ask("STARTTLS")).startswith("503 5.5.1 ")
        await peer.begin()
        big = b"x" * 3_000_000
        assert (await peer.ask(big + b"\r\n.")).startswith("250 2.0.0 ")
        [stored] = world.mail.stored
        assert stored.endswith(b"\r\n" + big + b"\r\n")
        assert b" with ESMTPS id " in stored
        assert b"\r\n\t(using TLSv1.3 with cipher TLS_" in stored
        await peer.begin(mail_from="<> SMTPUTF8")
        assert (await peer.ask("x\r\n.")).startswith("250 2.0.0 ")
        assert b" with UTF8SMTPS id " in world.mail.stored[1]
        assert (await peer.ask("QUIT")).startswith("221 2.0.0 ")


async def test_starttls_forgets_what_was_said_before(tls: ssl.SSLContext) -> None:
    async with World(tls) as world, world.peer() as peer:
        await peer.ask("MAIL FROM:<>")
        await peer.ask("STARTTLS")
        await peer.start_tls()
        await peer.ask("EHLO client.test")
        assert (await peer.ask("RCPT TO:<alice@example.test>")).startswith("503 5.5.1 ")


async def test_commands_injected_after_starttls_do_not_count(tls: ssl.SSLContext) -> None:
    async with World(tls) as world, world.peer() as peer:
        await peer.send(b"STARTTLS\r\nEHLO injected.test\r\nMAIL FROM:<evil@client.test>\r\n")
        assert await peer.reply() == "220 2.0.0 Ready to start TLS"
        await peer.start_tls()
        assert await peer.ask("NOOP") == "250 2.0.0 Ok"  # And not the answer to EHLO.
        assert (await peer.ask("RCPT TO:<alice@example.test>")).startswith("503 5.5.1 ")


async def test_who_pours_in_over_tls_reads_the_421_and_the_end(tls: ssl.SSLContext) -> None:
    async with World(tls, errors_max=3) as world, world.peer() as peer:
        await peer.ask("STARTTLS")
        await peer.start_tls()
        await peer.pour(b"XYZZY\r\n" * 150_000)
        codes = [(await peer.reply())[:9] for _ in range(4)]
        assert codes == ["500 5.5.2"] * 3 + ["421 4.7.0"]
        assert await peer.closed()


async def test_a_flood_before_tls_does_not_hang_it(tls: ssl.SSLContext) -> None:
    async with World(tls) as world, world.peer() as peer:
        await peer.send(b"STARTTLS\r\n" + b"NOOP\r\n" * 20_000)
        assert await peer.reply() == "220 2.0.0 Ready to start TLS"
        # What is still on its way is no TLS handshake: the connection must end.
        await peer.send(b"NOOP\r\n" * 20_000)
        await world.until_no_connection()


async def test_a_failed_handshake_ends_the_connection(tls: ssl.SSLContext) -> None:
    async with World(tls) as world:
        async with world.peer() as peer:
            await peer.ask("STARTTLS")
            await peer.send(b"EHLO plain.test\r\n")
            await world.until_no_connection()
        async with world.peer() as peer:
            await peer.ask("STARTTLS")
        await world.until_no_connection()


async def test_drain_ends_an_idle_tls_session(tls: ssl.SSLContext) -> None:
    async with World(tls) as world, world.peer() as peer:
        await peer.ask("STARTTLS")
        await peer.start_tls()
        await peer.ask("EHLO client.test")
        draining = asyncio.create_task(world.gateway.drain(5))
        assert (await peer.reply()).startswith("421 4.3.2 ")
        await draining


@pytest.mark.parametrize(
    "dialogue",
    [
        test_starttls_and_what_received_says_of_it,
        test_commands_injected_after_starttls_do_not_count,
        test_a_flood_before_tls_does_not_hang_it,
        test_a_failed_handshake_ends_the_connection,
        test_drain_ends_an_idle_tls_session,
    ],
)
def test_on_uvloop(
    dialogue: Callable[[ssl.SSLContext], Coroutine[None, None, None]], tls: ssl.SSLContext
) -> None:
    """Ray's workers run uvloop, whose transports are not asyncio's."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(dialogue(tls))


async def swaks(world: World, *arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        "swaks", "--server", f"127.0.0.1:{world.port}", "--from", "peer@client.test",
        "--ehlo", "client.test", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await asyncio.wait_for(process.communicate(), 15)
    text = output.decode(errors="replace")
    if "TLS not available" in text:
        pytest.skip("this swaks has no Net::SSLeay")
    assert process.returncode == 0, text
    return text


@needs_swaks
@pytest.mark.parametrize("with_tls", [False, True])
async def test_swaks_with_an_attachment(
    tls: ssl.SSLContext, tmp_path: Path, with_tls: bool
) -> None:
    attachment = tmp_path / "noise.bin"
    attachment.write_bytes(os.urandom(700_000))
    arguments = ["--to", "alice@example.test,bob@example.test", "--attach", f"@{attachment}"]
    if with_tls:
        arguments.append("--tls")
    async with World(tls) as world:
        output = await swaks(world, *arguments)
        assert "250 2.0.0 Ok: queued as" in output
        assert len(world.mail.stored) == 2
        message = message_from_bytes(world.mail.stored[0], policy=policy.default)
        [part] = [part for part in message.walk() if part.get_filename()]
        assert part.get_content() == attachment.read_bytes()
        assert world.mail.letters[0][0].summary.has_attachment
        assert (b"with ESMTPS" in world.mail.stored[0]) is with_tls


@needs_swaks
async def test_swaks_pipelining() -> None:
    async with World() as world:
        assert "250 2.0.0 Ok" in await swaks(world, "--to", "alice@example.test", "--pipeline")
        assert len(world.mail.stored) == 1


async def test_smtplib_on_one_connection(tls: ssl.SSLContext) -> None:
    message = EmailMessage(policy=policy.SMTP)
    message["From"], message["To"] = "peer@client.test", "alice@example.test"
    message["Subject"] = "hello"
    message.set_content("text\n.\n..\n")

    def talk(port: int) -> None:
        with smtplib.SMTP("127.0.0.1", port, local_hostname="client.test") as client:
            client.starttls()
            for _ in range(3):
                client.send_message(message)

    async with World(tls) as world:
        await asyncio.to_thread(talk, world.port)
        assert [letter.received for letter, _ in world.mail.letters] == [message.as_bytes()] * 3
