"""What must hold in every run: a history that sees everything at once, and checks as it goes.

It knows what no replica knows: what every replica has applied, and every answer that a client
got. What rests on the disks at the end is checked by `checkers.py`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from storage import keys, records
from storage.database import Family
from storage.mailbox_reader import MailboxReader
from storage.records import Entry
from tests.sim.disk import Disk

PROBLEMS_MAX = 20  # of one run; the first tells most


@dataclass
class Mail:
    """What the clients know of one mailbox."""

    raws: dict[bytes, None] = field(default_factory=dict)  # every message sent to it
    acknowledged: dict[bytes, int] = field(default_factory=dict)  # digest to email
    destroying: set[int] = field(default_factory=set)  # asked for, answered or not
    destroyed: set[int] = field(default_factory=set)  # answered
    modseq: int = 0  # seen by somebody
    uids: dict[tuple[int, int], int] = field(default_factory=dict)  # every UID ever seen
    uid_next: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Floor:
    """What a read that begins now must show."""

    emails: frozenset[int]
    destroyed: frozenset[int]
    modseq: int
    uid_next: dict[int, int]


@dataclass(frozen=True)
class Seen:
    """What a read has shown of a mailbox."""

    emails: frozenset[int] = frozenset()
    modseq: int = 0
    uid_next: dict[int, int] = field(default_factory=dict)
    uids: dict[tuple[int, int], int] = field(default_factory=dict)


def look_at(reader: MailboxReader) -> Seen:
    """Read a mailbox as a client does: its emails, states and UIDs."""
    if not reader.exists:
        return Seen()
    folders = reader.folders()
    return Seen(
        frozenset(reader.listed_emails(keys.ALL_MAIL)),
        reader.info.modseq,
        {number: folder.uid_next for number, folder in folders.items()},
        {(f, uid): email for f in folders for uid, email in reader.uids(f)},
    )


class History:
    """All that happened, and what was wrong with it."""

    def __init__(self, mailboxes: Iterable[int]) -> None:
        self.problems: list[str] = []
        self.mail = {mailbox: Mail() for mailbox in mailboxes}
        self.committed: dict[int, bytes] = {}  # the entries, as they lie on disk
        self.reads = 0
        self.primaries: dict[int, object] = {}
        self._requests: dict[tuple[int, bytes], int] = {}

    def problem(self, text: str) -> None:
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(text)

    # The log

    def see_applied(self, who: str, disk: Disk, index: int) -> None:
        """Note what a replica is about to apply: all must agree, forever."""
        log = disk.families.values[Family.LOG]
        for one in range(disk.applied_index + 1, index + 1):
            octets = log.get(keys.log(one))
            if octets is None:
                self.problem(f"{who} applies {one}, which is not in its log")
            elif one not in self.committed:
                self._see_new(who, one, octets)
            elif self.committed[one] != octets:
                self.problem(f"{who} applies another entry {one} than was committed")

    def see_snapshot(self, who: str, before: int, disk: Disk) -> None:
        if disk.applied_index < before:
            self.problem(f"{who} goes back from {before} to {disk.applied_index} by a snapshot")

    def _see_new(self, who: str, index: int, octets: bytes) -> None:
        if index > 1 and index - 1 not in self.committed:
            self.problem(f"{who} applies {index} before what comes earlier")
        self.committed[index] = octets
        entry = records.decode(octets, Entry)
        if entry.request_id:
            request = (entry.mailbox, entry.request_id)
            if self._requests.setdefault(request, index) != index:
                self.problem(f"one request has two effects, {self._requests[request]} and {index}")

    def see_reign(self, who: str, process: object, epoch: int) -> None:
        """Note a reign that begins: an epoch has one primary, and one process of it."""
        if self.primaries.setdefault(epoch, process) is not process:
            self.problem(f"{who} is a second primary of epoch {epoch}")

    # Clients

    def see_delivered(self, mailbox: int, digest: bytes, email_id: int) -> None:
        known = self.mail[mailbox].acknowledged
        if known.setdefault(digest, email_id) != email_id:
            self.problem(f"one request, two replies: {known[digest]} and {email_id}")

    def floor(self, mailbox: int) -> Floor:
        mail = self.mail[mailbox]
        return Floor(
            frozenset(mail.acknowledged.values()) - mail.destroying,
            frozenset(mail.destroyed),
            mail.modseq,
            dict(mail.uid_next),
        )

    def see_read(self, who: str, mailbox: int, floor: Floor, seen: Seen) -> None:
        """Check an answer against what was known before it was asked for (linearizable)."""
        self.reads += 1
        mail = self.mail[mailbox]
        where = f"a read of {mailbox} at {who}"
        missing = floor.emails - mail.destroying - seen.emails
        if missing:
            self.problem(f"{where} lacks emails {sorted(missing)}")
        if floor.destroyed & seen.emails:
            self.problem(f"{where} shows what was destroyed: {floor.destroyed & seen.emails}")
        if seen.modseq < floor.modseq:
            self.problem(f"{where} goes back from state {floor.modseq} to {seen.modseq}")
        for folder, uid_next in floor.uid_next.items():
            if seen.uid_next.get(folder, 0) < uid_next:
                self.problem(f"{where}: UIDs of folder {folder} go back")
        self._see_uids(mail, where, seen)
        mail.modseq = max(mail.modseq, seen.modseq)

    def _see_uids(self, mail: Mail, where: str, seen: Seen) -> None:
        """Check that UIDs are used once, and rise (RFC 9051 §2.3.1.1)."""
        for (folder, uid), email_id in seen.uids.items():
            if mail.uids.setdefault((folder, uid), email_id) != email_id:
                self.problem(f"{where}: UID {uid} of folder {folder} was used again")
            if uid >= seen.uid_next[folder]:
                self.problem(f"{where}: UID {uid} of folder {folder} is beyond uid_next")
        for folder, uid_next in seen.uid_next.items():
            mail.uid_next[folder] = max(mail.uid_next.get(folder, 0), uid_next)
