"""A program of test_placement.py: starts one actor beside its data and one whose data is away."""

import asyncio
import sys

from cluster import ray_environment

ray_environment.prepare()

from actors.ray_ports import RayTransport  # noqa: E402 - Ray reads its environment when imported
from actors.remote import Place, Pulse, start_actor  # noqa: E402
from cluster.local_ray import LocalRay, make_runtime_directory  # noqa: E402
from mail.errors import MailError  # noqa: E402

NAMESPACE = "placement"


class Actor:
    """Answers a pulse."""

    async def pulse(self) -> Pulse:
        """Answer at once."""
        return Pulse(pid=1, working=True)


async def pulses() -> str:
    """Say which of the two answers."""
    transport = RayTransport(NAMESPACE, "start")
    await transport.ask("here", "pulse", timeout_s=60)
    try:
        await transport.ask("away", "pulse", timeout_s=5)
    except MailError:
        return "here\n"
    return "here away\n"


here = Place(NAMESPACE, "disk-1")
node = LocalRay(here, make_runtime_directory(), 96 << 20)
node.start()
try:
    start_actor(Actor, name="here", place=here)
    start_actor(Actor, name="away", place=Place(NAMESPACE, "disk-2"))
    sys.stdout.write(asyncio.run(pulses()))
finally:
    node.stop()
