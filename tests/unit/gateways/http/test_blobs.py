"""Names and types of downloads: whatever is asked for, the header is one safe line."""

from __future__ import annotations

import re
from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateways.http.blobs import (
    DEFAULT_TYPE,
    content_disposition,
    safe_file_name,
    safe_media_type,
)

DISPOSITION = re.compile(
    r"attachment; filename=\"[A-Za-z0-9 ._+()-]+\"; filename\*=UTF-8''[A-Za-z0-9!#$&+.^_`|~%-]+"
)


@settings(deadline=None)
@given(st.text())
def test_any_name_makes_one_safe_field(text: str) -> None:
    value = content_disposition(text)
    assert DISPOSITION.fullmatch(value)
    assert unquote(value.rpartition("''")[2]) == safe_file_name(text)


@settings(deadline=None)
@given(st.text())
def test_any_name_becomes_a_file_name(text: str) -> None:
    name = safe_file_name(text)
    assert 1 <= len(name) <= 200
    assert not set('/\\:*?"<>|\r\n\0') & set(name)
    assert not name.startswith(".")


@pytest.mark.parametrize(
    "text, name",
    [
        ("a.txt", "a.txt"),
        ("../../.ssh/config", "_.._.ssh_config"),
        ("", "download"),
        (" . ", "download"),
        ("\u202egnp.exe", "_gnp.exe"),
        ("\ud800.txt", "?.txt"),
        ("x" * 300 + ".pdf", "x" * 196 + ".pdf"),
        ("." + "x" * 300, "x" * 200),
    ],
)
def test_names(text: str, name: str) -> None:
    assert safe_file_name(text) == name


@settings(deadline=None)
@given(st.text())
def test_any_type_is_one_safe_value(text: str) -> None:
    value = safe_media_type(text)
    assert re.fullmatch(r"[a-z0-9!#$&^_.+/-]+(; charset=[a-z0-9_.:-]+)?", value)


@pytest.mark.parametrize(
    "text, value",
    [
        ("text/html", "text/html"),
        (' Text/HTML ;  charset="UTF-8" ', "text/html; charset=utf-8"),
        ("application/vnd.ms-excel+xml", "application/vnd.ms-excel+xml"),
        ("text/html\r\nX: y", DEFAULT_TYPE),
        ("text/html\n", "text/html"),
        ("text/html;x=y", DEFAULT_TYPE),
        ("multipart/x-mixed-replace", DEFAULT_TYPE),
        ("text/ü", DEFAULT_TYPE),
        ("*/*", DEFAULT_TYPE),
    ],
)
def test_types(text: str, value: str) -> None:
    assert safe_media_type(text) == value
