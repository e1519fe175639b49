"""What Ray is told through the environment."""

import os

import pytest

from actors.link_options import LinkOptions
from cluster import ray_environment


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a test sets is gone after it."""
    monkeypatch.setattr(os, "environ", dict(os.environ))


def test_what_others_have_said_is_forgotten() -> None:
    os.environ |= {"RAY_ADDRESS": "192.0.2.1:6379", "RAY_AUTH_TOKEN": "x"}
    ray_environment.prepare()
    assert os.environ["RAY_AUTH_MODE"] == "token"
    assert not {"RAY_ADDRESS", "RAY_AUTH_TOKEN"} & set(os.environ)


def test_the_wait_for_a_lost_head_fits_into_what_ray_counts_with() -> None:
    assert ray_environment.HEAD_AWAY_S_MAX >= 86_400
    assert ray_environment.HEAD_AWAY_S_MAX * 1000 < 2**31


def test_ray_speaks_tls_as_our_own_processes_do() -> None:
    ray_environment.prepare()
    ray_environment.encrypt(LinkOptions())
    assert os.environ["RAY_USE_TLS"] == "0"
    ray_environment.encrypt(LinkOptions("192.0.2.1", "ca.pem", "node.pem", "node-key.pem"))
    assert os.environ["RAY_USE_TLS"] == "1"
    assert os.environ["RAY_TLS_CA_CERT"] == "ca.pem"
    assert os.environ["RAY_TLS_SERVER_CERT"] == "node.pem"
    assert os.environ["RAY_TLS_SERVER_KEY"] == "node-key.pem"
