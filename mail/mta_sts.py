"""MtaSts: policies by which a domain asks to be sent mail over verified TLS only (RFC 8461).

Pure: records and policies as octets in, what they say out. What is not valid is no policy.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from mail.address import parse_domain
from mail.errors import InvalidAddress

POLICY_BYTES_MAX = 64 << 10  # RFC 8461 §3.3
MAX_AGE_S_MAX = 31_557_600  # RFC 8461 §3.2: one year
PATTERNS_MAX = 100  # hosts that one domain names; what goes beyond is no honest policy

VERSION = "STSv1"
_FIELD_NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}"
# RFC 8461 §3.1. An extension's value is printable ASCII without "=" and ";".
_RECORD = re.compile(r"v=STSv1(?:[ \t]*;[ \t]*(?P<fields>.*?))?(?:[ \t]*;[ \t]*)?", re.DOTALL)
_DELIMITER = re.compile(r"[ \t]*;[ \t]*")
_ID = re.compile(r"id=([A-Za-z0-9]{1,32})")
_EXTENSION = re.compile(rf"{_FIELD_NAME}=[\x21-\x3a\x3c\x3e-\x7e]+")
# RFC 8461 §3.2.
_VALUE = r"[^\x00-\x20\x7f](?:[^\x00-\x1f\x7f]*[^\x00-\x20\x7f])?"
_LINE = re.compile(rf"({_FIELD_NAME}):[ \t]*({_VALUE})")
_MAX_AGE = re.compile(r"[0-9]{1,10}")


class Mode(StrEnum):
    """What a sender is to do with a host that does not satisfy the policy."""

    ENFORCE = "enforce"  # not deliver to it
    TESTING = "testing"  # report it, if it reports
    NONE = "none"  # nothing: the domain has no policy any more


@dataclass(frozen=True, slots=True)
class Policy:
    """A domain's policy; `max_age_s` counts from the time when it was fetched."""

    mode: Mode
    max_age_s: int
    patterns: tuple[str, ...]  # host names, and `*.` with a domain; in lower case

    def matches(self, host: str) -> bool:
        """Say whether a mail server's name is one of the policy's (RFC 8461 §4.1).

        A `*.` stands for exactly one label.
        """
        host = host.lower().rstrip(".")
        wildcard = f"*.{host.partition('.')[2]}"
        return host in self.patterns or wildcard in self.patterns


class HostVerdict(StrEnum):
    """What a policy says of one host."""

    NO_POLICY = "no policy"
    TESTED = "one of the policy's, which is in testing"
    TESTED_FOREIGN = "none of the policy's, which is in testing"
    VERIFY = "one of the policy's"
    REFUSE = "none of the policy's"

    @property
    def names_host(self) -> bool:
        """Say whether the policy vouches for the host's name (RFC 8689 §2)."""
        return self in (HostVerdict.TESTED, HostVerdict.VERIFY)


def judge(policy: Policy | None, host: str) -> HostVerdict:
    """Return what a recipient domain's policy says of one of its hosts (RFC 8461 §5)."""
    if policy is None or policy.mode is Mode.NONE:
        return HostVerdict.NO_POLICY
    matches = policy.matches(host)
    if policy.mode is Mode.TESTING:
        return HostVerdict.TESTED if matches else HostVerdict.TESTED_FOREIGN
    return HostVerdict.VERIFY if matches else HostVerdict.REFUSE


def parse_records(records: Iterable[bytes]) -> str | None:
    """Return the policy's id in the TXT records of `_mta-sts.<domain>`, None without a valid one.

    RFC 8461 §3.1: among those that begin as a policy record does, there must be exactly one.
    """
    candidates = [record for record in records if re.match(rb"v=STSv1[ \t]*(;|$)", record)]
    if len(candidates) != 1 or not candidates[0].isascii():
        return None
    record = _RECORD.fullmatch(candidates[0].decode("ascii"))
    if record is None or not record["fields"]:
        return None
    policy_id: str | None = None
    for text in _DELIMITER.split(record["fields"]):
        if (found := _ID.fullmatch(text)) is not None:
            policy_id = policy_id or found[1]
        elif text.startswith("id=") or _EXTENSION.fullmatch(text) is None:
            return None
    return policy_id


def parse_policy(octets: bytes) -> Policy | None:
    """Return the policy in the body of `mta-sts.txt`, None when it is not valid.

    RFC 8461 §3.2: fields that nobody knows are ignored, of a field that may stand once the
    first counts. A `max_age` beyond a year is a year.
    """
    if len(octets) > POLICY_BYTES_MAX:
        return None
    try:
        lines = [line.rstrip(" \t") for line in octets.decode().replace("\r\n", "\n").split("\n")]
    except UnicodeDecodeError:
        return None
    while lines and not lines[-1]:  # The last line may have an end, and often more than one.
        lines.pop()
    fields: dict[str, str] = {}
    patterns: list[str] = []
    for line in lines:
        field = _LINE.fullmatch(line)
        if field is None:
            return None
        if field[1] == "mx":
            patterns.append(field[2])
        else:
            fields.setdefault(field[1], field[2])
    return _policy(fields, patterns)


def _policy(fields: dict[str, str], patterns: list[str]) -> Policy | None:
    age = fields.get("max_age", "")
    if fields.get("version") != VERSION or _MAX_AGE.fullmatch(age) is None:
        return None
    if fields.get("mode") not in tuple(Mode) or len(patterns) > PATTERNS_MAX:
        return None
    mode = Mode(fields["mode"])
    if not patterns and mode is not Mode.NONE:
        return None
    try:
        hosts = tuple(map(_pattern, patterns))
    except InvalidAddress:
        return None
    return Policy(mode, min(int(age), MAX_AGE_S_MAX), hosts)


def _pattern(text: str) -> str:
    prefix = "*." if text.startswith("*.") else ""
    domain = text[len(prefix) :].removesuffix(".")
    if not domain.isascii() or domain.startswith("["):  # RFC 8461 §4.1: A-labels
        raise InvalidAddress("A policy names hosts")
    return prefix + parse_domain(domain)
