"""CliClusterTls: the operator's commands about the cluster's CA and those whom it certifies.

Exit code   as in `cluster/cli.py`.
"""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path
from typing import Annotated

import typer

from cluster import cli_tables as tables
from cluster.cli_options import ConfigOption, DataOption, JsonOption
from cluster.data_directory import DataDirectory
from cluster.refusal import EXIT_USAGE, Refused


def cluster_init(
    config: ConfigOption = None, data: DataOption = None, json: JsonOption = False
) -> None:
    """Make a new cluster in an empty data directory: its CA, its token, its first node.

    Starts nothing. Changes nothing that is there, so it may be repeated.
    """
    from cluster.cluster_ca import ClusterCa
    from cluster.release import release
    from cluster.settings import load

    settings = load(config, data).settings
    directory = DataDirectory(settings.data)
    identity = directory.identity()
    if identity is None:
        directory.take()
        try:
            identity = directory.identify(release())
        finally:
            directory.release()
    if not identity.founder:
        raise Refused(f"{directory.path} is a node of a cluster that another one began")
    directory.token()
    ca = ClusterCa(directory.cluster_tls)
    ca.make(settings.cluster.bind, datetime.datetime.now(datetime.UTC))
    ends_at = ca.ends_at()
    facts = {
        "cluster": identity.id,
        "node": identity.node,
        "address": settings.cluster.bind,
        "ca": str(ca.ca_file),
        "ca_key": str(ca.ca_key_file),
        "certificate_ends": "" if ends_at is None else ends_at.isoformat(),
        "token_file": str(directory.token_file),
    }
    if json:
        tables.print_json(facts)
        return
    print(f"cluster {identity.id}, node {identity.node} at {settings.cluster.bind}")
    print(f"keep a copy of {ca.ca_key_file}: without it no node can be added or renewed")


def cluster_invite(
    address: Annotated[
        str, typer.Argument(help="Address of the new node for the others: its cluster.bind.")
    ],
    out: Annotated[Path, typer.Option("--out", help="New file to write; a secret.")],
    config: ConfigOption = None,
    data: DataOption = None,
    json: JsonOption = False,
) -> None:
    """Write what a new node needs to join, or one that is there to renew its certificate.

    On the node where the CA was made, running or not.
    """
    from cluster.cluster_ca import ClusterCa
    from cluster.settings import load

    try:
        bind = str(ipaddress.ip_address(address))
    except ValueError:
        raise Refused(f"{address!r} is not an IP address", EXIT_USAGE) from None
    directory = DataDirectory(load(config, data).settings.data)
    identity = directory.identity()
    if identity is None:
        raise Refused(f"{directory.path} is no node yet: `helio cluster init` makes it one")
    token = directory.token().read_text().strip()
    now = datetime.datetime.now(datetime.UTC)
    invitation = ClusterCa(directory.cluster_tls).invite(identity.id, bind, token, now)
    invitation.write(out)
    head = directory.read_head()
    join = "HOST:PORT" if head is None else head.address
    if json:
        tables.print_json({"address": bind, "cluster": identity.id, "file": str(out), "join": join})
        return
    print(f"on the new node: HELIO_CLUSTER__BIND={bind} helio up --join {join} --invitation {out}")
