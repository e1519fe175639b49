"""Fill: a corpus as a Maildir, from which either side gets its large mailbox. Not timed."""

from __future__ import annotations

import os
from pathlib import Path

from tests.bench.corpus import BEGAN, INTERVAL_S, Corpus


def write_maildir(corpus: Corpus, maildir: Path) -> None:
    """Write all messages into `cur`, those that are seen with their flag, as old as they say."""
    for name in ("new", "tmp", "cur"):
        (maildir / name).mkdir(parents=True)
    for piece in corpus:
        octets = piece.octets.replace(b"\r\n", b"\n")
        flags = "S" if piece.seen else ""
        arrived_s = int(BEGAN.timestamp()) + piece.number * INTERVAL_S
        path = maildir / "cur" / f"{arrived_s}.M{piece.number}P1.bench,S={len(octets)}:2,{flags}"
        path.write_bytes(octets)
        os.utime(path, (arrived_s, arrived_s))


def give_to(maildir: Path, owner: tuple[int, int]) -> None:
    """Make a Maildir and all that is in it a user's (uid, gid)."""
    for directory, _, names in os.walk(maildir):
        os.chown(directory, *owner)
        for name in names:
            os.chown(os.path.join(directory, name), *owner)
