"""SubmissionGateway: the listeners that take mail from our own users (RFC 6409), and their life.

State       soft only: connections, messages on their way to the Submission port, and how much
            each account has sent of late. Both listeners share it.
Drain       as `gateways/smtp/listening.py` says.
On failure  a client that lost its connection before the reply to the end of data may have sent.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from actors.ports import SignIns, Submission
from gateways.smtp.account_rates import AccountRates
from gateways.smtp.farewell import Farewells
from gateways.smtp.listening import Listening, transaction_ids
from gateways.smtp.origins import Origins
from gateways.smtp.peer_limits import PeerLimits
from gateways.smtp.reception import BytesInFlight, SubmissionReception
from gateways.smtp.settings import SubmissionSettings
from gateways.smtp.submission import SubmissionSession

__all__ = ["SubmissionGateway", "SubmissionSettings"]


class SubmissionGateway(Listening):
    """Serves submission, by STARTTLS and by TLS at once. Made and used on one event loop."""

    def __init__(
        self,
        sign_ins: SignIns,
        submission: Submission,
        settings: SubmissionSettings,
        tls_context: ssl.SSLContext,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._tls_context = tls_context
        self._reception = SubmissionReception(
            sign_ins=sign_ins,
            submission=submission,
            settings=settings,
            tls_context=tls_context,
            clock=clock,
            next_id=transaction_ids(),
            executor=ThreadPoolExecutor(settings.parse_threads, "submission-parse"),
            in_flight=BytesInFlight(settings.in_flight_bytes_max),
            origins=Origins(settings.trusted_networks, settings.proxy_networks),
            peer_limits=PeerLimits(settings.address_limits, settings.network_limits),
            rates=AccountRates(
                messages_per_hour=settings.messages_per_hour,
                recipients_per_hour=settings.recipients_per_hour,
            ),
            farewells=Farewells(),
        )
        super().__init__(self._reception)

    async def start(self) -> tuple[tuple[str, str, int], ...]:
        """Listen; return name, host and port of `submission` and `submissions`, as they are set.

        Raises OSError when an address is taken.
        """
        settings = self._reception.settings
        found = []
        if settings.port is not None:
            address = await self.listen(self._session, settings.host, settings.port)
            found.append(("submission", *address))
        if settings.tls_port is not None:
            host = settings.tls_host or settings.host
            address = await self.listen(self._session, host, settings.tls_port, self._tls_context)
            found.append(("submissions", *address))
        return tuple(found)

    def _session(self, loop: asyncio.AbstractEventLoop) -> SubmissionSession:
        return SubmissionSession(self._reception, loop)

    def metrics(self) -> dict[str, int]:
        """Return the counters, and what is going on now."""
        return super().metrics() | {"sign_ins_refused": self._reception.sign_ins_refused}
