"""Receipts over three nodes: epoch and index of the commit, and who has the message on disk."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from actors.commands import Deliver, Delivered, MailboxId, Receipt, ShardRow, ShowReceipt
from actors.jmap.ids import email_id_of
from actors.reports import Report
from cluster.receipts import receipt_facts
from mail.errors import Invalid, NotFound
from storage import keys, records
from storage.database import Family
from storage.records import Entry
from tests.contract.nodes import SHARD, Nodes, running
from tests.contract.test_nodes import BOX, NAMES, converged, deliver, grow, replica
from tests.unit.storage.shard_fixture import letter

ROW = ShardRow(SHARD, "mailbox", NAMES, 1)


async def receipt(nodes: Nodes, message: str) -> Receipt:
    found = await nodes.ask(ShowReceipt(BOX, message))
    assert isinstance(found, Receipt)
    return found


def message_id(sent: Deliver) -> str:
    (found,) = sent.summary.message_id or ()
    return f"<{found}>"


def committed(nodes: Nodes, name: str, found: Receipt) -> Entry:
    """Return the entry of a node's log that the receipt names."""
    octets = replica(nodes, name).database.get(Family.LOG, keys.log(found.index))
    assert octets is not None
    return records.decode(octets, Entry)


def reports(nodes: Nodes, name: str) -> tuple[Report, ...]:
    """Return what the supervisor of a node tells of the shard."""
    return nodes.nodes[name].exchange._shown().reports


async def on_disk(nodes: Nodes, found: Receipt, via: str) -> dict[str, Any]:
    facts = receipt_facts(ROW, found, reports(nodes, via))
    return {one["node"]: one["on_disk"] for one in facts["replicas"]}


async def test_every_message_names_the_entry_that_brought_it(tmp_path: Path) -> None:
    async with running(tmp_path, NAMES) as nodes:
        await grow(nodes)
        letters = [letter() for _ in range(20)]
        replies = await asyncio.gather(*map(nodes.ask, letters))
        await nodes.until(lambda: converged(nodes))
        for sent, reply in zip(letters, replies, strict=True):
            assert isinstance(reply, Delivered)
            found = await receipt(nodes, message_id(sent))
            assert found == await receipt(nodes, email_id_of(reply.email_id))
            assert found.email_id == reply.email_id
            for name in NAMES:
                entry = committed(nodes, name, found)
                assert (entry.epoch, entry.request_id) == (found.epoch, sent.request_id)
            assert await on_disk(nodes, found, "a") == dict.fromkeys(NAMES, True)


async def test_after_a_failover_the_receipt_names_the_epoch_of_the_commit(tmp_path: Path) -> None:
    async with running(tmp_path, NAMES) as nodes:
        await grow(nodes)
        (before,) = await deliver(nodes, 1)
        old = await receipt(nodes, message_id(before))
        gone = nodes.primary()
        assert gone is not None
        await nodes.nodes[gone].stop_replica(SHARD)
        (after,) = await deliver(nodes, 1)
        leader = nodes.primary()
        assert leader is not None
        new = await receipt(nodes, message_id(after))
        assert new.epoch == replica(nodes, leader).core.epoch > old.epoch
        assert new.index > old.index
        assert committed(nodes, leader, new).request_id == after.request_id
        again = await receipt(nodes, message_id(before))
        assert (again.epoch, again.index) == (old.epoch, old.index)
        # Who is away has not the new one; what it has, nobody can say.
        await nodes.until(
            lambda: any(
                one.node == gone and one.state == "unreachable" for one in reports(nodes, leader)
            )
        )
        rest = dict.fromkeys((name for name in NAMES if name != gone), True)
        await nodes.until(lambda: _flushed(nodes, new.index, gone))
        assert await on_disk(nodes, await receipt(nodes, message_id(after)), leader) == {
            **rest,
            gone: None,
        }
        await nodes.nodes[gone].start_replica(SHARD, founds=False)
        await nodes.until(lambda: converged(nodes))
        await nodes.until(lambda: _flushed(nodes, new.index))
        await nodes.until(lambda: all(one.state != "unreachable" for one in reports(nodes, leader)))
        found = await receipt(nodes, message_id(after))
        assert (await on_disk(nodes, found, leader))[gone] is True


def _flushed(nodes: Nodes, index: int, *but: str) -> bool:
    return all(
        replica(nodes, name).core.flushed_index >= index for name in NAMES if name not in but
    )


async def test_what_was_planned_in_vain_names_the_entry_of_its_repeat(tmp_path: Path) -> None:
    async with running(tmp_path, NAMES) as nodes:
        await grow(nodes)
        await deliver(nodes, 1)
        cut_off = nodes.primary()
        assert cut_off is not None
        others = [name for name in NAMES if name != cut_off]
        core = replica(nodes, cut_off).core
        at_first = (core.epoch, core.last.index + 1)
        for name in others:
            await nodes.nodes[name].stop_replica(SHARD)
        # It goes into the log of the primary, which no majority follows any more.
        sent = letter()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.0):
                await nodes.ask(sent)
        assert core.last.index == at_first[1]
        await nodes.nodes[cut_off].stop_replica(SHARD)
        for name in others:
            await nodes.nodes[name].start_replica(SHARD, founds=False)
        await deliver(nodes, 3)  # Others take its place in the log.
        assert isinstance(await nodes.ask(sent), Delivered)
        await nodes.nodes[cut_off].start_replica(SHARD, founds=False)
        await nodes.until(lambda: converged(nodes))
        found = await receipt(nodes, message_id(sent))
        assert found.epoch > at_first[0]
        assert found.index > at_first[1]
        for name in NAMES:
            entry = committed(nodes, name, found)
            assert (entry.epoch, entry.request_id) == (found.epoch, sent.request_id)


async def test_which_message_is_meant(tmp_path: Path) -> None:
    async with running(tmp_path, ("a",)) as nodes:
        await grow(nodes, ("a",))
        twice = letter()
        assert isinstance(await nodes.ask(twice), Delivered)
        copy = Deliver(
            MailboxId(1),
            letter().request_id,
            twice.raw,
            twice.summary,
            twice.search_text,
            twice.received_at_ms,
        )
        assert isinstance(await nodes.ask(copy), Delivered)
        actor = nodes.nodes["a"].actors[SHARD]._host()
        assert actor is not None
        with pytest.raises(Invalid, match="M2, M1"):
            await actor.answer(ShowReceipt(BOX, message_id(twice)))
        assert (await receipt(nodes, "M2")).index > (await receipt(nodes, "M1")).index
        for nobody in ("M3", "<nobody@example.test>", "", "Mzz"):
            with pytest.raises(NotFound):
                await actor.answer(ShowReceipt(BOX, nobody))
        with pytest.raises(NotFound):
            await actor.answer(ShowReceipt(MailboxId(99), "M1"))
