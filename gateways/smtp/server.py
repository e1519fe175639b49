"""SmtpGateway: the listener that takes mail from other servers (MX), and its life.

State       soft only: connections, and messages on their way to the Mail port.
Start       binds, listens, and then `ready` may be said.
Drain       as `gateways/smtp/listening.py` says.
On failure  a peer that lost its connection before the reply to the end of data repeats.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from actors.ports import Accounts, Mail
from gateways.smtp.farewell import Farewells
from gateways.smtp.inbound import InboundSession
from gateways.smtp.listening import LAST_WORDS_S, Listening, transaction_ids
from gateways.smtp.origins import Origins
from gateways.smtp.peer_limits import PeerLimits
from gateways.smtp.reception import BytesInFlight, InboundReception
from gateways.smtp.settings import SmtpSettings

__all__ = ["LAST_WORDS_S", "SmtpGateway", "SmtpSettings"]


class SmtpGateway(Listening):
    """Serves SMTP on one address. Made, started and drained on one event loop."""

    def __init__(
        self,
        accounts: Accounts,
        mail: Mail,
        settings: SmtpSettings,
        tls_context: ssl.SSLContext | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._reception = InboundReception(
            accounts=accounts,
            mail=mail,
            settings=settings,
            tls_context=tls_context,
            clock=clock,
            next_id=transaction_ids(),
            executor=ThreadPoolExecutor(settings.parse_threads, "smtp-parse"),
            in_flight=BytesInFlight(settings.in_flight_bytes_max),
            origins=Origins(settings.trusted_networks, settings.proxy_networks),
            peer_limits=PeerLimits(settings.address_limits, settings.network_limits),
            farewells=Farewells(),
        )
        super().__init__(self._reception)

    async def start(self) -> tuple[str, int]:
        """Listen, and return the host and the port. Raises OSError when the address is taken."""
        reception = self._reception
        settings = reception.settings
        return await self.listen(
            lambda loop: InboundSession(reception, loop), settings.host, settings.port
        )
