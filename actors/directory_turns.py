"""Turns of the directory about domains, accounts and aliases. `actors/directory.py` commits them.

Removing an account that is a domain's catch-all is refused: unknown addresses would begin to
be turned away, which nobody would notice.
"""

from __future__ import annotations

import re
import zoneinfo
from collections.abc import Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from actors import wire
from actors.account_commands import (
    ACCOUNTS_IN_BATCH_MAX,
    QUOTA_OF_DOMAIN,
    SIGNUPS,
    AccountsAdded,
    AddAccounts,
    DomainShown,
    SetDomain,
)
from actors.commands import (
    DIRECTORY_SHARD,
    Account,
    AddAccount,
    AddAlias,
    AddDomain,
    Done,
    Failed,
    PlaceShards,
    RemoveAccount,
    RemoveAlias,
    RemoveDomain,
    Reply,
    SetPassword,
    SetProfile,
    ShardId,
)
from actors.directory_state import (
    DirectoryReader,
    DirectoryWriter,
    WriterTurn,
    as_account,
    domain_of,
)
from actors.packing import Packing
from mail.address import parse_address, parse_domain
from mail.errors import AlreadyExists, Invalid, InvalidAddress, MailError, NotFound
from storage import keys
from storage.records import AccountRecord, CredentialRecord, DomainRecord, ShardRecord

ALIASES_MAX = 100
SIGNUPS_PER_DAY_MAX = 1_000_000
ROLES = ("user", "admin")
# BCP 47 (RFC 5646 §2.1), as far as people's languages need it.
_LANGUAGE = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8}){0,4}\Z")


# Domains


def add_domain(command: AddDomain) -> WriterTurn:
    def turn(writer: DirectoryWriter, now_ms: int) -> Reply:
        name = parse_domain(command.domain)
        if name.startswith("["):
            raise InvalidAddress("an address literal is no domain")
        if writer.has_domain(name):
            raise AlreadyExists(f"{name} is there already")
        writer.put_domain(DomainRecord(name, now_ms, first_account=0))
        writer.touch()
        return Done()

    return turn


def remove_domain(command: RemoveDomain) -> WriterTurn:
    def turn(writer: DirectoryWriter, now_ms: int) -> Reply:
        record = writer.domain(parse_domain(command.domain))
        for account in writer.accounts():
            for address in (account.address, *account.aliases):
                if parse_address(address).domain == record.name:
                    raise Invalid(f"{record.name} still has the address {address}")
        writer.delete(keys.domain(record.name))
        writer.touch_all()  # Its catch-all and its postmaster.
        return Done()

    return turn


def set_domain(command: SetDomain) -> WriterTurn:
    def turn(writer: DirectoryWriter, now_ms: int) -> Reply:
        record = writer.domain(parse_domain(command.domain))
        if command.signup is not None:
            record = replace(record, signup=command.signup)
        if command.signups_per_day_max is not None:
            record = replace(record, signups_per_day_max=command.signups_per_day_max)
        if command.quota_bytes is not None:
            record = replace(record, quota_bytes=command.quota_bytes)
        if command.catch_all is not None:
            number = writer.named(command.catch_all).account if command.catch_all else 0
            if record.catch_all and record.catch_all != number:
                writer.touch(record.catch_all)
            record = replace(record, catch_all=number)
        _check_domain(record)
        writer.put_domain(record)
        return domain_shown(writer, record)

    return turn


def _check_domain(record: DomainRecord) -> None:
    if record.signup not in SIGNUPS:
        raise Invalid(f"sign-up is one of {', '.join(SIGNUPS)}")
    if not 0 <= record.signups_per_day_max <= SIGNUPS_PER_DAY_MAX:
        raise Invalid(f"sign-ups a day are from 0 to {SIGNUPS_PER_DAY_MAX}")
    if record.quota_bytes < 0:
        raise Invalid("the quota is not negative")


def domain_shown(reader: DirectoryReader, record: DomainRecord) -> DomainShown:
    """Return a domain as others see it."""
    return DomainShown(
        domain=record.name,
        signup=record.signup,
        signups_per_day_max=record.signups_per_day_max,
        quota_bytes=record.quota_bytes,
        catch_all=reader.account(record.catch_all).address if record.catch_all else "",
        created_at_ms=record.created_at_ms,
    )


# Accounts


@dataclass(frozen=True, slots=True)
class Placing:
    """Where new shards go."""

    nodes: tuple[str, ...]  # that are alive, at least one
    silent: tuple[str, ...]  # that are not, and will come back
    factor: int  # replicas of each
    actors_max: int  # of mailboxes


class Newcomers:
    """Makes accounts within one turn; the shard table is read once, however many they are."""

    def __init__(self, writer: DirectoryWriter, now_ms: int, placing: Placing) -> None:
        self._writer = writer
        self._now_ms = now_ms
        self._placing = placing
        self._packing = Packing(writer.shards(), actors_max=placing.actors_max)

    def add(self, command: AddAccount, credential: CredentialRecord | None) -> AccountRecord:
        """Make one account. A refusal has written nothing.

        Raises Invalid, InvalidAddress, NotFound (the domain), AlreadyExists.
        """
        writer = self._writer
        quota_bytes = command.quota_bytes
        if quota_bytes == QUOTA_OF_DOMAIN:
            quota_bytes = writer.domain(parse_address(command.address).domain).quota_bytes
        _check_profile(command.role, command.language, command.time_zone, quota_bytes)
        number = writer.record.next_account
        address = writer.take_address(command.address, account=number, is_alias=False)
        record = AccountRecord(
            account=number,
            address=str(address),
            shard=self._shard(),
            role=command.role,
            display_name=command.display_name,
            language=command.language,
            time_zone=command.time_zone,
            quota_bytes=quota_bytes,
            created_at_ms=self._now_ms,
        )
        writer.put_account(record)
        if credential is not None:
            writer.put(keys.credential(number), credential)
        self._take_office(record)
        writer.update(next_account=number + 1)
        return record

    def _shard(self) -> ShardId:
        """Return the shard of one more mailbox; it is counted there."""
        writer = self._writer
        shard = self._packing.choose()
        if shard is None:
            shard = ShardId(writer.record.next_shard)
            # Each shard begins on another node, and with that has its primary there at first.
            alive = self._placing.nodes
            first = shard % len(alive)
            nodes = (*alive[first:], *alive[:first], *self._placing.silent)
            replicas = nodes[: self._placing.factor]
            record = ShardRecord(shard, "mailbox", replicas, 0, self._now_ms)
            writer.put(keys.shard(shard), record)
            writer.update(next_shard=shard + 1)
            writer.touch()  # Supervisors follow the version: replicas are to be started.
            self._packing.add(shard)
        writer.count_mailbox(shard, 1)
        return shard

    def _take_office(self, record: AccountRecord) -> None:
        """Note who is first: postmaster's mail may be this account's from now on."""
        writer = self._writer
        first_admin = writer.first_admin()
        if record.role == "admin" and not first_admin:
            first_admin = record.account
            writer.touch_all()
        if writer.record.first_admin != first_admin:
            writer.update(first_admin=first_admin)
        domain = writer.domain(domain_of(record))
        first = writer.first_account(domain)
        if not first:
            first = record.account
            writer.touch_all()
        if domain.first_account != first:
            writer.put_domain(replace(domain, first_account=first))


def add_account(
    command: AddAccount, credential: CredentialRecord | None, placing: Placing
) -> WriterTurn:
    def turn(writer: DirectoryWriter, now_ms: int) -> Reply:
        newcomers = Newcomers(writer, now_ms, placing)
        return as_account(newcomers.add(command, credential))

    return turn


def add_accounts(
    command: AddAccounts,
    credentials: Sequence[CredentialRecord | None],
    placing: Placing,
) -> WriterTurn:
    """Return the turn that makes many accounts; one that is refused stops no other."""
    if len(command.accounts) > ACCOUNTS_IN_BATCH_MAX:
        raise Invalid(f"at most {ACCOUNTS_IN_BATCH_MAX} accounts at once")

    def turn(writer: DirectoryWriter, now_ms: int) -> Reply:
        newcomers = Newcomers(writer, now_ms, placing)
        results: list[Account | Failed] = []
        for new, credential in zip(command.accounts, credentials, strict=True):
            one = AddAccount(
                request_id=command.request_id,
                address=new.address,
                password="",
                quota_bytes=command.quota_bytes,
                display_name=new.display_name,
            )
            try:
                results.append(as_account(newcomers.add(one, credential)))
            except MailError as error:
                results.append(wire.failed(error))
        return AccountsAdded(tuple(results))

    return turn


def place_shards(command: PlaceShards) -> WriterTurn:
    """Return the turn that says where replicas belong. Raises NotFound."""

    def turn(writer: DirectoryWriter, now_ms: int) -> Reply:
        for place in command.places:
            record = writer.get(keys.shard(place.shard), ShardRecord)
            if record is None and place.shard == DIRECTORY_SHARD:
                record = ShardRecord(place.shard, "directory", (), 0, now_ms)
            if record is None:
                raise NotFound(f"no shard {place.shard}")
            if place.replicas is not None:
                record = replace(record, replicas=place.replicas)
            if place.founded is not None:
                record = replace(record, founded=place.founded)
            writer.put(keys.shard(place.shard), record)
        writer.touch()
        return Done()

    return turn


def remove_account(command: RemoveAccount) -> WriterTurn:
    """Return the turn that removes an account; its reply says which mailbox is to be removed."""

    def turn(writer: DirectoryWriter, now_ms: int) -> Reply:
        record = writer.named(command.address)
        for domain in writer.domains():
            if domain.catch_all == record.account:
                raise Invalid(
                    f"{record.address} is the catch-all of {domain.name}: "
                    "give that to another account, or to none, first"
                )
        for address in (record.address, *record.aliases):
            writer.delete(keys.address(parse_address(address).key))
        writer.delete(keys.account(record.account))
        writer.delete(keys.credential(record.account))
        writer.end_sessions(record.account)
        writer.remove_app_passwords(record.account)
        writer.count_mailbox(record.shard, -1)
        _leave_office(writer, record)
        writer.touch(record.account)
        return as_account(record)

    return turn


def _leave_office(writer: DirectoryWriter, record: AccountRecord) -> None:
    if writer.record.first_admin == record.account:
        writer.update(first_admin=writer.find_admin(after=record.account))
    domain = writer.domain(domain_of(record))
    if domain.first_account == record.account:
        first = writer.find_account(domain.name, after=record.account)
        writer.put_domain(replace(domain, first_account=first))


def set_password(command: SetPassword, credential: CredentialRecord) -> WriterTurn:
    """Return the turn that changes a password and ends what was signed in with the old one."""

    def turn(writer: DirectoryWriter, now_ms: int) -> Reply:
        account = writer.named(command.address).account
        writer.put(keys.credential(account), credential)
        writer.end_sessions(account)
        if not command.keeps_app_passwords:
            writer.remove_app_passwords(account)
        writer.touch(account)
        return Done()

    return turn


def set_profile(command: SetProfile) -> WriterTurn:
    names = ("display_name", "language", "time_zone", "role", "quota_bytes", "disabled")
    changes = {n: v for n in names if (v := getattr(command, n)) is not None}

    def turn(writer: DirectoryWriter, now_ms: int) -> Reply:
        before = writer.named(command.address)
        record = replace(before, **changes)
        _check_profile(record.role, record.language, record.time_zone, record.quota_bytes)
        writer.put_account(record)
        writer.touch(record.account)
        if record.disabled and not before.disabled:
            writer.end_sessions(record.account)
        if record.role != before.role:
            writer.update(first_admin=writer.find_admin())
            writer.touch_all()
        return as_account(record)

    return turn


# Aliases


def add_alias(command: AddAlias) -> WriterTurn:
    def turn(writer: DirectoryWriter, now_ms: int) -> Reply:
        record = writer.named(command.address)
        if len(record.aliases) >= ALIASES_MAX:
            raise Invalid(f"an account has at most {ALIASES_MAX} aliases")
        alias = writer.take_address(command.alias, account=record.account, is_alias=True)
        writer.put_account(replace(record, aliases=(*record.aliases, str(alias))))
        writer.touch(record.account)
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
        writer.touch(record.account)
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
