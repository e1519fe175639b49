"""MtaSts: fetches and remembers the MTA-STS policies of recipient domains (RFC 8461 §3.3, §5.1).

A policy that is in force is used at once; what may have replaced it is looked for beside that, so
mail waits for a policy only the first time. An old policy stays in force until its `max_age`,
however long its successor, or the record that announces it, cannot be had. A domain whose first
policy cannot be fetched is treated as one without, and asked again after RETRY_S.

Bounds   POLICIES_MAX domains, the longest unused go first; FETCHES_MAX at once, FETCH_TIMEOUT_S
         and POLICY_BYTES_MAX each.
State    in memory: who restarts asks again.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httptools

from gateways.smtp.destinations import interleave
from gateways.smtp.resolver import LookupFailed, NotFound, Resolver
from mail.mta_sts import POLICY_BYTES_MAX, Policy, parse_policy, parse_records

log = logging.getLogger(__name__)

HTTPS_PORT = 443
PATH = "/.well-known/mta-sts.txt"
POLICIES_MAX = 10_000  # some hundred bytes each
FETCHES_MAX = 20
FETCH_TIMEOUT_S = 20.0  # RFC 8461 §3.3 suggests a minute; mail waits for the first fetch
CONNECT_TIMEOUT_S = 5.0  # of one address
ADDRESSES_MAX = 4
HEAD_BYTES_MAX = 32 << 10
READ_BYTES_MAX = 16 << 10
RETRY_S = 300.0  # RFC 8461 §3.3: five minutes or longer for a domain
CHECK_S = 60.0  # between looks at a domain's record, which the resolver remembers besides
RENEW_SHARE = 0.5  # of max_age; then the policy is fetched again though its id is the same


class FetchFailed(Exception):
    """The policy cannot be fetched, or is not valid."""


@dataclass(slots=True)
class _Known:
    """What is remembered of one domain. Times in seconds of the clock."""

    policy: Policy | None
    policy_id: str | None
    fetched_at: float
    until: float  # when the policy ends, or the belief that there is none
    checked_at: float


def trust(ca_file: Path | None) -> ssl.SSLContext:
    """Return how servers are verified: by the system's CAs, or only by those of a file.

    Raises OSError when the file cannot be read or has no certificate.
    """
    context = ssl.create_default_context(cafile=ca_file)
    context.hostname_checks_common_name = False  # RFC 8461 §3.3: a DNS-ID
    return context


class MtaSts:
    """The policies that one gateway knows. `port` is for tests; others use 443."""

    def __init__(
        self,
        resolver: Resolver,
        context: ssl.SSLContext,
        *,
        port: int = HTTPS_PORT,
        timeout_s: float = FETCH_TIMEOUT_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._resolver = resolver
        self._context = context
        self._port = port
        self._timeout_s = timeout_s
        self._clock = clock
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._looking: dict[str, asyncio.Task[None]] = {}
        self._slots = asyncio.Semaphore(FETCHES_MAX)

    async def policy(self, domain: str) -> Policy | None:
        """Return the policy in force for a recipient domain, None without one. Does not fail."""
        if domain.startswith("["):  # An address literal has no policy.
            return None
        known = self._known.get(domain)
        now = self._clock()
        if known is None or now >= known.until:
            # Who goes away does not take along what others wait for.
            await asyncio.shield(self._look(domain))
            known = self._known.get(domain)
        elif known.policy is not None and now - known.checked_at >= CHECK_S:
            self._look(domain)
        if known is None:
            return None
        self._known.move_to_end(domain)
        return known.policy

    async def settled(self) -> None:
        """Return when nothing is being looked for."""
        while self._looking:
            await asyncio.wait(list(self._looking.values()))

    def close(self) -> None:
        """Give up what is being looked for."""
        for task in self._looking.values():
            task.cancel()

    def _look(self, domain: str) -> asyncio.Task[None]:
        task = self._looking.get(domain)
        if task is None:
            task = asyncio.create_task(self._renew(domain))
            self._looking[domain] = task
            task.add_done_callback(lambda _: self._looking.pop(domain, None))
        return task

    async def _renew(self, domain: str) -> None:
        """Bring what is known of a domain up to date."""
        known, now = self._known.get(domain), self._clock()
        in_force = known is not None and known.policy is not None and now < known.until
        if known is not None:
            known.checked_at = now
        try:
            policy_id = parse_records((await self._resolver.txt(f"_mta-sts.{domain}")).records)
        except (NotFound, LookupFailed):
            policy_id = None
        if policy_id is None:
            # RFC 8461 §3.1: no record ends no policy that is in force.
            if not in_force:
                self._remember(domain, None, None, self._clock(), CHECK_S)
            return
        if in_force and known is not None and known.policy is not None:
            age_s = now - known.fetched_at
            if policy_id == known.policy_id and age_s < known.policy.max_age_s * RENEW_SHARE:
                return
        try:
            policy = await self._fetch(domain)
        except FetchFailed as error:
            log.warning("MTA-STS policy of %s: %s", domain, error)
            if in_force and known is not None:
                known.checked_at = self._clock() + RETRY_S - CHECK_S
            else:
                self._remember(domain, None, policy_id, self._clock(), RETRY_S)
            return
        self._remember(domain, policy, policy_id, self._clock(), policy.max_age_s)

    def _remember(
        self, domain: str, policy: Policy | None, policy_id: str | None, now: float, for_s: float
    ) -> None:
        self._known[domain] = _Known(policy, policy_id, now, now + for_s, now)
        self._known.move_to_end(domain)
        while len(self._known) > POLICIES_MAX:
            self._known.popitem(last=False)

    async def _fetch(self, domain: str) -> Policy:
        """Return the policy that a domain serves now. Raises FetchFailed."""
        host = f"mta-sts.{domain}"
        try:
            async with self._slots, asyncio.timeout(self._timeout_s):
                response = await self._get(host)
        except TimeoutError:
            raise FetchFailed(f"{host} did not answer in time") from None
        except (NotFound, LookupFailed) as error:
            raise FetchFailed(str(error)) from None
        except (OSError, EOFError, httptools.HttpParserError) as error:
            raise FetchFailed(f"{host}: {error}") from None
        if response.status != 200:  # RFC 8461 §3.3: redirects are not followed.
            raise FetchFailed(f"{host} answers {response.status}")
        if response.content_type != "text/plain":  # RFC 8461 §3.2
            raise FetchFailed(f"{host} serves {response.content_type or 'no type'}, not text/plain")
        policy = parse_policy(bytes(response.body))
        if policy is None:
            raise FetchFailed(f"the policy that {host} serves is not valid")
        return policy

    async def _get(self, host: str) -> _Response:
        reader, writer = await self._connect(host)
        try:
            writer.write(
                f"GET {PATH} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: Heliograph\r\n"
                "Accept: text/plain\r\nConnection: close\r\n\r\n".encode("ascii")
            )
            response = _Response()
            parser = httptools.HttpResponseParser(response)
            received = 0
            while not response.complete:
                octets = await reader.read(READ_BYTES_MAX)
                if not octets:
                    # Without a length, the end of the connection is the end of the body.
                    if response.measured or not response.head_complete:
                        raise EOFError("the answer breaks off")
                    break
                received += len(octets)
                if received > POLICY_BYTES_MAX + HEAD_BYTES_MAX:
                    raise FetchFailed(f"{host} answers with too much")
                parser.feed_data(octets)
                if response.head_complete:
                    response.status = parser.get_status_code()
            return response
        finally:
            writer.transport.abort()  # The answer is here: nobody waits for a farewell.

    async def _connect(self, host: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Return a verified connection to one of the host's addresses."""
        answers = await asyncio.gather(
            self._resolver.aaaa(host), self._resolver.a(host), return_exceptions=True
        )
        lists = [answer.records for answer in answers if not isinstance(answer, BaseException)]
        failures = [answer for answer in answers if isinstance(answer, BaseException)]
        if not lists:
            raise next((f for f in failures if not isinstance(f, NotFound)), failures[0])
        last: Exception = EOFError("no address")
        for address in interleave(*lists)[:ADDRESSES_MAX]:
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    return await asyncio.open_connection(
                        address, self._port, ssl=self._context, server_hostname=host
                    )
            except (OSError, TimeoutError) as error:
                last = error
        raise last


class _Response:
    """What httptools tells of an answer."""

    def __init__(self) -> None:
        self.status = 0
        self.content_type = ""
        self.measured = False  # the head says where the body ends
        self.head_complete = False
        self.complete = False
        self.body = bytearray()

    def on_header(self, name: bytes, value: bytes) -> None:
        match name.lower():
            case b"content-type":
                self.content_type = value.decode("latin-1").partition(";")[0].strip().lower()
            case b"content-length" | b"transfer-encoding":
                self.measured = True

    def on_headers_complete(self) -> None:
        self.head_complete = True

    def on_body(self, octets: bytes) -> None:
        self.body += octets

    def on_message_complete(self) -> None:
        self.complete = True
