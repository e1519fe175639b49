"""Checker: does what clients were told agree with what the cluster holds and with what was read?

Pure: it takes a history and the emails that each account has in the end, and names each
contradiction in words. None of its rules knows how the cluster works:

- a message that was acknowledged is there, once, octet for octet; one that was refused each time is
  not; an attempt without an answer may have stored one more copy, and nothing else does;
- what was acknowledged before a read began is in that read, and what was read once is in each
  later read, until somebody destroyed it; and then in none;
- a read shows the last value that was acknowledged before it began, or one that was under way.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain

from tests.faults.history import Change, History, Look, Outcome, Sent, Stored, Sync

SHOWN_MAX = 50  # contradictions of one rule that are worth reading


def contradictions(history: History, stored: Mapping[str, Sequence[Stored]]) -> list[str]:
    """Return what cannot be. `stored` has the emails of each address at the end."""
    with history.held():
        destroyed = _destroyed(history.changes)
        tokens = _tokens(history, stored)
        rules = (
            _permanent_refusals(history.sent),
            _copies(history.sent, stored, destroyed, tokens),
            _strangers(history.sent, stored),
            _unlike(history.sent, stored),
            _lists(history, destroyed, tokens),
            _lookups(history, destroyed),
            _versions(history, stored),
        )
        return [text for rule in rules for text in _first(rule)]


def _first(found: Iterator[str]) -> list[str]:
    texts = list(found)
    more = len(texts) - SHOWN_MAX
    return texts[:SHOWN_MAX] + ([f"… and {more} like it"] if more > 0 else [])


def _destroyed(changes: Iterable[Change]) -> dict[tuple[str, str], Change]:
    """Return the attempt to destroy each email; clients make at most one."""
    return {(one.address, one.email_id): one for one in changes if one.version is None}


def _tokens(history: History, stored: Mapping[str, Sequence[Stored]]) -> dict[tuple[str, str], str]:
    """Return which message each email is a copy of."""
    found = {(s.address, email): token for s in history.syncs for email, token in s.known}
    for address, emails in stored.items():
        found |= {(address, one.email_id): one.token for one in emails}
    return found


# Messages


def _permanent_refusals(sent: Iterable[Sent]) -> Iterator[str]:
    for message in sent:
        for attempt in message.attempts:
            if attempt.outcome is Outcome.REFUSED and attempt.text.startswith("5"):
                yield f"{message.token} was refused for good: {attempt.text}"


def _copies(
    sent: Iterable[Sent],
    stored: Mapping[str, Sequence[Stored]],
    destroyed: Mapping[tuple[str, str], Change],
    tokens: Mapping[tuple[str, str], str],
) -> Iterator[str]:
    ids: dict[tuple[str, str], set[str]] = defaultdict(set)
    for address, emails in stored.items():
        for one in emails:
            ids[address, one.token].add(one.email_id)
    for address, email_id in destroyed:
        if (address, email_id) in tokens:
            ids[address, tokens[address, email_id]].add(email_id)
    for message in sent:
        least = message.may_be(Outcome.DONE)
        most = least + message.may_be(Outcome.UNKNOWN)
        for address in message.recipients:
            copies = len(ids[address, message.token])
            if copies < least:
                yield f"lost: {message.token} of {address}, acknowledged at {message.taken_s:.3f}"
            elif copies > most:
                outcomes = Counter(one.outcome.value for one in message.attempts)
                yield f"{copies} copies of {message.token} at {address}: {dict(outcomes)}"


def _strangers(sent: Iterable[Sent], stored: Mapping[str, Sequence[Stored]]) -> Iterator[str]:
    known = {(address, one.token) for one in sent for address in one.recipients}
    for address, emails in stored.items():
        for email in emails:
            if (address, email.token) not in known:
                yield f"nobody sent {email.token} to {address}"


def _unlike(sent: Iterable[Sent], stored: Mapping[str, Sequence[Stored]]) -> Iterator[str]:
    wanted = {one.token: one.octets_sha256 for one in sent}
    for address, emails in stored.items():
        for email in emails:
            if email.token in wanted and wanted[email.token] != email.octets_sha256:
                yield f"{email.token} of {address} is not what was sent"


# Reads


def _lists(
    history: History,
    destroyed: Mapping[tuple[str, str], Change],
    tokens: Mapping[tuple[str, str], str],
) -> Iterator[str]:
    readers: dict[tuple[str, str], list[Sync]] = defaultdict(list)
    for sync in history.syncs:
        readers[sync.address, sync.reader].append(sync)
    for (address, reader), syncs in readers.items():
        taken = sorted(
            (message.taken_s, message.token)
            for message in history.sent
            if address in message.recipients and message.taken_s is not None
        )
        known: set[str] = set()  # email ids
        seen: set[str] = set()  # tokens
        awaited: set[str] = set()
        place = 0
        for sync in sorted(syncs, key=lambda one: one.began_s):
            now = {email for email, _ in sync.known}
            lost = (known - now) if sync.whole else set(sync.gone)
            for email_id in lost:
                change = destroyed.get((address, email_id))
                if change is None or change.began_s > sync.ended_s:
                    what = tokens.get((address, email_id), email_id)
                    yield f"{reader}: {what} of {address} was there, gone at {sync.ended_s:.3f}"
            known = now if sync.whole else (known | now) - set(sync.gone)
            seen |= {token for _, token in sync.known}
            while place < len(taken) and taken[place][0] < sync.began_s:
                awaited.add(taken[place][1])
                place += 1
            awaited -= seen
            for token in awaited:
                if not _was_destroyed(token, address, destroyed, tokens):
                    yield (
                        f"{reader}: {token} of {address} is not in a list read from node"
                        f" {sync.node} at {sync.began_s:.3f}"
                    )
            awaited.clear()


def _was_destroyed(
    token: str,
    address: str,
    destroyed: Mapping[tuple[str, str], Change],
    tokens: Mapping[tuple[str, str], str],
) -> bool:
    return any(
        where == address and tokens.get((where, email_id)) == token for where, email_id in destroyed
    )


def _lookups(history: History, destroyed: Mapping[tuple[str, str], Change]) -> Iterator[str]:
    for look in history.looks:
        for email_id, version in look.versions:
            change = destroyed.get((look.address, email_id))
            if version is None and (change is None or change.began_s > look.ended_s):
                yield f"{look.reader}: {email_id} of {look.address} is gone at {look.ended_s:.3f}"
            if version is None or change is None or change.outcome is not Outcome.DONE:
                continue
            if change.ended_s < look.began_s:
                yield f"{look.reader}: {email_id} of {look.address} is back at {look.began_s:.3f}"


# Values


def _versions(history: History, stored: Mapping[str, Sequence[Stored]]) -> Iterator[str]:
    """Each email has one writer, which gives ascending versions, one at a time."""
    writes: dict[tuple[str, str], list[Change]] = defaultdict(list)
    for change in history.changes:
        if change.version is not None:
            writes[change.address, change.email_id].append(change)
    for one in writes.values():
        one.sort(key=lambda change: change.began_s)
    at_the_end = (
        Look(address, "the end", 0, float("inf"), float("inf"), ((one.email_id, one.version),))
        for address, emails in stored.items()
        for one in emails
    )
    read_by: dict[tuple[str, str], list[tuple[float, int]]] = defaultdict(list)
    looks = sorted(history.looks, key=lambda one: one.ended_s)
    for look in chain(looks, at_the_end):
        for email_id, version in look.versions:
            if version is None:
                continue
            key = (look.address, email_id)
            if version not in possible(writes[key], look.began_s, look.ended_s):
                yield (
                    f"{look.reader}: version {version} of {email_id} of {look.address} was read"
                    f" from node {look.node} at {look.began_s:.3f}"
                )
            newest = max((v for ended_s, v in read_by[key] if ended_s < look.began_s), default=0)
            if version < newest:
                yield (
                    f"{look.reader}: version {version} of {email_id} of {look.address} was read at"
                    f" {look.began_s:.3f}, after version {newest}"
                )
            read_by[key].append((look.ended_s, version))


def possible(writes: Sequence[Change], began_s: float, ended_s: float) -> set[int]:
    """Return the versions that a read in this time may show.

    The last write that was acknowledged before it began, those under way during it, and those of
    unknown outcome that nothing acknowledged has followed.
    """
    found = {0}
    for write in writes:
        assert write.version is not None
        if write.began_s > ended_s:
            break
        if write.outcome is Outcome.REFUSED:
            continue
        if write.outcome is Outcome.DONE and write.ended_s < began_s:
            found = {write.version}
        else:
            found.add(write.version)
    return found
