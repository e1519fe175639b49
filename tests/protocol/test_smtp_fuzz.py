"""Any octets at the SMTP port: every reply is one, no session breaks, the next peer is served."""

from __future__ import annotations

import asyncio
import re

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.properties import EXAMPLES
from tests.protocol.smtp_fakes import PATIENCE_S, World

# RFC 5321 §4.2: three digits, a blank or a hyphen, text; §4.5.3.1.5: 512 octets with CRLF.
REPLY = re.compile(rb"[2-5][0-5][0-9](?:[ -][\x20-\x7e]*)?\r\n")
PIECES = st.sampled_from(
    (
        b"EHLO x.test\r\n",
        b"HELO x\r\n",
        b"EHLO\r\n",
        b"EHLO \xff\r\n",
        b"HELO [1.2.3.4]\r\n",
        b"MAIL FROM:<a@b.test>\r\n",
        b"MAIL FROM:<>\r\n",
        b"MAIL FROM:",
        b"MAIL FROM:<a@b> SIZE=1\r\n",
        b"MAIL FROM:<a@b> SIZE=99999999999999999999\r\n",
        b"MAIL FROM:<a@b> BODY=8BITMIME SMTPUTF8\r\n",
        b"MAIL FROM:<a@b> SIZE=-1 SIZE=2 =\r\n",
        b"mail from:<\xc3\xa4@b.test> smtputf8\r\n",
        b"RCPT TO:<alice@example.test>\r\n",
        b"RCPT TO:<@a,@b:alice@example.test>\r\n",
        b'RCPT TO:<"a\\"b c"@example.test>\r\n',
        b"RCPT TO:<" + b"a" * 400 + b"@example.test>\r\n",
        b"RCPT TO:<nobody@example.test>\r\n",
        b"RCPT TO:<x@elsewhere.test>\r\n",
        b"RCPT TO:<Postmaster>\r\n",
        b"RCPT TO:\r\n",
        b"RCPT TO:<alice@[IPv6:::1]>\r\n",
        b"DATA\r\n",
        b"DATA now\r\n",
        b"BDAT 5\r\n",
        b"BDAT 4 LAST\r\nabcd",
        b"BDAT 99999999999999999999 LAST\r\n",
        b"BDAT -1\r\n",
        b"RSET\r\n",
        b"NOOP x\r\n",
        b"VRFY alice\r\n",
        b"EXPN list\r\n",
        b"HELP\r\n",
        b"QUIT\r\n",
        b"STARTTLS\r\n",
        b"AUTH PLAIN AGEAYg==\r\n",
        b"AUTH LOGIN\r\n",
        b"*\r\n",
        b"ETRN x\r\n",
        b"TURN\r\n",
        b"XCLIENT ADDR=1.2.3.4\r\n",
        b"GET / HTTP/1.1\r\n",
        b"Subject: x\r\n\r\nbody\r\n",
        b".\r\n",
        b"\r\n.\r\n",
        b"\n.\n",
        b"\r.\r",
        b"\r\n.\n",
        b"..\r\n",
        b"\r\n",
        b"\n",
        b"\r",
        b"\0",
        b"\xff",
        b" ",
        b"x" * 2000,
        b"\x16\x03\x01\x02\x00\x01",
        b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n",
    )
)


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(st.lists(PIECES | st.binary(max_size=20), max_size=25), st.integers(1, 4000))
@example([b"EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<alice@example.test>\r\nDATA\r\n", b"\0\r\n"], 1)
async def test_any_octets(pieces: list[bytes], step: int) -> None:
    stream = b"".join(pieces)
    async with World() as world:
        async with world.stranger() as peer:
            peer.writer.write(stream[:step])
            await asyncio.sleep(0)
            peer.writer.write(stream[step:] + b"\r\n.\r\nQUIT\r\n")
            peer.writer.write_eof()
            async with asyncio.timeout(PATIENCE_S):
                said = await peer.reader.read()
        for line in said.splitlines(keepends=True):
            assert REPLY.fullmatch(line), line
            assert len(line) <= 512
        assert said.startswith((b"220 ", b"4"))
        for stored in world.mail.stored:
            assert b"\r\n.\r\n" not in stored
            assert b"\n" not in stored.replace(b"\r\n", b""), "RFC 5321 §2.3.8: no bare LF"
        async with world.peer() as peer:
            await peer.begin()
            await peer.send(b"Subject: the next one\r\n\r\nhi\r\n.\r\n")
            assert (await peer.reply()).startswith("250 2.0.0 ")
