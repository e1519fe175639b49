"""How many examples a property gets: as many as it says, but few in `make check`."""

import os

from hypothesis import settings

IN_A_HURRY = bool(os.environ.get("HELIO_CHECK"))  # `make check` has 30 s for all
# Of each property that is fuzzed.
EXAMPLES = 500 if os.environ.get("CI") == "true" else settings().max_examples


def examples(count: int) -> settings:
    """Return the settings of a property that deserves `count` examples."""
    count = min(count, settings().max_examples) if IN_A_HURRY else count
    return settings(max_examples=count, deadline=None)
