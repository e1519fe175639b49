"""The rules as lists, and today's exceptions to them. An exception list only ever shrinks."""

import re

PACKAGES = ("cluster", "gateways", "actors", "storage", "mail")

FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70

# A longer file or function is a reason to look for a seam. The number is its length when it was
# listed: it may go down, never up, and an entry that is no longer needed must go.
LONG_FILES: dict[str, int] = {}
LONG_FUNCTIONS: dict[str, int] = {}  # "path::name"

# The words are written in halves, so that this file obeys its own rules.
BANNED_WORDS = (
    re.compile(r"\bFIX" r"ME\b", re.IGNORECASE),
    re.compile(r"\bX" r"XX\b"),
    re.compile(r"\bHA" r"CK\b"),
)
BANNED_CLASS_NAMES = re.compile(r"(Manager|Helper|Util|Utils)$|^Base\w*Impl$")
BANNED_FILE_NAMES = re.compile(r"(^|_)(managers?|helpers?|utils?)$")

# print() belongs to the command line, and to the benchmark and the soak, which are such, too.
MAY_PRINT = re.compile(r"^(cluster/cli|tests/bench/|tests/faults/soak)")

# The import contracts see static imports only.
DYNAMIC_IMPORTS = ("importlib.import_module", "import_module", "__import__")
MAY_IMPORT_DYNAMICALLY: tuple[str, ...] = ()

# Whatever decides gets the clock, identifiers and chance as arguments.
DECIDES = re.compile(
    r"^(mail/|storage/replication/|actors/(packing|[a-z]+_turns)\.py$|actors/jmap/"
    r"|.*/([a-z0-9]+_)*protocol\.py$"
    r"|gateways/smtp/(chunking|command|data_scanner|origins|peer_limits|replies|trace)\.py$)"
)
CLOCK_AND_CHANCE = re.compile(
    r"^((datetime\.)?(datetime|date)\.(now|utcnow|today)"
    r"|(uuid\.)?uuid[1-8]"
    r"|(time\.)?(time|time_ns|monotonic|monotonic_ns|perf_counter|perf_counter_ns|clock_gettime)"
    r"|(os\.)?(urandom|getrandom)"
    r"|(random|secrets)\.\w+)$"
)

# Where packages come from is the machine's affair; where this machine keeps things, nobody's.
FOREIGN_NAMES = (
    re.compile(r"py" r"pi\.(org|python\.org)|files\.python" r"hosted", re.IGNORECASE),
    re.compile(r"registry\.np" r"mjs|registry\.ya" r"rnpkg", re.IGNORECASE),
    re.compile(r"(deb|security|ftp)\.[a-z.]*deb" r"ian\.org", re.IGNORECASE),
    re.compile(r"(index|extra-index|find-links|trusted-host)[-_ ]*(url)?\s*=\s*\S*://"),
    re.compile(r"(?<![\w.~$}-])/(wo" r"rk|ro" r"ot|ho" r"me/[a-z]\w*)/"),
)
# Messages written by others, kept as they were received.
FOREIGN_TEXTS = re.compile(r"^tests/data/")

RFC_STATUSES = ("yes", "partial", "no")
RFC_CITATION = re.compile(r"\bRFC (\d{3,5})\b")
# `RFC822.SIZE` and its like are names of items, not citations (RFC 9051 §6.4.5).
RFC_MISSPELT = re.compile(
    r"\b(RFC[-_]?\d{3,5}(?!\.[A-Z])|RFCs \d{3,5}|RFC \d{3,5},? (section|sect\.|sec\.) ?\d)"
)
