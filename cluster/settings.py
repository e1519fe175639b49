"""Settings: what an operator may set, with defaults, limits and the relations between them.

Read once, in the process that starts the cluster: the command line wins over the environment
(`HELIO_SMTP__PORT`), that over the file (`[smtp] port = …` in heliograph.toml), that over the
defaults here. A wrong value is refused with one line that names the setting.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import (
    BaseModel,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from cluster.node_settings import Nodes, Section
from cluster.refusal import EXIT_USAGE, Refused

FILE_NAME = "heliograph.toml"
PREFIX, DELIMITER = "HELIO_", "__"
MIB = 1 << 20
ACTORS_A_CORE = 16
MEMORY_AN_ACTOR_BYTES = 200 * MIB

LATER = "of a later release; accepted, without effect yet"


class AddressLimits(Section):
    """What one address may do that is not trusted; 0 is without limit."""

    connections_max: int = Field(50, ge=0, description="connections of an address at once")
    connections_per_minute: int = Field(120, ge=0, description="connections of an address")
    messages_per_minute: int = Field(300, ge=0, description="messages of an address")
    recipients_per_minute: int = Field(1000, ge=0, description="recipients of an address")
    failures_per_minute: int = Field(
        100, ge=0, description="unknown recipients and wrong commands, then connections are refused"
    )


class NetworkLimits(Section):
    """What one network, a /24 of IPv4 or a /64 of IPv6, may do; 0 is without limit."""

    connections_max: int = Field(200, ge=0, description="connections of a network at once")
    connections_per_minute: int = Field(600, ge=0, description="connections of a network")
    messages_per_minute: int = Field(1500, ge=0, description="messages of a network")
    recipients_per_minute: int = Field(5000, ge=0, description="recipients of a network")
    failures_per_minute: int = Field(
        500, ge=0, description="unknown recipients and wrong commands, then connections are refused"
    )


class Smtp(Section):
    """Mail from other servers (MX). Limits are those of the node, whatever its processes."""

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(2525, ge=0, le=65535, description="port; 0 picks a free one")
    processes: int = Field(
        0,
        ge=0,
        le=64,
        description="processes that share the port; 0: one, or half the cores if there are 4",
    )
    size_bytes_max: int = Field(
        50 * MIB, ge=64 << 10, le=1 << 30, description="largest message (RFC 1870)"
    )
    recipients_max: int = Field(
        100, ge=100, le=10_000, description="recipients of a message (RFC 5321 §4.5.3.1.8)"
    )
    received_max: int = Field(
        50, ge=10, le=1000, description="hops after which a message loops (RFC 5321 §6.3)"
    )
    connections_max: int = Field(1000, ge=1, le=100_000, description="connections at once")
    idle_timeout_s: float = Field(
        300.0, ge=1, le=3600, description="silence after which a session ends"
    )
    data_timeout_s: float = Field(
        180.0, ge=1, le=3600, description="silence within a message after which a session ends"
    )
    line_timeout_s: float = Field(
        60.0, ge=1, le=3600, description="time for a command to come, from its first octet"
    )
    session_timeout_s: float = Field(
        3600.0, ge=60, le=86_400, description="time for a session to bring a message, and the next"
    )
    in_flight_bytes_max: int = Field(
        256 * MIB, ge=MIB, description="octets of messages on their way at once"
    )
    trusted_networks: tuple[str, ...] = Field(
        ("127.0.0.0/8", "::1/128"),
        description="networks free of the limits below; relaying is refused to them as to all",
    )
    proxy_networks: tuple[str, ...] = Field(
        (), description="networks of proxies, which must begin with a PROXY header and are believed"
    )
    address_limits: AddressLimits = AddressLimits()
    network_limits: NetworkLimits = NetworkLimits()

    @field_validator("trusted_networks", "proxy_networks")
    @classmethod
    def _are_networks(cls, networks: tuple[str, ...]) -> tuple[str, ...]:
        for network in networks:
            try:
                ipaddress.ip_network(network)
            except ValueError as error:
                raise ValueError(f"not a network: {error}") from None
        return networks

    @model_validator(mode="after")
    def _one_message_fits(self) -> Self:
        if self.in_flight_bytes_max < self.size_bytes_max:
            raise ValueError("in_flight_bytes_max must not be less than size_bytes_max")
        return self


class Http(Section):
    """JMAP, webmail, health and metrics without TLS; credentials from loopback only."""

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8080, ge=0, le=65535, description="port; 0 picks a free one")


class Https(Section):
    """JMAP and webmail with TLS."""

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8443, ge=0, le=65535, description="port; 0 picks a free one")


class Later(Section):
    """A listener of a later release."""

    host: str = Field("127.0.0.1", description=f"address to listen on, {LATER}")


class Submission(Later):
    """Mail from our users, STARTTLS."""

    port: int = Field(2587, ge=0, le=65535, description=f"port, {LATER}")


class Submissions(Later):
    """Mail from our users, TLS."""

    port: int = Field(2465, ge=0, le=65535, description=f"port, {LATER}")


class Imap(Later):
    """IMAP, STARTTLS."""

    port: int = Field(2143, ge=0, le=65535, description=f"port, {LATER}")


class Imaps(Later):
    """IMAP, TLS."""

    port: int = Field(2993, ge=0, le=65535, description=f"port, {LATER}")


class Pop3(Later):
    """POP3, STARTTLS."""

    port: int = Field(2110, ge=0, le=65535, description=f"port, {LATER}")


class Pop3s(Later):
    """POP3, TLS."""

    port: int = Field(2995, ge=0, le=65535, description=f"port, {LATER}")


class Replication(Section):
    """How many copies of each shard there are."""

    factor: int = Field(
        3, ge=1, le=7, description="wanted copies of a shard; one while there are under three nodes"
    )
    replace_after_s: float = Field(
        300.0,
        ge=1.0,
        description="a node that is silent for so long is given up: others get its replicas",
    )


class Tls(Section):
    """One certificate for every listener; without one a CA is made below the data directory."""

    certificate: Path | None = Field(None, description="PEM file: certificate and its chain")
    key: Path | None = Field(None, description="PEM file: private key of the certificate")

    @model_validator(mode="after")
    def _both_or_none(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key are set together or not at all")
        return self


class Upkeep(Section):
    """What each shard does for itself, at a small share of a processor."""

    audit_hours: float = Field(
        24.0, ge=0, description="hours between two audits of every mailbox; 0: only when asked"
    )
    collect_hours: float = Field(
        24.0,
        ge=0,
        description="hours between two collections of destroyed bodies; 0: only when asked",
    )


class Expiry(Section):
    """How long mail stays in the folders that empty themselves."""

    trash_days: int = Field(
        30, ge=0, le=36_500, description="days from being put into Trash until destroyed; 0: never"
    )
    junk_days: int = Field(
        30, ge=0, le=36_500, description="days from being put into Junk until destroyed; 0: never"
    )


class Log(Section):
    """JSON lines in `logs/` below the data directory."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="least important events that are written"
    )


class RayNode(Section):
    """The local Ray that `helio up` starts."""

    object_store_bytes: int = Field(
        256 * MIB,
        ge=80 * MIB,
        description="shared memory that Ray reserves; mail does not go through it",
    )
    autoscaling_config: Path | None = Field(
        None,
        description="file of Ray's launcher by which the head starts the other machines; "
        "set by ray_config.yaml",
    )


def default_actors() -> int:
    """Return the smaller of 16 × cores and free memory / 200 MB, at least 1."""
    by_cores = ACTORS_A_CORE * len(os.sched_getaffinity(0))
    return max(1, min(by_cores, _free_memory_bytes() // MEMORY_AN_ACTOR_BYTES))


def _free_memory_bytes() -> int:
    """Return what may still be used, caches that the kernel would give up included (proc(5))."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


class Settings(BaseSettings):
    """All settings of a node."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter=DELIMITER, extra="forbid", frozen=True
    )

    data: Path = Field(Path("data"), description="data directory: everything that must survive")
    hostname: str = Field(
        default_factory=socket.gethostname,
        min_length=1,
        max_length=255,
        description="name of this server in greetings, Received fields and certificates",
    )
    mailbox_actors_per_node: int = Field(
        default_factory=default_actors,
        ge=1,
        le=10_000,
        description="mailboxes get an actor each up to this number, then they share",
    )
    idle_actor_s: float = Field(
        900.0,
        ge=0,
        description="seconds after which the actor of an unused shard ends, until somebody "
        "asks for one of its mailboxes; 0 keeps all",
    )
    block_cache_bytes: int = Field(
        8 * MIB, ge=MIB, description="memory of each shard for what was read from its files"
    )
    disk_floor_bytes: int = Field(
        256 * MIB, ge=MIB, description="free space below which writes are refused, not reads"
    )
    smtp: Smtp = Smtp()
    http: Http = Http()
    https: Https = Https()
    submission: Submission = Submission()
    submissions: Submissions = Submissions()
    imap: Imap = Imap()
    imaps: Imaps = Imaps()
    pop3: Pop3 = Pop3()
    pop3s: Pop3s = Pop3s()
    cluster: Nodes = Nodes()
    replication: Replication = Replication()
    tls: Tls = Tls()
    expiry: Expiry = Expiry()
    upkeep: Upkeep = Upkeep()
    log: Log = Log()
    ray: RayNode = RayNode()

    @model_validator(mode="after")
    def _listeners_differ(self) -> Self:
        ports = [(name, one.port) for name, one in served_listeners(self).items() if one.port]
        for number, (name, port) in enumerate(ports):
            for other, same in ports[:number]:
                if port == same:
                    raise ValueError(f"{other}.port and {name}.port are both {port}")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Leave everything to `load`, which knows where each value came from."""
        return (init_settings,)


def served_listeners(settings: Settings) -> dict[str, Smtp | Http | Https]:
    """Return the listeners that this release serves, by name."""
    return {"smtp": settings.smtp, "http": settings.http, "https": settings.https}


@dataclass(frozen=True, slots=True)
class Shown:
    """One setting as `helio config show` prints it."""

    name: str
    variable: str
    value: object
    source: str  # "default", "file", "environment" or "command line"
    doc: str


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings, and where each of them came from."""

    settings: Settings
    file: Path | None
    layers: tuple[tuple[str, Mapping[str, Any]], ...]  # the stronger first

    def shown(self) -> list[Shown]:
        """Return every setting with value, source and meaning."""
        return [
            Shown(".".join(path), variable(path), value, self._source(path), doc)
            for path, value, doc in _leaves(self.settings, ())
        ]

    def _source(self, path: tuple[str, ...]) -> str:
        for name, layer in self.layers:
            found: Any = layer
            for part in path:
                found = found.get(part) if isinstance(found, Mapping) else None
            if found is not None:
                return name
        return "default"


def load(
    config: Path | None = None,
    data: Path | None = None,
    *,
    join: str | None = None,
    token_file: Path | None = None,
    invitation: Path | None = None,
) -> Loaded:
    """Read the settings. Raises Refused with exit code 2 when one is wrong.

    `config` None reads heliograph.toml of the working directory if there is one. The others are
    what the command line says of settings; None is nothing.
    """
    file = config if config is not None else Path(FILE_NAME)
    from_file = _read_file(file) if config is not None or file.exists() else {}
    try:
        from_environment = dict(
            EnvSettingsSource(Settings, env_prefix=PREFIX, env_nested_delimiter=DELIMITER)()
        )
    except SettingsError as error:
        raise Refused(f"the environment is not readable: {error}", EXIT_USAGE) from None
    from_command = _said(data=data) | _said(
        cluster=_said(join=join, token_file=token_file, invitation=invitation) or None
    )
    merged = _merged(_merged(from_file, from_environment), from_command)
    try:
        settings = Settings(**merged)
    except ValidationError as error:
        raise Refused(_explained(error), EXIT_USAGE) from None
    layers = (
        ("command line", from_command),
        ("environment", from_environment),
        ("file", from_file),
    )
    return Loaded(settings, file if from_file else None, layers)


def _said(**settings: object) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if value is not None}


def variable(path: tuple[str, ...]) -> str:
    """Return the environment variable of a setting."""
    return PREFIX + DELIMITER.join(path).upper()


def _read_file(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text())
    except OSError as error:
        raise Refused(f"{file} cannot be read: {error.strerror}", EXIT_USAGE) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Refused(f"{file} is not TOML: {error}", EXIT_USAGE) from None


def _merged(weak: Mapping[str, Any], strong: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(weak)
    for name, value in strong.items():
        below = merged.get(name)
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            merged[name] = _merged(below, value)
        else:
            merged[name] = value
    return merged


def _explained(error: ValidationError) -> str:
    """Return one line that names each wrong setting, its variable and what is wrong."""
    parts = []
    for found in error.errors(include_url=False):
        path = tuple(str(part) for part in found["loc"])
        text = found["msg"].removeprefix("Value error, ")
        if found["type"] == "extra_forbidden":
            text = "there is no such setting"
        elif found["type"] != "value_error":
            text = f"{text[:1].lower()}{text[1:]}, not {found['input']!r}"
        name = f"setting {'.'.join(path)} ({variable(path)})" if path else "settings"
        parts.append(f"{name}: {text}")
    return "; ".join(parts)


def _leaves(
    model: BaseModel, prefix: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], object, str]]:
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            yield from _leaves(value, (*prefix, name))
        else:
            yield (*prefix, name), value, field.description or ""
