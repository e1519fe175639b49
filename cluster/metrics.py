"""Metrics: what the cluster tells of itself at `/metrics` and `/health/ready`.

Asked when somebody asks, of the actors themselves; who does not answer in time is left out.
Labels are shards and gateways, never addresses.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping

from actors import wire
from actors.commands import DIRECTORY_SHARD, ListShards, ShardId, Shards, ShardShown
from actors.ray_ports import NotRunning, RayTransport
from mail.errors import MailError

ASK_TIMEOUT_S = 1.5  # Little enough for the gateway that asks, which waits no longer than 2 s.
PROBED_SHARDS_MAX = 3
PREFIX = "heliograph"


async def readiness(transport: RayTransport) -> Mapping[str, bool]:
    """Return which parts answer: the directory, and mailboxes if there are any."""
    shards = await _shards(transport)
    if shards is None:
        return {"directory": False}
    probed = [shard for shard in shards if shard != DIRECTORY_SHARD][:PROBED_SHARDS_MAX]
    serving = await asyncio.gather(*(_serves(transport, shard) for shard in probed))
    return {"directory": True, "mailboxes": any(serving) or not serving}


async def cluster_metrics(transport: RayTransport, gateways: tuple[str, ...]) -> str:
    """Return Prometheus text about all shards and the other gateways."""
    shards = await _shards(transport) or ()
    ids = tuple(dict.fromkeys((DIRECTORY_SHARD, *shards)))
    shown, counted = await asyncio.gather(
        asyncio.gather(*(_shown(transport, shard) for shard in ids)),
        asyncio.gather(*(_counted(transport, name) for name in gateways)),
    )
    samples = list(_shard_samples(zip(ids, shown, strict=True)))
    for name, counters in zip(gateways, counted, strict=True):
        kind, process = kind_and_process(name)
        samples += _gateway_samples(kind, process, counters)
    return text(samples)


def kind_and_process(name: str) -> tuple[str, str]:
    """Return what kind of gateway has this name, and which process of them it is."""
    _, kind, process = name.partition("@")[0].split("/")
    return kind, process


async def own_metrics(kind: str, process: str, count: Callable[[], Mapping[str, float]]) -> str:
    """Return Prometheus text about counters of this process."""
    return text(_gateway_samples(kind, process, count()))


def with_ratios(counters: Mapping[str, float]) -> dict[str, float]:
    """Return counters, and of each cache among them which part of what it was asked it had."""
    found = dict(counters)
    for name, hits in counters.items():
        cache = name.removesuffix("_hits_total")
        if cache != name:
            asked = hits + counters.get(f"{cache}_misses_total", 0)
            found[f"{cache}_hit_ratio"] = hits / asked if asked else 0.0
    return found


def _gateway_samples(
    kind: str, process: str, counters: Mapping[str, float]
) -> list[tuple[str, Mapping[str, object], float]]:
    labels = {"process": process}
    return [(f"{kind}_{name}", labels, value) for name, value in with_ratios(counters).items()]


def text(samples: Iterable[tuple[str, Mapping[str, object], float]]) -> str:
    """Return samples (name, labels, value) as Prometheus text, those of a name together."""
    families: dict[str, list[str]] = {}
    for name, labels, value in samples:
        shown = ",".join(f'{label}="{content}"' for label, content in labels.items())
        full = f"{PREFIX}_{name}"
        labelled = f"{full}{{{shown}}}" if shown else full
        families.setdefault(full, []).append(f"{labelled} {float(value):.17g}\n")
    return "".join(line for lines in families.values() for line in lines)


def _shard_samples(
    shown: Iterable[tuple[ShardId, ShardShown | None]],
) -> Iterable[tuple[str, Mapping[str, object], float]]:
    for shard, found in shown:
        labels = {"shard": shard}
        serving = found is not None and found.state == "serving"
        yield "shard_serving", labels, float(serving)
        if found is None:
            continue
        yield "shard_epoch", labels, found.epoch
        yield "shard_log_entries", labels, found.last_index
        yield "shard_lag_entries", labels, found.last_index - found.applied_index
        for name, value in with_ratios(found.metrics).items():
            yield f"shard_{name}", labels, value


async def _shards(transport: RayTransport) -> tuple[ShardId, ...] | None:
    try:
        octets = await transport.call(
            DIRECTORY_SHARD, wire.encode([ListShards()]), timeout_s=ASK_TIMEOUT_S
        )
        table = wire.result(wire.decode_replies(octets)[0], Shards)
    except MailError:
        return None
    return tuple(row.shard for row in table.shards)


async def _shown(transport: RayTransport, shard: ShardId) -> ShardShown | None:
    try:
        return await transport.shown(shard, timeout_s=ASK_TIMEOUT_S)
    except MailError:
        return None


async def _serves(transport: RayTransport, shard: ShardId) -> bool:
    """Say whether a shard serves, or rests and would serve whoever asks."""
    try:
        found = await transport.shown(shard, timeout_s=ASK_TIMEOUT_S)
    except NotRunning:
        return True
    except MailError:
        return False
    return found.state == "serving"


async def _counted(transport: RayTransport, gateway: str) -> Mapping[str, float]:
    try:
        found: Mapping[str, float] = await transport.ask(
            gateway, "metrics", timeout_s=ASK_TIMEOUT_S
        )
    except MailError:
        return {}
    return found
