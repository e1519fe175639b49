"""Limits that contradict each other are refused at the start."""

from __future__ import annotations

from typing import Any

import pytest

from gateways.smtp.settings import SmtpSettings


def test_the_defaults_agree() -> None:
    settings = SmtpSettings(hostname="mx.example.test")
    assert settings.recipients_max >= 100  # RFC 5321 §4.5.3.1.8
    assert settings.size_bytes_max == 50 * 1024 * 1024


@pytest.mark.parametrize(
    "wrong",
    [
        {"hostname": ""},
        {"in_flight_bytes_max": 1},
        {"recipients_max": 0},
        {"idle_timeout_s": 0.0},
        {"data_timeout_s": 0.0},
        {"line_timeout_s": 0.0},
        {"session_timeout_s": 0.0},
        {"connections_max": 0},
    ],
)
def test_what_cannot_work_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(AssertionError):
        SmtpSettings(**({"hostname": "mx.example.test"} | wrong))
