"""Text: what a person would read of a body, for previews and for search."""

from __future__ import annotations

import re

from selectolax.lexbor import LexborHTMLParser

from mail.charset import clean

PREVIEW_CHARS_MAX = 256  # RFC 8621 §4.1.4.
HTML_CHARS_MAX = 4_000_000  # Markup is up to four times its text; beyond it is no letter.

# Tags after and before which a reader sees a gap. Others may stand inside a word, where a
# gap would keep a search from finding it.
_BLOCK_NAMES = (
    "address article aside blockquote br caption center dd div dl dt fieldset figure footer form"
    " h1 h2 h3 h4 h5 h6 header hr li main nav ol option p pre section table tbody td tfoot th"
    " thead title tr ul"
)
# Both cases spelled out are three times as fast as the pattern that ignores case.
_BLOCK_TAG = re.compile(
    rf"<(?=/?(?:{'|'.join((_BLOCK_NAMES + ' ' + _BLOCK_NAMES.upper()).split())})[\s/>])"
)
_UNSEEN_TAGS = ["script", "style", "head", "template", "noframes", "object", "iframe"]
# Soft hyphens, joiners and marks that newsletters use to pad their first line.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]+")
_INVISIBLE = re.compile("[\u00ad\u034f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2064\ufeff]+")


def html_to_text(html: str) -> str:
    """Return the visible text of HTML, blocks on lines of their own. Never raises."""
    if "<" not in html and "&" not in html:
        return html
    spaced = _BLOCK_TAG.sub("\n<", clean(html[:HTML_CHARS_MAX]))
    tree = LexborHTMLParser(spaced)
    tree.strip_tags(_UNSEEN_TAGS)
    root = tree.body or tree.root
    return "" if root is None else clean(root.text(deep=True, separator=""))


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
