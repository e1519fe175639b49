"""NodeSettings: the section `[cluster]` of the settings: how nodes find and reach each other."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator


class Section(BaseModel):
    """A table of the settings file."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Nodes(Section):
    """How the nodes of a cluster find and reach each other."""

    bind: str = Field(
        "127.0.0.1",
        description="address of this node for the others; any but this needs a certificate "
        "of the cluster's CA (`helio cluster init`, `helio cluster invite`)",
    )
    tls: Literal["auto", "on", "off"] = Field(
        "auto",
        description="TLS between nodes, with certificates of both sides; auto: unless "
        "cluster.bind is 127.0.0.1, where alone it may be off",
    )
    port: int = Field(
        0,
        ge=0,
        le=65535,
        description="port of Ray's GCS while this node is the head; 0: a free one, which it keeps",
    )
    join: str = Field(
        "",
        pattern=r"^$|^[^\s]+:[0-9]{1,5}$",
        description="host:port of the head of the cluster that an empty data directory becomes "
        "a node of; a node remembers it",
    )
    token_file: Path | None = Field(
        None,
        description="file with the token of the cluster to join; a copy is kept with the data",
    )
    invitation: Path | None = Field(
        None,
        description="file of `helio cluster invite`: token and certificate for a node that joins, "
        "or a new certificate; copies are kept with the data",
    )

    @property
    def encrypts(self) -> bool:
        """Whether this node speaks TLS with the others.

        At any other address, of loopback too, Ray listens on all of them.
        """
        return self.tls == "on" or self.bind != "127.0.0.1"

    @field_validator("bind")
    @classmethod
    def _is_address(cls, bind: str) -> str:
        try:
            address = ipaddress.ip_address(bind)
        except ValueError:
            raise ValueError(f"{bind!r} is not an IP address") from None
        if address.is_unspecified or address.is_multicast:
            raise ValueError(f"at {bind} no other node reaches this one")
        return str(address)

    @model_validator(mode="after")
    def _encrypts_beyond_loopback(self) -> Self:
        if self.tls == "off" and self.encrypts:
            raise ValueError(f"without TLS a node listens on 127.0.0.1 only, not on {self.bind}")
        return self
