"""Requests: what a webmail asks of a JMAP server, each view in one request (RFC 8621)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.bench.corpus import Corpus
from tests.bench.heliograph import JMAP_USING, Heliograph
from tests.bench.http_load import http_request
from tests.bench.push import basic_authorization
from tests.bench.system import PASSWORD, BenchError

PAGE = 50
THREADS_MAX = 200  # Different ones, so that no single thread is always in a cache.
SEARCH_WORDS = 12  # Of each kind.
LIST_PROPERTIES = (
    "id",
    "threadId",
    "mailboxIds",
    "keywords",
    "from",
    "subject",
    "receivedAt",
    "size",
    "preview",
    "hasAttachment",
)
NEWEST_FIRST = [{"property": "receivedAt", "isAscending": False}]
# A rare word is in up to so many of a thousand messages, a medium and a common one in so many.
RARE, MEDIUM, COMMON = (0.05, 0.3), (5.0, 20.0), (100.0, 300.0)

Call = list[Any]


@dataclass(frozen=True, slots=True)
class Search:
    """A filter, and the least number of messages that match it."""

    kind: str
    filter: dict[str, str]
    least: int


@dataclass(frozen=True, slots=True)
class Views:
    """The requests of each view, as octets, in different variants that are sent in turn."""

    newest: tuple[bytes, ...]
    unread: tuple[bytes, ...]
    search: tuple[bytes, ...]
    thread: tuple[bytes, ...]

    def named(self) -> dict[str, tuple[bytes, ...]]:
        """Return the views by name, and people's mixture of them."""
        mixed = [
            request
            for number in range(max(len(self.search), len(self.thread)))
            for request in (
                self.newest[number % len(self.newest)],
                self.thread[number % len(self.thread)],
                self.newest[number % len(self.newest)],
                self.search[number % len(self.search)],
                self.unread[number % len(self.unread)],
            )
        ]
        return {
            "newest-50": self.newest,
            "unread filter": self.unread,
            "search": self.search,
            "thread page": self.thread,
            "mixed (2 newest, 1 of each other)": tuple(mixed),
        }


class Client:
    """Makes the requests of one user."""

    def __init__(self, system: Heliograph, user: str) -> None:
        self._system = system
        self._user = user
        self._account = system.account_id(user)
        folders = system.jmap(user, "Mailbox/get", {"ids": None, "properties": ["role"]})["list"]
        self.inbox: str = next(one["id"] for one in folders if one["role"] == "inbox")

    def views(self, searches: Sequence[Search]) -> Views:
        """Return the requests of every view."""
        inbox = {"inMailbox": self.inbox}
        return Views(
            newest=(self._list(inbox),),
            unread=(self._list({**inbox, "notKeyword": "$seen"}),),
            search=self.search_requests(searches),
            thread=tuple(map(self._thread, self._some_threads())),
        )

    def search_requests(self, searches: Sequence[Search]) -> tuple[bytes, ...]:
        """Return a request for each search."""
        return tuple(self._list(search.filter) for search in searches)

    def check(self, corpus: Corpus, searches: Sequence[Search]) -> None:
        """Compare what the server finds with what was sent. Raises BenchError."""
        inbox = {"inMailbox": self.inbox}
        self._check_total("all", inbox, corpus.messages, exactly=True)
        self._check_total("unread", {**inbox, "notKeyword": "$seen"}, corpus.unread, exactly=True)
        for search in searches:
            self._check_total(str(search.filter), search.filter, search.least, exactly=False)

    def _some_threads(self) -> list[str]:
        """Return threads from the newest to the oldest part of the mailbox."""
        arguments = {"filter": {"inMailbox": self.inbox}, "sort": NEWEST_FIRST, "limit": 1}
        total = self._total(arguments["filter"])
        step = max(1, total // THREADS_MAX)
        found: dict[str, None] = {}
        for position in range(0, total, step):
            where = arguments | {"position": position}
            ids = self._system.jmap(self._user, "Email/query", where)["ids"]
            wanted = {"ids": ids, "properties": ["threadId"]}
            got = self._system.jmap(self._user, "Email/get", wanted)["list"]
            found.update((one["threadId"], None) for one in got)
        return list(found)

    def _list(self, condition: object) -> bytes:
        query = {"filter": condition, "sort": NEWEST_FIRST, "limit": PAGE}
        get = {"#ids": _reference("0", "Email/query", "/ids"), "properties": LIST_PROPERTIES}
        return self._request(["Email/query", query, "0"], ["Email/get", get, "1"])

    def _thread(self, thread: str) -> bytes:
        get = {
            "#ids": _reference("0", "Thread/get", "/list/*/emailIds"),
            "properties": [*LIST_PROPERTIES, "to", "textBody", "bodyValues"],
            "fetchTextBodyValues": True,
        }
        return self._request(["Thread/get", {"ids": [thread]}, "0"], ["Email/get", get, "1"])

    def _request(self, *calls: Call) -> bytes:
        full = [[name, {"accountId": self._account, **rest}, tag] for name, rest, tag in calls]
        return http_request(
            port=self._system.http_port,
            path="/jmap/api",
            authorization=basic_authorization(self._user, PASSWORD),
            body=json.dumps({"using": JMAP_USING, "methodCalls": full}).encode(),
        )

    def _total(self, condition: object) -> int:
        arguments = {"filter": condition, "limit": 1, "calculateTotal": True}
        return int(self._system.jmap(self._user, "Email/query", arguments)["total"])

    def _check_total(self, what: str, condition: object, wanted: int, *, exactly: bool) -> None:
        total = self._total(condition)
        if total < wanted or (exactly and total != wanted):
            raise BenchError(f"{what}: {total} messages found, {wanted} were sent")


def searches_of(corpus: Corpus) -> list[Search]:
    """Return searches for rare, medium and common words, in text, subject and sender, mixed."""
    found: list[list[Search]] = []
    for kind, (least, most) in (("rare", RARE), ("medium", MEDIUM), ("common", COMMON)):
        words = corpus.words(
            least=max(1, round(corpus.messages * least / 1000)),
            most=max(2, round(corpus.messages * most / 1000)),
            count=SEARCH_WORDS,
        )
        found.append([Search(kind, {"text": word}, corpus.holding[word]) for word in words])
    subjects = corpus.subject_holding.most_common()
    step = max(1, len(subjects) // SEARCH_WORDS)
    found.append(
        [Search("subject", {"subject": word}, held) for word, held in subjects[::step]][
            :SEARCH_WORDS
        ]
    )
    people = corpus.sent_by.most_common(SEARCH_WORDS)
    found.append([Search("from", {"from": sender.split(" ")[0]}, held) for sender, held in people])
    if not all(found):
        raise BenchError("the corpus is too small to hold words of every kind")
    longest = max(map(len, found))
    return [kind[at] for at in range(longest) for kind in found if at < len(kind)]


def _reference(result_of: str, name: str, path: str) -> dict[str, str]:
    return {"resultOf": result_of, "name": name, "path": path}
