"""SMTP dialogues: greeting, EHLO, the order of commands, addresses, parameters, refusals."""

from __future__ import annotations

import asyncio
import re
import socket

import pytest

from mail.errors import MailError, OutcomeUnknown, Unavailable
from tests.protocol.smtp_fakes import HOSTNAME, Peer, World


async def test_ehlo_names_what_is_offered() -> None:
    async with World() as world, world.stranger() as peer:
        assert await peer.reply() == f"220 {HOSTNAME} ESMTP Heliograph"
        assert (await peer.ask("EHLO client.test")).split("\n") == [
            f"250-{HOSTNAME}",
            "250-PIPELINING",
            "250-SIZE 52428800",
            "250-8BITMIME",
            "250-BINARYMIME",
            "250-CHUNKING",
            "250-SMTPUTF8",
            "250 ENHANCEDSTATUSCODES",
        ]
        assert await peer.ask("HELO client.test") == f"250 {HOSTNAME}"
        assert await peer.ask("EHLO") == "501 5.5.4 Syntax: EHLO hostname"


async def test_a_message_from_ehlo_to_quit() -> None:
    async with World() as world, world.peer() as peer:
        await peer.begin()
        reply = await peer.ask(b"Subject: hello\r\n\r\nbody\r\n.")
        assert re.fullmatch(r"250 2\.0\.0 Ok: queued as [0-9a-f]{8}-1", reply)
        assert await peer.ask("QUIT") == f"221 2.0.0 {HOSTNAME} Bye"
        assert await peer.closed()
        [(letter, [destination])] = world.mail.letters
        assert letter.mail_from == "peer@client.test"
        assert letter.received == b"Subject: hello\r\n\r\nbody\r\n"
        assert letter.received_at_ms == 1_767_323_045_000
        assert letter.summary.subject == "hello"
        assert "body" in letter.search_text.body
        assert destination.forward_path == "alice@example.test"
        assert destination.account.address == "alice@example.test"


async def test_every_reply_after_ehlo_has_an_enhanced_code() -> None:  # RFC 2034 §4
    commands = [
        "NOOP", "NOOP argument", "RSET", "RSET argument", "HELP", "VRFY alice", "VRFY", "EXPN list",
        "MAIL", "MAIL FROM:<>", "MAIL FROM:<>", "RCPT", "RCPT TO:<nobody@example.test>",
        "RCPT TO:<a@elsewhere.test>", "RCPT TO:<alice@example.test>", "DATA now", "RSET", "DATA",
        "RCPT TO:<alice@example.test>", "STARTTLS", "AUTH PLAIN", "BDAT 0 LAST", "", "\x00",
        "QUIT now", "QUIT",
    ]  # fmt: skip
    async with World() as world, world.peer() as peer:
        for command in commands:
            reply = await peer.ask(command)
            code, enhanced, text = reply.split(" ", 2)
            assert re.fullmatch(r"[245]\.\d\.\d", enhanced), (command, reply)
            assert code[0] == enhanced[0], (command, reply)
            assert text, (command, reply)


@pytest.mark.parametrize(
    ("commands", "code"),
    [
        (["MAIL FROM:<>", "MAIL FROM:<>"], "503 5.5.1"),
        (["RCPT TO:<alice@example.test>"], "503 5.5.1"),
        (["DATA"], "503 5.5.1"),
        (["MAIL FROM:<>", "DATA"], "503 5.5.1"),
        (["MAIL FROM:<>", "RCPT TO:<nobody@example.test>", "DATA"], "554 5.5.1"),
        (["MAIL FROM:<>", "RSET", "RCPT TO:<alice@example.test>"], "503 5.5.1"),
        (["MAIL FROM:<>", "EHLO again.test", "RCPT TO:<alice@example.test>"], "503 5.5.1"),
        (["VRFY alice@example.test"], "252 2.0.0"),
        (["VRFY nobody@example.test"], "252 2.0.0"),
        (["VRFY ålice@example.test SMTPUTF8"], "252 2.0.0"),
        (["EXPN list"], "502 5.5.1"),
        (["STARTTLS"], "502 5.5.1"),
        (["BDAT 0 LAST"], "503 5.5.1"),
        (["noop"], "250 2.0.0"),
        (["mail from:<>"], "250 2.1.0"),
        (["MAIL FROM:<> SIZE=52428800"], "250 2.1.0"),
        (["MAIL FROM:<> SIZE=52428801"], "552 5.3.4"),
        (["MAIL FROM:<> SIZE=99999999999999999999"], "552 5.3.4"),
        (["MAIL FROM:<> SIZE=many"], "501 5.5.4"),
        (["MAIL FROM:<> SIZE=1 SIZE=2"], "501 5.5.4"),
        (["MAIL FROM:<> BODY=8BITMIME"], "250 2.1.0"),
        (["MAIL FROM:<> body=7bit"], "250 2.1.0"),
        (["MAIL FROM:<> BODY=BINARYMIME"], "250 2.1.0"),
        (["MAIL FROM:<> BODY=9BIT"], "501 5.5.4"),
        (["MAIL FROM:<> SMTPUTF8"], "250 2.1.0"),
        (["MAIL FROM:<> SMTPUTF8=yes"], "501 5.5.4"),
        (["MAIL FROM:<> RET=HDRS"], "555 5.5.4"),
        (["MAIL FROM:<ålice@client.test>"], "553 5.6.7"),
        (["MAIL FROM:<ålice@client.test> SMTPUTF8"], "250 2.1.0"),
        (["MAIL FROM:<not an address>"], "501 5.1.7"),
        (["MAIL FROM:peer@client.test"], "250 2.1.0"),
        (['MAIL FROM:<"a> b"@client.test>'], "250 2.1.0"),
        (["MAIL FROM: <peer@client.test>"], "250 2.1.0"),
        (["MAIL FROM:<peer@client.test>SIZE=1"], "501 5.5.4"),
        (["MAIL peer@client.test"], "501 5.5.4"),
        (["MAIL FROM:<>", "RCPT TO:<alice@example.test> NOTIFY=NEVER"], "555 5.5.4"),
        (["MAIL FROM:<>", "RCPT TO:<ålice@example.test>"], "553 5.6.7"),
        (["MAIL FROM:<> SMTPUTF8", "RCPT TO:<ålice@example.test>"], "250 2.1.5"),
        (["MAIL FROM:<>", "RCPT TO:<>"], "501 5.1.3"),
        (["MAIL FROM:<>", "RCPT TO:<Alice@EXAMPLE.test>"], "250 2.1.5"),
        (["MAIL FROM:<>", "RCPT TO:<alice+news@example.test>"], "250 2.1.5"),
        (["MAIL FROM:<>", "RCPT TO:<nobody@example.test>"], "550 5.1.1"),
        (["MAIL FROM:<>", "RCPT TO:<alice@elsewhere.test>"], "550 5.7.1"),
        (["MAIL FROM:<>", "RCPT TO:<postmaster@example.test>"], "250 2.1.5"),
        (["MAIL FROM:<>", "RCPT TO:<PostMaster@other.test>"], "250 2.1.5"),
        (["MAIL FROM:<>", "RCPT TO:<postmaster>"], "250 2.1.5"),
        (["MAIL FROM:<>", "RCPT TO:<Postmaster>"], "250 2.1.5"),
        (["HELO old.test", "MAIL FROM:<> SIZE=1"], "555 5.5.4"),
    ],
)
async def test_the_last_reply_is(commands: list[str], code: str) -> None:
    async with World() as world, world.peer() as peer:
        reply = ""
        for command in commands:
            reply = await peer.ask(command)
        assert reply.startswith(code + " "), reply


async def test_mail_needs_a_greeting() -> None:
    async with World() as world, world.stranger() as peer:
        await peer.reply()
        assert (await peer.ask("MAIL FROM:<>")).startswith("503 5.5.1 ")


async def test_helo_will_do() -> None:
    async with World() as world, world.stranger() as peer:
        await peer.reply()
        await peer.ask("HELO old.test")
        await peer.begin()
        assert (await peer.ask("x\r\n.")).startswith("250 2.0.0 ")
        assert b"with SMTP id" in world.mail.stored[0]


async def test_errors_of_the_directory() -> None:
    async with World() as world, world.peer() as peer:
        await peer.ask("MAIL FROM:<>")
        for failure in (Unavailable(), OutcomeUnknown(), MailError(), KeyError("x"), OSError("x")):
            world.accounts.failure = failure
            assert (await peer.ask("RCPT TO:<alice@example.test>")).startswith("451 4.3.0 ")
        assert (await peer.ask("DATA")).startswith("451 4.3.0 ")  # No 5yz for what may be there.
        world.accounts.failure = None
        assert (await peer.ask("RCPT TO:<alice@example.test>")).startswith("250 2.1.5 ")
        assert (await peer.ask("DATA")).startswith("354 ")
        assert (await peer.ask(".")).startswith("250 2.0.0 ")


async def test_an_unexpected_error_is_logged_without_the_message(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with World() as world, world.peer() as peer:
        world.mail.failure = RuntimeError("a bug")
        await peer.begin()
        reply = await peer.ask("Subject: secret\r\n\r\nsecret\r\n.")
        assert reply == "451 4.3.0 Local error, try again later"
        assert "a bug" in caplog.text
        assert "secret" not in caplog.text
        assert world.gateway.metrics()["deferred"] == 1
        world.mail.failure = None
        await peer.begin()
        assert (await peer.ask("again\r\n.")).startswith("250 2.0.0 ")


async def test_two_shards_of_which_one_is_away_make_one_451() -> None:  # R18
    async with World() as world, world.peer() as peer:
        world.mail.failure = Unavailable()
        await peer.begin("alice@example.test", "bob@example.test")
        await peer.send(b"text\r\n.\r\nNOOP\r\n")
        assert (await peer.reply()).startswith("451 4.3.0 ")
        assert await peer.reply() == "250 2.0.0 Ok"  # One reply for the message, not one each.


async def test_two_addresses_of_one_mailbox_get_one_copy() -> None:
    async with World() as world, world.peer() as peer:
        await peer.begin("alice@example.test", "sales@example.test", "alice+x@example.test")
        assert (await peer.ask("x\r\n.")).startswith("250 ")
        [(_, [destination])] = world.mail.letters
        assert destination.forward_path == "alice@example.test"
        assert b"\tfor " not in destination.trace


async def test_100_recipients_then_452() -> None:
    async with World() as world, world.peer() as peer:
        await peer.ask("MAIL FROM:<>")
        await peer.send(b"".join(b"RCPT TO:<user%d@example.test>\r\n" % n for n in range(150)))
        codes = [(await peer.reply())[:9] for _ in range(150)]
        assert codes == ["250 2.1.5"] * 100 + ["452 4.5.3"] * 50
        assert (await peer.ask("DATA")).startswith("354 ")
        assert (await peer.ask("x\r\n.")).startswith("250 ")
        assert len(world.mail.stored) == 100
        await peer.begin("user149@example.test")  # The rest goes in another transaction.
        assert (await peer.ask("x\r\n.")).startswith("250 ")


async def test_the_null_reverse_path() -> None:
    async with World() as world, world.peer() as peer:
        await peer.begin(mail_from="<>")
        assert (await peer.ask("x\r\n.")).startswith("250 ")
        assert world.mail.letters[0][0].mail_from == ""
        assert world.mail.stored[0].startswith(b"Return-Path: <>\r\n")


async def test_lines_that_are_too_long_or_broken_do_not_end_the_session() -> None:
    async with World() as world, world.peer() as peer:
        for line in (
            b"NOOP " + b"x" * 2000,
            b"x" * 300_000,
            b"MAIL FROM:<a\rb@client.test>",
            b"MAIL FROM:<\xff@client.test> SMTPUTF8",
            b"\xe5HLO",
            b"NOOP \0",
            b"",
        ):
            assert (await peer.ask(line)).startswith("500 5.5.2 ")
        await peer.send(b"NOOP\nNOOP\r\n")  # RFC 5321 §2.3.8: LF alone ends no line.
        assert (await peer.reply()).startswith("500 5.5.2 ")
        assert await peer.reply() == "250 2.0.0 Ok"


async def test_pipelined_commands_are_answered_in_order() -> None:  # RFC 2920
    async with World() as world, world.peer() as peer:
        await peer.send(
            b"MAIL FROM:<>\r\nRCPT TO:<alice@example.test>\r\nRCPT TO:<nobody@example.test>\r\n"
            b"DATA\r\n"
        )
        codes = [(await peer.reply())[:9] for _ in range(4)]
        assert codes == ["250 2.1.0", "250 2.1.5", "550 5.1.1", "354 End d"]
        second = b"MAIL FROM:<>\r\nRCPT TO:<bob@example.test>\r\nDATA\r\ntwo\r\n.\r\nQUIT\r\n"
        await peer.send(b"one\r\n.\r\n" + second)
        codes = [(await peer.reply())[:3] for _ in range(6)]
        assert codes == ["250", "250", "250", "354", "250", "221"]
        assert [letter.received for letter, _ in world.mail.letters] == [b"one\r\n", b"two\r\n"]


async def test_a_whole_session_in_one_write_with_the_sending_side_closed() -> None:
    async with World() as world, world.stranger() as peer:
        await peer.send(
            b"EHLO c.test\r\nMAIL FROM:<>\r\nRCPT TO:<alice@example.test>\r\nDATA\r\nx\r\n.\r\n"
        )
        peer.writer.write_eof()
        codes = [(await peer.reply())[:3] for _ in range(6)]
        assert codes == ["220", "250", "250", "250", "354", "250"]
        assert await peer.closed()
        assert len(world.mail.letters) == 1


async def test_octet_by_octet() -> None:
    script = b"EHLO c.test\r\nMAIL FROM:<>\r\nRCPT TO:<alice@example.test>\r\nDATA\r\n"
    script += b"x\r\n..\r\n.\r\nQUIT\r\n"
    async with World() as world, world.stranger() as peer:
        peer.writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for octet in script:
            await peer.send(bytes((octet,)))
            await asyncio.sleep(0)
        codes = [(await peer.reply())[:3] for _ in range(7)]
        assert codes == ["220", "250", "250", "250", "354", "250", "221"]
        assert world.mail.letters[0][0].received == b"x\r\n.\r\n"


async def test_replies_leave_without_delay() -> None:
    async with World() as world, world.peer() as peer:
        [session] = world.gateway._reception.sessions
        assert session.transport is not None
        accepted = session.transport.get_extra_info("socket")
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert isinstance(peer, Peer)
