"""SearchSnippet/get: where emails hold what was searched for (RFC 8621 §5.1)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from actors.jmap.arguments import Arguments
from actors.jmap.context import Context, pause
from actors.jmap.email_filter import Found, HeaderHas, parse_condition
from actors.jmap.get import check_count
from actors.jmap.ids import account_id_of, parse_email_id
from actors.jmap.problems import invalid
from actors.jmap.query import Condition, Operator, parse_filter
from mail.errors import BlobDamaged
from mail.message import Message, parse
from mail.search import Term, parse_query
from mail.snippets import excerpt, highlight
from mail.text import PREVIEW_CHARS_MAX, html_to_text
from storage.mailbox_reader import Blobs
from storage.records import EmailRecord

# Of a message, so much is looked through: 10 ms at the worst. What comes after it is an
# attachment, or a text that nobody reads to its end.
MESSAGE_BYTES_MAX = 1 << 20
# Others have the loop after so many octets, some 2 ms; marks in a record cost as much as these.
BYTES_PER_STEP = 1 << 16
RECORD_BYTES = 1 << 10


@dataclass(frozen=True, slots=True)
class Snippets:
    """What is to be marked."""

    in_subject: tuple[Term, ...]
    in_body: tuple[Term, ...]

    def of(self, email: EmailRecord, blobs: Blobs) -> tuple[str | None, str | None, int]:
        """Return subject and preview with marks, and how many octets were read for them.

        Null where nothing is to be marked (RFC 8621 §5).
        """
        subject = None
        if self.in_subject:
            subject = highlight(email.summary.subject or "", self.in_subject)
        if not self.in_body:
            return subject, None, 0
        preview = excerpt(_whole_words(email.summary.preview), self.in_body)
        if preview is not None:
            return subject, preview, 0
        try:
            octets = blobs.read(email.digest, 0, MESSAGE_BYTES_MAX)
        except (BlobDamaged, KeyError):
            return None, None, 0
        excerpts = (excerpt(text, self.in_body) for text in _texts(parse(octets)))
        return subject, next(filter(None, excerpts), None), len(octets)


async def search_snippet_get(context: Context, arguments: Arguments) -> Mapping[str, object]:
    """Return the SearchSnippets of emails. Raises requestTooLarge, unsupportedFilter."""
    arguments.account(context)
    wanted = parse_filter(arguments.any("filter"), parse_condition)
    ids = arguments.optional_ids("emailIds")
    arguments.close()
    if ids is None:
        raise invalid("emailIds: an array of Ids is required")
    check_count(ids)
    snippets = _snippets(wanted)
    reader = context.access.reader()
    found: list[dict[str, str | None]] = []
    not_found: list[str] = []
    since_pause = 0
    for email_id in ids:
        number = parse_email_id(email_id)
        email = None if number is None else reader.email(number)
        if email is None:
            not_found.append(email_id)
            continue
        subject, preview, read_bytes = snippets.of(email, context.access.blobs)
        context.budget.take(len(subject or "") + len(preview or ""))
        found.append({"emailId": email_id, "subject": subject, "preview": preview})
        context.budget.read(read_bytes)
        since_pause += read_bytes + RECORD_BYTES
        if since_pause > BYTES_PER_STEP:
            since_pause = 0
            await pause()
    return {
        "accountId": account_id_of(context.access.mailbox_id),
        "list": found,
        "notFound": not_found or None,
    }


def _snippets(wanted: Operator) -> Snippets:
    in_subject: dict[Term, None] = {}
    in_body: dict[Term, None] = {}
    for leaf in _asked(wanted, is_asked=True):
        match leaf:
            case Found(fields=fields, text=text):
                terms = dict.fromkeys(parse_query(text))
                if "subject" in fields:
                    in_subject |= terms
                if "body" in fields:
                    in_body |= terms
            case HeaderHas(name=name, terms=header_terms) if name.lower() == "subject":
                in_subject |= dict.fromkeys(header_terms)
    return Snippets(tuple(in_subject), tuple(in_body))


def _asked(condition: Condition[object], *, is_asked: bool) -> Iterator[Condition[object]]:
    """Yield the conditions that are to be met, not those that must not be."""
    if isinstance(condition, Operator):
        for inner in condition.conditions:
            yield from _asked(inner, is_asked=is_asked != (condition.operator == "NOT"))
    elif is_asked:
        yield condition


def _whole_words(preview: str) -> str:
    """Return a preview without its last word, which may be the beginning of another."""
    return preview if len(preview) < PREVIEW_CHARS_MAX - 1 else preview.rpartition(" ")[0]


def _texts(message: Message) -> Iterator[str]:
    """Yield the texts that a search for words in the body looks at."""
    more = False
    for part in message.parts():
        if part.type == "text/html":
            yield html_to_text(part.text()[0])
        elif part.type.startswith("text/"):
            yield part.text()[0]
        else:
            more = more or part.type.startswith("message/")
    if more:  # forwarded messages and reports
        yield message.search_text.body
