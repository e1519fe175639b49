"""A program of test_placement.py: starts one actor beside its data and one whose data is away."""

import asyncio
import secrets
import socket
import sys

from cluster import ray_environment

ray_environment.prepare()

from actors.ray_ports import RayTransport  # noqa: E402 - Ray reads its environment when imported
from actors.remote import Place, Pulse, start_actor  # noqa: E402
from cluster.local_ray import LocalRay, RayPlan, make_runtime_directory  # noqa: E402
from mail.errors import MailError  # noqa: E402

NAMESPACE = "placement"


class Actor:
    """Answers a pulse."""

    async def pulse(self) -> Pulse:
        """Answer at once."""
        return Pulse(pid=1, working=True)


async def pulses() -> str:
    """Say which of the two answers."""
    transport = RayTransport(NAMESPACE, "start", "here")
    await transport.ask("here", "pulse", timeout_s=60)
    try:
        await transport.ask("away", "pulse", timeout_s=5)
    except MailError:
        return "here\n"
    return "here away\n"


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


here = Place(NAMESPACE, "disk-1")
directory = make_runtime_directory()
(directory / "token").write_text(secrets.token_hex(32))
ray_environment.admit(directory / "token")
plan = RayPlan(
    "127.0.0.1", directory, 96 << 20, f"127.0.0.1:{free_port()}", gcs_store=directory / "gcs"
)
node = LocalRay(here, plan)
node.start((), lambda: None)
try:
    start_actor(Actor, name="here", place=here)
    start_actor(Actor, name="away", place=Place(NAMESPACE, "disk-2"))
    sys.stdout.write(asyncio.run(pulses()))
finally:
    node.stop()
