"""`ray_config.yaml` is a file that Ray's own launcher accepts and understands as we do."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from cluster import ray_environment

CONFIG = Path(__file__).resolve().parents[2] / "ray_config.yaml"


@pytest.fixture(scope="module")
def raw() -> dict[str, Any]:
    return yaml.safe_load(CONFIG.read_text())


@pytest.fixture(scope="module")
def prepared(raw: dict[str, Any]) -> dict[str, Any]:
    """What `ray up` makes of the file before it touches a machine."""
    config = prepare_config(raw)
    validate_config(config)
    return config


def test_every_listed_machine_gets_a_node(prepared: dict[str, Any]) -> None:
    workers = len(prepared["provider"]["worker_ips"])
    node_type = prepared["available_node_types"][prepared["head_node_type"]]
    assert (
        node_type["min_workers"] == node_type["max_workers"] == prepared["max_workers"] == workers
    )


def start_of(prepared: dict[str, Any], role: str) -> str:
    """Return the line that starts a machine."""
    (start,) = [c for c in prepared[f"{role}_start_ray_commands"] if "helio up" in c]
    assert isinstance(start, str)
    return start


def test_every_machine_says_how_the_others_reach_it(prepared: dict[str, Any]) -> None:
    for role in ("head", "worker"):
        assert "HELIO_CLUSTER__BIND=" in start_of(prepared, role)
        assert "HELIO_CLUSTER__PORT=6379" in start_of(prepared, role)


def test_workers_join_the_head_with_an_invitation(prepared: dict[str, Any]) -> None:
    start = start_of(prepared, "worker")
    assert "--join $RAY_HEAD_IP:6379" in start
    assert "--invitation" in start
    made = [c for c in prepared["head_setup_commands"] if "helio cluster invite" in c]
    assert len(made) == 1


def test_the_head_starts_the_workers(prepared: dict[str, Any]) -> None:
    start = start_of(prepared, "head")
    assert "HELIO_RAY__AUTOSCALING_CONFIG=$HOME/ray_bootstrap_config.yaml" in start
    assert "--join" not in start


def test_every_machine_waits_for_a_lost_head_and_asks_for_the_token() -> None:
    assert ray_environment.FIXED["RAY_AUTH_MODE"] == "token"
    assert ray_environment.FIXED["RAY_gcs_storage"] == "rocksdb"
    assert int(ray_environment.FIXED["RAY_gcs_rpc_server_reconnect_timeout_s"]) >= 86400
    assert ray_environment.FIXED["RAY_USAGE_STATS_ENABLED"] == "0"


def test_mail_settings_are_elsewhere(raw: dict[str, Any]) -> None:
    assert "~/heliograph/heliograph.toml" in raw["file_mounts"]
    assert "metadata" not in raw
