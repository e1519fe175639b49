"""`ray_config.yaml` is a file that Ray's own launcher accepts and understands as we do."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

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


def test_every_start_says_how_ray_authenticates(prepared: dict[str, Any]) -> None:
    for role in ("head", "worker"):
        starts = [c for c in prepared[f"{role}_start_ray_commands"] if "ray start" in c]
        assert len(starts) == 1
        assert "RAY_AUTH_MODE=token" in starts[0]
        assert "RAY_AUTH_TOKEN_PATH=" in starts[0]
        assert "--labels=" in starts[0]


def test_the_head_keeps_its_state_on_disk(prepared: dict[str, Any]) -> None:
    start = next(c for c in prepared["head_start_ray_commands"] if "ray start" in c)
    assert "RAY_gcs_storage=rocksdb" in start
    assert "RAY_gcs_storage_path=" in start
    assert "--disable-usage-stats" in start
    assert "--autoscaling-config=" in start  # else the launcher cannot start the workers


def test_no_ray_process_gives_up_when_the_head_is_away(prepared: dict[str, Any]) -> None:
    for role in ("head", "worker"):
        start = next(c for c in prepared[f"{role}_start_ray_commands"] if "ray start" in c)
        assert "RAY_gcs_rpc_server_reconnect_timeout_s=86400" in start


def test_mail_settings_are_elsewhere(raw: dict[str, Any]) -> None:
    assert "~/heliograph/heliograph.toml" in raw["file_mounts"]
    assert "metadata" not in raw
