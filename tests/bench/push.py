"""Clients that wait for new mail: JMAP over WebSocket (RFC 8887) and IMAP IDLE (RFC 2177).

Each runs in a thread of its own that stamps a notice the moment it is read. A notice may come
before the sender has read its 250, so the stamps are kept and compared afterwards.
"""

from __future__ import annotations

import base64
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

CONNECT_MAX_S = 20.0
POLL_S = 0.2  # How often a listening thread looks whether it shall end.
LINE_BYTES_MAX = 64 * 1024


class ArrivalLog:
    """The notices of new mail in the order of their arrival, on the monotonic clock."""

    def __init__(self) -> None:
        self._arrived_s: list[float] = []
        self._changed = threading.Condition()

    def note(self) -> None:
        """Stamp one notice now."""
        now_s = time.monotonic()
        with self._changed:
            self._arrived_s.append(now_s)
            self._changed.notify_all()

    def count(self) -> int:
        """Return how many notices have come so far."""
        with self._changed:
            return len(self._arrived_s)

    def wait_for(self, number: int, *, timeout_s: float) -> float | None:
        """Return when notice `number` (from 0) came, or None if it does not come in time."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._arrived_s) > number, timeout_s):
                return None
            return self._arrived_s[number]


def basic_authorization(user: str, password: str) -> str:
    """Return the value of an Authorization header (RFC 7617 §2)."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@contextmanager
def jmap_listener(*, port: int, user: str, password: str) -> Iterator[ArrivalLog]:
    """Log every StateChange that moves the Email state (RFC 8620 §7.1, RFC 8887 §4.3.5)."""
    log = ArrivalLog()
    stop = threading.Event()
    with connect(
        f"ws://127.0.0.1:{port}/jmap/ws",
        subprotocols=[Subprotocol("jmap")],
        additional_headers={"Authorization": basic_authorization(user, password)},
        compression=None,
        open_timeout=CONNECT_MAX_S,
    ) as websocket:
        websocket.send(json.dumps({"@type": "WebSocketPushEnable", "dataTypes": ["Email"]}))
        thread = threading.Thread(target=_read_state_changes, args=(websocket, log, stop))
        thread.start()
        try:
            yield log
        finally:
            stop.set()
            thread.join()


def _read_state_changes(
    websocket: ClientConnection, log: ArrivalLog, stop: threading.Event
) -> None:
    seen: dict[str, str] = {}
    while not stop.is_set():
        try:
            received = websocket.recv(timeout=POLL_S)
        except TimeoutError:
            continue
        except ConnectionClosed:
            return  # The probe that waits for a notice reports the loss.
        message = json.loads(received)
        if message.get("@type") != "StateChange":
            continue
        states = {
            account: types["Email"]
            for account, types in message["changed"].items()
            if "Email" in types
        }
        # The same state again is a heartbeat. An account's first state may be the one that it had
        # when push was enabled: the probe's warm-up message takes the uncertainty away.
        if any(seen.get(account) != state for account, state in states.items()):
            log.note()
        seen.update(states)


@contextmanager
def imap_listener(*, port: int, user: str, password: str) -> Iterator[ArrivalLog]:
    """Log every `* n EXISTS` with a greater n while idling in INBOX (RFC 2177 §3)."""
    log = ArrivalLog()
    stop = threading.Event()
    with socket.create_connection(("127.0.0.1", port), timeout=CONNECT_MAX_S) as connection:
        lines = _lines(connection)
        next(lines)  # The greeting.
        _command(connection, lines, f'a LOGIN "{user}" "{password}"', until=b"a OK")
        exists = _command(connection, lines, "b SELECT INBOX", until=b"b OK")
        _command(connection, lines, "c IDLE", until=b"+")
        connection.settimeout(POLL_S)
        thread = threading.Thread(target=_read_exists, args=(connection, log, stop, exists))
        thread.start()
        try:
            yield log
        finally:
            stop.set()
            thread.join()


def _lines(connection: socket.socket) -> Iterator[bytes]:
    buffer = b""
    while True:
        while (end := buffer.find(b"\r\n")) >= 0:
            yield buffer[:end]
            buffer = buffer[end + 2 :]
        data = connection.recv(4096)
        if not data or len(buffer) > LINE_BYTES_MAX:
            raise ConnectionError("IMAP server closed the connection or sent an endless line")
        buffer += data


def _command(
    connection: socket.socket, lines: Iterator[bytes], command: str, *, until: bytes
) -> int:
    """Send `command`, read to the line that begins with `until`; return the last EXISTS or 0."""
    connection.sendall(command.encode() + b"\r\n")
    exists = 0
    for line in lines:
        exists = _exists_count(line) or exists
        if line.startswith(until):
            return exists
        if line[:2] == until[:2]:
            raise ConnectionError(f"IMAP server refused {command.split()[1]}: {line!r}")
    raise ConnectionError("IMAP server went away")


def _exists_count(line: bytes) -> int:
    found = re.fullmatch(rb"\* (\d+) EXISTS", line)
    return int(found[1]) if found else 0


def _read_exists(
    connection: socket.socket, log: ArrivalLog, stop: threading.Event, exists: int
) -> None:
    buffer = b""
    while not stop.is_set():
        try:
            data = connection.recv(4096)
        except TimeoutError:
            continue
        if not data:
            return  # The probe that waits for a notice reports the loss.
        *lines, buffer = (buffer + data).split(b"\r\n")
        for line in lines:
            count = _exists_count(line)
            if count > exists:
                exists = count
                log.note()
