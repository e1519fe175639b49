"""Submission dialogues: whose address, to whom, what is added, and how much (RFC 6409)."""

from __future__ import annotations

import asyncio
import re
import ssl
from email import message_from_bytes, policy
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mail.dsn_options import Notify, OriginalRecipient, Ret
from mail.errors import MailError, OutcomeUnknown
from tests.properties import EXAMPLES
from tests.protocol.smtp_fakes import PATIENCE_S, Peer, server_tls
from tests.protocol.submission_fakes import Submissions, plain

MESSAGE = b"From: Alice <alice@example.test>\r\nTo: b@example.org\r\nSubject: s\r\n\r\nhello\r\n"
REPLY = re.compile(rb"[2-5][0-5][0-9](?:[ -][\x20-\x7e]*)?\r\n")


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    directory: Path = tmp_path_factory.mktemp("tls")
    return server_tls(directory)


async def send(
    peer: Peer,
    message: bytes = MESSAGE,
    *,
    mail_from: str = "<alice@example.test>",
    to: tuple[str, ...] = ("<b@example.org>",),
) -> str:
    """Submit a message; return the last reply."""
    await peer.begin(*(path[1:-1] for path in to), mail_from=mail_from)
    await peer.send(message + b".\r\n")
    return await peer.reply()


async def test_a_message_is_completed_and_traced(tls: ssl.SSLContext) -> None:
    async with Submissions(tls) as world, world.alice() as peer:
        raw = MESSAGE.replace(b"Subject", b"Bcc: secret@example.org\r\n\t, x@y.test\r\nSubject")
        assert await send(peer, raw) == "250 2.0.0 Ok: queued as q1"
        [(access, envelope, taken)] = world.queue.taken
        assert access.account.address == "alice@example.test"
        assert str(envelope.mail_from) == "alice@example.test"
        message = message_from_bytes(taken, policy=policy.default)
        assert message.keys() == ["Received", "Date", "Message-ID", "From", "To", "Subject"]
        assert str(message["Date"]) == "Fri, 02 Jan 2026 03:04:05 +0000"
        assert re.fullmatch(r"<[0-9a-f]+\.[0-9a-f-]+@example\.test>", message["Message-ID"])
        trace = str(message["Received"])
        assert trace.startswith("by mx.example.test with ESMTPSA id ")
        assert "for <b@example.org>" in trace
        assert "127.0.0.1" not in trace
        assert "laptop" not in trace
        assert taken.endswith(b"\r\n\r\nhello\r\n")
        assert (await peer.ask("QUIT")).startswith("221 ")


async def test_two_messages_have_two_ids_and_what_is_there_stays(tls: ssl.SSLContext) -> None:
    async with Submissions(tls, tell_client_address=True) as world, world.alice() as peer:
        for _ in range(2):
            await send(peer)
        own = b"Message-ID: <own@x.test>\r\nDate: Thu, 1 Jan 2026 00:00:00 +0000\r\n"
        await send(peer, own + MESSAGE)
        first, second, third = (message_from_bytes(raw) for _, _, raw in world.queue.taken)
        assert first["Message-ID"] != second["Message-ID"]
        assert third["Message-ID"] == "<own@x.test>"
        assert "from laptop.home.test ([127.0.0.1])" in " ".join(third["Received"].split())


@pytest.mark.parametrize(
    ("argument", "code"),
    [
        ("<alice@example.test>", "250 2.1.0"),
        ("<ALICE@EXAMPLE.test>", "250 2.1.0"),
        ("<alice+news@example.test>", "250 2.1.0"),
        ("<sales@example.test>", "250 2.1.0"),
        ("<sales+x@example.test>", "250 2.1.0"),
        ("<>", "250 2.1.0"),
        ("<bob@example.test>", "550 5.7.1"),
        ("<alice@example.org>", "550 5.7.1"),
        ("<alice.@example.test>", "501 5.1.7"),
        ("<alicex@example.test>", "550 5.7.1"),
        ("<postmaster>", "550 5.7.1"),
        ('<"alice@example.test"@evil.test>', "550 5.7.1"),
        ("<alice@example.test> SIZE=52428801", "552 5.3.4"),
        ("<alice@example.test> BODY=8BITMIME SMTPUTF8 SIZE=10", "250 2.1.0"),
        ("<alice@example.test> BODY=BINARYMIME", "501 5.5.4"),
        ("<alice@example.test> RET=HDRS ENVID=QQ314159", "250 2.1.0"),
        ("<alice@example.test> RET=SOME", "501 5.5.4"),
        ("<alice@example.test> ENVID=a+0D+0AInjected", "501 5.5.4"),
        ("<alice@example.test> AUTH=<>", "250 2.1.0"),
        ("<alice@example.test> AUTH=bob+40example.test", "250 2.1.0"),  # RFC 4954 §5: not believed
        ("<alice@example.test> AUTH=a+zz", "501 5.5.4"),
        ("<alice@example.test> XSOME=1", "555 5.5.4"),
        ("<ålice@example.test>", "553 5.6.7"),
    ],
)
async def test_mail(tls: ssl.SSLContext, argument: str, code: str) -> None:
    async with Submissions(tls) as world, world.alice() as peer:
        assert (await peer.ask(f"MAIL FROM:{argument}")).startswith(code + " ")


@pytest.mark.parametrize(
    ("argument", "code"),
    [
        ("<b@example.org>", "250 2.1.5"),
        ("<nobody@example.test>", "250 2.1.5"),  # A local one is no different.
        ("<Postmaster>", "250 2.1.5"),
        ("<b@[192.0.2.1]>", "250 2.1.5"),
        ("<b@[IPv6:2001:db8::1]>", "250 2.1.5"),
        ("<@a.test,@b.test:b@example.org>", "250 2.1.5"),
        ("<b@example.org> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;b+40example.org", "250 2.1.5"),
        ("<b@example.org> NOTIFY=NEVER,DELAY", "501 5.5.4"),
        ("<b@example.org> ORCPT=rfc822;b+0A", "501 5.5.4"),
        ("<b@example.org> RET=FULL", "555 5.5.4"),
        ("<b@intranet>", "554 5.1.2"),
        ("<>", "501 5.1.3"),
        ("<b>", "501 5.1.3"),
        ("<b@example.org\tX>", "500 5.5.2"),
        ("<b@exa mple.org>", "501 5.1.3"),
        ("<가@example.org>", "553 5.6.7"),
    ],
)
async def test_rcpt(tls: ssl.SSLContext, argument: str, code: str) -> None:
    async with Submissions(tls) as world, world.alice() as peer:
        await peer.ask("MAIL FROM:<alice@example.test>")
        assert (await peer.ask(f"RCPT TO:{argument}")).startswith(code + " ")
        if not code.startswith("250") and code != "500 5.5.2":
            assert (await peer.ask("DATA")).startswith("554 5.5.1 ")


async def test_the_envelope(tls: ssl.SSLContext) -> None:
    async with Submissions(tls) as world, world.alice() as peer:
        first = "MAIL FROM:<sales@example.test> RET=HDRS ENVID=a+2Bb BODY=8BITMIME SMTPUTF8"
        assert (await peer.ask(first)).startswith("250 ")
        for rcpt in (
            "<b@example.org> NOTIFY=SUCCESS ORCPT=rfc822;old+40example.org",
            "<b@EXAMPLE.org>",  # The same again.
            "<가@example.org>",
            "<Postmaster> NOTIFY=NEVER",
        ):
            assert (await peer.ask(f"RCPT TO:{rcpt}")).startswith("250 "), rcpt
        await peer.ask("DATA")
        assert (await peer.ask(MESSAGE + b".")).startswith("250 ")
        [(_, envelope, raw)] = world.queue.taken
        assert envelope.smtputf8
        assert envelope.eight_bit
        assert (envelope.options.ret, envelope.options.envid) == (Ret.HDRS, "a+b")
        found = {str(one.address): one.options for one in envelope.recipients}
        assert list(found) == ["b@example.org", "가@example.org", "Postmaster@example.test"]
        assert found["b@example.org"].notify == (Notify.SUCCESS,)
        assert found["b@example.org"].original_recipient == OriginalRecipient(
            "rfc822", "old@example.org"
        )
        assert found["가@example.org"].notify is None
        assert found["Postmaster@example.test"].notify == ()
        assert b"with UTF8SMTPSA id" in raw
        assert b" for <" not in raw  # Nobody hears of the others.


async def test_the_null_path_of_a_read_receipt(tls: ssl.SSLContext) -> None:
    async with Submissions(tls) as world, world.alice() as peer:
        assert (await send(peer, mail_from="<>")).startswith("250 ")
        assert world.queue.taken[0][1].mail_from is None
        reply = await send(peer, MESSAGE.replace(b"alice@", b"bob@"), mail_from="<>")
        assert reply.startswith("550 5.7.1 ")


@pytest.mark.parametrize(
    "header",
    [
        b"From: bob@example.test\r\n",
        b"From: alice@example.test\r\nFrom: bob@example.test\r\n",
        b"From: alice@example.test, bob@example.test\r\n",
        b"From: alice@example.test\r\nSender: bob@example.test\r\n",
        b'From: "alice@example.test" <bob@example.test>\r\n',
        b"From: alice@example.test\rFrom: bob@example.test\r\n",
        b"From: alice@example.test\r\nResent-From: bob@example.test\r\n",
        b"Subject: nobody\r\n",
        b"",
    ],
)
async def test_nobody_writes_in_the_name_of_others(tls: ssl.SSLContext, header: bytes) -> None:
    async with Submissions(tls) as world, world.alice() as peer:
        reply = await send(peer, header + b"\r\nbody\r\n")
        assert reply.startswith("550 5.7.1 ")
        assert "\n" not in reply
        assert world.queue.taken == []
        assert (await send(peer)).startswith("250 ")


async def test_a_second_message_cannot_be_smuggled(tls: ssl.SSLContext) -> None:
    async with Submissions(tls) as world, world.alice() as peer:
        inner = b"MAIL FROM:<bob@example.test>\r\nRCPT TO:<x@y.test>\r\nDATA\r\nFrom: bob\r\n"
        for end in (b"\n.\n", b"\r.\r", b"\n.\r\n", b"\r\n.\n"):
            assert (await send(peer, MESSAGE + b"x" + end + inner)).startswith("250 ")
        assert len(world.queue.taken) == 4
        assert all(b"bob@example.test" in raw for _, _, raw in world.queue.taken)


async def test_a_loop(tls: ssl.SSLContext) -> None:
    async with Submissions(tls, received_max=2) as world, world.alice() as peer:
        assert (await send(peer, b"Received: x\r\n" * 3 + MESSAGE)).startswith("554 5.4.6 ")
        assert (await send(peer, b"Received: x\r\n" * 2 + MESSAGE)).startswith("250 ")


async def test_chunks_and_a_large_message(tls: ssl.SSLContext) -> None:
    async with Submissions(tls, parse_inline_bytes_max=10) as world, world.alice() as peer:
        await peer.ask("MAIL FROM:<alice@example.test>")
        await peer.ask("RCPT TO:<b@example.org>")
        half = len(MESSAGE) // 2
        await peer.send(b"BDAT %d\r\n" % half + MESSAGE[:half])
        assert (await peer.reply()).startswith("250 2.0.0 ")
        rest = MESSAGE[half:]
        await peer.send(b"BDAT %d LAST\r\n" % len(rest) + rest)
        assert await peer.reply() == "250 2.0.0 Ok: queued as q1"
        assert world.queue.taken[0][2].endswith(MESSAGE)


async def test_the_size_limit(tls: ssl.SSLContext) -> None:
    async with Submissions(tls, size_bytes_max=100) as world, world.alice() as peer:
        assert (await send(peer, MESSAGE + b"x" * 100 + b"\r\n")).startswith("552 5.3.4 ")


async def test_failures_of_the_queue(tls: ssl.SSLContext) -> None:
    async with Submissions(tls) as world, world.alice() as peer:
        for failure in (OutcomeUnknown(), MailError(), KeyError("ours")):
            world.queue.failure = failure
            assert (await send(peer)).startswith("451 4.3.0 ")
        world.queue.failure = None
        assert (await send(peer)).startswith("250 ")


async def test_rates_of_an_account(tls: ssl.SSLContext) -> None:
    limits = {"messages_per_hour": 3, "recipients_per_hour": 4, "recipients_max": 4}
    async with Submissions(tls, **limits) as world:
        async with world.alice() as peer:
            assert (await send(peer)).startswith("250 ")
            assert (await send(peer, to=("<b@x.test>", "<c@x.test>"))).startswith("250 ")
        async with world.alice() as peer:  # Another connection, the same account.
            await peer.ask("MAIL FROM:<alice@example.test>")
            assert (await peer.ask("RCPT TO:<b@x.test>")).startswith("250 ")
            assert (await peer.ask("RCPT TO:<B@X.test>")).startswith("450 4.7.1 ")
            assert (await peer.ask("RCPT TO:<b@X.test>")).startswith("250 ")  # He is in it already.
            await peer.ask("RSET")
            assert await peer.ask("MAIL FROM:<alice@example.test>") == (
                "450 4.7.1 Too many messages from your account in an hour, try again in 20 min"
            )
        assert world.gateway.metrics()["limited"] == 2
        async with world.client() as peer:
            await peer.ask(plain("bob@example.test", "secret"))
            assert (await peer.ask("MAIL FROM:<bob@example.test>")).startswith("250 ")


async def test_recipients_of_one_message_are_bounded(tls: ssl.SSLContext) -> None:
    async with Submissions(tls, recipients_max=2) as world, world.alice() as peer:
        await peer.begin("a@x.test", "b@x.test", mail_from="<alice@example.test>")
        await peer.send(MESSAGE + b".\r\n")
        assert (await peer.reply()).startswith("250 ")
        await peer.ask("MAIL FROM:<alice@example.test>")
        codes = [(await peer.ask(f"RCPT TO:<u{n}@x.test>"))[:9] for n in range(3)]
        assert codes == ["250 2.1.5", "250 2.1.5", "452 4.5.3"]


async def test_everything_at_once(tls: ssl.SSLContext) -> None:  # RFC 2920 §3.1
    async with Submissions(tls) as world, world.client() as peer:
        await peer.send(
            plain("alice@example.test", "secret").encode()
            + b"\r\nMAIL FROM:<alice@example.test>\r\nRCPT TO:<b@x.test>\r\nDATA\r\n"
        )
        codes = [(await peer.reply())[:3] for _ in range(4)]
        assert codes == ["235", "250", "250", "354"]
        assert (await peer.ask(MESSAGE + b".")).startswith("250 ")


async def test_a_drain_lets_the_message_come_to_its_reply(tls: ssl.SSLContext) -> None:
    async with Submissions(tls) as world, world.alice() as peer, world.alice() as idle:
        await peer.begin("b@x.test", mail_from="<alice@example.test>")
        draining = asyncio.create_task(world.gateway.drain(PATIENCE_S))
        assert (await idle.reply()).startswith("421 4.3.2 ")
        assert (await peer.ask(MESSAGE + b".")).startswith("250 ")
        assert (await peer.reply()).startswith("421 4.3.2 ")
        await draining


async def test_either_listener_alone(tls: ssl.SSLContext) -> None:
    async with Submissions(tls, port=None) as world:
        assert list(world.ports) == ["submissions"]
    async with Submissions(tls, tls_port=None) as world:
        assert list(world.ports) == ["submission"]


PIECES = st.sampled_from(
    (
        b"EHLO x.test\r\n",
        b"HELO x\r\n",
        plain("alice@example.test", "secret").encode() + b"\r\n",
        b"AUTH LOGIN\r\n",
        b"AUTH SCRAM-SHA-256 biwsbj1hLHI9Yg==\r\n",
        b"AUTH PLAIN\r\n",
        b"AUTH\r\n",
        b"*\r\n",
        b"=\r\n",
        b"YWxpY2VAZXhhbXBsZS50ZXN0\r\n",
        b"MAIL FROM:<alice@example.test>\r\n",
        b"MAIL FROM:<> RET=FULL ENVID=+\r\n",
        b"MAIL FROM:<alice@example.test> AUTH=<> ENVID=x SMTPUTF8\r\n",
        b"RCPT TO:<a@b.test> NOTIFY=NEVER\r\n",
        b"RCPT TO:<\xea\xb0\x80@b.test> ORCPT=utf-8;\xea\xb0\x80@b.test\r\n",
        b"RCPT TO:<Postmaster>\r\n",
        b"DATA\r\n",
        MESSAGE,
        b".\r\n",
        b"BDAT 4 LAST\r\nabcd",
        b"RSET\r\n",
        b"STARTTLS\r\n",
        b"x" * 13_000,
        b"\0",
        b"\xff\r\n",
        b"\n",
    )
)


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(st.lists(PIECES | st.binary(max_size=20), max_size=25))
async def test_any_octets(tls: ssl.SSLContext, pieces: list[bytes]) -> None:
    async with Submissions(tls) as world:
        async with world.client(ehlo=False) as peer:
            await peer.send(b"EHLO x.test\r\n" + b"".join(pieces) + b"\r\n*\r\n.\r\n*\r\nQUIT\r\n")
            async with asyncio.timeout(PATIENCE_S):
                said = bytearray()
                while not said.endswith((b" Bye\r\n",)) and (more := await peer.reader.read(4096)):
                    said += more
        for line in bytes(said).splitlines(keepends=True):
            assert REPLY.fullmatch(line), line
        for access, envelope, raw in world.queue.taken:
            assert access.account.address == "alice@example.test"
            assert envelope.mail_from is None or "alice" in str(envelope.mail_from)
            assert raw.startswith(b"Received: by ")
