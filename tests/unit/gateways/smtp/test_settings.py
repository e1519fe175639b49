"""Limits that contradict each other are refused at the start."""

from __future__ import annotations

from typing import Any

import pytest

from gateways.smtp.settings import SmtpSettings, SubmissionSettings


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


@pytest.mark.parametrize(
    "wrong",
    [
        {"hostname": ""},
        {"port": None, "tls_port": None},
        {"sign_in_attempts_max": 0},
        {"messages_per_hour": -1},
        {"recipients_per_hour": 999},
    ],
)
def test_what_cannot_work_in_a_submission(wrong: dict[str, Any]) -> None:
    assert SubmissionSettings(hostname="mx.example.test").recipients_max >= 100
    with pytest.raises(AssertionError):
        SubmissionSettings(**({"hostname": "mx.example.test"} | wrong))
