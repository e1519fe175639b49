"""Exchange: how supervisors and replicas hear of each other, and orders get to replicas.

Every replica of this node reports here over a link of its own; every beat goes to the other
supervisors with what has changed. So each has the whole picture, and elections are held without
asking Ray anything. The loop is observe → decide → act, and may start anew at any moment.

State       soft: the picture, the links. Made again within a second.
On failure  a supervisor that is gone is missed by the others after SUSPICION_MS; its replicas go
            on as they are, and report to the next one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping

import structlog

from actors import reports
from actors.commands import DIRECTORY_SHARD, ShardId, ShardRow
from actors.link import LOOPBACK, Link, LinkAddress, LinkListener, open_link
from actors.link_options import LinkOptions
from actors.ray_ports import replica_name
from actors.reports import Beat, Found, Introduce, Led, NodeShown, Report
from actors.reports import Picture as PictureShown
from cluster.supervisors import failover, replication
from cluster.supervisors.failover import Attempts
from cluster.supervisors.picture import NEVER_MS, SUSPICION_MS, NodeView, Picture
from mail.errors import MailError, Unavailable

log = structlog.get_logger()

BEAT_S = 0.1
CHANGES_EVERY_S = 0.2
OPEN_AGAIN_S = 0.5
FIND_S = 8.0  # for a shard to be started, or to have a primary again
FIND_AGAIN_S = 0.02
WHOLE_EVERY_BEATS = 50  # then everything is told, whatever was lost


def boot_clock_ms() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


class Exchange:
    """The links of one supervisor, and what it decides."""

    def __init__(
        self,
        node: str,
        *,
        incarnation: bytes,
        release: str = "",
        gateways: tuple[str, ...] = (),
        activate: Callable[[ShardId], Awaitable[None]],
        free_bytes: Callable[[], int] = lambda: 0,
        now_ms: Callable[[], int] = boot_clock_ms,
        link: LinkOptions = LOOPBACK,
    ) -> None:
        self.node = node
        self.picture = Picture(node)
        self.rows: Mapping[ShardId, ShardRow] = {}  # the directory's shard table
        self._incarnation = incarnation
        self._release = release
        self._gateways = gateways
        self._activate = activate
        self._free_bytes = free_bytes
        self._now_ms = now_ms
        self._link_options = link
        self._began_ms = now_ms()
        self._listener = LinkListener(self._answer, self._heard, self._left)
        self._address: LinkAddress | None = None
        self._heard_ms: dict[ShardId, int] = {}  # our replicas
        self._gone: set[ShardId] = set()
        self._untold: dict[ShardId, Report] = {}  # changed since the last beat
        self._serial = 0
        self._asked_for_all = True
        self._peers: dict[str, LinkAddress] = {}
        self._links: dict[str, Link] = {}
        self._opening: dict[str, asyncio.Task[None]] = {}
        self._attempts = Attempts()
        self._introduced: dict[ShardId, tuple[tuple[bytes, LinkAddress], ...]] = {}
        self._led: dict[ShardId, LinkAddress] = {}
        self._changes_at_s = 0.0
        self._soon = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> LinkAddress:
        """Listen and begin to beat; return where replicas and other supervisors report."""
        if self._address is None:
            self._address = await self._listener.listen(self._link_options)
            self._task = asyncio.create_task(self._beat_forever(), name="exchange")
        return self._address

    def meet(self, supervisors: Mapping[str, LinkAddress]) -> None:
        """Take note of where the supervisors of other nodes listen."""
        for node, address in supervisors.items():
            if node != self.node and self._peers.get(node) != address:
                self._peers[node] = address
                link = self._links.pop(node, None)
                if link is not None:
                    link.end()
                self._asked_for_all = True

    def knows(self, node: str) -> bool:
        """Say whether a node's supervisor is heard now."""
        return self.picture.is_alive(node, self._now_ms())

    def alive_nodes(self) -> list[str]:
        return self.picture.alive_nodes(self._now_ms())

    def lost_nodes(self, grace_ms: int) -> frozenset[str]:
        """Return the nodes of the table that nobody has heard for so long."""
        now_ms = self._now_ms()
        named = {node for row in self.rows.values() for node in row.replicas}
        return frozenset(
            node
            for node in named
            if now_ms - max(self._began_ms, self._last_heard_ms(node)) > grace_ms
        )

    def _last_heard_ms(self, node: str) -> int:
        view = self.picture.nodes.get(node)
        return NEVER_MS if view is None else view.heard_ms

    def has_led(self, shard: ShardId) -> bool:
        """Say whether a shard has a primary that serves: it was made, and is never made again."""
        primary = self.picture.primary(shard, self._now_ms())
        return primary is not None and primary.report.state == "serving"

    # What is heard

    def _heard(self, name: str, frame: bytes) -> None:
        try:
            message = reports.decode(frame)
        except Unavailable:
            return
        match message:
            case Report():
                self._reported(message)
            case Beat():
                if message.node != self.node:
                    self.meet({message.node: message.address})
                    if not self.picture.take_beat(message, self._now_ms()):
                        self._tell(message.node, reports.encode(reports.Look()))
                    self._soon.set()
            case reports.Look():
                self._asked_for_all = True
                self._soon.set()
            case _:
                log.warning("a message of another kind", caller=name)

    def _reported(self, report: Report) -> None:
        now_ms = self._now_ms()
        before = self.picture.reports.get(report.shard, {}).get(self.node)
        self._heard_ms[report.shard] = now_ms
        was_gone = report.shard in self._gone
        self._gone.discard(report.shard)
        self.picture.take_report(report)
        self._untold[report.shard] = report
        if was_gone or before is None or _differs(before, report):
            self._introduced.pop(report.shard, None)
            self._soon.set()

    def _left(self, name: str) -> None:
        """Take note that a link has ended: with it, mostly, the process of a replica."""
        for shard in list(self._heard_ms):
            if replica_name(shard, self.node) == name:
                self._gone.add(shard)
                self._soon.set()

    async def _answer(self, frame: bytes) -> bytes:
        match reports.decode(frame):
            case reports.Find(shard):
                return reports.encode(await self._find(shard))
            case reports.Look():
                return reports.encode(self._shown())
            case _:
                raise Unavailable("a question of another kind")

    async def _find(self, shard: ShardId) -> Found:
        """Return where the replicas of a shard listen; wait a while for there to be a primary."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + FIND_S
        activated = False
        while True:
            now_ms = self._now_ms()
            live = self.picture.live(shard, now_ms)
            primary = self.picture.primary(shard, now_ms)
            if primary is not None or loop.time() >= deadline:
                break
            if any(one.state in ("recovering", "damaged", "reading") for one in live):
                break  # It answers for itself, when it is open.
            if not live and not activated:
                activated = True
                await self._tried_to_activate(shard)
                continue
            await asyncio.sleep(FIND_AGAIN_S)
        leader = None if primary is None else primary.report.node
        ordered = sorted(live, key=lambda one: (one.node != leader, one.node))
        return Found(tuple(report.address for report in ordered))

    async def _tried_to_activate(self, shard: ShardId) -> None:
        try:
            await self._activate(shard)
        except MailError as error:
            log.info("not activated", shard=shard, error=error.text)
        except Exception:
            log.exception("not activated", shard=shard)

    def _shown(self) -> PictureShown:
        now_ms = self._now_ms()
        found: list[Report] = []
        for shard in self.picture.shards():
            live = self.picture.live(shard, now_ms)
            known = self.picture.reports[shard].values()
            found += [one if one in live else reports.unreachable(one) for one in known]
        nodes = tuple(
            NodeShown(
                view.node,
                now_ms - view.heard_ms,
                view.disk_free_bytes,
                view.release,
                view.gateways,
                "" if view.address is None else view.address.host,
            )
            for _, view in sorted(self.picture.nodes.items())
        )
        return PictureShown(tuple(found), nodes)

    # The loop

    async def _beat_forever(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                self._observe()
                self._tell_others()
                self._introduce()
                self._tell_gateways()
                self._hold_elections()
                if loop.time() >= self._changes_at_s:
                    self._changes_at_s = loop.time() + CHANGES_EVERY_S
                    self._change_members()
            except Exception:
                log.exception("beat failed")
            self._soon.clear()
            try:
                async with asyncio.timeout(BEAT_S):
                    await self._soon.wait()
                await asyncio.sleep(0.005)  # What happens together is told together.
            except TimeoutError:
                continue

    def _observe(self) -> None:
        """See which of our replicas say nothing any more."""
        now_ms = self._now_ms()
        for shard, heard_ms in self._heard_ms.items():
            if now_ms - heard_ms > SUSPICION_MS:
                self._gone.add(shard)
        own = self.picture.nodes.setdefault(self.node, NodeView(self.node))
        own.heard_ms = now_ms
        own.silent = frozenset(self._gone)
        own.whole = True
        own.disk_free_bytes = self._free_bytes()
        own.address = self._address
        own.release = self._release
        own.gateways = self._gateways

    def _tell_others(self) -> None:
        assert self._address is not None
        whole = self._asked_for_all or self._serial % WHOLE_EVERY_BEATS == 0
        untold, self._untold = self._untold, {}
        self._asked_for_all = False
        self._serial += 1
        mine = (
            [
                by_node[self.node]
                for by_node in self.picture.reports.values()
                if self.node in by_node
            ]
            if whole
            else list(untold.values())
        )
        frame = reports.encode(
            Beat(
                self.node,
                self._incarnation,
                self._serial,
                whole,
                tuple(mine),
                self._address,
                tuple(sorted(self._gone)),
                self._free_bytes(),
                self._release,
                self._gateways,
            )
        )
        for node in self._peers:
            self._tell(node, frame)

    def _tell(self, node: str, frame: bytes) -> None:
        link = self._links.get(node)
        if link is not None and not link.lost:
            link.tell(frame)
        elif node not in self._opening and node in self._peers:
            task = asyncio.create_task(self._open(node, self._peers[node]), name="open supervisor")
            self._opening[node] = task
            task.add_done_callback(lambda _: self._opening.pop(node, None))

    async def _open(self, node: str, address: LinkAddress) -> None:
        try:
            self._links[node] = await open_link(
                address, f"supervisor@{self.node}", options=self._link_options
            )
            self._asked_for_all = True
        except Unavailable:
            await asyncio.sleep(OPEN_AGAIN_S)

    def _introduce(self) -> None:
        """Tell our replicas where the others of their shards listen."""
        for shard, by_node in self.picture.reports.items():
            if self.node not in by_node or len(by_node) == 1:
                continue
            others = tuple(
                (report.replica, report.address)
                for node, report in sorted(by_node.items())
                if node != self.node and report.replica
            )
            if others and self._introduced.get(shard) != others:
                self._introduced[shard] = others
                self._order(shard, reports.encode(Introduce(others)))

    def _tell_gateways(self) -> None:
        """Tell who calls shards which of them are led from elsewhere now."""
        now_ms = self._now_ms()
        led = {
            shard: primary.report.address
            for shard in self.picture.shards()
            if (primary := self.picture.primary(shard, now_ms)) is not None
        }
        news = tuple((one, where) for one, where in led.items() if self._led.get(one) != where)
        if not news:
            return
        self._led |= led
        frame = reports.encode(Led(news))
        for caller in self._listener.callers:
            if not caller.startswith(("shard/", "supervisor@")):
                self._listener.notify(caller, frame)

    def know_nodes(self, nodes: tuple[str, ...], silent: tuple[str, ...], factor: int) -> None:
        """Tell the directory, if its primary is here, where new shards may go."""
        self._order(DIRECTORY_SHARD, reports.encode(reports.KnowNodes(nodes, factor, silent)))

    def leavings(self) -> list[replication.Renew | replication.Remove]:
        """Return what is to be done about replicas of this node that nobody counts on."""
        return replication.leavings(self.picture, self.rows, self._now_ms())

    def forget_replica(self, shard: ShardId) -> None:
        """Take note that this node has no replica of a shard any more."""
        self.picture.forget_replica(shard, self.node)
        self._heard_ms.pop(shard, None)
        self._gone.discard(shard)
        self._asked_for_all = True

    def leads(self, shard: ShardId) -> bool:
        """Say whether a shard's primary is on this node."""
        primary = self.picture.primary(shard, self._now_ms())
        return primary is not None and primary.report.node == self.node

    def _hold_elections(self) -> None:
        for shard in failover.elections(self.picture, self._attempts, self._now_ms()):
            log.info("to stand for election", shard=shard, node=self.node)
            self._order(shard, reports.encode(reports.StandForElection()))

    def _change_members(self) -> None:
        for shard, order in replication.changes(self.picture, self.rows, self._now_ms()):
            log.info(
                "replica set to change",
                shard=shard,
                voters=len(order.voters),
                learners=len(order.learners),
            )
            self._order(shard, reports.encode(order))
        for shard, hand_over in replication.hand_overs(self.picture, self.rows, self._now_ms()):
            log.info("to be led elsewhere", shard=shard)
            self._order(shard, reports.encode(hand_over))

    def _order(self, shard: ShardId, frame: bytes) -> None:
        self._listener.notify(replica_name(shard, self.node), frame)

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for task in self._opening.values():
            task.cancel()
        for link in self._links.values():
            link.end()
        self._listener.close()


def _differs(one: Report, other: Report) -> bool:
    """Say whether a report tells of more than progress."""
    return (
        one.replica,
        one.address,
        one.state,
        one.role,
        one.epoch,
        one.members_index,
        one.primary,
        one.suspect,
        one.no_room,
    ) != (
        other.replica,
        other.address,
        other.state,
        other.role,
        other.epoch,
        other.members_index,
        other.primary,
        other.suspect,
        other.no_room,
    )
