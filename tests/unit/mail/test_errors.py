"""Errors: every one has a wire form, and an unknown one is temporary."""

from __future__ import annotations

import re

import pytest

from mail import errors
from mail.errors import MailError, smtp_reply

CLASSES = [
    value
    for value in vars(errors).values()
    if isinstance(value, type) and issubclass(value, MailError)
]


@pytest.mark.parametrize("kind", CLASSES)
def test_wire_forms(kind: type[MailError]) -> None:
    assert re.fullmatch(r"([45])\d\d \1\.\d{1,3}\.\d{1,3}", kind.smtp)
    assert kind.jmap.isalpha()
    assert kind().text
    assert smtp_reply(kind("one\nline")).startswith(kind.smtp)


def test_unknown_errors_are_temporary() -> None:
    assert smtp_reply(ValueError("secret")).startswith("451 4.3.0 ")
    assert "secret" not in smtp_reply(ValueError("secret"))
