"""Release: which release of Heliograph this is."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def release() -> str:
    """Return the version of this program."""
    try:
        return version("heliograph")
    except PackageNotFoundError:
        return "0"
