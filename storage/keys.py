"""Keys: every key of a shard's database, in one table.

Numbers are big-endian, so that keys sort by them. All state of a mailbox lies under its own
eight octets: it can be listed, moved or dropped as one range. Mailbox 0 is the directory's.

family  prefix          rest                               value
------  --------------  ---------------------------------  ------------------------------------
log     index u64       -                                  Entry
ctl     "applied"       -                                  Applied: index and epoch; replay point
ctl     "indexed"       -                                  log index the search index has reached
ctl     "identity"      -                                  Identity: the same as in hard_state
ctl     "members"       -                                  MembersRecord: the applied replica set
ctl     "audited"       -                                  Number: when all was last audited, ms
ctl     "collected"     -                                  Number: when blobs were last collected
blob    sha256 32B      chunk u32                          octets of a blob, ≤ BLOB_CHUNK_BYTES
state   mailbox u64 i   -                                  MailboxRecord
state   mailbox u64 f   folder u32                         FolderRecord
state   mailbox u64 n   folder u32                         Counters (derived, R9)
state   mailbox u64 e   email u64                          EmailRecord: what never changes
state   mailbox u64 k   email u64                          EmailState: keywords, folders, UIDs
state   mailbox u64 d   folder u32, received u64, email    ListRecord: a folder by date; folder 0
                                                           is all mail
state   mailbox u64 u   folder u32, uid u32                email u64: a folder by UID
state   mailbox u64 t   thread u64                         ThreadRecord
state   mailbox u64 m   sha256[:16] of a thread key        thread u64: message id and base
                                                           subject to thread
state   mailbox u64 b   sha256 32B                         BlobOwner: who refers to a blob
state   mailbox u64 c   modseq u64                         ChangeRecord: the change log
state   mailbox u64 q   request id 16B (time first)        ReplyRecord
state   mailbox u64 x   fingerprint 32B                    RepeatRecord: a repeat to be matched
state   0 u64       D   domain                             DomainRecord
state   0 u64       A   account u64                        AccountRecord
state   0 u64       L   address key                        AddressRecord: account or alias
state   0 u64       P   account u64                        CredentialRecord
state   0 u64       N   account u64, session u64           SessionRecord
state   0 u64       W   account u64, number u64            AppPasswordRecord
state   0 u64       V   sha256 32B of the code             InvitationRecord
state   0 u64       S   shard u64                          ShardRecord
state   0 u64       g   -                                  DirectoryRecord: next ids, version
"""

from __future__ import annotations

import hashlib

APPLIED = b"applied"
INDEXED = b"indexed"
IDENTITY = b"identity"
MEMBERS = b"members"
AUDITED = b"audited"
COLLECTED = b"collected"

ALL_MAIL = 0  # the folder number under which `d` lists every email
DIRECTORY = 0  # the mailbox number of the directory's own keys

LOG_END = b"\xff" * 9  # behind every key of the log

BLOB_CHUNK_BYTES = 1 << 18  # bounds how long one write holds the GIL: about 1 ms


def u32(number: int) -> bytes:
    """Return `number` as four octets."""
    return number.to_bytes(4, "big")


def u64(number: int) -> bytes:
    """Return `number` as eight octets."""
    return number.to_bytes(8, "big")


def log(index: int) -> bytes:
    return u64(index)


def blob_chunk(digest: bytes, chunk: int) -> bytes:
    return digest + u32(chunk)


def mailbox(mailbox_id: int) -> bytes:
    """Return the prefix of everything that belongs to a mailbox."""
    return u64(mailbox_id)


def kind(mailbox_id: int, letter: bytes) -> bytes:
    """Return the prefix of one kind of record of a mailbox."""
    return u64(mailbox_id) + letter


def info(mailbox_id: int) -> bytes:
    return kind(mailbox_id, b"i")


def folder(mailbox_id: int, folder_id: int) -> bytes:
    return kind(mailbox_id, b"f") + u32(folder_id)


def counters(mailbox_id: int, folder_id: int) -> bytes:
    return kind(mailbox_id, b"n") + u32(folder_id)


def email(mailbox_id: int, email_id: int) -> bytes:
    return kind(mailbox_id, b"e") + u64(email_id)


def email_state(mailbox_id: int, email_id: int) -> bytes:
    return kind(mailbox_id, b"k") + u64(email_id)


def listing(mailbox_id: int, folder_id: int) -> bytes:
    return kind(mailbox_id, b"d") + u32(folder_id)


def listed(mailbox_id: int, folder_id: int, received_at_ms: int, email_id: int) -> bytes:
    return listing(mailbox_id, folder_id) + u64(received_at_ms) + u64(email_id)


def uids(mailbox_id: int, folder_id: int) -> bytes:
    """Return the prefix of a folder's UIDs."""
    return kind(mailbox_id, b"u") + u32(folder_id)


def uid(mailbox_id: int, folder_id: int, number: int) -> bytes:
    return uids(mailbox_id, folder_id) + u32(number)


def thread(mailbox_id: int, thread_id: int) -> bytes:
    return kind(mailbox_id, b"t") + u64(thread_id)


def thread_key(mailbox_id: int, text: str) -> bytes:
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    return kind(mailbox_id, b"m") + digest[:16]


def blob_owner(mailbox_id: int, digest: bytes) -> bytes:
    return kind(mailbox_id, b"b") + digest


def change(mailbox_id: int, modseq: int) -> bytes:
    return kind(mailbox_id, b"c") + u64(modseq)


def reply(mailbox_id: int, request_id: bytes) -> bytes:
    return kind(mailbox_id, b"q") + request_id


def repeat(mailbox_id: int, fingerprint: bytes) -> bytes:
    return kind(mailbox_id, b"x") + fingerprint


def domain(name: str) -> bytes:
    return kind(DIRECTORY, b"D") + name.encode()


def account(account_id: int) -> bytes:
    return kind(DIRECTORY, b"A") + u64(account_id)


def address(key: str) -> bytes:
    return kind(DIRECTORY, b"L") + key.encode()


def credential(account_id: int) -> bytes:
    return kind(DIRECTORY, b"P") + u64(account_id)


def session(account_id: int, session_id: int) -> bytes:
    return sessions(account_id) + u64(session_id)


def sessions(account_id: int) -> bytes:
    return kind(DIRECTORY, b"N") + u64(account_id)


def app_password(account_id: int, number: int) -> bytes:
    return app_passwords(account_id) + u64(number)


def app_passwords(account_id: int) -> bytes:
    return kind(DIRECTORY, b"W") + u64(account_id)


def invitation(digest: bytes) -> bytes:
    return kind(DIRECTORY, b"V") + digest


def shard(shard_id: int) -> bytes:
    return kind(DIRECTORY, b"S") + u64(shard_id)


def directory() -> bytes:
    return kind(DIRECTORY, b"g")


def after(prefix: bytes) -> bytes:
    """Return the least key greater than every key that starts with `prefix`."""
    stem = prefix.rstrip(b"\xff")
    assert stem, "a prefix of only 0xff has no successor"
    return stem[:-1] + bytes((stem[-1] + 1,))
