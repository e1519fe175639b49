"""Text: what a person would read of a body, for previews and for search.

Markup is cut out, not parsed: the tree that HTML prescribes for hostile markup grows with the
square of its size, and nothing here needs a tree.
"""

from __future__ import annotations

import html
import re

from mail.charset import clean

PREVIEW_CHARS_MAX = 256  # RFC 8621 §4.1.4.
HTML_CHARS_MAX = 4_000_000  # Markup is up to four times its text; beyond it is no letter.

# Tags after and before which a reader sees a gap. Others may stand inside a word, where a
# gap would keep a search from finding it.
_BLOCK_NAMES = (
    "address article aside blockquote br caption center dd div dl dt fieldset figure footer form"
    " h1 h2 h3 h4 h5 h6 header hr li main nav ol option p pre section table tbody td tfoot th"
    " thead tr ul"
)
# Both cases spelled out are three times as fast as a pattern that ignores case.
_NAMES = "|".join((_BLOCK_NAMES + " " + _BLOCK_NAMES.upper()).split())
_BLOCK_TAG = re.compile(rf"</?(?:{_NAMES})(?:[\s/][^<>]*)?>")
# A quoted attribute may hold a closing bracket. No branch runs past the next opening one,
# so that a row of tags that never close takes linear time.
_TAG = re.compile(
    r"""<[A-Za-z/!?][^<>"']*+>|<[A-Za-z/!?](?:[^<>"']|"[^"<]*"|'[^'<]*')*+>|<[A-Za-z/!?][^<>]*+(?:>|\Z)"""
)
# Elements whose content is not for reading, and comments.
_UNSEEN = re.compile(r"<(?:!--|(script|style|title|template|noframes)(?=[\s/>]))", re.IGNORECASE)
_UNSEEN_END = {
    name: re.compile(rf"</{name}", re.IGNORECASE)
    for name in ("script", "style", "title", "template", "noframes")
}
# A reference by a number so long that Python refuses to read it.
_NO_CHARACTER = re.compile(r"&#[0-9]{100,}+;?")
# Soft hyphens, joiners and marks that newsletters use to pad their first line.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]+")
_INVISIBLE = re.compile("[\u00ad\u034f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2064\ufeff]+")


def html_to_text(markup: str) -> str:
    """Return the text that HTML shows, blocks on lines of their own. Never raises."""
    markup = _drop_unseen(markup[:HTML_CHARS_MAX])
    if "<" in markup:
        markup = _TAG.sub("", _BLOCK_TAG.sub("\n", markup))
    if "&" in markup:
        markup = clean(html.unescape(_NO_CHARACTER.sub("\ufffd", markup)))
    return markup


def _drop_unseen(markup: str) -> str:
    """Return markup without comments, scripts and styles; one that never ends goes to the end."""
    out: list[str] = []
    pos = 0
    while (start := _UNSEEN.search(markup, pos)) is not None:
        out.append(markup[pos : start.start()])
        if start[1] is None:
            # HTML: `<!-->` and `<!--->` are comments, too.
            end = markup.find("-->", start.end() - 2)
            pos = end + 3 if end >= 0 else len(markup)
        else:
            closing = _UNSEEN_END[start[1].lower()].search(markup, start.end())
            end = markup.find(">", closing.end()) if closing is not None else -1
            pos = end + 1 or len(markup)
    if not pos:
        return markup
    out.append(markup[pos:])
    return "".join(out)


def collapse(text: str) -> str:
    """Return `text` with every run of white space as one blank, none at the ends."""
    return " ".join(text.split())


def preview(text: str) -> str:
    """Return the first characters of a text, at most `PREVIEW_CHARS_MAX`, on one line."""
    line = ""
    for window in (4 * PREVIEW_CHARS_MAX, 64 * PREVIEW_CHARS_MAX):
        head = text[:window]
        if not head.isascii():
            head = _INVISIBLE.sub("", head)
        line = _CONTROL.sub("", collapse(head))
        if len(line) >= PREVIEW_CHARS_MAX or window >= len(text):
            break
    return line[:PREVIEW_CHARS_MAX].rstrip()
