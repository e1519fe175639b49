"""Turns about sign-ins: sessions with their tokens, app passwords, and what each may do.

A session begins with the account's password and lives while its refresh token is used. Each
refresh gives a new refresh token and a new access token; access tokens given before stay good
until they expire, since requests with them may be on their way. A refresh token that comes a
second time ends the session (`actors/tokens.py`), but for a grace: the answer may have been
lost, so the one before the newest may come again for REFRESH_GRACE_MS after it was used first.
Its repeat gives new tokens and voids the newest, which then counts as used.

On failure  SignInRefused, which tells no more than that.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable

from msgspec.structs import replace

from actors import wire
from actors.account_commands import (
    BY_APP_PASSWORD,
    BY_PASSWORD,
    BY_TOKEN,
    SCOPE_ADMIN,
    SCOPE_MAIL,
    SCOPE_MAIL_READ,
    SCOPES,
    USER_SCOPES,
    Access,
    AddAppPassword,
    AppPassword,
    EndSessions,
    Held,
    IssueToken,
    RefreshToken,
    RemoveAppPassword,
    RevokeToken,
    ScramKeys,
    SessionRow,
    TokenIssued,
)
from actors.commands import Done, MailboxId, Reply
from actors.credentials import SALT_BYTES, SCRAM_ITERATIONS
from actors.directory_state import DirectoryReader, DirectoryWriter, WriterTurn, as_account
from mail.address import parse_address
from mail.errors import Invalid, InvalidAddress, NotFound, SignInRefused
from storage import keys
from storage.records import (
    AccessToken,
    AccountRecord,
    AppPasswordRecord,
    CredentialRecord,
    SessionRecord,
)

ACCESS_MS = 3_600_000  # an access token lives for an hour
REFRESH_MS = 30 * 24 * 3_600_000  # a session that is not used ends after 30 days
REFRESH_GRACE_MS = 60_000  # longer than any client waits for an answer before it repeats
SESSIONS_MAX = 64  # of an account; beyond, the one not used for the longest time ends
ACCESS_TOKENS_MAX = 8  # of a session at once; beyond, the oldest ends
APP_PASSWORDS_MAX = 32  # of an account; each sign-in by app password reads them all
LABEL_LENGTH_MAX = 200
USE_GRAIN_MS = 3_600_000  # how exactly the last use is known; each note is a turn


def scopes_of(record: AccountRecord) -> tuple[str, ...]:
    """Return all that an account may do."""
    return (*USER_SCOPES, SCOPE_ADMIN) if record.role == "admin" else USER_SCOPES


def granted(record: AccountRecord, wanted: Iterable[str]) -> tuple[str, ...]:
    """Return the wanted scopes in their order, all of the account's when none is named.

    Raises Invalid for one that there is not or that the account does not have.
    """
    own = scopes_of(record)
    names = set(wanted) or set(own)
    may = {*own, SCOPE_MAIL_READ}
    if unknown := names - set(SCOPES):
        raise Invalid(f"no such scope: {sorted(unknown)[0][:40]!r}; there are {', '.join(SCOPES)}")
    if beyond := names - may:
        raise Invalid(f"this account may not have the scope {sorted(beyond)[0]}")
    return tuple(name for name in SCOPES if name in names)


def _effective(record: AccountRecord, scopes: Iterable[str]) -> tuple[str, ...]:
    """Return what is left of scopes that were granted once: an administrator may be one no more."""
    own = scopes_of(record)
    return tuple(name for name in scopes if name in own or name == SCOPE_MAIL_READ)


def checked_label(label: str) -> str:
    """Return a label as it is kept: one line. Raises Invalid."""
    text = " ".join("".join(c if c.isprintable() else " " for c in label).split())
    if len(text) > LABEL_LENGTH_MAX:
        raise Invalid(f"the label is longer than {LABEL_LENGTH_MAX} characters")
    return text


# Whose sign-in it is ----------------------------------------------------------------------


def password_access(record: AccountRecord, credential: CredentialRecord) -> Access:
    """Return what the right password opens."""
    held = Held(MailboxId(record.account), BY_PASSWORD, key=_credential_key(credential))
    return Access(as_account(record), scopes_of(record), held)


def app_password_access(
    reader: DirectoryReader, record: AccountRecord, digest: bytes
) -> Access | None:
    """Return what an app password opens, None when it is none of this account."""
    for one in reader.app_passwords(record.account):
        if hmac.compare_digest(one.digest, digest):
            held = Held(MailboxId(record.account), BY_APP_PASSWORD, one.number, one.digest)
            return Access(as_account(record), _effective(record, one.scopes), held)
    return None


def confirmed(reader: DirectoryReader, held: Held, now_ms: int) -> Access:
    """Return what a credential opens now. Raises SignInRefused when it opens nothing."""
    record = reader.account_or_none(held.mailbox)
    access: Access | None = None
    if record is not None and not record.disabled:
        match held.by:
            case "password":
                credential = reader.credential(held.mailbox)
                if credential and hmac.compare_digest(_credential_key(credential), held.key):
                    access = password_access(record, credential)
            case "app-password":
                access = app_password_access(reader, record, held.key)
            case "token":
                access = _token_access(reader, record, held, now_ms)
    if access is None:
        raise SignInRefused
    return access


def _token_access(
    reader: DirectoryReader, record: AccountRecord, held: Held, now_ms: int
) -> Access | None:
    session = reader.get(keys.session(held.mailbox, held.entry), SessionRecord)
    for token in session.access if session is not None else ():
        if hmac.compare_digest(token.digest, held.key) and now_ms < token.expires_at_ms:
            scopes = _effective(record, token.scopes)
            return Access(as_account(record), scopes, held, token.expires_at_ms)
    return None


def _credential_key(credential: CredentialRecord) -> bytes:
    return hashlib.sha256(credential.argon2id.encode()).digest()


# SCRAM ------------------------------------------------------------------------------------


def scram_keys(record: AccountRecord, credential: CredentialRecord) -> ScramKeys:
    """Return the keys of an account's password."""
    return ScramKeys(
        salt=credential.scram_salt,
        iterations=credential.scram_iterations,
        stored_key=credential.scram_stored_key,
        server_key=credential.scram_server_key,
        access=password_access(record, credential),
    )


def decoy_keys(secret: bytes, name: str) -> ScramKeys:
    """Return what cannot be told from the keys of an account, the same for the same name."""
    try:
        key = parse_address(name).key
    except InvalidAddress:
        key = name

    def made(what: str) -> bytes:
        text = f"{what}\0{key}".encode("utf-8", "surrogatepass")
        return hmac.digest(secret, text, "sha256")

    return ScramKeys(
        salt=made("salt")[:SALT_BYTES],
        iterations=SCRAM_ITERATIONS,
        stored_key=made("stored key"),
        server_key=made("server key"),
    )


def keep_decoy_secret(secret: bytes) -> WriterTurn:
    """Return the turn that keeps the secret, unless there is one."""

    def turn(writer: DirectoryWriter, now_ms: int) -> Reply:
        if not writer.record.decoy_secret:
            writer.update(decoy_secret=secret)
        return Done()

    return turn


# Sessions ---------------------------------------------------------------------------------


def issue_token(command: IssueToken, checked: CredentialRecord) -> WriterTurn:
    """Return the turn that begins a session, if the password is still the one that was checked."""
    label = checked_label(command.label)

    def turn(writer: DirectoryWriter, now_ms: int) -> Reply:
        record = writer.at(parse_address(command.address).key)
        if record is None or record.disabled or writer.credential(record.account) != checked:
            raise SignInRefused
        scopes = granted(record, command.scopes)
        _make_room(writer, record.account, now_ms)
        token = AccessToken(command.access, now_ms + ACCESS_MS, scopes)
        session = SessionRecord(
            session=command.session,
            account=record.account,
            label=label,
            scopes=scopes,
            created_at_ms=now_ms,
            used_at_ms=now_ms,
            expires_at_ms=now_ms + REFRESH_MS,
            family=command.family,
            refresh=command.refresh,
            access=(token,),
        )
        writer.put(keys.session(record.account, command.session), session)
        return _issued(session, token)

    return turn


def _make_room(writer: DirectoryWriter, account: int, now_ms: int) -> None:
    """End what has expired, and the sessions not used for the longest time above the limit."""
    sessions = sorted(writer.sessions(account), key=lambda one: one.used_at_ms)
    left = [one for one in sessions if now_ms < one.expires_at_ms]
    for one in sessions:
        if now_ms >= one.expires_at_ms:
            writer.delete(keys.session(account, one.session))  # Its tokens have expired with it.
    for one in left[: max(0, len(left) - SESSIONS_MAX + 1)]:
        writer.end_session(one)


def _issued(session: SessionRecord, token: AccessToken) -> TokenIssued:
    return TokenIssued(
        MailboxId(session.account), token.scopes, token.expires_at_ms, session.expires_at_ms
    )


def refresh_token(command: RefreshToken) -> WriterTurn:
    """Return the turn that exchanges a refresh token, or ends the session of a used one."""

    def turn(writer: DirectoryWriter, now_ms: int) -> Reply:
        session = writer.get(keys.session(command.mailbox, command.session), SessionRecord)
        record = writer.account_or_none(command.mailbox)
        if session is None or record is None or record.disabled:
            raise SignInRefused
        if now_ms >= session.expires_at_ms or not hmac.compare_digest(
            session.family, command.family
        ):
            raise SignInRefused
        is_newest = hmac.compare_digest(session.refresh, command.presented)
        is_repeat = (
            hmac.compare_digest(session.previous_refresh, command.presented)
            and now_ms - session.rotated_at_ms <= REFRESH_GRACE_MS
        )
        if not is_newest and not is_repeat:
            writer.end_session(session)
            return wire.failed(SignInRefused())  # An answer, not an error: the end is committed.
        scopes = _effective(record, session.scopes)
        if command.scopes:
            scopes = _narrowed(scopes, command.scopes)
        token = AccessToken(command.access, now_ms + ACCESS_MS, scopes)
        living = [one for one in session.access if now_ms < one.expires_at_ms]
        session = replace(
            session,
            used_at_ms=now_ms,
            expires_at_ms=now_ms + REFRESH_MS,
            refresh=command.refresh,
            previous_refresh=command.presented,
            rotated_at_ms=now_ms if is_newest else session.rotated_at_ms,
            access=(*living, token)[-ACCESS_TOKENS_MAX:],
        )
        writer.put(keys.session(command.mailbox, command.session), session)
        return _issued(session, token)

    return turn


def _narrowed(scopes: tuple[str, ...], wanted: tuple[str, ...]) -> tuple[str, ...]:
    """Return the wanted scopes (RFC 6749 §6: none beyond the session's). Raises Invalid."""
    may = {*scopes, SCOPE_MAIL_READ} if SCOPE_MAIL in scopes else set(scopes)
    if not set(wanted) <= may:
        raise Invalid("that scope was not granted to this session")
    return tuple(name for name in SCOPES if name in wanted)


def revoke_token(command: RevokeToken) -> WriterTurn:
    """Return the turn that ends the session of a token (RFC 7009 §2.1), if it is one."""

    def turn(writer: DirectoryWriter, now_ms: int) -> Reply:
        session = writer.get(keys.session(command.mailbox, command.session), SessionRecord)
        if session is None:
            return Done()
        is_refresh = bool(command.family) and hmac.compare_digest(session.family, command.family)
        is_access = any(hmac.compare_digest(one.digest, command.access) for one in session.access)
        if is_refresh or is_access:
            writer.end_session(session)
        return Done()

    return turn


def end_sessions(command: EndSessions) -> WriterTurn:
    def turn(writer: DirectoryWriter, now_ms: int) -> Reply:
        if not command.session:
            writer.end_sessions(command.mailbox, keep=command.keep)
            return Done()
        session = writer.get(keys.session(command.mailbox, command.session), SessionRecord)
        if session is None:
            raise NotFound("no such session")
        writer.end_session(session)
        return Done()

    return turn


def session_rows(reader: DirectoryReader, mailbox: int, now_ms: int) -> tuple[SessionRow, ...]:
    """Return the sessions of an account, the one used last first."""
    living = [one for one in reader.sessions(mailbox) if now_ms < one.expires_at_ms]
    living.sort(key=lambda one: one.used_at_ms, reverse=True)
    return tuple(
        SessionRow(
            one.session, one.label, one.scopes, one.created_at_ms, one.used_at_ms, one.expires_at_ms
        )
        for one in living
    )


# App passwords ----------------------------------------------------------------------------


def add_app_password(command: AddAppPassword) -> WriterTurn:
    label = checked_label(command.label)
    if not command.scopes:
        raise Invalid(f"name at least one scope of {', '.join(SCOPES)}")

    def turn(writer: DirectoryWriter, now_ms: int) -> Reply:
        record = writer.account_or_none(command.mailbox)
        if record is None:
            raise NotFound("no such account")
        others = writer.app_passwords(record.account)
        if len(others) >= APP_PASSWORDS_MAX:
            raise Invalid(f"an account has at most {APP_PASSWORDS_MAX} app passwords")
        made = AppPasswordRecord(
            number=max((one.number for one in others), default=0) + 1,
            account=record.account,
            label=label,
            scopes=granted(record, command.scopes),
            digest=command.digest,
            created_at_ms=now_ms,
        )
        writer.put(keys.app_password(record.account, made.number), made)
        return app_password_shown(made)

    return turn


def remove_app_password(command: RemoveAppPassword) -> WriterTurn:
    def turn(writer: DirectoryWriter, now_ms: int) -> Reply:
        key = keys.app_password(command.mailbox, command.number)
        if writer.get(key, AppPasswordRecord) is None:
            raise NotFound("no such app password")
        writer.delete(key)
        writer.touch(command.mailbox)
        return Done()

    return turn


def app_password_shown(record: AppPasswordRecord) -> AppPassword:
    """Return an app password as its owner sees it."""
    return AppPassword(
        record.number, record.label, record.scopes, record.created_at_ms, record.used_at_ms
    )


# When they were used ----------------------------------------------------------------------


def wants_note(reader: DirectoryReader, held: Held, now_ms: int) -> bool:
    """Say whether the use of a credential is worth a note: they are kept to USE_GRAIN_MS."""
    record = _used_record(reader, held)
    return record is not None and now_ms - record.used_at_ms >= USE_GRAIN_MS


def note_uses(uses: Iterable[tuple[Held, int]]) -> WriterTurn:
    """Return the turn that notes when credentials were used; those that are gone stay gone."""

    def turn(writer: DirectoryWriter, now_ms: int) -> Reply:
        for held, used_at_ms in uses:
            record = _used_record(writer, held)
            if record is not None and record.used_at_ms < used_at_ms:
                writer.put(_used_key(held), replace(record, used_at_ms=used_at_ms))
        return Done()

    return turn


def _used_record(reader: DirectoryReader, held: Held) -> SessionRecord | AppPasswordRecord | None:
    if held.by == BY_TOKEN:
        return reader.get(_used_key(held), SessionRecord)
    if held.by == BY_APP_PASSWORD:
        return reader.get(_used_key(held), AppPasswordRecord)
    return None


def _used_key(held: Held) -> bytes:
    key = keys.session if held.by == BY_TOKEN else keys.app_password
    return key(held.mailbox, held.entry)
