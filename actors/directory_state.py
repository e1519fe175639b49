"""The directory's state: who is who, over its keys. Reads for everybody, writes within a turn.

The version. Gateways keep answers (whose mailbox an address is, whose sign-in a password or
token is) and follow the directory's version, which says when such an answer may have become
false. It does not rise for what only adds: a session begins, a token is refreshed, an app
password is made, a use is noted; so a hundred thousand people who sign in empty nobody's
memory. Where it rises, the turn says which accounts the change is about, and gateways forget
only what they know of these. Refusals are never kept, so they cannot become false.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

from msgspec.structs import replace

from actors import wire
from actors.commands import Account, Failed, MailboxId, Reply, ShardId, ShardRow
from mail.address import Address, parse_address, parse_path
from mail.errors import (
    AlreadyExists,
    InvalidAddress,
    MailError,
    NoSuchMailbox,
    NotFound,
    RelayDenied,
)
from storage import keys, records
from storage.records import (
    AccountRecord,
    AddressRecord,
    AppPasswordRecord,
    CredentialRecord,
    DirectoryRecord,
    DomainRecord,
    InvitationRecord,
    SessionRecord,
    ShardRecord,
    Touched,
)
from storage.shard import Plan, Planned
from storage.transaction import Overlay, State

# Versions of which it is remembered whom they are about, for gateways that come back after a
# moment; a few kilobytes. One that is about more accounts than TOUCHED_MAX is about all.
RECENT_MAX = 128
TOUCHED_MAX = 32

RecordT = TypeVar("RecordT", bound=records.Record)


class DirectoryReader:
    """What the directory says, over its keys."""

    def __init__(self, state: State) -> None:
        self._state = state

    def get(self, key: bytes, cls: type[RecordT]) -> RecordT | None:
        octets = self._state.get(key)
        return None if octets is None else records.decode(octets, cls)

    def below(self, prefix: bytes, cls: type[RecordT], start: bytes = b"") -> Iterator[RecordT]:
        """Yield the records whose keys begin with `prefix`, from `start` on."""
        for _, octets in self._state.scan(max(prefix, start), keys.after(prefix)):
            yield records.decode(octets, cls)

    def _all(self, letter: bytes, cls: type[RecordT]) -> Iterator[RecordT]:
        return self.below(keys.kind(keys.DIRECTORY, letter), cls)

    @property
    def record(self) -> DirectoryRecord:
        return self.get(keys.directory(), DirectoryRecord) or DirectoryRecord()

    def touched_since(self, version: int) -> tuple[MailboxId, ...] | None:
        """Return the accounts that the versions after `version` are about; None: any."""
        recent = self.record.recent
        if not recent or recent[-1].version != self.record.version:
            return None
        if not recent[0].version - 1 <= version <= recent[-1].version:
            return None
        touched: set[MailboxId] = set()
        for one in recent:
            if one.version > version:
                if one.accounts is None:
                    return None
                touched.update(map(MailboxId, one.accounts))
        return tuple(sorted(touched))

    # Domains

    def domain(self, name: str) -> DomainRecord:
        """Return a domain by its one form. Raises NotFound."""
        record = self.get(keys.domain(name), DomainRecord)
        if record is None:
            raise NotFound(f"no domain {name}: add it first")
        return record

    def has_domain(self, name: str) -> bool:
        return self._state.get(keys.domain(name)) is not None

    def domains(self) -> Iterator[DomainRecord]:
        return self._all(b"D", DomainRecord)

    # Accounts

    def account(self, number: int) -> AccountRecord:
        record = self.account_or_none(number)
        assert record is not None, "an address of no account"
        return record

    def account_or_none(self, number: int) -> AccountRecord | None:
        return self.get(keys.account(number), AccountRecord)

    def accounts(self, after: int = 0) -> Iterator[AccountRecord]:
        """Yield the accounts with numbers greater than `after`."""
        prefix = keys.kind(keys.DIRECTORY, b"A")
        return self.below(prefix, AccountRecord, keys.account(after + 1))

    def at(self, key: str) -> AccountRecord | None:
        """Return the account with exactly this address or alias."""
        record = self.get(keys.address(key), AddressRecord)
        return None if record is None else self.account(record.account)

    def named(self, text: str) -> AccountRecord:
        """Return the account with this address or alias. Raises NotFound, InvalidAddress."""
        record = self.at(parse_address(text).key)
        if record is None:
            raise NotFound(f"no account {text}")
        return record

    def addresses(self, after: str, limit_max: int) -> tuple[list[AccountRecord], bool]:
        """Return accounts in the order of their addresses, and whether there are more."""
        prefix = keys.kind(keys.DIRECTORY, b"L")
        found: list[AccountRecord] = []
        start = keys.address(after) + b"\0" if after else prefix
        for _, octets in self._state.scan(start, keys.after(prefix)):
            entry = records.decode(octets, AddressRecord)
            if entry.is_alias:
                continue
            if len(found) == limit_max:
                return found, True
            found.append(self.account(entry.account))
        return found, False

    def credential(self, number: int) -> CredentialRecord | None:
        return self.get(keys.credential(number), CredentialRecord)

    def sessions(self, number: int) -> list[SessionRecord]:
        return list(self.below(keys.sessions(number), SessionRecord))

    def app_passwords(self, number: int) -> list[AppPasswordRecord]:
        return list(self.below(keys.app_passwords(number), AppPasswordRecord))

    def invitations(self) -> list[tuple[bytes, InvitationRecord]]:
        """Return the invitations with the digests of their codes."""
        prefix = keys.kind(keys.DIRECTORY, b"V")
        return [
            (key[len(prefix) :], records.decode(octets, InvitationRecord))
            for key, octets in self._state.scan(prefix, keys.after(prefix))
        ]

    def shards(self) -> list[ShardRow]:
        return [
            ShardRow(ShardId(r.shard), r.kind, r.replicas, r.mailboxes, r.created_at_ms, r.founded)
            for r in self._all(b"S", ShardRecord)
        ]

    # Who takes mail

    def resolve(self, text: str) -> Account | Failed:
        """Return who takes mail for an address, or why nobody does."""
        try:
            return as_account(self._recipient(text))
        except MailError as error:
            return wire.failed(error)

    def _recipient(self, text: str) -> AccountRecord:
        address = parse_path(f"<{text}>")
        if address is None:
            raise InvalidAddress
        domain = self.get(keys.domain(address.domain), DomainRecord)
        local = not address.domain or domain is not None
        found = self.at(address.key) or self.at(address.base_key)
        if found is None and local and is_postmaster(address):
            found = self._postmaster(domain)
        if found is None and domain is not None and domain.catch_all:
            found = self.account(domain.catch_all)
        if found is not None:
            return found
        raise NoSuchMailbox if local else RelayDenied

    def _postmaster(self, domain: DomainRecord | None) -> AccountRecord | None:
        """Return who reads postmaster's mail (RFC 5321 §4.5.1): the first administrator,

        else the first account of the domain, else the first account of all.
        """
        number = self.first_admin()
        if not number and domain is not None:
            number = self.first_account(domain)
        return self.account(number) if number else next(self.accounts(), None)

    def first_admin(self) -> int:
        """Return the administrator with the least number, 0 if there is none."""
        known = self.record.first_admin
        return self.find_admin() if known < 0 else known

    def find_admin(self, after: int = 0) -> int:
        """Look for the first administrator beyond an account. Walks."""
        admins = (one.account for one in self.accounts(after) if one.role == "admin")
        return next(admins, 0)

    def first_account(self, domain: DomainRecord) -> int:
        """Return the account of a domain with the least number, 0 if there is none."""
        known = domain.first_account
        return self.find_account(domain.name) if known < 0 else known

    def find_account(self, name: str, after: int = 0) -> int:
        """Look for the first account of a domain beyond an account. Walks."""
        found = (one.account for one in self.accounts(after) if domain_of(one) == name)
        return next(found, 0)


def is_postmaster(address: Address) -> bool:
    return address.local.lower().partition("+")[0] == "postmaster"


def domain_of(record: AccountRecord) -> str:
    """Return the domain of an account's own address."""
    return record.address.rpartition("@")[2]


def as_account(record: AccountRecord) -> Account:
    """Return an account as others see it."""
    return Account(
        mailbox=MailboxId(record.account),
        address=record.address,
        shard=ShardId(record.shard),
        role=record.role,
        display_name=record.display_name,
        language=record.language,
        time_zone=record.time_zone,
        quota_bytes=record.quota_bytes,
        aliases=record.aliases,
        disabled=record.disabled,
    )


class DirectoryWriter(DirectoryReader):
    """The directory within one turn."""

    def __init__(self, overlay: Overlay) -> None:
        super().__init__(overlay)
        self._overlay = overlay
        self._record = super().record
        self._changed = False
        self._touched: set[int] | None = None  # None: nothing that was told can have changed
        self._touches_all = False

    @property
    def record(self) -> DirectoryRecord:
        return self._record

    def put(self, key: bytes, record: records.Record) -> None:
        self._overlay.put(key, records.encode(record))

    def delete(self, key: bytes) -> None:
        self._overlay.delete(key)

    def put_account(self, record: AccountRecord) -> None:
        self.put(keys.account(record.account), record)

    def put_domain(self, record: DomainRecord) -> None:
        self.put(keys.domain(record.name), record)

    def update(self, **changes: int | bytes) -> None:
        self._record = replace(self._record, **changes)
        self._changed = True

    def touch(self, *accounts: int) -> None:
        """Raise the version; what was told about these accounts may no longer be true."""
        self._touched = (self._touched or set()) | set(accounts)

    def touch_all(self) -> None:
        """Raise the version; anything that was told may no longer be true."""
        self.touch()
        self._touches_all = True

    def finish(self) -> None:
        """Write what the whole turn came to."""
        if self._touched is not None:
            version = self._record.version + 1
            everything = self._touches_all or len(self._touched) > TOUCHED_MAX
            accounts = None if everything else tuple(sorted(self._touched))
            recent = (*self._record.recent, Touched(version, accounts))[-RECENT_MAX:]
            self._record = replace(self._record, version=version, recent=recent)
        if self._changed or self._touched is not None:
            self.put(keys.directory(), self._record)

    def take_address(self, text: str, *, account: int, is_alias: bool) -> Address:
        """Give an address to an account. Raises InvalidAddress, NotFound (the domain),

        AlreadyExists.
        """
        address = parse_address(text)
        domain = self.domain(address.domain)
        if address.detail is not None:
            raise InvalidAddress("the part after + is the user's own, not part of an account")
        if self.at(address.key) is not None:
            raise AlreadyExists(f"{address} is taken")
        self.put(keys.address(address.key), AddressRecord(account, is_alias))
        self.touch(*([domain.catch_all] if domain.catch_all else []))
        if is_postmaster(address):
            self.touch_all()
        return address

    def count_mailbox(self, shard: int, difference: int) -> None:
        record = self.get(keys.shard(shard), ShardRecord)
        assert record is not None, "an account of no shard"
        self.put(keys.shard(shard), replace(record, mailboxes=record.mailboxes + difference))

    def end_session(self, record: SessionRecord) -> None:
        self.delete(keys.session(record.account, record.session))
        self.touch(record.account)

    def end_sessions(self, account: int, *, keep: int = 0) -> None:
        """End all sessions of an account but `keep`."""
        for record in self.sessions(account):
            if record.session != keep:
                self.end_session(record)

    def remove_app_passwords(self, account: int) -> None:
        for record in self.app_passwords(account):
            self.delete(keys.app_password(account, record.number))
        self.touch(account)


WriterTurn = Callable[[DirectoryWriter, int], Reply]


def directory_plan(turn: WriterTurn) -> Plan:
    """Return the shard's plan for a turn."""

    def plan(overlay: Overlay, now_ms: int) -> Planned:
        writer = DirectoryWriter(overlay)
        reply = turn(writer, now_ms)
        writer.finish()
        return Planned(wire.encode([reply]))

    return plan
