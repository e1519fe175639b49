"""CliOptions: the arguments and options that many commands of `helio` share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="Settings file instead of ./heliograph.toml.")
]
DataOption = Annotated[
    Path | None, typer.Option("--data", help="Data directory instead of the setting `data`.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print facts for programs.")]
AddressArgument = Annotated[str, typer.Argument(help="Address of the account.")]
