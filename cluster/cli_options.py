"""CliOptions: what many commands of `helio` share: arguments, options, the way to the cluster."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from cluster.control_client import ControlClient

ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="Settings file instead of ./heliograph.toml.")
]
DataOption = Annotated[
    Path | None, typer.Option("--data", help="Data directory instead of the setting `data`.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print facts for programs.")]
AddressArgument = Annotated[str, typer.Argument(help="Address of the account.")]


def client_of(config: Path | None, data: Path | None) -> ControlClient:
    """Return the way to the cluster that the settings name. Raises Refused.

    Below a directory of several nodes (`helio up --nodes`), through any of them that runs.
    """
    return clients_of(config, data)[0]


def clients_of(config: Path | None, data: Path | None) -> list[ControlClient]:
    """Return the way to each node that runs on this machine's data. Raises Refused for none."""
    # Not above: to import the settings takes longer than all else that `helio --help` does.
    from cluster.settings import load
    from cluster.several_nodes import running_clients

    return running_clients(load(config, data).settings.data)
