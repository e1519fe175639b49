"""Sign-up: strangers who make themselves an account, where a domain allows it.

What an outsider may not learn is which addresses exist. So whatever the reason is (the domain is
closed or not ours, the code is wrong, used up or old, the name is taken or reserved), the refusal
is one and the same, after the same work: the password was hashed before anything was looked at.
In a domain that is open, a name that was refused may still be guessed to be taken; therefore
attempts are counted for each network, and few are allowed.

State  `SignUpLimits` is soft and bounded: who takes over the directory begins to count anew. The
       limit of a domain is kept with it.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from dataclasses import dataclass

from msgspec.structs import replace

from actors.account_commands import (
    QUOTA_OF_DOMAIN,
    SIGNUP_INVITATION,
    SIGNUP_OPEN,
    AddInvitation,
    SignUp,
)
from actors.commands import AddAccount, Done, Reply
from actors.directory_state import DirectoryWriter, WriterTurn, as_account
from actors.directory_turns import Newcomers, Placing
from actors.session_turns import checked_label
from mail.address import Address, parse_address, parse_domain
from mail.errors import (
    AlreadyExists,
    Invalid,
    SignUpRefused,
    TooManySignUps,
)
from storage import keys
from storage.records import CredentialRecord, DomainRecord, InvitationRecord

DAY_MS = 24 * 3_600_000
# An office or a school behind one address signs up within a day or two; an enumeration does not.
ATTEMPTS_PER_NETWORK_PER_DAY_MAX = 50
MADE_PER_NETWORK_PER_DAY_MAX = 10
NETWORKS_MAX = 20_000
PASSWORD_LENGTH_MIN = 10
PASSWORD_CHARACTERS_MIN = 5  # different ones
INVITATIONS_MAX = 10_000
INVITATION_USES_MAX = 10_000
INVITATION_MS_MAX = 366 * DAY_MS

# What strangers may call themselves; operators may give out any address.
_LOCAL_PART = re.compile(r"[a-z0-9]+(?:[._-][a-z0-9]+)*")
LOCAL_PART_LENGTH_MIN, LOCAL_PART_LENGTH_MAX = 2, 64
# RFC 2142, and what people take for the voice of the house.
RESERVED = frozenset(
    (
        "abuse", "account", "accounts", "admin", "administrator", "administrators", "alert",
        "alerts", "autoconfig", "autodiscover", "billing", "broadcasthost", "ceo", "contact",
        "daemon", "dmarc", "everybody", "everyone", "finance", "ftp", "help", "helpdesk",
        "heliograph", "hostmaster", "imap", "info", "invoice", "legal", "list", "list-request",
        "localhost", "mail", "mailer-daemon", "mailerdaemon", "majordomo", "marketing", "mx",
        "news", "no-reply", "nobody", "noc", "noreply", "notification", "notifications", "office",
        "official", "operator", "owner", "payments", "pop", "pop3", "postmaster", "press",
        "privacy", "register", "root", "sales", "security", "service", "smtp", "spam", "ssl",
        "ssladmin", "ssladministrator", "sslwebmaster", "staff", "support", "sysadmin", "system",
        "team", "tls-report", "tlsrpt", "usenet", "uucp", "verification", "verify", "webmail",
        "webmaster", "www",
    )
)  # fmt: skip


# Limits -----------------------------------------------------------------------------------


@dataclass(slots=True)
class _Count:
    day: int
    attempts: int = 0
    made: int = 0


class SignUpLimits:
    """What each network has done today."""

    def __init__(self) -> None:
        self._counts: OrderedDict[str, _Count] = OrderedDict()

    def attempt(self, network: str, now_ms: int) -> None:
        """Count an attempt. Raises TooManySignUps, before anything else is looked at."""
        count = self._count(network, now_ms)
        if (
            count.attempts >= ATTEMPTS_PER_NETWORK_PER_DAY_MAX
            or count.made >= MADE_PER_NETWORK_PER_DAY_MAX
        ):
            raise TooManySignUps
        count.attempts += 1

    def made(self, network: str, now_ms: int) -> None:
        """Count an account that was made."""
        self._count(network, now_ms).made += 1

    def _count(self, network: str, now_ms: int) -> _Count:
        day = now_ms // DAY_MS
        count = self._counts.get(network)
        if count is None or count.day != day:
            count = self._counts[network] = _Count(day)
        self._counts.move_to_end(network)
        if len(self._counts) > NETWORKS_MAX:
            self._counts.popitem(last=False)
        return count


# What is wrong in itself ------------------------------------------------------------------


def checked_address(text: str) -> Address:
    """Return the address that somebody wants, in lower case. Raises Invalid."""
    address = parse_address(text)
    local = address.local.lower()
    if (
        not LOCAL_PART_LENGTH_MIN <= len(local) <= LOCAL_PART_LENGTH_MAX
        or _LOCAL_PART.fullmatch(local) is None
    ):
        raise Invalid(
            f"the name has {LOCAL_PART_LENGTH_MIN} to {LOCAL_PART_LENGTH_MAX} letters and digits, "
            "with single dots, hyphens and underscores between them"
        )
    return Address(local, address.domain)


def check_password(password: str, address: Address) -> None:
    """Refuse a password that is guessed first. Raises Invalid."""
    folded = password.casefold()
    if len(password) < PASSWORD_LENGTH_MIN:
        raise Invalid(f"the password has at least {PASSWORD_LENGTH_MIN} characters")
    if len(set(folded)) < PASSWORD_CHARACTERS_MIN:
        raise Invalid("the password repeats a few characters")
    if str(address).casefold() in folded or folded in str(address).casefold():
        raise Invalid("the password is the address, or nearly")


# Turns ------------------------------------------------------------------------------------


def sign_up(
    command: SignUp, address: Address, credential: CredentialRecord, placing: Placing
) -> WriterTurn:
    """Return the turn that makes the account, or refuses with SignUpRefused, TooManySignUps."""
    name = checked_label(command.display_name)

    def turn(writer: DirectoryWriter, now_ms: int) -> Reply:
        domain = writer.get(keys.domain(address.domain), DomainRecord)
        if domain is None:
            raise SignUpRefused
        invitation = _invitation(writer, domain, command, now_ms)
        if address.local in RESERVED:
            raise SignUpRefused
        domain = _count(domain, now_ms)
        newcomers = Newcomers(writer, now_ms, placing)
        one = AddAccount(
            request_id=command.request_id,
            address=str(address),
            password="",
            quota_bytes=QUOTA_OF_DOMAIN,
            display_name=name,
        )
        writer.put_domain(domain)
        try:
            record = newcomers.add(one, credential)
        except AlreadyExists:
            raise SignUpRefused from None
        if invitation is not None:
            left = replace(invitation, uses_left=invitation.uses_left - 1)
            key = keys.invitation(command.invitation)
            writer.put(key, left) if left.uses_left else writer.delete(key)
        return as_account(record)

    return turn


def _invitation(
    writer: DirectoryWriter, domain: DomainRecord, command: SignUp, now_ms: int
) -> InvitationRecord | None:
    """Return the invitation that is used, None where none is needed. Raises SignUpRefused."""
    if domain.signup == SIGNUP_OPEN:
        return None
    if domain.signup != SIGNUP_INVITATION or not command.invitation:
        raise SignUpRefused
    record = writer.get(keys.invitation(command.invitation), InvitationRecord)
    if (
        record is None
        or record.domain != domain.name
        or record.uses_left < 1
        or now_ms >= record.expires_at_ms
    ):
        raise SignUpRefused
    return record


def _count(domain: DomainRecord, now_ms: int) -> DomainRecord:
    """Return the domain with one more sign-up today. Raises TooManySignUps."""
    day = now_ms // DAY_MS
    today = domain.signups if domain.signup_day == day else 0
    if today >= domain.signups_per_day_max:
        raise TooManySignUps
    return replace(domain, signup_day=day, signups=today + 1)


def add_invitation(command: AddInvitation) -> WriterTurn:
    """Return the turn that keeps an invitation; those that have expired are forgotten."""
    if not 1 <= command.uses <= INVITATION_USES_MAX:
        raise Invalid(f"an invitation is for 1 to {INVITATION_USES_MAX} accounts")

    def turn(writer: DirectoryWriter, now_ms: int) -> Reply:
        domain = writer.domain(parse_domain(command.domain))
        if domain.signup != SIGNUP_INVITATION:
            raise Invalid(
                f"sign-up in {domain.name} is {domain.signup}: set it to invitation first"
            )
        if not now_ms < command.expires_at_ms <= now_ms + INVITATION_MS_MAX:
            raise Invalid("an invitation ends within a year")
        if _forget_expired(writer, now_ms) >= INVITATIONS_MAX:
            raise Invalid(f"there are {INVITATIONS_MAX} invitations already")
        record = InvitationRecord(domain.name, command.uses, command.expires_at_ms)
        writer.put(keys.invitation(command.digest), record)
        return Done()

    return turn


def _forget_expired(writer: DirectoryWriter, now_ms: int) -> int:
    """Forget the invitations that have expired; return how many are left."""
    left = 0
    for digest, record in writer.invitations():
        if now_ms < record.expires_at_ms:
            left += 1
        else:
            writer.delete(keys.invitation(digest))
    return left
