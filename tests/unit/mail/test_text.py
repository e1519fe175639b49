"""Text of HTML, previews."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mail.text import PREVIEW_CHARS_MAX, collapse, html_to_text, preview


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("plain", "plain"),
        ("<p>안<b>녕</b>하세요</p><P>x</P>", "안녕하세요 x"),
        ("a<br>b<BR/>c<td>d<div class='x'>e", "a b c d e"),
        ("<head><title>t</title><style>p > a {}</style></head>x", "x"),
        ("<script>if (a < b) '</p>'</SCRIPT >x", "x"),
        ("x<script>never closed", "x"),
        ("<!-- no --><!-->yes<!-- <p>no</p> -->", "yes"),
        ("1 < 2 &amp; 3 &gt; 2 &#xD55C;&nbsp;&euro;", "1 < 2 & 3 > 2 한 €"),
        ('<img alt="a>b">x<a title=don\'t>y</a>', "xy"),
        ("&#0;&#xD800;&bogus;", "\ufffd\ufffd&bogus;"),
        ("<pre>x</pre><abbr>y</abbr><brand>z", "x yz"),
        ("<![if !mso]>x<![endif]><?xml y?>z</", "xz"),
        ("x<p title='y", "x"),
    ],
)
def test_html(markup: str, text: str) -> None:
    assert collapse(html_to_text(markup)) == text


@given(st.text(st.sampled_from("<>/!-'\"ap &#x;b\n") | st.characters(), max_size=60))
def test_any_markup_becomes_text(markup: str) -> None:
    text = html_to_text(markup)
    text.encode("utf-8", "strict" if "&" in markup else "surrogatepass")
    assert len(text) <= len(markup) + markup.count("&") * 2


@pytest.mark.parametrize(
    "unit", ["<", "<a ", "<div>", "<b id='", "<!--", "<style>", "&amp", "<a b=\"'"]
)
def test_hostile_markup_takes_linear_time(unit: str) -> None:
    html_to_text(unit * (300_000 // len(unit)))


def test_preview() -> None:
    assert preview("  a\r\n b\t\u00a0c ") == "a b c"
    assert preview("\u200b\u034f\u00adx\x07y") == "xy"
    assert preview("한" * 300) == "한" * PREVIEW_CHARS_MAX
    assert preview("😀" * 300) == "😀" * PREVIEW_CHARS_MAX
    assert preview(" " * 5000 + "late") == "late"
    assert preview("\u200c " * 2000 + "late") == "late"
    assert preview("") == ""
