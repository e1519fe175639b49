"""A small JMAP client over HTTP(S) with Basic sign-in, as a person's program would use it."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import urllib.parse
from typing import Any

from tests.e2e.cluster_fixture import Cluster

USING = ["urn:ietf:params:jmap:core", "urn:ietf:params:jmap:mail"]
LISTED = ["id", "threadId", "mailboxIds", "keywords", "subject", "from", "preview", "blobId"]


class JmapClient:
    """One account's client. Every call opens a connection of its own."""

    def __init__(
        self, base_url: str, user: str, password: str, *, ca_file: str | None = None
    ) -> None:
        self.url = urllib.parse.urlsplit(base_url)
        self.ca_file = ca_file
        token = base64.b64encode(f"{user}:{password}".encode()).decode()
        self.headers = {"Authorization": f"Basic {token}"}
        self.session: dict[str, Any] = self.get_json("/jmap/session")
        self.account = self.session["primaryAccounts"]["urn:ietf:params:jmap:mail"]

    def request(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers (lower-case names) and body of one exchange."""
        host, port = self.url.hostname or "", self.url.port
        connection: http.client.HTTPConnection
        if self.url.scheme == "https":
            context = ssl.create_default_context(cafile=self.ca_file)
            connection = http.client.HTTPSConnection(host, port, timeout=60, context=context)
        else:
            connection = http.client.HTTPConnection(host, port, timeout=60)
        try:
            connection.request(method, path, body, self.headers | headers)
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return response.status, found, response.read()
        finally:
            connection.close()

    def get_json(self, path: str) -> Any:
        status, _, body = self.request("GET", path)
        assert status == 200, (status, body[:200])
        return json.loads(body)

    def calls(self, *calls: list[Any]) -> list[list[Any]]:
        """Return the method responses to calls."""
        body = json.dumps({"using": USING, "methodCalls": list(calls)}).encode()
        status, _, answer = self.request(
            "POST", "/jmap/api", body, **{"Content-Type": "application/json"}
        )
        assert status == 200, (status, answer[:300])
        responses: list[list[Any]] = json.loads(answer)["methodResponses"]
        return responses

    def call(self, name: str, **arguments: Any) -> dict[str, Any]:
        """Return the arguments of one method's response; an error is an AssertionError."""
        ((answered, result, _),) = self.calls([name, {"accountId": self.account} | arguments, "c"])
        assert answered == name, result
        assert isinstance(result, dict)
        return result

    def query(self, filter: dict[str, Any] | None = None) -> list[str]:  # noqa: A002
        """Return the ids of all emails that pass the filter, newest first."""
        found: list[str] = []
        while True:
            page = self.call(
                "Email/query",
                filter=filter,
                sort=[{"property": "receivedAt", "isAscending": False}],
                position=len(found),
                limit=500,
            )["ids"]
            found += page
            if len(page) < 500:
                return found

    def emails(self, ids: list[str], *properties: str) -> list[dict[str, Any]]:
        """Return these emails, 500 to a call."""
        wanted = list(properties) or LISTED
        found: list[dict[str, Any]] = []
        for start in range(0, len(ids), 500):
            page = self.call("Email/get", ids=ids[start : start + 500], properties=wanted)
            assert not page["notFound"], page["notFound"]
            found += page["list"]
        return found

    def download(self, blob_id: str, name: str = "message.eml") -> bytes:
        status, _, body = self.request("GET", self.download_path(blob_id, name))
        assert status == 200, (status, body[:200])
        return body

    def download_path(self, blob_id: str, name: str = "file") -> str:
        quoted = urllib.parse.quote(name, safe="")
        return f"/jmap/download/{self.account}/{blob_id}/{quoted}"


def client_of(cluster: Cluster, user: str) -> JmapClient:
    """Return a client of one of the demo accounts, over plain HTTP."""
    return JmapClient(cluster.http, user, cluster.passwords[user])
