"""Address list: the mailboxes and groups of From, To and their kin (RFC 5322 §3.4).

Best effort, as RFC 8621 §4.1.2.3 asks: half-written drafts, missing commas and quotes,
commas inside encoded-words and plain names without an address all give something to show.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import msgspec

from mail.charset import clean
from mail.encoded import decode_text
from mail.summary import EmailAddress

ADDRESSES_MAX = 5000  # Shown of one field; more is bulk mail that nobody reads by eye.
TOKENS_MAX = 50_000  # Of one field: ten for each of these addresses, at 3 µs each.

_TOKEN = re.compile(
    r"""(?P<word>=\?[^?\s]+\?[BbQq]\?[^?]*\?=)
      | (?P<quoted>"(?:[^"\\]|\\.)*+"?)
      | (?P<angle><[^<>]*+>?)
      | (?P<literal>[^\s,;:<>"()\[\]=]+\[[^\]\s<>]*\])
      | (?P<special>[,;:])
      | (?P<open>\()
      | (?P<space>\s+)
      | (?P<atom>[^\s,;:<>"()=]+|[=)>])
    """,
    re.VERBOSE | re.DOTALL,
)
# What nearly every From is: one name, one address. Used for short values only.
_SIMPLE = re.compile(
    r"""\s*(?:"([^"\\]*)"|([^<>"(),;:@\\]*?))?\s*<([^\s<>"(),;:@\\]+@[^\s<>"(),;:@\\]+)>\s*"""
)
_SIMPLE_CHARS_MAX = 200
_COMMENT_MARK = re.compile(r"[()]|\\.", re.DOTALL)
_COMMENT = re.compile(r"\([^()]*\)")
_QUOTED_PAIR = re.compile(r"\\(.)", re.DOTALL)
_BLANKS = re.compile(r"\s+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


class EmailAddressGroup(msgspec.Struct, frozen=True, array_like=True):
    """Consecutive mailboxes, of a named group or of none (RFC 8621 §4.1.2.4)."""

    name: str | None
    addresses: tuple[EmailAddress, ...]


class _Piece:
    """Tokens that stood together without blanks: as written, and as a name shows them."""

    __slots__ = ("_shown", "_written")

    def __init__(self, written: str, shown: str) -> None:
        self._written, self._shown = [written], [shown]

    def add(self, written: str, shown: str) -> None:
        self._written.append(written)
        self._shown.append(shown)

    @property
    def written(self) -> str:
        return "".join(self._written)

    @property
    def shown(self) -> str:
        return "".join(self._shown)

    @property
    def sticky(self) -> bool:
        """Say whether the next token belongs to this piece although a blank lies between."""
        return self._written[-1] == "." or self._written[-1][-1] == "@"


@dataclass(slots=True)
class _Mailbox:
    """One mailbox while it is read."""

    pieces: list[_Piece] = field(default_factory=list)
    comments: list[str] = field(default_factory=list)
    angle: str | None = None
    trailing: list[_Piece] = field(default_factory=list)  # After the angle address.
    glued: bool = False  # No blank since the last piece.

    def add(self, written: str, shown: str) -> None:
        """Take a token, as part of the last piece if no blank or an at sign lies between."""
        pieces = self.pieces if self.angle is None else self.trailing
        last = pieces[-1] if pieces else None
        sticky = written == "." or written[0] == "@"  # RFC 5322 §4.4: obs-addr-spec.
        if last is not None and (self.glued or sticky or last.sticky):
            last.add(written, shown)
        else:
            pieces.append(_Piece(written, shown))
        self.glued = True

    def finish(self) -> list[EmailAddress]:
        """Return what was read: one address, or several when only blanks divide them."""
        if self.angle is None and not self.pieces:
            return []
        if self.angle is not None:
            name = self._name(self.pieces or self.trailing)
            return [EmailAddress(name, self.angle)] if self.angle or name else []
        found = [piece for piece in self.pieces if "@" in piece.written]
        if len(found) == 1:
            others = [piece for piece in self.pieces if piece is not found[0]]
            return [EmailAddress(self._name(others), _tidy_email(found[0].written))]
        if found:
            return [EmailAddress(None, _tidy_email(piece.written)) for piece in found]
        written = decode_text(" ".join(piece.written for piece in self.pieces).encode())
        email = _tidy_name(written)
        return [EmailAddress(self._name([]), email)] if email else []

    def _name(self, pieces: list[_Piece]) -> str | None:
        shown = [piece.shown for piece in pieces] or self.comments[:1]
        return _tidy_name(decode_text(" ".join(shown).encode())) if shown else None


class _Reader:
    """Collects mailboxes and groups from tokens."""

    def __init__(self) -> None:
        self.groups: list[EmailAddressGroup] = []
        self.count = 0
        self._group: str | None = None
        self._addresses: list[EmailAddress] = []
        self._mailbox = _Mailbox()
        self._parentheses_match = True

    def read(self, text: str) -> None:
        pos = 0
        for _ in range(TOKENS_MAX):
            if pos >= len(text) or self.count >= ADDRESSES_MAX:
                break
            match = _TOKEN.match(text, pos)
            if match is None:  # pragma: no cover - every character begins a token
                pos += 1
                continue
            pos = match.end()
            token = match[0]
            match match.lastgroup:
                case "space":
                    self._mailbox.glued = False
                case "special":
                    self._special(token)
                case "open":
                    pos = self._comment(text, pos)
                case "angle":
                    self._angle(token)
                case "quoted" if len(token) == 1 or not token.endswith('"'):
                    # Never closed: the quote is only a character, what follows counts.
                    self._mailbox.glued = False
                    pos -= len(token) - 1
                    text, pos = text[pos:].replace('"', " "), 0
                case "quoted":
                    self._mailbox.add(token, _QUOTED_PAIR.sub(r"\1", token[1:-1]))
                case "word":
                    # Words that touch must still be seen as separate ones.
                    self._mailbox.glued = False
                    self._mailbox.add(token, token)
                    self._mailbox.glued = False
                case "atom" if token in (">", ")"):
                    self._mailbox.glued = False
                case _:
                    self._mailbox.add(token, token)
        self.end_group()

    def _comment(self, text: str, pos: int) -> int:
        """Read the comment that was opened just before `pos`; return where to go on."""
        self._mailbox.glued = False
        depth = 1
        for match in _COMMENT_MARK.finditer(text, pos) if self._parentheses_match else ():
            if match[0] == "(":
                depth += 1
            elif match[0] == ")":
                depth -= 1
                if depth == 0:
                    comment = _QUOTED_PAIR.sub(r"\1", text[pos : match.start()])
                    self._mailbox.comments.append(comment)
                    return match.end()
        # Never closed: the parenthesis is only a character, here and, lest a row of
        # them costs quadratic time, from here on.
        self._parentheses_match = False
        return pos

    def _special(self, token: str) -> None:
        if token == ":" and self._group is None and self._mailbox.angle is None:
            self._flush()
            self._group = self._mailbox_name()
        elif token == ";":
            self.end_group()
        else:
            self._end_mailbox()

    def _mailbox_name(self) -> str:
        shown = " ".join(piece.shown for piece in self._mailbox.pieces)
        self._mailbox = _Mailbox()
        return _tidy_name(decode_text(shown.encode())) or ""

    def _angle(self, token: str) -> None:
        email = _tidy_email(token.strip("<>"))
        if self._mailbox.angle is not None:  # A comma is missing between two.
            if not email:
                return
            pieces, self._mailbox.trailing = self._mailbox.trailing, []
            self._end_mailbox()
            self._mailbox.pieces = pieces
        elif not email and token != "<>":
            return
        self._mailbox.angle = email
        self._mailbox.glued = False

    def _end_mailbox(self) -> None:
        addresses = self._mailbox.finish()
        self._mailbox = _Mailbox()
        self._addresses += addresses
        self.count += len(addresses)

    def end_group(self) -> None:
        """Close the mailbox and the group that are open, if any."""
        self._end_mailbox()
        self._flush()
        self._group = None

    def _flush(self) -> None:
        if self._addresses or self._group is not None:
            self.groups.append(EmailAddressGroup(self._group, tuple(self._addresses)))
            self._addresses = []


def parse_address_list(text: str) -> tuple[EmailAddressGroup, ...]:
    """Return the groups of an unfolded address list; mailboxes in no group have name None.

    Raw octets are decoded already, encoded-words are not. Never raises.
    """
    text = clean(text)
    if len(text) <= _SIMPLE_CHARS_MAX and (simple := _SIMPLE.fullmatch(text)) is not None:
        name = simple[1] or simple[2]
        if name and "=?" in name:
            name = decode_text(name.encode())
        address = EmailAddress(_tidy_name(name) if name else None, simple[3])
        return (EmailAddressGroup(None, (address,)),)
    reader = _Reader()
    reader.read(text)
    return tuple(reader.groups)


def _tidy_name(text: str) -> str | None:
    return _CONTROL.sub("", _BLANKS.sub(" ", text)).strip() or None


def _tidy_email(text: str) -> str:
    """Return an addr-spec without blanks and source route (RFC 5322 §4.4)."""
    text = _CONTROL.sub("", text).strip()
    if text.startswith("@") and ":" in text:
        text = text.partition(":")[2]
    if '"' in text:
        return text
    if "(" in text:
        text = _COMMENT.sub("", text)
    return _BLANKS.sub("", text)
