"""Commands to a shard about its upkeep: audit, index, garbage (see `actors/commands.py`)."""

from __future__ import annotations
