"""TransferClient: import and export on the command line's side of the control listener.

One connection is kept, since there are many small requests. Nothing is repeated here: what was
not answered is found out when the command is given again.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec

from actors.transfer_commands import FolderRow, ImportOutcome, Known, MessageRow, MessagesListed
from cluster.control_client import ControlClient
from cluster.data_directory import DataDirectory
from cluster.refusal import Refused
from cluster.transfer import Incoming
from mail.folder_path import FolderPath

# A busy shard is waited for by the cluster itself, for each of a batch's turns.
TIMEOUT_S = 300.0
DIGESTS_AT_ONCE = 500

AnswerT = TypeVar("AnswerT")


class TransferClient(ControlClient):
    """Carries mail to and from one mailbox of the running cluster."""

    def __init__(self, data: DataDirectory, address: str) -> None:
        super().__init__(data)
        self._mailbox = f"/mailboxes/{quote(address, safe='')}"
        self._connection = http.client.HTTPConnection(self._address, timeout=TIMEOUT_S)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def known(self, messages: Sequence[Known]) -> list[bool]:
        """Say which messages are in their folders already."""
        return self._call("POST", "/known", list[bool], messages)

    def store(self, messages: Sequence[Incoming]) -> list[ImportOutcome]:
        """Store what is not there yet; return an outcome a message, none after an OverQuota."""
        return self._call("POST", "/import", list[ImportOutcome], messages)

    def make_folders(self, folders: Sequence[FolderPath]) -> None:
        """Make the folders that are not there yet, all of them or none."""
        if folders:
            self._call("POST", "/folders", type(None), folders)

    def folders(self) -> list[FolderRow]:
        """Return all folders, parents before their children."""
        return self._call("GET", "/folders", list[FolderRow])

    def messages(self, folder: int) -> Iterator[list[MessageRow]]:
        """Yield a folder in pages, in the order of UIDs, with what comes in meanwhile."""
        after_uid, more = 0, True
        while more:
            page = self._call("GET", f"/folders/{folder}?after={after_uid}", MessagesListed)
            if not page.rows:
                return
            yield list(page.rows)
            after_uid, more = page.rows[-1].uid, page.more

    def read(self, digests: Sequence[bytes]) -> Iterator[bytes | Refused | None]:
        """Yield the octets of each message, None when it is gone, Refused if it is not readable."""
        position = 0
        while position < len(digests):
            wanted = list(digests[position : position + DIGESTS_AT_ONCE])
            found: list[bytes | Refused | None] = []
            found.extend(self._call("POST", "/read", list[bytes | None], wanted))
            if not found:
                found = [self._in_pieces(wanted[0])]
            position += len(found)
            yield from found

    def _in_pieces(self, digest: bytes) -> bytes | Refused:
        octets = bytearray()
        while True:
            try:
                path = f"/messages/{digest.hex()}?offset={len(octets)}"
                piece = self._call("GET", path, bytes)
            except Refused as refused:
                return refused
            if not piece:
                return bytes(octets)
            octets += piece

    def _call(self, method: str, path: str, cls: type[AnswerT], body: Any = None) -> AnswerT:
        """Return the answer. Raises Refused with what the cluster says, or that it is away."""
        headers = {"Authorization": f"Bearer {self._token}"}
        octets = None if body is None else msgspec.msgpack.encode(body)
        try:
            self._connection.request(method, self._mailbox + path, octets, headers)
            response = self._connection.getresponse()
            answer = response.read()
            if response.status >= 400:
                raise Refused(str(json.loads(answer)["error"]))
            return msgspec.msgpack.decode(answer, type=cls)
        except ConnectionRefusedError:
            raise Refused(f"no cluster runs on {self._data.path} (it was killed)") from None
        except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
            self._connection.close()
            raise Refused(f"the cluster does not answer: {error!r}") from None
