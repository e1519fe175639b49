"""ClusterCa: the CA of one cluster, and with it who may speak with its nodes.

    cluster-tls/ca.pem                    on every node: whom it believes
    cluster-tls/node.pem  node-key.pem    on every node: what it shows, to others and to Ray's
    cluster-tls/ca-key.pem                0600, only on the node that made the CA

Who has a certificate of this CA, and the token, is a node of the cluster; so the CA's key is to be
guarded, and to be saved somewhere else: without it no node can be added or renewed, short of
a new CA for all. A certificate is not taken back before it ends; who must be shut out, is shut out
by a new CA and a new token.

Renewal     at a start: a node with the CA's key renews its certificate by itself, any other is
            given a new invitation. Running processes use what they have read.
On failure  Refused, with what to do.
"""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import structlog
from cryptography import x509

from actors.link_options import LinkOptions
from cluster.certificates import CLIENT, SERVER, Pair, issue, make_ca, names_of, write_file
from cluster.node_settings import Nodes
from cluster.refusal import EXIT_USAGE, Refused

log = structlog.get_logger()

CA_DAYS = 3650
NODE_DAYS = 1825
# A node is started again at least once a year, for a release or a kernel.
RENEW_DAYS = 365
# Ray looks at names: its processes call the node by its address, or by one of these.
LOCAL_NAMES = ("localhost", "127.0.0.1")
INVITATION_FORMAT = 1
INVITATION_BYTES_MAX = 64 << 10


@dataclass(frozen=True, slots=True)
class Invitation:
    """What a new node needs to become one, in one file. A secret."""

    cluster: str  # id
    address: str  # of the new node
    ca: str  # PEM
    certificate: str
    key: str
    token: str

    def write(self, file: Path) -> None:
        """Write a new file, readable by its owner only. Raises Refused."""
        text = json.dumps({"format": INVITATION_FORMAT, **asdict(self)}, indent=1)
        try:
            handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "w") as stream:
                stream.write(text)
        except OSError as error:
            raise Refused(f"{file} cannot be written: {error.strerror}") from None

    @classmethod
    def read(cls, file: Path) -> Invitation:
        """Return what is in a file. Raises Refused."""
        try:
            with file.open("rb") as stream:
                record = json.loads(stream.read(INVITATION_BYTES_MAX))
            if record.pop("format") != INVITATION_FORMAT:
                raise Refused(f"{file} is an invitation of another release")
            return cls(**{name: str(value) for name, value in record.items()})
        except OSError as error:
            raise Refused(f"the invitation {file} cannot be read: {error.strerror}") from None
        except (ValueError, KeyError, TypeError, AttributeError):
            raise Refused(f"{file} is no invitation (`helio cluster invite` makes one)") from None


class ClusterCa:
    """What one node has of it, in a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ca_file = directory / "ca.pem"
        self.ca_key_file = directory / "ca-key.pem"
        self.node_file = directory / "node.pem"
        self.node_key_file = directory / "node-key.pem"

    @property
    def issues(self) -> bool:
        """Whether certificates can be made here."""
        return self.ca_key_file.exists()

    def make(self, bind: str, now: datetime.datetime) -> None:
        """Make the CA and this node's certificate, where they are missing. Raises Refused."""
        if not self.ca_file.exists():
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            pair = make_ca("Heliograph cluster CA", now, CA_DAYS)
            pair.write(self.ca_file, self.ca_key_file)
        self.check(bind, now)

    def check(self, bind: str, now: datetime.datetime) -> None:
        """See that this node has a certificate for its address; make or renew it. Raises Refused.

        `bind` is the address at which other nodes reach it.
        """
        node = Pair.read(self.node_file, self.node_key_file)
        valid = node is not None and self._is_good(node, bind, now)
        if valid and node is not None and node.lasts(now, RENEW_DAYS):
            return
        if self.issues:
            self._issue(bind, now).write(self.node_file, self.node_key_file)
        elif valid and node is not None:
            log.warning("certificate ends", at=node.certificate.not_valid_after_utc.isoformat())
        else:
            raise Refused(
                f"{self.node_file} is missing, over, or not for {bind} (setting cluster.bind): "
                f"have `helio cluster invite {bind}` make an invitation where the CA is, "
                "and start with --invitation",
                EXIT_USAGE,
            )

    def certify(self, other: ClusterCa, bind: str, now: datetime.datetime) -> None:
        """Give another node of this machine a certificate, if it has none. Raises Refused."""
        node = Pair.read(other.node_file, other.node_key_file)
        if node is None or not node.lasts(now, RENEW_DAYS) or not other._is_good(node, bind, now):
            other.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._issue(bind, now).write(other.node_file, other.node_key_file)
            write_file(other.ca_file, self._ca(now).certificate_pem, 0o644)

    def invite(self, cluster: str, address: str, token: str, now: datetime.datetime) -> Invitation:
        """Return what a node at an address needs. Raises Refused where there is no CA's key."""
        node = self._issue(address, now)
        return Invitation(
            cluster,
            address,
            self._ca(now).certificate_pem.decode(),
            node.certificate_pem.decode(),
            node.key_pem.decode(),
            token,
        )

    def accept(self, invitation: Invitation, now: datetime.datetime) -> None:
        """Take what an invitation brings, unless it is older than what is here. Raises Refused."""
        given = Pair.parse(invitation.certificate.encode(), invitation.key.encode())
        try:
            ca = x509.load_pem_x509_certificate(invitation.ca.encode())
        except ValueError:
            ca = None
        if given is None or ca is None or not given.is_of(ca):
            raise Refused("the invitation is damaged: have another one made")
        if not given.lasts(now, 0):
            raise Refused("the invitation is too old: have another one made")
        if self.issues:
            return  # Whoever makes certificates needs none.
        here = Pair.read(self.node_file, self.node_key_file)
        is_newer = here is None or (
            here.certificate.not_valid_before_utc < given.certificate.not_valid_before_utc
        )
        if is_newer:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_file(self.ca_file, invitation.ca.encode(), 0o644)
            given.write(self.node_file, self.node_key_file)

    def link_options(self, bind: str) -> LinkOptions:
        """Return how the processes of this node speak with those of others."""
        return LinkOptions(bind, str(self.ca_file), str(self.node_file), str(self.node_key_file))

    def ends_at(self) -> datetime.datetime | None:
        """Return when this node's certificate ends, None when it has none."""
        node = Pair.read(self.node_file, self.node_key_file)
        return None if node is None else node.certificate.not_valid_after_utc

    def _is_good(self, node: Pair, bind: str, now: datetime.datetime) -> bool:
        try:
            ca = x509.load_pem_x509_certificate(self.ca_file.read_bytes())
        except (OSError, ValueError):
            return False
        return node.is_of(ca) and node.lasts(now, 0) and node.names == names_of(bind, *LOCAL_NAMES)

    def _issue(self, address: str, now: datetime.datetime) -> Pair:
        names = names_of(address, *LOCAL_NAMES)
        return issue(self._ca(now), f"node {address}", names, [SERVER, CLIENT], now, NODE_DAYS)

    def _ca(self, now: datetime.datetime) -> Pair:
        ca = Pair.read(self.ca_file, self.ca_key_file)
        if ca is None:
            raise Refused(
                f"{self.ca_key_file} is missing: certificates are made where `helio cluster init` "
                "made the CA"
            )
        if not ca.lasts(now, 0):
            raise Refused(f"{self.ca_file} is over: the cluster needs a new CA on every node")
        return ca


def link_options(cluster: Nodes, directory: Path) -> LinkOptions:
    """Return how a node's processes speak with those of others, by its settings."""
    ca = ClusterCa(directory)
    return ca.link_options(cluster.bind) if cluster.encrypts else LinkOptions(cluster.bind)


def certify_beside(cluster: Nodes, nodes: Sequence[Path], node: Path) -> None:
    """Give one of several nodes of this machine its certificate, if they speak TLS. Raises Refused.

    `nodes` are the directories of all of them; one has the CA's key, or nothing can be done.
    """
    ca = next((one for one in map(ClusterCa, nodes) if one.issues), None)
    if cluster.encrypts and ca is not None:
        ca.certify(ClusterCa(node), cluster.bind, datetime.datetime.now(datetime.UTC))
