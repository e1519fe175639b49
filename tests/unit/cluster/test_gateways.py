"""Gateways: how many SMTP processes there are, and the share of each in the node's limits."""

import os

import pytest

from cluster.gateways import smtp_processes, smtp_settings
from cluster.listeners import Address
from cluster.settings import Settings, Smtp

ADDRESSES = {"smtp": Address("127.0.0.1", 2525)}


@pytest.mark.parametrize(("cores", "processes"), [(1, 1), (3, 1), (4, 2), (9, 4), (64, 8)])
def test_processes_by_cores(cores: int, processes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    assert smtp_processes(Settings()) == processes
    assert smtp_processes(Settings(smtp=Smtp(processes=3))) == 3


def test_one_process_has_all_of_the_limits_and_its_port_alone() -> None:
    found = smtp_settings(Settings(smtp=Smtp(processes=1)), ADDRESSES)
    assert (found.port, found.reuse_port) == (2525, False)
    assert found.connections_max == Smtp().connections_max
    assert found.address_limits.connections_max == 50
    assert found.network_limits.failures_per_minute == 500
    assert found.trusted_networks == ("127.0.0.0/8", "::1/128")
    assert found.proxy_networks == ()


def test_processes_share_the_port_and_the_limits() -> None:
    smtp = Smtp(
        processes=3,
        connections_max=100,
        address_limits={"connections_max": 50, "messages_per_minute": 0},
    )
    found = smtp_settings(Settings(smtp=smtp), ADDRESSES)
    assert found.reuse_port
    assert found.connections_max == 34
    assert found.address_limits.connections_max == 17
    assert found.address_limits.messages_per_minute == 0  # No limit stays none.
    assert found.in_flight_bytes_max >= found.size_bytes_max


def test_one_message_fits_into_the_share() -> None:
    found = smtp_settings(Settings(smtp=Smtp(processes=64)), ADDRESSES)
    assert found.in_flight_bytes_max == found.size_bytes_max
