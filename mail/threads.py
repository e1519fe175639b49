"""Threads: what makes two messages one conversation (RFC 8621 §3).

They share a message id in Message-ID, In-Reply-To or References, and their base subjects are
equal, so that a reply with a new subject begins a new conversation.
"""

from __future__ import annotations

import re
import unicodedata

from mail.summary import Summary

SUBJECT_CHARS_MAX = 1000  # Compared of a subject; a line of RFC 5322 §2.1.1 is shorter.
LAST_IDS_MAX = 50  # References are cut in the middle: the root and the nearest ones tell.

# RFC 5256 §5 `subj-refwd`, and the words of other languages for reply and forward.
_REPLY_WORDS = (
    "re", "fwd", "fw", "aw", "wg", "sv", "vs", "vb", "antw", "doorst", "odp", "pd", "ynt", "ilt",
    "rif", "res", "enc", "rv", "tr", "ref", "fs", "답장", "회신", "답변", "전달", "返信", "転送",
    "回复", "回覆", "答复", "答覆", "转发", "轉寄", "轉發",
)  # fmt: skip
_BLOB = r"\[[^\[\]]*\]\s*"
_LEADER = re.compile(
    rf"(?:{_BLOB})*(?:{'|'.join(_REPLY_WORDS)})\s*(?:[\[(]\d+[\])]|\^\d+)?\s*(?:{_BLOB})?[:：]\s*"
)
_LEADING_BLOB = re.compile(_BLOB)
_TRAILER = re.compile(r"\s*\(fwd\)\s*$")


def base_subject(subject: str | None) -> str:
    """Return what is left of a subject without replies, forwards and list tags, "" for None.

    The algorithm of RFC 5256 §2.1 with more words for reply, in NFC, case folded, runs of
    white space as one blank: equal results mean the same subject.
    """
    text = " ".join((subject or "")[:SUBJECT_CHARS_MAX].split())
    text = unicodedata.normalize("NFC", text).casefold()
    while True:
        text = _strip_trailers(text)
        text = _strip_leaders(text)
        if text.startswith("[fwd:") and text.endswith("]"):
            text = text[5:-1].strip()
            continue
        return text


def _strip_trailers(text: str) -> str:
    while (match := _TRAILER.search(text)) is not None:
        text = text[: match.start()]
    return text


def _strip_leaders(text: str) -> str:
    """Remove reply words, and list tags as long as something remains after them."""
    while True:
        leader = _LEADER.match(text)
        if leader is not None:
            text = text[leader.end() :]
            continue
        blob = _LEADING_BLOB.match(text)
        if blob is None or blob.end() == len(text):
            return text
        text = text[blob.end() :]


def thread_keys(summary: Summary) -> tuple[str, ...]:
    """Return the message ids by which a message is joined to a thread, each once.

    Its own first, then those it answers, the first reference and the last `LAST_IDS_MAX`.
    """
    references = summary.references or ()
    if len(references) > LAST_IDS_MAX + 1:
        references = (references[0], *references[-LAST_IDS_MAX:])
    own = (summary.message_id or ())[:1]
    answered = (summary.in_reply_to or ())[:LAST_IDS_MAX]
    return tuple(dict.fromkeys((*own, *answered, *references)))
