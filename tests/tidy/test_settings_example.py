"""`heliograph.toml.example` is read by the settings, and shows their true defaults."""

import re
import tomllib
from typing import Any

from cluster.settings import Settings
from tests.tidy import source

EXAMPLE = "heliograph.toml.example"
# Listeners of a later release, and what is found out on each machine.
NOT_SHOWN = {"submission", "submissions", "imap", "imaps", "pop3", "pop3s"}
FOUND_OUT = {"hostname", "mailbox_actors_per_node"}


def _leaves(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    leaves: dict[str, Any] = {}
    for name, value in table.items():
        if isinstance(value, dict):
            leaves |= _leaves(value, f"{prefix}{name}.")
        else:
            leaves[prefix + name] = value
    return leaves


def test_the_example_as_it_stands_changes_nothing() -> None:
    assert _leaves(tomllib.loads(source.text(EXAMPLE) or "")) == {}


def test_the_example_shows_every_default() -> None:
    uncommented = re.sub(r"(?m)^# (?=\w+ = )", "", source.text(EXAMPLE) or "")
    shown = tomllib.loads(uncommented)
    Settings(**shown)  # refuses unknown names and wrong values
    defaults = Settings().model_dump(mode="json", exclude=NOT_SHOWN | FOUND_OUT, exclude_none=True)
    assert _leaves(shown) == _leaves(defaults)
