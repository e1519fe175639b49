"""Limits of what one JMAP request may ask for; the session object repeats the public ones.

The session (RFC 8620 §2) advertises `maxCallsInRequest`, `maxObjectsInGet`,
`maxObjectsInSet`, `collationAlgorithms` and the properties that Email/query sorts by
(RFC 8621 §1.3.1). The gateway checks `maxSizeRequest` before anything arrives here.
"""

from __future__ import annotations

CAPABILITY_CORE = "urn:ietf:params:jmap:core"
CAPABILITY_MAIL = "urn:ietf:params:jmap:mail"
CAPABILITY_WEBSOCKET = "urn:ietf:params:jmap:websocket"
CAPABILITIES = frozenset((CAPABILITY_CORE, CAPABILITY_MAIL, CAPABILITY_WEBSOCKET))

# RFC 8620 §2 suggests at least 16 calls and 500 objects; a client asks for no more at once.
CALLS_IN_REQUEST_MAX = 16
OBJECTS_IN_GET_MAX = 500
# Arrays and objects of one request, at 1.5 µs each; the largest set has some ten thousand.
CONTAINERS_IN_REQUEST_MAX = 200_000
OBJECTS_IN_SET_MAX = 500

# Ids of one answer to a query: 60 KB of JSON. A client pages on from there.
QUERY_IDS_MAX = 5000
# Ids of one answer to */changes when the client names no number (RFC 8620 §5.2).
CHANGES_MAX = 5000

# Changes that a */queryChanges puts together; beyond, a client queries anew.
QUERY_CHANGES_MAX = 5000

# People nest three deep; each level costs a stack frame for every email looked at.
FILTER_DEPTH_MAX = 16
FILTER_CONDITIONS_MAX = 200
# Each is a search of its own, of milliseconds.
FILTER_TEXTS_MAX = 16
SORT_PROPERTIES_MAX = 16
# Properties of one call; each is computed for every object.
PROPERTIES_MAX = 200

# What the result references of one request may bring in, in octets of JSON. Without it
# sixteen echoes, each naming the one before many times, would grow without measure.
REFERENCED_BYTES_MAX = 8 << 20
REFERENCE_TOKENS_MAX = 32
# Octets of objects in one answer: it is one reply between actors, held in memory. A mailing
# list's headers, and bodies that nobody truncates, make a few hundred emails that large.
ANSWER_BYTES_MAX = 48 << 20

# Octets of messages that one request may have read and taken apart: a page of large letters.
# At 15 ms a megabyte, 70 for the worst, it is done while its client still waits.
MESSAGES_BYTES_MAX = 256 << 20

# Folders of one email; `maxMailboxesPerEmail` of the session (RFC 8621 §1.3.1).
FOLDERS_PER_EMAIL_MAX = 100

# Rows that a long walk looks at before it lets others have the loop: some 2 ms; and where
# each row is a message to read, whose header may be of any size.
ROWS_PER_STEP = 500
MESSAGES_PER_STEP = 1

COLLATION_ASCII = "i;ascii-casemap"  # RFC 4790 §9.2
COLLATION_UNICODE = "i;unicode-casemap"  # RFC 5051 §2
COLLATIONS = (COLLATION_ASCII, COLLATION_UNICODE)

EMAIL_SORT_PROPERTIES = (
    "receivedAt", "sentAt", "size", "from", "to", "subject", "hasKeyword",
    "allInThreadHaveKeyword", "someInThreadHaveKeyword",
)  # fmt: skip
