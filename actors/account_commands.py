"""Commands to the directory about how people sign in and sign up (see `actors/commands.py`).

No secret that we make travels here: its maker, a gateway or the operator's command, keeps the
text and sends SHA-256 digests. So a repeated command has one effect, and neither the log nor
the remembered replies hold anything that opens a mailbox.
"""

from __future__ import annotations

import msgspec

from actors.commands import Account, Command, Failed, MailboxId, Reply, RequestId

BY_PASSWORD, BY_APP_PASSWORD, BY_TOKEN = "password", "app-password", "token"

SCOPE_MAIL, SCOPE_MAIL_READ, SCOPE_SUBMIT = "mail", "mail:read", "submit"
SCOPE_IMAP, SCOPE_ADMIN = "imap", "admin"
SCOPES = (SCOPE_MAIL, SCOPE_MAIL_READ, SCOPE_SUBMIT, SCOPE_IMAP, SCOPE_ADMIN)
# What every account may do with its own password; administrators have SCOPE_ADMIN besides.
USER_SCOPES = (SCOPE_MAIL, SCOPE_SUBMIT, SCOPE_IMAP)


class Held(msgspec.Struct, frozen=True, array_like=True):
    """Which credential somebody signed in with; says nothing that could be used to sign in."""

    mailbox: MailboxId
    by: str  # BY_PASSWORD, BY_APP_PASSWORD or BY_TOKEN
    entry: int = 0  # number of the session or app password
    key: bytes = b""  # digest: of the password's record, of the app password, of the access token


class Access(Reply, frozen=True):
    """Somebody has signed in: whose account it is and what they may do."""

    account: Account
    scopes: tuple[str, ...]
    held: Held
    expires_at_ms: int = 0  # 0: with its credential

    @property
    def is_full(self) -> bool:
        """Say whether this may also manage passwords and sessions."""
        return self.held.by != BY_APP_PASSWORD and set(USER_SCOPES) <= set(self.scopes)

    @property
    def may_read_mail(self) -> bool:
        return SCOPE_MAIL in self.scopes or SCOPE_MAIL_READ in self.scopes

    @property
    def is_read_only(self) -> bool:
        return SCOPE_MAIL not in self.scopes

    def allows(self, scope: str) -> bool:
        """Say whether one of SCOPES was granted."""
        return scope in self.scopes or (scope == SCOPE_MAIL_READ and SCOPE_MAIL in self.scopes)


class GetScramKeys(Command, frozen=True):
    """Ask for what SCRAM-SHA-256 (RFC 7677) needs of an account's password.

    A name that nobody has gets an answer of the same form, always the same for the same name:
    who exists is not told. App passwords have no keys.
    """

    address: str


class ScramKeys(Reply, frozen=True):
    """The keys of a password (RFC 5802 §3), and what the right proof opens."""

    salt: bytes
    iterations: int
    stored_key: bytes
    server_key: bytes
    access: Access | None = None  # None: nobody's, and no proof is right

    def __repr__(self) -> str:
        return "ScramKeys()"  # What a log could show would do for guessing.


class Confirm(Command, frozen=True):
    """Say of each credential whether it still opens its account."""

    held: tuple[Held, ...]


class Confirmed(Reply, frozen=True):
    """One item a credential, in order: an Access, or Failed (SignInRefused)."""

    results: tuple[Access | Failed, ...]


# Sessions ---------------------------------------------------------------------------------


class IssueToken(Command, frozen=True):
    """Begin a session by password. Fails with SignInRefused, Invalid (the scopes)."""

    request_id: RequestId
    address: str
    password: str
    scopes: tuple[str, ...]  # empty: all that the account may do
    label: str
    session: int  # u64, random
    family: bytes  # digests, see `actors/tokens.py`
    refresh: bytes
    access: bytes


class RefreshToken(Command, frozen=True):
    """Exchange a refresh token for new tokens. Fails with SignInRefused, Invalid (the scopes)."""

    request_id: RequestId
    mailbox: MailboxId
    session: int
    family: bytes
    presented: bytes  # digest of the refresh token that is given back
    refresh: bytes
    access: bytes
    scopes: tuple[str, ...] = ()  # of the access token; empty: those of the session


class TokenIssued(Reply, frozen=True):
    mailbox: MailboxId
    scopes: tuple[str, ...]
    access_expires_at_ms: int
    refresh_expires_at_ms: int


class RevokeToken(Command, frozen=True):
    """End the session that a token belongs to; a token of none is no error (RFC 7009 §2.2)."""

    request_id: RequestId
    mailbox: MailboxId
    session: int
    family: bytes = b""  # of a refresh token
    access: bytes = b""  # or of an access token


class ListSessions(Command, frozen=True):
    mailbox: MailboxId


class SessionRow(msgspec.Struct, frozen=True, array_like=True):
    session: int
    label: str
    scopes: tuple[str, ...]
    created_at_ms: int
    used_at_ms: int  # to about an hour
    expires_at_ms: int


class Sessions(Reply, frozen=True):
    sessions: tuple[SessionRow, ...]


class EndSessions(Command, frozen=True):
    """End one session (NotFound if there is none), or all but `keep` when `session` is 0."""

    request_id: RequestId
    mailbox: MailboxId
    session: int = 0
    keep: int = 0


# App passwords ----------------------------------------------------------------------------


class AddAppPassword(Command, frozen=True):
    request_id: RequestId
    mailbox: MailboxId
    digest: bytes
    label: str
    scopes: tuple[str, ...]


class RemoveAppPassword(Command, frozen=True):
    request_id: RequestId
    mailbox: MailboxId
    number: int


class ListAppPasswords(Command, frozen=True):
    mailbox: MailboxId


class AppPassword(Reply, frozen=True):
    """One app password as its owner sees it: never its text."""

    number: int
    label: str
    scopes: tuple[str, ...]
    created_at_ms: int
    used_at_ms: int = 0  # to about an hour; 0: never


class AppPasswords(Reply, frozen=True):
    app_passwords: tuple[AppPassword, ...]


# Domains and sign-up ----------------------------------------------------------------------

SIGNUP_CLOSED, SIGNUP_INVITATION, SIGNUP_OPEN = "closed", "invitation", "open"
SIGNUPS = (SIGNUP_CLOSED, SIGNUP_INVITATION, SIGNUP_OPEN)


class SetDomain(Command, frozen=True):
    """Change what is not None of a domain."""

    request_id: RequestId
    domain: str
    signup: str | None = None  # one of SIGNUPS
    signups_per_day_max: int | None = None
    quota_bytes: int | None = None  # of new accounts for which nothing else is said; 0: no limit
    catch_all: str | None = None  # address of an account; "": none


class ShowDomain(Command, frozen=True):
    domain: str


class DomainShown(Reply, frozen=True):
    domain: str
    signup: str
    signups_per_day_max: int
    quota_bytes: int
    catch_all: str  # "": none
    created_at_ms: int


class AddInvitation(Command, frozen=True):
    """Let who knows a code make that many accounts in a domain, for some time."""

    request_id: RequestId
    domain: str
    digest: bytes
    uses: int
    expires_at_ms: int


class SignUp(Command, frozen=True):
    """Make an account for a stranger. Fails with SignUpRefused, whatever the reason was, with
    Invalid for what is wrong in itself, and with TooManySignUps.
    """

    request_id: RequestId
    address: str
    password: str
    network: str  # where from, in the form in which attempts are counted
    invitation: bytes = b""  # digest of the code
    display_name: str = ""


# Accounts in great numbers ----------------------------------------------------------------

ACCOUNTS_IN_BATCH_MAX = 1000
# A hash takes some tens of milliseconds: a batch is to be answered before its caller repeats it.
PASSWORDS_IN_BATCH_MAX = 32
QUOTA_OF_DOMAIN = -1


class NewAccount(msgspec.Struct, frozen=True, array_like=True):
    address: str
    password: str = ""  # "": cannot be signed in to until it has one
    display_name: str = ""


class AddAccounts(Command, frozen=True):
    """Make up to ACCOUNTS_IN_BATCH_MAX accounts in one turn; one that fails stops no other."""

    request_id: RequestId
    accounts: tuple[NewAccount, ...]
    quota_bytes: int = QUOTA_OF_DOMAIN


class AccountsAdded(Reply, frozen=True):
    """One item an account, in order."""

    results: tuple[Account | Failed, ...]
