"""Commands to the directory about how people sign in and sign up (see `actors/commands.py`)."""

from __future__ import annotations
