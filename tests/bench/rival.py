"""The rival: a private Postfix that hands over by LMTP to a private Dovecot with Maildirs.

The Debian programs run with our own configuration and directories, on loopback, in the foreground,
and are stopped by the process ids that we started. Durability is what the packages
ship: Postfix syncs its queue file before the 250, Dovecot syncs the message (mail_fsync=optimized).
docs/benchmarks.md gives the reason for each setting that is not a default.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import smtplib
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from tests.bench.accounting import process_tree
from tests.bench.fill import give_to
from tests.bench.push import ArrivalLog, imap_listener
from tests.bench.system import DOMAIN, PASSWORD, START_MAX_S, STOP_MAX_S, BenchError

POSTFIX = Path("/usr/sbin/postfix")
DOVECOT = Path("/usr/sbin/dovecot")
MAIL_USER = "nobody"  # Owns the Maildirs; the Debian packages bring no user for that.
POLL_S = 0.05
QUEUES = ("maildrop", "incoming", "active", "deferred")

# Per recipient (recipient_limit 1) up to 20 deliveries at a time, 100 in all. Several recipients a
# delivery, fewer or more at a time, no connection cache and in_flow_delay 0 were tried: slower.
MAIN_CF = """\
compatibility_level = 3.6
queue_directory = {root}/queue
data_directory = {root}/postfix-data
mail_owner = postfix
setgid_group = postdrop
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
myhostname = rival.example.test
mydestination =
alias_maps =
virtual_mailbox_domains = {domain}
virtual_mailbox_maps = hash:{root}/postfix/mailboxes
virtual_transport = lmtp:unix:{root}/dovecot-run/lmtp
smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination
smtpd_peername_lookup = no
disable_dns_lookups = yes
smtpd_client_connection_count_limit = 0
smtpd_client_connection_rate_limit = 0
smtpd_client_message_rate_limit = 0
smtpd_tls_security_level = none
default_process_limit = 100
lmtp_destination_concurrency_limit = 20
initial_destination_concurrency = 20
lmtp_destination_recipient_limit = 1
"""

# Nothing is chrooted: our queue directory holds no copies of the resolver's files.
MASTER_CF = """\
127.0.0.1:{port} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
lmtp unix - - n - - lmtp
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
"""

DOVECOT_CONF = """\
base_dir = {root}/dovecot-run
state_dir = {root}/dovecot-state
log_path = {root}/dovecot.log
protocols = imap lmtp
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
first_valid_uid = 1
mail_location = maildir:{root}/mail/%n
passdb {{
  driver = passwd-file
  args = scheme=PLAIN username_format=%u {root}/dovecot/users
}}
userdb {{
  driver = passwd-file
  args = username_format=%u {root}/dovecot/users
}}
service imap-login {{
  inet_listener imap {{
    port = {imap_port}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
service lmtp {{
  process_min_avail = 20
  process_limit = 250
  unix_listener lmtp {{
    user = postfix
    mode = 0600
  }}
}}
"""


class PostfixDovecot:
    """SystemUnderTest made of Debian's Postfix and Dovecot."""

    name = "Postfix + Dovecot"

    def __init__(self) -> None:
        self.smtp_port = 0
        self.imap_port = 0
        self.users: Sequence[str] = ()
        self._root = Path()
        self._started: list[subprocess.Popen[bytes]] = []  # Dovecot, then Postfix.

    def start(self, directory: Path, users: Sequence[str]) -> None:
        """Write the configuration, start Dovecot and Postfix, wait until both answer."""
        for program in (POSTFIX, DOVECOT):
            if not program.exists():
                raise BenchError(f"{program} is missing: run tests/bench/install_rival.sh")
        if os.geteuid() != 0:
            raise BenchError("Postfix and Dovecot change their user: run the benchmark as root")
        self._root = directory
        self.users = users
        self.smtp_port, self.imap_port = _free_ports(2)
        self._write_configuration()
        with (directory / "start.log").open("wb") as log:
            for command in (
                [str(DOVECOT), "-F", "-c", f"{directory}/dovecot/dovecot.conf"],
                [str(POSTFIX), "-c", f"{directory}/postfix", "start-fg"],
            ):
                self._started.append(
                    subprocess.Popen(
                        command,
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        start_new_session=True,
                    )
                )
        self._wait_until_ready()

    def stop(self) -> None:
        """End both masters in order; what has not ended in time is killed by its id."""
        pids = self.pids()
        for process in reversed(self._started):
            master = self._postfix_master() if process is self._started[-1] else process.pid
            if master in pids:
                os.kill(master, signal.SIGTERM)
        deadline_s = time.monotonic() + STOP_MAX_S
        for process in self._started:
            try:
                process.wait(timeout=max(0.0, deadline_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                for pid in process_tree([process.pid]):
                    os.kill(pid, signal.SIGKILL)
                process.wait()
        self._started.clear()

    def version(self) -> str:
        """Return both versions."""
        postfix = _output(
            ["/usr/sbin/postconf", "-c", f"{self._root}/postfix", "-h", "mail_version"]
        )
        dovecot = _output([str(DOVECOT), "--version"]).split()[0]
        return f"Postfix {postfix}, Dovecot {dovecot}"

    def delivered(self) -> int:
        """Return the number of files in `new` and `cur` of all Maildirs."""
        return sum(self.counts().values())

    def backlog(self) -> int:
        """Return the number of messages in Postfix's queues."""
        return sum(
            1
            for name in QUEUES
            for path in (self._root / "queue" / name).rglob("*")
            if path.is_file()
        )

    def counts(self) -> Mapping[str, int]:
        """Return the files of each Maildir."""
        return {
            user: sum(_entries(self.maildir(user) / folder) for folder in ("new", "cur"))
            for user in self.users
        }

    def maildir(self, user: str) -> Path:
        """Return where the mail of a user lies."""
        return self._root / "mail" / user.partition("@")[0]

    def adopt_maildir(self, user: str, maildir: Path) -> None:
        """Make a Maildir the mailbox of a user who has none yet; it is moved."""
        owner = pwd.getpwnam(MAIL_USER)
        give_to(maildir, (owner.pw_uid, owner.pw_gid))
        maildir.rename(self.maildir(user))

    def roles(self) -> Mapping[int, str]:
        """Return nothing: the programs' names say it."""
        return {}

    def pids(self) -> Sequence[int]:
        """Return both masters and all their descendants."""
        return process_tree([process.pid for process in self._started])

    def push_listener(self, user: str) -> AbstractContextManager[ArrivalLog]:
        """Idle in the INBOX of `user`."""
        return imap_listener(port=self.imap_port, user=user, password=PASSWORD)

    def _write_configuration(self) -> None:
        root = self._root
        root.chmod(0o755)  # The daemons give up root and must still reach their directories.
        for name in ("postfix", "postfix-data", "queue", "dovecot", "dovecot-run", "mail"):
            (root / name).mkdir()
        shutil.chown(root / "postfix-data", "postfix")
        shutil.chown(root / "mail", MAIL_USER)
        values = {
            "root": root,
            "domain": DOMAIN,
            "port": self.smtp_port,
            "imap_port": self.imap_port,
        }
        (root / "postfix/main.cf").write_text(MAIN_CF.format(**values))
        (root / "postfix/master.cf").write_text(MASTER_CF.format(**values))
        (root / "postfix/mailboxes").write_text("".join(f"{user} present\n" for user in self.users))
        _output(["/usr/sbin/postmap", "-c", f"{root}/postfix", f"hash:{root}/postfix/mailboxes"])
        (root / "dovecot/dovecot.conf").write_text(DOVECOT_CONF.format(**values))
        owner = pwd.getpwnam(MAIL_USER)
        ids = f"{owner.pw_uid}:{owner.pw_gid}"
        (root / "dovecot/users").write_text(
            "".join(f"{user}:{PASSWORD}:{ids}::{root}/mail::\n" for user in self.users)
        )

    def _postfix_master(self) -> int:
        """Return the master's id; the process that we started is the script that waits for it."""
        try:
            return int((self._root / "queue/pid/master.pid").read_text())
        except (FileNotFoundError, ValueError):
            return self._started[-1].pid

    def _wait_until_ready(self) -> None:
        deadline_s = time.monotonic() + START_MAX_S
        lmtp = self._root / "dovecot-run/lmtp"
        while time.monotonic() < deadline_s:
            for process in self._started:
                if process.poll() is not None:
                    raise BenchError(f"{process.args!r} ended: {self._log_tail()}")
            if lmtp.exists() and _answers(self.smtp_port):
                return
            time.sleep(POLL_S)
        raise BenchError(f"the rival did not start: {self._log_tail()}")

    def _log_tail(self) -> str:
        text = ""
        for name in ("start.log", "dovecot.log"):
            path = self._root / name
            text += path.read_text(errors="replace")[-1000:] if path.exists() else ""
        return text


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [server.getsockname()[1] for server in sockets]
    finally:
        for server in sockets:
            server.close()


def _answers(port: int) -> bool:
    try:
        with smtplib.SMTP(
            "127.0.0.1", port, local_hostname="load.example.test", timeout=5
        ) as client:
            return client.noop()[0] == 250
    except (OSError, smtplib.SMTPException):
        return False


def _entries(folder: Path) -> int:
    try:
        with os.scandir(folder) as entries:
            return sum(1 for _ in entries)
    except FileNotFoundError:
        return 0  # Dovecot makes the Maildir when the first message comes.


def _output(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
