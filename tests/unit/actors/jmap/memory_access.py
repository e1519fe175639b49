"""MailboxAccess over a dictionary: the evaluator's tests need no shard, disk or Ray."""

from __future__ import annotations

import hashlib
from bisect import bisect_left, insort
from collections.abc import Callable, Collection, Iterator
from typing import Any

import msgspec

from actors.jmap.columns import Columns
from actors.jmap.ids import account_id_of, email_id_of
from actors.jmap.limits import CAPABILITY_CORE, CAPABILITY_MAIL
from actors.jmap.request import evaluate
from mail.errors import NoSuchMailbox
from mail.message import parse
from mail.search import matches, parse_query
from mail.summary import SearchText
from storage.mailbox_reader import MailboxReader
from storage.mailbox_writer import MailboxWriter
from storage.transaction import Overlay

MAILBOX = 0x2A
ACCOUNT = account_id_of(MAILBOX)
NOW_MS = 1_700_000_000_000
INBOX, DRAFTS, SENT, JUNK, TRASH, ARCHIVE = range(1, 7)


class MemoryState:
    """Ordered keys and values in memory, with a count of the reads."""

    def __init__(self) -> None:
        self._values: dict[bytes, bytes] = {}
        self._keys: list[bytes] = []
        self.gets = 0
        self.scanned = 0

    def get(self, key: bytes) -> bytes | None:
        self.gets += 1
        return self._values.get(key)

    def scan(
        self, start: bytes, end: bytes, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        found = self._keys[bisect_left(self._keys, start) : bisect_left(self._keys, end)]
        for key in reversed(found) if reverse else found:
            self.scanned += 1
            yield key, self._values[key]

    def write(self, overlay: Overlay) -> None:
        for key, value in overlay.written.items():
            if value is None:
                if self._values.pop(key, None) is not None:
                    del self._keys[bisect_left(self._keys, key)]
            else:
                if key not in self._values:
                    insort(self._keys, key)
                self._values[key] = value


class MemoryBlobs:
    """Blobs in memory, with a count of the reads."""

    def __init__(self) -> None:
        self.octets: dict[bytes, bytes] = {}
        self.reads = 0

    def size(self, digest: bytes) -> int | None:
        return len(self.octets[digest]) if digest in self.octets else None

    def read(self, digest: bytes, offset: int = 0, length: int | None = None) -> bytes:
        self.reads += 1
        end = None if length is None else offset + length
        return self.octets[digest][offset:end]


class MemoryAccess:
    """One mailbox: committed state, turns with remembered replies, exact search."""

    def __init__(self) -> None:
        self.mailbox_id = MAILBOX
        self.state = MemoryState()
        self.columns = Columns()
        self.memory_blobs = MemoryBlobs()
        self.clock_ms = NOW_MS
        self.now_ms: Callable[[], int] = lambda: self.clock_ms
        self.replies: dict[bytes, bytes] = {}
        self.plans_run = 0
        self.requests = 0
        self.texts: dict[int, SearchText] = {}
        self.failure: Exception | None = None  # raised by the next turn
        self.removed = False
        self.run(lambda writer: writer.create(NOW_MS))

    @property
    def blobs(self) -> MemoryBlobs:
        return self.memory_blobs

    def reader(self) -> MailboxReader:
        if self.removed:
            raise NoSuchMailbox
        return MailboxReader(self.mailbox_id, self.state)

    async def turn(self, request_id: bytes, plan: Callable[[MailboxWriter, int], bytes]) -> bytes:
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure
        if request_id not in self.replies:
            self.plans_run += 1
            self.replies[request_id] = self.run(lambda writer: plan(writer, self.clock_ms))
        return self.replies[request_id]

    async def search(self, fields: Collection[str], text: str) -> set[int] | None:
        terms = parse_query(text)
        if not terms:
            return None
        reader = self.reader()
        return {
            email_id
            for email_id, found in self.texts.items()
            if reader.email(email_id) is not None
            and all(any(matches((term,), _field(found, name)) for name in fields) for term in terms)
        }

    def run(self, act: Callable[[MailboxWriter], Any]) -> Any:
        """Commit one turn at once."""
        overlay = Overlay(self.state)
        writer = MailboxWriter(self.mailbox_id, overlay)
        result = act(writer)
        writer.finish()
        self.state.write(overlay)
        return result

    def add(
        self,
        raw: bytes,
        *,
        folders: tuple[int, ...] = (INBOX,),
        keywords: tuple[str, ...] = (),
        received_at_ms: int = NOW_MS,
    ) -> str:
        """Store a message and return its email id."""
        digest = hashlib.sha256(raw).digest()
        self.memory_blobs.octets[digest] = raw
        message = parse(raw)
        number: int = self.run(
            lambda writer: writer.add_email(
                digest=digest,
                size_bytes=len(raw),
                summary=message.summary,
                received_at_ms=received_at_ms,
                folders=folders,
                keywords=keywords,
            )
        )
        self.texts[number] = message.search_text
        return email_id_of(number)

    async def request(self, *calls: Any, request_id: bytes | None = None, **more: Any) -> list[Any]:
        """Evaluate method calls under a new request id and return the method responses."""
        self.requests += 1
        body = {
            "using": [CAPABILITY_CORE, CAPABILITY_MAIL],
            "methodCalls": [
                [name, arguments, f"c{i}"] for i, (name, arguments) in enumerate(calls)
            ],
            **more,
        }
        answer = await evaluate(
            self,
            msgspec.json.encode(body),
            request_id=request_id or self.requests.to_bytes(16, "big"),
            session_state="s1",
        )
        assert answer.status == 200, answer.body
        response = msgspec.json.decode(answer.body)
        assert response["sessionState"] == "s1"
        responses: list[Any] = response["methodResponses"]
        assert [call_id for _, _, call_id in responses] == [f"c{i}" for i in range(len(calls))]
        return responses

    async def call(self, name: str, **arguments: Any) -> Any:
        """Evaluate one method call and return the arguments of its response."""
        given = {"accountId": ACCOUNT, **arguments}
        [(answered, result, _)] = await self.request((name, given))
        assert answered == name, result
        return result

    async def refusal(self, name: str, **arguments: Any) -> Any:
        """Evaluate one method call that must fail and return the type of its error."""
        given = {"accountId": ACCOUNT, **arguments}
        [(answered, result, _)] = await self.request((name, given))
        assert answered == "error", result
        return result["type"]


def _field(text: SearchText, name: str) -> str:
    found: str = getattr(text, "from_" if name == "from" else name)
    return found


def message(
    subject: str = "Hello",
    *,
    sender: str = "Alice <alice@example.test>",
    to: str = "Bob <bob@example.test>",
    message_id: str | None = None,
    reply_to_id: str | None = None,
    date: str = "Tue, 14 Nov 2023 10:00:00 +0100",
    body: str = "Hi there",
    more: str = "",
) -> bytes:
    """Return a plain message."""
    fields = [f"From: {sender}", f"To: {to}", f"Subject: {subject}", f"Date: {date}"]
    if message_id is not None:
        fields.append(f"Message-ID: <{message_id}>")
    if reply_to_id is not None:
        fields.append(f"In-Reply-To: <{reply_to_id}>")
    if more:
        fields.append(more)
    return ("\r\n".join(fields) + f"\r\n\r\n{body}\r\n").encode()
