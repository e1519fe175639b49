"""Supervisor: what `decide` does about what was seen, and whom it starts."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from actors.commands import DIRECTORY_SHARD
from actors.link_options import LinkOptions
from actors.remote import Pulse
from cluster.processes import Process
from cluster.supervisor import (
    MUTE_S_MAX,
    REST_S_MAX,
    End,
    Memory,
    Rest,
    Seen,
    Start,
    Supervisor,
    decide,
    shard_of,
)

PROCESS = Process(pid=7, started_ticks=1)
WELL = Seen(runs=True, pulse=Pulse(pid=7, working=True))
MUTE = Seen(runs=True)
GONE = Seen(runs=False)


def test_who_is_well_is_left_alone() -> None:
    assert decide({"shard/2": WELL}, Memory({"shard/2": PROCESS}), 0.0) == []


def test_who_is_missing_is_started() -> None:
    seen = {"shard/1": WELL, "shard/2": GONE, "gateway/smtp/0": GONE}
    assert decide(seen, Memory(), 0.0) == [Start("shard/2"), Start("gateway/smtp/0")]


def test_who_is_mute_gets_time() -> None:
    memory = Memory({"shard/2": PROCESS}, {"shard/2": 100.0})
    assert decide({"shard/2": MUTE}, memory, 100.0 + MUTE_S_MAX - 1) == []
    found = decide({"shard/2": MUTE}, memory, 100.0 + MUTE_S_MAX)
    assert found == [End("shard/2", PROCESS)]


def test_nobody_unknown_is_ended() -> None:
    assert decide({"shard/2": MUTE}, Memory({}, {"shard/2": 0.0}), 10 * MUTE_S_MAX) == []
    assert decide({"shard/2": MUTE}, Memory({"shard/2": PROCESS}), 10 * MUTE_S_MAX) == []


def test_who_is_not_used_is_sent_to_rest() -> None:
    idle = Seen(runs=True, pulse=Pulse(pid=7, working=True, idle_s=60.0))
    seen = {"shard/2": idle, "gateway/smtp/0": WELL}
    assert decide(seen, Memory(), 0.0, idle_s_max=60.0) == [Rest("shard/2")]
    assert decide(seen, Memory(), 0.0, idle_s_max=61.0) == []
    assert decide(seen, Memory(), 0.0, idle_s_max=0.0) == []


def test_who_is_kept_awake_never_rests() -> None:
    idle = Seen(runs=True, pulse=Pulse(pid=7, working=True, idle_s=3600.0))
    awake = {"shard/1"}
    assert decide({"shard/1": idle}, Memory(), 0.0, idle_s_max=60.0, awake=awake) == []


def test_who_rests_is_left_alone_for_a_day() -> None:
    memory = Memory(resting_since_s={"shard/2": 100.0})
    assert decide({"shard/2": GONE}, memory, 100.0 + REST_S_MAX - 1) == []
    assert decide({"shard/2": GONE}, memory, 100.0 + REST_S_MAX) == [Start("shard/2")]


async def test_the_directory_is_started_without_being_asked(tmp_path: Path) -> None:
    """The table of shards is its own: to read it first would wait for what is to be started."""
    started: list[tuple[int, bool]] = []

    def start_replica(shard: int, *, founds: bool, factor: int) -> None:
        started.append((shard, founds))

    plan = SimpleNamespace(
        log=lambda _: None,
        place=SimpleNamespace(namespace="here"),
        node="n1",
        release="1",
        shards=tmp_path,
        link=LinkOptions(),
        gateway_names=(),
        founds_directory=True,
        local_shards=tuple,
        start_replica=start_replica,
    )
    supervisor = Supervisor(cast(Any, plan))
    supervisor._look = lambda name: asyncio.sleep(0)  # type: ignore[assignment,method-assign]
    async with asyncio.timeout(10.0):
        await supervisor.activate(DIRECTORY_SHARD)
    assert started == [(DIRECTORY_SHARD, True)]


def test_names_tell_the_shard() -> None:
    assert shard_of("shard/7@n1") == 7
    assert shard_of("gateway/smtp/0@n1") is None
