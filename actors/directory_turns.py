"""Turns and reads of the directory: pure over its keys. `actors/directory.py` commits them."""

from __future__ import annotations

import re
import zoneinfo
from collections.abc import Callable, Iterator
from typing import TypeVar

from msgspec.structs import replace

from actors import wire
from actors.commands import (
    Account,
    AddAccount,
    AddAlias,
    AddDomain,
    Done,
    Failed,
    MailboxId,
    RemoveAccount,
    RemoveAlias,
    RemoveDomain,
    Reply,
    SetPassword,
    SetProfile,
    ShardId,
    ShardRow,
)
from actors.packing import choose_shard
from mail.address import Address, parse_address, parse_domain, parse_path
from mail.errors import (
    AlreadyExists,
    Invalid,
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
    CredentialRecord,
    DirectoryRecord,
    DomainRecord,
    ShardRecord,
)
from storage.shard import Plan, Planned
from storage.transaction import Overlay, State

ALIASES_MAX = 100
ROLES = ("user", "admin")
# BCP 47 (RFC 5646 §2.1), as far as people's languages need it.
_LANGUAGE = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8}){0,4}\Z")

RecordT = TypeVar("RecordT", bound=records.Record)


class DirectoryReader:
    """What the directory says, over its keys."""

    def __init__(self, state: State) -> None:
        self._state = state

    def _get(self, key: bytes, cls: type[RecordT]) -> RecordT | None:
        octets = self._state.get(key)
        return None if octets is None else records.decode(octets, cls)

    def _all(self, letter: bytes, cls: type[RecordT]) -> Iterator[RecordT]:
        prefix = keys.kind(keys.DIRECTORY, letter)
        for _, octets in self._state.scan(prefix, keys.after(prefix)):
            yield records.decode(octets, cls)

    @property
    def record(self) -> DirectoryRecord:
        return self._get(keys.directory(), DirectoryRecord) or DirectoryRecord()

    def has_domain(self, name: str) -> bool:
        return self._state.get(keys.domain(name)) is not None

    def domains(self) -> list[str]:
        return [record.name for record in self._all(b"D", DomainRecord)]

    def account(self, number: int) -> AccountRecord:
        record = self._get(keys.account(number), AccountRecord)
        assert record is not None, "an address of no account"
        return record

    def accounts(self) -> Iterator[AccountRecord]:
        return self._all(b"A", AccountRecord)

    def at(self, key: str) -> AccountRecord | None:
        """Return the account with exactly this address or alias."""
        record = self._get(keys.address(key), AddressRecord)
        return None if record is None else self.account(record.account)

    def named(self, text: str) -> AccountRecord:
        """Return the account with this address or alias. Raises NotFound, InvalidAddress."""
        record = self.at(parse_address(text).key)
        if record is None:
            raise NotFound(f"no account {text}")
        return record

    def credential(self, number: int) -> CredentialRecord | None:
        return self._get(keys.credential(number), CredentialRecord)

    def shards(self) -> list[ShardRow]:
        return [
            ShardRow(ShardId(r.shard), r.kind, r.replicas, r.mailboxes, r.created_at_ms)
            for r in self._all(b"S", ShardRecord)
        ]

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
        local = not address.domain or self.has_domain(address.domain)
        found = self.at(address.key) or self.at(address.base_key)
        if found is None and local and address.local.lower() == "postmaster":
            found = self._postmaster(address)
        if found is not None:
            return found
        raise NoSuchMailbox if local else RelayDenied

    def _postmaster(self, address: Address) -> AccountRecord | None:
        """Return who reads postmaster's mail (RFC 5321 §4.5.1): the first administrator,

        else the first account of the domain, else the first account of all.
        """
        best: tuple[int, AccountRecord] | None = None
        for record in self.accounts():
            if record.role == "admin":
                return record
            rank = 0 if record.address.rpartition("@")[2] == address.domain else 1
            if best is None or rank < best[0]:
                best = (rank, record)
        return None if best is None else best[1]


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

    def put(self, key: bytes, record: records.Record) -> None:
        self._overlay.put(key, records.encode(record))

    def delete(self, key: bytes) -> None:
        self._overlay.delete(key)

    def put_account(self, record: AccountRecord) -> None:
        self.put(keys.account(record.account), record)

    def update(self, **changes: int) -> None:
        self.put(keys.directory(), replace(self.record, **changes))

    def take_address(self, text: str, *, account: int, is_alias: bool) -> str:
        """Give an address to an account and return it in its stored form.

        Raises InvalidAddress, NotFound (the domain), AlreadyExists.
        """
        address = parse_address(text)
        if not self.has_domain(address.domain):
            raise NotFound(f"no domain {address.domain}: add it first")
        if address.detail is not None:
            raise InvalidAddress("the part after + is the user's own, not part of an account")
        if self.at(address.key) is not None:
            raise AlreadyExists(f"{address} is taken")
        self.put(keys.address(address.key), AddressRecord(account, is_alias))
        return str(address)

    def count_mailbox(self, shard: int, difference: int) -> None:
        record = self._get(keys.shard(shard), ShardRecord)
        assert record is not None, "an account of no shard"
        self.put(keys.shard(shard), replace(record, mailboxes=record.mailboxes + difference))


WriterTurn = Callable[[DirectoryWriter, int], Reply]


def directory_plan(turn: WriterTurn) -> Plan:
    """Return the shard's plan for a turn; every turn raises the directory's version."""

    def plan(overlay: Overlay, now_ms: int) -> Planned:
        writer = DirectoryWriter(overlay)
        reply = turn(writer, now_ms)
        writer.update(version=writer.record.version + 1)
        return Planned(wire.encode([reply]))

    return plan


def add_domain(command: AddDomain) -> WriterTurn:
    def turn(writer: DirectoryWriter, now_ms: int) -> Reply:
        name = parse_domain(command.domain)
        if name.startswith("["):
            raise InvalidAddress("an address literal is no domain")
        if writer.has_domain(name):
            raise AlreadyExists(f"{name} is there already")
        writer.put(keys.domain(name), DomainRecord(name, now_ms))
        return Done()

    return turn


def remove_domain(command: RemoveDomain) -> WriterTurn:
    def turn(writer: DirectoryWriter, now_ms: int) -> Reply:
        name = parse_domain(command.domain)
        if not writer.has_domain(name):
            raise NotFound(f"no domain {name}")
        for record in writer.accounts():
            for address in (record.address, *record.aliases):
                if parse_address(address).domain == name:
                    raise Invalid(f"{name} still has the address {address}")
        writer.delete(keys.domain(name))
        return Done()

    return turn


def add_account(
    command: AddAccount, credential: CredentialRecord, *, node: str, actors_max: int
) -> WriterTurn:
    _check_profile(command.role, command.language, command.time_zone, command.quota_bytes)

    def turn(writer: DirectoryWriter, now_ms: int) -> Reply:
        number = writer.record.next_account
        address = writer.take_address(command.address, account=number, is_alias=False)
        shard = choose_shard(writer.shards(), actors_max=actors_max)
        if shard is None:
            shard = ShardId(writer.record.next_shard)
            writer.put(keys.shard(shard), ShardRecord(shard, "mailbox", (node,), 0, now_ms))
            writer.update(next_shard=shard + 1)
        writer.count_mailbox(shard, 1)
        record = AccountRecord(
            account=number,
            address=address,
            shard=shard,
            role=command.role,
            display_name=command.display_name,
            language=command.language,
            time_zone=command.time_zone,
            quota_bytes=command.quota_bytes,
            created_at_ms=now_ms,
        )
        writer.put_account(record)
        writer.put(keys.credential(number), credential)
        writer.update(next_account=number + 1)
        return as_account(record)

    return turn


def remove_account(command: RemoveAccount) -> WriterTurn:
    """Return the turn that removes an account; its reply says which mailbox is to be removed."""

    def turn(writer: DirectoryWriter, now_ms: int) -> Reply:
        record = writer.named(command.address)
        for address in (record.address, *record.aliases):
            writer.delete(keys.address(parse_address(address).key))
        writer.delete(keys.account(record.account))
        writer.delete(keys.credential(record.account))
        writer.count_mailbox(record.shard, -1)
        return as_account(record)

    return turn


def set_password(command: SetPassword, credential: CredentialRecord) -> WriterTurn:
    def turn(writer: DirectoryWriter, now_ms: int) -> Reply:
        writer.put(keys.credential(writer.named(command.address).account), credential)
        return Done()

    return turn


def set_profile(command: SetProfile) -> WriterTurn:
    names = ("display_name", "language", "time_zone", "role", "quota_bytes", "disabled")
    changes = {n: v for n in names if (v := getattr(command, n)) is not None}

    def turn(writer: DirectoryWriter, now_ms: int) -> Reply:
        record = replace(writer.named(command.address), **changes)
        _check_profile(record.role, record.language, record.time_zone, record.quota_bytes)
        writer.put_account(record)
        return as_account(record)

    return turn


def add_alias(command: AddAlias) -> WriterTurn:
    def turn(writer: DirectoryWriter, now_ms: int) -> Reply:
        record = writer.named(command.address)
        if len(record.aliases) >= ALIASES_MAX:
            raise Invalid(f"an account has at most {ALIASES_MAX} aliases")
        alias = writer.take_address(command.alias, account=record.account, is_alias=True)
        writer.put_account(replace(record, aliases=(*record.aliases, alias)))
        return Done()

    return turn


def remove_alias(command: RemoveAlias) -> WriterTurn:
    def turn(writer: DirectoryWriter, now_ms: int) -> Reply:
        key = parse_address(command.alias).key
        record = writer.named(command.alias)
        left = tuple(alias for alias in record.aliases if parse_address(alias).key != key)
        if len(left) == len(record.aliases):
            raise Invalid(f"{command.alias} is the account's own address")
        writer.delete(keys.address(key))
        writer.put_account(replace(record, aliases=left))
        return Done()

    return turn


def _check_profile(role: str, language: str, time_zone: str, quota_bytes: int) -> None:
    if role not in ROLES:
        raise Invalid(f"the role is one of {', '.join(ROLES)}")
    if not _LANGUAGE.match(language):
        raise Invalid("the language is a tag such as en or ko")
    if quota_bytes < 0:
        raise Invalid("the quota is not negative")
    try:
        zoneinfo.ZoneInfo(time_zone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise Invalid("the time zone is a name such as Asia/Seoul") from None
