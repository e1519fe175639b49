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
    """Return the way to the cluster that the settings name. Raises Refused."""
    # Not above: to import the settings takes longer than all else that `helio --help` does.
    from cluster.control_client import ControlClient
    from cluster.data_directory import DataDirectory
    from cluster.settings import load

    return ControlClient(DataDirectory(load(config, data).settings.data))
