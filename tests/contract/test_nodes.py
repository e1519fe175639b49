"""Replica sets over real links: they grow, survive whoever goes, and lose nothing."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from actors import wire
from actors.commands import Deliver, Delivered, Failed, MailboxId, MailboxShown, ShowMailbox
from storage import replica as replica_module
from storage.mailbox_reader import MailboxReader
from storage.replica import Replica
from storage.replication import tail as tail_module
from tests.contract.certified import certified
from tests.contract.nodes import SHARD, Nodes, running
from tests.unit.storage.shard_fixture import letter

NAMES = ("a", "b", "c")
BOX = MailboxId(1)


def is_open(nodes: Nodes, name: str) -> bool:
    host = nodes.nodes[name].actors[SHARD]._host()
    return host is not None and host.replica is not None


def replica(nodes: Nodes, name: str) -> Replica:
    host = nodes.nodes[name].actors[SHARD]._host()
    assert host is not None
    assert host.replica is not None
    return host.replica


async def grow(nodes: Nodes, names: tuple[str, ...] = NAMES) -> None:
    """Have the shard founded on the first node and grown to all of them."""
    nodes.place(SHARD, names)
    first, *others = names
    await nodes.nodes[first].start_replica(SHARD, founds=True)
    for name in others:
        await nodes.nodes[name].start_replica(SHARD, founds=False)
    await nodes.until(lambda: voters(nodes) == len(names))


def voters(nodes: Nodes) -> int:
    leader = nodes.primary()
    return 0 if leader is None else len(replica(nodes, leader).core.members.voters)


async def deliver(nodes: Nodes, count: int, body_bytes: int = 300) -> list[Deliver]:
    letters = [letter(body=os.urandom(body_bytes)) for _ in range(count)]
    for one in letters:
        assert isinstance(await nodes.ask(one), Delivered)
    return letters


async def messages(nodes: Nodes) -> int:
    shown = await nodes.ask(ShowMailbox(BOX))
    assert isinstance(shown, MailboxShown)
    return shown.messages


def converged(nodes: Nodes, names: tuple[str, ...] = NAMES) -> bool:
    if not all(is_open(nodes, name) for name in names):
        return False
    return len({replica(nodes, name).applied.index for name in names}) == 1


async def test_a_new_set_holds_every_message_thrice(tmp_path: Path) -> None:
    async with running(tmp_path, NAMES) as nodes:
        await grow(nodes)
        small = await deliver(nodes, 5)
        large = await deliver(nodes, 2, 700_000)
        await nodes.until(lambda: converged(nodes))
        for name in NAMES:
            one = replica(nodes, name)
            reader = MailboxReader(BOX, one.state)
            stored = [reader.email(line.email_id) for line in reader.listing()]
            raws = {one.blobs.read(record.digest) for record in stored if record is not None}
            assert raws == {sent.raw for sent in (*small, *large)}


async def test_nodes_that_speak_tls(tmp_path: Path) -> None:
    links = certified(tmp_path / "tls", NAMES)
    async with running(tmp_path, NAMES, links) as nodes:
        await grow(nodes)
        await deliver(nodes, 3, 700_000)
        gone = nodes.primary()
        assert gone is not None
        await nodes.nodes[gone].stop_replica(SHARD)
        await deliver(nodes, 1)
        await nodes.nodes[gone].start_replica(SHARD, founds=False)
        await nodes.until(lambda: converged(nodes))
        assert await messages(nodes) == 4


async def test_a_node_without_a_certificate_of_this_cluster_gets_nothing(tmp_path: Path) -> None:
    ours = certified(tmp_path / "tls", NAMES)
    strange = certified(tmp_path / "strange", ("d",))
    async with running(tmp_path, (*NAMES, "d"), ours | strange) as nodes:
        await grow(nodes)
        await deliver(nodes, 1)
        # It knows every address and key, and the table wants it.
        nodes.place(SHARD, (*NAMES, "d"))
        await nodes.nodes["d"].start_replica(SHARD, founds=False)
        await asyncio.sleep(1.0)
        assert nodes.nodes["d"].exchange.alive_nodes() == ["d"]
        assert all(not nodes.nodes[name].exchange.knows("d") for name in NAMES)
        assert voters(nodes) == 3


async def test_mail_goes_on_when_the_primary_goes(tmp_path: Path) -> None:
    async with running(tmp_path, NAMES) as nodes:
        await grow(nodes)
        await deliver(nodes, 3)
        gone = nodes.primary()
        assert gone is not None
        await nodes.nodes[gone].stop_replica(SHARD)
        await deliver(nodes, 3)
        assert await messages(nodes) == 6
        assert nodes.primary() != gone
        # It comes back and has what it missed.
        await nodes.nodes[gone].start_replica(SHARD, founds=False)
        await nodes.until(lambda: converged(nodes))
        assert voters(nodes) == 3


async def test_who_does_not_lead_says_so(tmp_path: Path) -> None:
    async with running(tmp_path, NAMES) as nodes:
        await grow(nodes)
        for name in NAMES:
            host = nodes.nodes[name].actors[SHARD]._host()
            assert host is not None
            [reply] = wire.decode_replies(await host.handle(wire.encode([ShowMailbox(BOX)])))
            if name == nodes.primary():
                assert isinstance(reply, MailboxShown)
            else:
                assert isinstance(reply, Failed)
                assert reply.error == "NotPrimary", "or it would be asked again and again"


async def test_without_a_majority_nothing_is_answered(tmp_path: Path) -> None:
    async with running(tmp_path, NAMES) as nodes:
        await grow(nodes)
        await deliver(nodes, 1)
        leader = nodes.primary()
        for name in NAMES:
            if name != leader:
                await nodes.nodes[name].stop_replica(SHARD)
        for command in (letter(), ShowMailbox(BOX)):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(3.0):
                    await nodes.ask(command)


async def test_a_repeat_after_the_failover_has_one_effect(tmp_path: Path) -> None:
    async with running(tmp_path, NAMES) as nodes:
        await grow(nodes)
        (sent,) = await deliver(nodes, 1)
        gone = nodes.primary()
        assert gone is not None
        await nodes.nodes[gone].stop_replica(SHARD)
        assert isinstance(await nodes.ask(sent), Delivered)
        assert await messages(nodes) == 1


async def test_one_that_lagged_too_far_is_filled_from_a_snapshot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LOG_KEPT_ENTRIES", "LOG_SLACK_ENTRIES", "LOG_LAG_ENTRIES"):
        monkeypatch.setattr(replica_module, name, 5)
    monkeypatch.setattr(tail_module, "KEPT_ENTRIES", 5)
    async with running(tmp_path, NAMES) as nodes:
        await grow(nodes)
        away = next(name for name in NAMES if name != nodes.primary())
        before = replica(nodes, away).replica
        await nodes.nodes[away].stop_replica(SHARD)
        await deliver(nodes, 40, 2000)
        leader = nodes.primary()
        assert leader is not None
        replica(nodes, leader).note_indexed(replica(nodes, leader).applied.index)
        await deliver(nodes, 20, 2000)
        assert replica(nodes, leader).log.first > 5
        await nodes.nodes[away].start_replica(SHARD, founds=False)
        installed = tmp_path / away / f"{SHARD:06d}" / "incoming.origin"
        seen: list[bool] = []

        def filled() -> bool:
            seen.append(installed.exists())
            return converged(nodes)

        await nodes.until(filled)
        assert any(seen), "it came as files"
        one = replica(nodes, away)
        assert one.replica == before, "it is the same replica as before"
        assert MailboxReader(BOX, one.state).info.emails == 60
        assert sum(1 for _ in MailboxReader(BOX, one.state).listing()) == 60


async def test_a_lost_replica_is_replaced_by_another_node(tmp_path: Path) -> None:
    async with running(tmp_path, (*NAMES, "d")) as nodes:
        await grow(nodes)
        await deliver(nodes, 5)
        lost = next(name for name in NAMES if name != nodes.primary())
        await nodes.nodes[lost].stop_replica(SHARD)
        stay = tuple(name for name in NAMES if name != lost)
        nodes.place(SHARD, (*stay, "d"))
        await nodes.nodes["d"].start_replica(SHARD, founds=False)

        def replaced() -> bool:
            leader = nodes.primary()
            if leader is None or not is_open(nodes, "d"):
                return False
            found = set(replica(nodes, leader).core.members.voters)
            return found == {replica(nodes, name).replica for name in (*stay, "d")}

        await nodes.until(replaced)
        await deliver(nodes, 1)
        await nodes.until(lambda: converged(nodes, (*stay, "d")))
        assert MailboxReader(BOX, replica(nodes, "d").state).info.emails == 6
