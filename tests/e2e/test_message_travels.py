"""A message travels: from an SMTP client to a browser's API, byte for byte, at once."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import shutil
import ssl
import subprocess
import time
from email.header import Header
from email.utils import encode_rfc2231
from pathlib import Path

import pytest
import websockets

from tests.e2e.cluster_fixture import Cluster
from tests.e2e.jmap_client import JmapClient, client_of
from tests.e2e.letters import letter, send

MESSAGES = sorted((Path(__file__).parents[1] / "data" / "messages").rglob("*.eml"))
NAME = "한글 보고서 최종본.hwp"


@pytest.fixture(scope="module")
def alice(cluster: Cluster) -> JmapClient:
    return client_of(cluster, "alice@example.test")


def sha256(octets: bytes) -> str:
    return hashlib.sha256(octets).hexdigest()


def encoded_names(name: str) -> dict[str, bytes]:
    """Return Content-Disposition parameters that carry a Korean name, in each way in use."""
    continued = encode_rfc2231(name, "utf-8")
    half = len(continued) // 2
    while continued[half] != "%":
        half += 1
    return {
        "encoded word": f'filename="{Header(name, "utf-8", maxlinelen=900).encode()}"'.encode(),
        "encoded word, EUC-KR": (
            f'filename="{Header(name, "euc-kr", maxlinelen=900).encode()}"'.encode()
        ),
        "RFC 2231": f"filename*={continued}".encode(),
        "RFC 2231, continued": (
            f"filename*0*={continued[:half]};\r\n filename*1*={continued[half:]}"
        ).encode(),
        "raw UTF-8": f'filename="{name}"'.encode(),
        "raw CP949": f'filename="{name}"'.encode("cp949"),
    }


def with_attachment(subject: str, data: bytes, *, disposition: bytes, content_type: str) -> bytes:
    encoded = base64.encodebytes(data).replace(b"\n", b"\r\n")
    return (
        f"From: =?utf-8?B?{base64.b64encode('보낸 사람'.encode()).decode()}?= <a@x.test>\r\n"
        f"To: alice@example.test\r\nSubject: {subject}\r\nMIME-Version: 1.0\r\n"
        f"Message-ID: <{os.urandom(8).hex()}@x.test>\r\n"
        'Content-Type: multipart/mixed; boundary="edge"\r\n\r\n'
        "--edge\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nsee attached\r\n"
        f"--edge\r\nContent-Type: {content_type}\r\nContent-Transfer-Encoding: base64\r\n"
    ).encode() + (
        b"Content-Disposition: attachment; " + disposition + b"\r\n\r\n" + encoded + b"--edge--\r\n"
    )


def deliver(cluster: Cluster, message: bytes, *recipients: str) -> None:
    answer = send(*cluster.smtp, list(recipients) or ["alice@example.test"], message)
    assert answer.code == 250, answer


def the_one(client: JmapClient, subject: str) -> dict[str, object]:
    (found,) = client.emails(
        client.query({"subject": subject}), "id", "blobId", "attachments", "subject", "size"
    )
    return found


def test_swaks_message_is_listed_searched_marked_and_downloaded(
    cluster: Cluster, alice: JmapClient, tmp_path: Path
) -> None:
    assert shutil.which("swaks"), "swaks is missing: scripts/debian-packages test"
    attachment = tmp_path / "소리.mp3"
    attachment.write_bytes(os.urandom(50_000))
    host, port = cluster.smtp
    sent = subprocess.run(
        [
            *("swaks", "--server", f"{host}:{port}", "--to", "alice@example.test"),
            *("--from", "peer@x.test", "--header", "Subject: Quarterly figures of swaks"),
            *("--body", "the figures are attached", "--attach", f"@{attachment}"),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert sent.returncode == 0, sent.stdout
    assert "250 2.0.0" in sent.stdout
    ids = alice.query({"subject": "figures swaks"})
    assert len(ids) == 1
    for condition in ({"text": "peer"}, {"from": "peer@x.test"}, {"body": "figures attached"}):
        assert ids[0] in alice.query(condition)
    (email,) = alice.emails(ids, "keywords", "mailboxIds", "attachments", "preview")
    assert email["keywords"] == {}
    unread = {"notKeyword": "$seen"}
    assert ids[0] in alice.query(unread)
    alice.call("Email/set", update={ids[0]: {"keywords/$seen": True, "keywords/$flagged": True}})
    assert ids[0] not in alice.query(unread)
    assert ids[0] in alice.query({"hasKeyword": "$flagged"})
    (part,) = email["attachments"]
    assert sha256(alice.download(part["blobId"])) == sha256(attachment.read_bytes())


def test_korean_is_found_by_substring_in_every_charset(cluster: Cluster, alice: JmapClient) -> None:
    text = "다음 주 월요일 전체회의를 합니다. 참석 바랍니다."
    for charset in ("utf-8", "euc-kr", "cp949", "iso-2022-kr"):
        body = base64.encodebytes(text.encode(charset)).decode()
        deliver(
            cluster,
            (
                f"From: a@x.test\r\nSubject: {Header('회의록 공유', charset).encode()}\r\n"
                f"Content-Type: text/plain; charset={charset}\r\n"
                f"Content-Transfer-Encoding: base64\r\n\r\n{body}"
            )
            .replace("\r\n", "\n")
            .replace("\n", "\r\n")
            .encode(),
        )
    assert len(alice.query({"body": "전체회의"})) == 4
    assert len(alice.query({"body": "체회"})) == 4
    assert len(alice.query({"subject": "의록"})) == 4
    assert alice.query({"body": "회체"}) == []


@pytest.mark.parametrize("way", list(encoded_names(NAME)))
def test_korean_attachment_names_and_bytes(cluster: Cluster, alice: JmapClient, way: str) -> None:
    data = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + os.urandom(5_000)  # how .hwp files begin
    subject = f"name in {way.replace(',', '')}"
    deliver(
        cluster,
        with_attachment(
            subject,
            data,
            disposition=encoded_names(NAME)[way],
            content_type="application/x-hwp",
        ),
    )
    (part,) = the_one(alice, subject)["attachments"]  # type: ignore[misc]
    assert part["name"] == NAME
    status, headers, body = alice.request("GET", alice.download_path(part["blobId"], part["name"]))
    assert status == 200
    assert sha256(body) == sha256(data)
    assert headers["content-disposition"].startswith("attachment")
    assert headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in headers["content-security-policy"]


@pytest.mark.parametrize(
    ("name", "data", "content_type"),
    [
        ("memo.txt", "가나다 CP949 글".encode("cp949"), 'text/plain; charset="ks_c_5601-1987"'),
        ("song.mp3", b"ID3\x04" + os.urandom(20_000), "audio/mpeg"),
        ("empty.bin", b"", "application/octet-stream"),
        ("large.bin", os.urandom(25 << 20), "application/octet-stream"),
    ],
    ids=["cp949", "mp3", "0 bytes", "25 MB"],
)
def test_attachments_are_byte_for_byte(
    cluster: Cluster, alice: JmapClient, name: str, data: bytes, content_type: str
) -> None:
    message = with_attachment(
        f"file {name}",
        data,
        disposition=f'filename="{name}"'.encode(),
        content_type=content_type,
    )
    deliver(cluster, message)
    email = the_one(alice, name)
    (part,) = email["attachments"]  # type: ignore[misc]
    assert part["size"] == len(data)
    assert sha256(alice.download(part["blobId"])) == sha256(data)
    whole = alice.download(str(email["blobId"]))
    assert whole.endswith(message)
    assert len(whole) == email["size"]


def test_broken_and_strange_messages_are_kept_byte_for_byte(
    cluster: Cluster, alice: JmapClient
) -> None:
    before = set(alice.query())
    huge_header = b"X-Long: " + b"y" * 300_000 + b"\r\n\r\nbody\r\n"
    endless = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n" * 100_000
    strange = [path.read_bytes() for path in MESSAGES] + [
        *(b"", b"\r\n", b"no header at all", b"\x00\xff\xfe\r\nbinary\x00", b"a" * 3_000_000),
        *(huge_header, endless),
    ]
    kept: list[bytes] = []
    for octets in strange:
        message = octets.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        if not message.endswith(b"\r\n"):
            message += b"\r\n"
        answer = send(*cluster.smtp, ["alice@example.test"], message)
        assert answer.code == 250 or 500 <= answer.code < 600, answer
        if answer.code == 250:
            kept.append(message)
    assert len(kept) > len(strange) // 2
    new = [email_id for email_id in alice.query() if email_id not in before]
    assert len(new) == len(kept)
    kept.sort(key=len, reverse=True)
    for email in alice.emails(new, "blobId", "subject", "bodyStructure", "preview"):
        whole = alice.download(email["blobId"])
        # The trace block is short and ends a line; what follows it is what was sent.
        at = next(
            number
            for number, message in enumerate(kept)
            if whole.endswith(b"\r\n" + message) and len(whole) - len(message) < 1000
        )
        del kept[at]
    assert not kept


def test_several_recipients_each_get_their_own_and_no_for_clause(
    cluster: Cluster, alice: JmapClient
) -> None:
    bob = client_of(cluster, "bob@example.test")
    message = letter(77_001)
    deliver(cluster, message, "alice@example.test", "bob@example.test")
    for client, address in ((alice, "alice@example.test"), (bob, "bob@example.test")):
        whole = client.download(str(the_one(client, "number 77001")["blobId"]))
        trace = whole[: -len(message)].decode()
        assert whole.endswith(message)
        assert trace.startswith("Return-Path: <sender@client.example.test>\r\n")
        assert f"Delivered-To: {address}\r\n" in trace
        assert " for <" not in trace
    status, _, _ = bob.request(
        "GET", f"/jmap/download/{alice.account}/{the_one(alice, 'number 77001')['blobId']}/x"
    )
    assert status == 404


def test_push_comes_over_a_websocket(cluster: Cluster, alice: JmapClient) -> None:
    async def scenario() -> None:
        url = cluster.http.replace("http", "ws", 1) + "/jmap/ws"
        async with websockets.connect(
            url,
            subprotocols=["jmap"],
            additional_headers=alice.headers,  # type: ignore[list-item]
        ) as socket:
            enable = {"@type": "WebSocketPushEnable", "dataTypes": ["Email"]}
            await socket.send(json.dumps(enable))
            first = json.loads(await asyncio.wait_for(socket.recv(), 10))
            assert first["@type"] == "StateChange"
            await asyncio.to_thread(deliver, cluster, letter(77_100))
            answered_at = time.monotonic()
            change = json.loads(await asyncio.wait_for(socket.recv(), 10))
            assert time.monotonic() - answered_at < 5
            state = change["changed"][alice.account]["Email"]
            assert state != first["changed"][alice.account]["Email"]
            request = {
                "@type": "Request",
                "id": "r1",
                "using": ["urn:ietf:params:jmap:core", "urn:ietf:params:jmap:mail"],
                "methodCalls": [
                    ["Email/query", {"accountId": alice.account, "limit": 1}, "0"],
                    [
                        "Email/get",
                        {
                            "accountId": alice.account,
                            "#ids": {"resultOf": "0", "name": "Email/query", "path": "/ids"},
                            "properties": ["subject"],
                        },
                        "1",
                    ],
                ],
            }
            await socket.send(json.dumps(request))
            while True:
                answer = json.loads(await asyncio.wait_for(socket.recv(), 10))
                if answer["@type"] == "Response":
                    break
            assert answer["requestId"] == "r1"
            assert answer["methodResponses"][1][1]["list"][0]["subject"] == "number 77100"
            assert answer["methodResponses"][1][1]["state"] == state

    asyncio.run(scenario())


def test_https_serves_the_same_with_our_own_authority(cluster: Cluster) -> None:
    client = JmapClient(
        cluster.https,
        "alice@example.test",
        cluster.passwords["alice@example.test"],
        ca_file=str(cluster.ca),
    )
    assert client.call("Mailbox/get")["list"]
    host, port = cluster.smtp
    import smtplib

    with smtplib.SMTP(host, port, timeout=30) as smtp:
        smtp.starttls(context=ssl.create_default_context(cafile=str(cluster.ca)))
        smtp.sendmail("tls@x.test", ["alice@example.test"], letter(77_200))
    whole = client.download(str(the_one(client, "number 77200")["blobId"]))
    assert b"with ESMTPS" in whole
    assert b"TLS" in whole.split(b"Subject:")[0]


def test_a_wrong_password_is_refused(cluster: Cluster) -> None:
    with pytest.raises(AssertionError, match="401"):
        JmapClient(cluster.http, "alice@example.test", "wrong")


def test_destroyed_messages_leave_search_and_store(cluster: Cluster, alice: JmapClient) -> None:
    deliver(cluster, letter(77_300))
    email = the_one(alice, "number 77300")
    alice.call("Email/set", destroy=[email["id"]])
    assert alice.query({"subject": "77300"}) == []
    status, _, _ = alice.request("GET", alice.download_path(str(email["blobId"])))
    assert status == 404


def test_health_and_metrics(cluster: Cluster, alice: JmapClient) -> None:
    for path in ("/health/live", "/health/ready"):
        status, _, _ = alice.request("GET", path)
        assert status == 200
    status, _, text = alice.request("GET", "/metrics")
    for cache in ("shard_block_cache", "shard_column_cache", "http_directory_cache"):
        assert f"heliograph_{cache}_hit_ratio{{".encode() in text
        assert f"heliograph_{cache}_bytes{{".encode() in text
    assert status == 200
    assert b"# TYPE" in text


def test_logs_hold_no_secrets_and_nothing_of_the_mail(cluster: Cluster, alice: JmapClient) -> None:
    deliver(cluster, letter(77_400).replace(b"number 77400", b"a subject to be kept secret"))
    alice.query({"subject": "secret"})
    logs = b"".join(
        file.read_bytes() for file in (cluster.data / "logs").rglob("*") if file.is_file()
    )
    assert b"listening" in logs
    for secret in (
        *cluster.passwords.values(),
        alice.headers["Authorization"].split()[1],
        "to be kept secret",
        "the same line again and again",
    ):
        assert secret.encode() not in logs
