"""Settings of one HTTP gateway: where it listens and what it allows.

Plain data. The limits that a client may know of are told in the JMAP Session object
(RFC 8620 §2), together with those of the evaluator (`actors/jmap/limits.py`); the others
exist so that no client can take more than its share.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSettings:
    """Where to listen and how much to take. A port of None means no such listener."""

    hostname: str = "localhost"  # our name where a request gives no usable one
    http_host: str = "127.0.0.1"
    http_port: int | None = 8080  # 0: any free port
    https_host: str = "127.0.0.1"
    https_port: int | None = 8443
    reuse_port: bool = False  # several gateways on one host share the port (SO_REUSEPORT)

    # Told to clients (RFC 8620 §2).
    size_upload_bytes_max: int = 50_000_000
    request_bytes_max: int = 10_000_000
    concurrent_uploads_max: int = 4
    concurrent_requests_max: int = 8
    attachments_bytes_max: int = 50_000_000  # of one email (RFC 8621 §1.3.1)

    # Ours alone.
    connections_max: int = 10_000  # 4 KB each when idle, and a file descriptor
    websockets_per_account_max: int = 32
    event_sources_per_account_max: int = 32
    polls_per_account_max: int = 32
    bodies_bytes_max: int = 256_000_000  # of all request bodies in memory at once
    drain_timeout_s: int = 20

    def __post_init__(self) -> None:
        assert self.request_bytes_max <= self.bodies_bytes_max, "one request must fit in memory"
        assert self.size_upload_bytes_max <= self.bodies_bytes_max, "one upload must fit in memory"
        assert self.concurrent_requests_max >= 1
        assert self.concurrent_uploads_max >= 1
