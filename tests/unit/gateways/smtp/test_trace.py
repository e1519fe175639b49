"""The trace block: its form, what it names, and what a peer cannot make it say."""

from __future__ import annotations

import re
from email import message_from_bytes, policy
from email.utils import parsedate_to_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateways.smtp.trace import Hop, Tls, protocol_name, received_field, trace_block

HOP = Hop(
    peer_ip="192.0.2.1",
    helo="client.test",
    hostname="mx.example.test",
    extended=True,
    smtputf8=False,
    tls=None,
    transaction_id="0a1b2c3d-1f",
    received_at_ms=1_767_323_045_678,
)


def test_received_with_one_recipient() -> None:
    assert received_field(HOP, "alice@example.test") == (
        "Received: from client.test ([192.0.2.1])\r\n"
        "\tby mx.example.test with ESMTP id 0a1b2c3d-1f\r\n"
        "\tfor <alice@example.test>;\r\n"
        "\tFri, 02 Jan 2026 03:04:05 +0000\r\n"
    )


def test_received_with_several_recipients_names_none() -> None:
    assert received_field(HOP, None) == (
        "Received: from client.test ([192.0.2.1])\r\n"
        "\tby mx.example.test with ESMTP id 0a1b2c3d-1f;\r\n"
        "\tFri, 02 Jan 2026 03:04:05 +0000\r\n"
    )


def test_received_tells_of_tls() -> None:
    field = received_field(HOP._replace(tls=Tls("TLSv1.3", "TLS_AES_256_GCM_SHA384")), None)
    assert " with ESMTPS id 0a1b2c3d-1f\r\n" in field
    assert "\r\n\t(using TLSv1.3 with cipher TLS_AES_256_GCM_SHA384);\r\n" in field


@pytest.mark.parametrize(
    ("extended", "smtputf8", "tls", "name"),
    [
        (False, False, False, "SMTP"),
        (True, False, False, "ESMTP"),
        (True, False, True, "ESMTPS"),
        (True, True, False, "UTF8SMTP"),
        (True, True, True, "UTF8SMTPS"),
    ],
)
def test_protocol_names(extended: bool, smtputf8: bool, tls: bool, name: str) -> None:
    assert protocol_name(extended=extended, smtputf8=smtputf8, tls=tls) == name


@pytest.mark.parametrize(
    ("ip", "literal"),
    [
        ("192.0.2.1", "([192.0.2.1])"),
        ("2001:db8::1", "([IPv6:2001:db8::1])"),
        ("fe80::1%eth0", "([IPv6:fe80::1])"),
        ("::ffff:192.0.2.1", "([192.0.2.1])"),
    ],
)
def test_address_literals(ip: str, literal: str) -> None:  # RFC 5321 §4.1.3
    assert f"from client.test {literal}\r\n" in received_field(HOP._replace(peer_ip=ip), None)


def test_of_our_users_the_world_is_told_nothing() -> None:  # RFC 3848 §1
    hop = HOP._replace(signed_in=True, told=False, tls=Tls("TLSv1.3", "TLS_AES_256_GCM_SHA384"))
    assert received_field(hop, "b@example.org") == (
        "Received: by mx.example.test with ESMTPSA id 0a1b2c3d-1f\r\n"
        "\t(using TLSv1.3 with cipher TLS_AES_256_GCM_SHA384)\r\n"
        "\tfor <b@example.org>;\r\n"
        "\tFri, 02 Jan 2026 03:04:05 +0000\r\n"
    )
    told = received_field(hop._replace(told=True, smtputf8=True), None)
    assert told.startswith("Received: from client.test ([192.0.2.1])\r\n\tby mx.example.test")
    assert " with UTF8SMTPSA id " in told


def test_a_peer_without_an_address() -> None:
    assert received_field(HOP._replace(peer_ip=""), None).startswith(
        "Received: from client.test\r\n\tby "
    )


def test_the_block_begins_with_return_path_and_delivered_to() -> None:
    received = received_field(HOP, None)
    block = trace_block(mail_from="", delivered_to="bob@example.test", received=received)
    assert block == (b"Return-Path: <>\r\nDelivered-To: bob@example.test\r\n" + received.encode())


@given(st.text(max_size=300), st.sampled_from(["", "192.0.2.1", "2001:db8::1"]))
def test_whatever_the_peer_calls_itself(helo: str, ip: str) -> None:
    field = received_field(HOP._replace(helo=helo, peer_ip=ip), "alice@example.test")
    lines = field.split("\r\n")
    assert lines[-1] == ""
    assert lines[0].startswith("Received: from ")
    assert all(line.startswith("\t") for line in lines[1:-1])
    assert re.fullmatch(r"[\t\r\n\x20-\x7e]*", field)
    assert field.count(";") == 1
    assert field.count(" for ") + field.count("\tfor ") == 1
    assert all(len(line) <= 78 for line in lines[1:])


def test_python_reads_it() -> None:
    block = trace_block(mail_from="a@b.test", delivered_to="c@d.test",
                        received=received_field(HOP, "c@d.test"))  # fmt: skip
    message = message_from_bytes(block + b"Subject: s\r\n\r\n", policy=policy.default)
    assert message.keys() == ["Return-Path", "Delivered-To", "Received", "Subject"]
    date = parsedate_to_datetime(str(message["Received"]).rpartition(";")[2])
    assert int(date.timestamp()) == HOP.received_at_ms // 1000
