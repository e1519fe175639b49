"""CliTransfer: `helio import` and `helio export`.

Both may be broken off and given again: what is there is not carried twice. Progress goes to
stderr, facts to stdout.

Exit code   0 everything is there; 1 something is not, and is named; 2 wrong usage.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from cluster import cli_tables as tables
from cluster.cli_options import AddressArgument, ConfigOption, DataOption, JsonOption
from cluster.refusal import EXIT_FAILED, EXIT_USAGE, Refused

BATCH_MESSAGES_MAX = 400
BATCH_BYTES_MAX = 4 << 20
PLAIN_EVERY_S = 5.0  # Lines where there is no terminal.
FAILURES_SHOWN_MAX = 50
FAILURES_KEPT_MAX = 10_000


@dataclass(slots=True)
class Tally:
    """What has become of the messages so far."""

    stored: int = 0
    placed: int = 0
    present: int = 0
    deleted: int = 0
    bytes: int = 0  # of what was carried
    failed: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    @property
    def messages(self) -> int:
        return self.stored + self.placed + self.present + self.deleted + self.failed

    def fail(self, name: str, text: str) -> None:
        """Note a message that could not be carried."""
        self.failed += 1
        if len(self.failures) < FAILURES_KEPT_MAX:
            self.failures.append((name, text))

    def facts(self) -> dict[str, Any]:
        """Return what --json prints."""
        return {
            "stored": self.stored,
            "placed": self.placed,
            "present": self.present,
            "deleted": self.deleted,
            "failed": self.failed,
            "bytes": self.bytes,
            "seconds": round(time.monotonic() - self.began, 3),
            "failures": [{"name": name, "error": text} for name, text in self.failures],
        }


class TransferProgress:
    """A bar on a terminal, a line every few seconds elsewhere."""

    def __init__(self, verb: str, tally: Tally) -> None:
        self._verb = verb
        self._tally = tally
        self._told = time.monotonic()
        console = Console(stderr=True, highlight=False)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[messages]}"),
            TimeRemainingColumn(),
        )
        self._bar = Progress(*columns, console=console) if console.is_terminal else None
        self._task = None if self._bar is None else self._bar.add_task(verb, messages="")
        if self._bar is not None:
            self._bar.start()

    def show(self, done: int, total: int) -> None:
        """Say how far it is; `done` and `total` in any unit."""
        now = time.monotonic()
        seconds = max(0.001, now - self._tally.began)
        text = f"{self._tally.messages:,} messages, {self._tally.messages / seconds:,.0f}/s"
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done, total=max(1, total), messages=text)
        elif now - self._told >= PLAIN_EVERY_S:
            self._told = now
            percent = f"{100 * done / max(1, total):.0f} %"
            print(f"helio: {self._verb}: {percent}, {text}", file=sys.stderr, flush=True)

    def end(self) -> None:
        """Nothing more comes."""
        if self._bar is not None:
            self._bar.stop()


def import_mail(
    address: AddressArgument,
    maildir: Annotated[
        list[Path] | None, typer.Option("--maildir", help="Maildir, with its folders.")
    ] = None,
    mbox: Annotated[
        list[Path] | None, typer.Option("--mbox", help="mbox file, or a directory of them.")
    ] = None,
    eml: Annotated[
        list[Path] | None, typer.Option("--eml", help="File of one message, or a directory.")
    ] = None,
    folder: Annotated[
        str | None, typer.Option("--folder", help="Put all of it below this folder, as Old/2019.")
    ] = None,
    config: ConfigOption = None,
    data: DataOption = None,
    json: JsonOption = False,
) -> None:
    """Bring mail from elsewhere into a mailbox; what is there already stays as it is."""
    from cluster import import_sources as kinds
    from cluster import settings
    from cluster.data_directory import DataDirectory
    from cluster.transfer_client import TransferClient
    from mail.errors import Invalid
    from mail.folder_path import parse_folder_path

    loaded = settings.load(config, data).settings
    bytes_max = loaded.smtp.size_bytes_max
    try:
        root = None if folder is None else parse_folder_path(folder)
        sources: list[kinds.Source] = [
            *(kinds.MaildirSource(path, root, bytes_max) for path in maildir or ()),
            *(kinds.MboxSource(path, root, bytes_max) for path in mbox or ()),
            *(kinds.EmlSource(path, root, bytes_max) for path in eml or ()),
        ]
    except Invalid as error:
        raise Refused(error.text, EXIT_USAGE) from None
    except OSError as error:
        raise Refused(f"{error.filename} cannot be read: {error.strerror}", EXIT_USAGE) from None
    if not sources:
        raise Refused("say what to import: --maildir, --mbox or --eml", EXIT_USAGE)
    client = TransferClient(DataDirectory(loaded.data), address)
    client.folders()  # Whether there is such an account, before anything is read.
    tally = Tally()
    stopped = _interruptible(lambda: _import(client, sources, tally))
    _conclude(address, tally, stopped, json=json, verb="imported")


def _import(client: Any, sources: list[Any], tally: Tally) -> str:
    """Carry everything; return why it was stopped, "" when it was not."""
    for source in sources:
        client.make_folders(source.folders)
    progress = TransferProgress("importing", tally)
    # One batch is on its way while the next is read: twice a batch is all that is in memory.
    with ThreadPoolExecutor(1, thread_name_prefix="import") as sender:
        sending: Future[str] | None = None
        try:
            for batch in _batches(sources, tally, progress):
                if sending is not None and (stopped := sending.result()):
                    return stopped
                sending = sender.submit(_send, client, batch, tally)
            return "" if sending is None else sending.result()
        finally:
            progress.end()


def _batches(
    sources: list[Any], tally: Tally, progress: TransferProgress
) -> Iterator[list[tuple[Any, bytes]]]:
    """Yield messages with their digests, some at a time; note what cannot be carried."""
    from cluster.import_sources import SourceMessage

    batch: list[tuple[Any, bytes]] = []
    size_bytes = 0
    for source in sources:
        for item in source.items():
            if not isinstance(item, SourceMessage):
                if item.deleted:
                    tally.deleted += 1
                else:
                    tally.fail(item.name, item.text)
                continue
            batch.append((item, sha256(item.octets).digest()))
            size_bytes += len(item.octets)
            if len(batch) >= BATCH_MESSAGES_MAX or size_bytes >= BATCH_BYTES_MAX:
                yield batch
                progress.show(source.done, source.total)
                batch, size_bytes = [], 0
    if batch:
        yield batch


def _send(client: Any, batch: list[tuple[Any, bytes]], tally: Tally) -> str:
    """Carry what is not there yet; return why to stop, "" to go on."""
    from actors.transfer_commands import Known
    from cluster.transfer import Incoming

    known = client.known([Known(digest, item.folders) for item, digest in batch])
    tally.present += sum(known)
    items = [item for (item, _), there in zip(batch, known, strict=True) if not there]
    if not items:
        return ""
    outcomes = client.store(
        [Incoming(one.octets, one.received_at_ms, one.folders, one.keywords) for one in items]
    )
    for item, one in zip(items, outcomes, strict=False):
        match one.outcome:
            case "stored":
                tally.stored += 1
                tally.bytes += len(item.octets)
            case "placed":
                tally.placed += 1
            case "present":
                tally.present += 1
            case "OverQuota":
                return "the mailbox is full: give it more room, then the same command again"
            case _:
                tally.fail(item.name, one.text)
    return ""


def export_mail(
    address: AddressArgument,
    maildir: Annotated[
        Path | None, typer.Option("--maildir", help="Into a Maildir (default: ./ADDRESS).")
    ] = None,
    mbox: Annotated[Path | None, typer.Option("--mbox", help="Into a mbox a folder.")] = None,
    eml: Annotated[Path | None, typer.Option("--eml", help="Into a file a message.")] = None,
    config: ConfigOption = None,
    data: DataOption = None,
    json: JsonOption = False,
) -> None:
    """Write a mailbox to files; what is there already is not written again."""
    from cluster import export_targets as kinds
    from cluster import settings
    from cluster.data_directory import DataDirectory
    from cluster.transfer_client import TransferClient

    if sum(path is not None for path in (maildir, mbox, eml)) > 1:
        raise Refused("one of --maildir, --mbox and --eml at a time", EXIT_USAGE)
    target: kinds.Target
    if mbox is not None:
        target = kinds.MboxTarget(mbox)
    elif eml is not None:
        target = kinds.EmlTarget(eml)
    else:
        target = kinds.MaildirTarget(maildir or Path(address.replace("/", "_")))
    client = TransferClient(DataDirectory(settings.load(config, data).settings.data), address)
    tally = Tally()
    stopped = _interruptible(lambda: _export(client, target, tally))
    for note in target.notes:
        print(f"helio: {note}", file=sys.stderr)
    _conclude(address, tally, stopped, json=json, verb="exported")


def _export(client: Any, target: Any, tally: Tally) -> str:
    folders = client.folders()
    total = sum(folder.emails for folder in folders)
    progress = TransferProgress("exporting", tally)
    try:
        for folder in folders:
            if not target.begin(folder):
                tally.present += folder.emails
                continue
            for page in client.messages(folder.folder):
                missing = [row for row in page if not target.has(row)]
                tally.present += len(page) - len(missing)
                found = client.read([row.digest for row in missing])
                for row, octets in zip(missing, found, strict=True):
                    if isinstance(octets, Refused):
                        tally.fail(f"{folder.path}, UID {row.uid}", octets.text)
                    elif octets is not None:  # Else it was destroyed meanwhile.
                        target.write(row, octets)
                        tally.stored += 1
                        tally.bytes += len(octets)
                    progress.show(tally.messages, total)
            target.end()
    except OSError as error:
        raise Refused(f"{error.filename} cannot be written: {error.strerror}") from None
    finally:
        progress.end()
    return ""


def _interruptible(work: Any) -> str:
    """Do the work; return why it was stopped, "" when it was not."""
    try:
        stopped: str = work()
    except KeyboardInterrupt:
        return "interrupted: the same command goes on with it"
    except Refused as refused:
        return f"{refused.text}: the same command goes on with it"
    return stopped


def _conclude(address: str, tally: Tally, stopped: str, *, json: bool, verb: str) -> None:
    """Print what was done; raise when it is not all."""
    if json:
        facts = {"address": address, **tally.facts(), "stopped": stopped}
        tables.print_json(facts)
    else:
        seconds = max(0.001, time.monotonic() - tally.began)
        parts = [f"{tally.stored:,} messages {verb} ({tables.size_text(tally.bytes)})"]
        parts += [f"{tally.placed:,} put into further folders"] if tally.placed else []
        parts += [f"{tally.present:,} were there already"] if tally.present else []
        parts += [f"{tally.deleted:,} marked as deleted left out"] if tally.deleted else []
        parts += [f"{tally.failed:,} failed"] if tally.failed else []
        print(f"{address}: {', '.join(parts)}, {seconds:.1f} s")
    for name, text in tally.failures[:FAILURES_SHOWN_MAX]:
        print(f"helio: {name}: {text}", file=sys.stderr)
    if tally.failed > FAILURES_SHOWN_MAX:
        print(f"helio: and {tally.failed - FAILURES_SHOWN_MAX:,} more", file=sys.stderr)
    if stopped:
        raise Refused(stopped)
    if tally.failed:
        raise SystemExit(EXIT_FAILED)
