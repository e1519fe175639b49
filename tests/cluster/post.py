"""Mail in and out of a real cluster, as briefly as a test wants it."""

from __future__ import annotations

import base64
import json
import smtplib
import time
import urllib.request
from email.message import EmailMessage

from tests.e2e.cluster_fixture import Cluster


def send(cluster: Cluster, recipient: str, subject: str, *, timeout_s: float = 60.0) -> None:
    """Send one message; as a mail server does, again when the answer is temporary."""
    message = EmailMessage()
    message["From"] = "sender@example.com"
    message["To"] = recipient
    message["Subject"] = subject
    message["Message-ID"] = f"<{subject.replace(' ', '.')}@example.com>"
    message.set_content("A body.\n")
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            with smtplib.SMTP(*cluster.smtp, timeout=30) as peer:
                peer.send_message(message, "sender@example.com", [recipient])
            return
        except (OSError, smtplib.SMTPException) as error:
            if _permanent(error) or time.monotonic() > deadline:
                raise
        time.sleep(0.2)


def _permanent(error: Exception) -> bool:
    code = getattr(error, "smtp_code", 0)
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        code = max(code for code, _ in error.recipients.values())
    return isinstance(code, int) and code >= 500


def subjects(cluster: Cluster, address: str, password: str, account: str) -> list[str]:
    """Return the subjects of all messages of an account, over JMAP."""
    get = {"accountId": account, "properties": ["subject"]}
    ids = {"resultOf": "q", "name": "Email/query", "path": "/ids"}
    request = {
        "using": ["urn:ietf:params:jmap:core", "urn:ietf:params:jmap:mail"],
        "methodCalls": [
            ["Email/query", {"accountId": account}, "q"],
            ["Email/get", get | {"#ids": ids}, "g"],
        ],
    }
    basic = base64.b64encode(f"{address}:{password}".encode()).decode()
    headers = {"Authorization": f"Basic {basic}", "Content-Type": "application/json"}
    call = urllib.request.Request(f"{cluster.http}/jmap/api", json.dumps(request).encode(), headers)
    with urllib.request.urlopen(call, timeout=30) as answer:
        responses = json.load(answer)["methodResponses"]
    found = next(arguments for name, arguments, _ in responses if name == "Email/get")
    return [email["subject"] for email in found["list"]]
