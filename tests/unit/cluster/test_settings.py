"""Settings: which layer wins, what is refused, and in one line that names the setting."""

import re
from pathlib import Path

import pytest

from cluster.refusal import EXIT_USAGE, Refused
from cluster.settings import Shown, load


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No file in the working directory, nothing in the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HELIO_DATA", raising=False)


def shown(name: str, config: Path | None = None, data: Path | None = None) -> Shown:
    return next(one for one in load(config, data).shown() if one.name == name)


def refusal(config: Path | None = None) -> str:
    with pytest.raises(Refused) as refused:
        load(config)
    assert refused.value.exit_code == EXIT_USAGE
    assert "\n" not in refused.value.text
    return refused.value.text


def test_defaults() -> None:
    settings = load().settings
    assert (settings.smtp.port, settings.http.port, settings.https.port) == (2525, 8080, 8443)
    assert settings.replication.factor == 3
    assert settings.mailbox_actors_per_node >= 1
    assert shown("smtp.port").source == "default"


def test_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "heliograph.toml").write_text("[smtp]\nport = 1\nhost = '0.0.0.0'\n")
    monkeypatch.setenv("HELIO_SMTP__PORT", "2")
    smtp = load().settings.smtp
    assert (smtp.port, smtp.host) == (2, "0.0.0.0")
    assert shown("smtp.port").source == "environment"
    assert shown("smtp.host").source == "file"
    assert shown("smtp.size_bytes_max").source == "default"


def test_command_line_wins_over_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HELIO_DATA", "one")
    assert load().settings.data == Path("one")
    found = shown("data", data=tmp_path)
    assert (found.value, found.source) == (tmp_path, "command line")


def test_networks_and_limits_of_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HELIO_SMTP__TRUSTED_NETWORKS", '["192.0.2.0/24"]')
    monkeypatch.setenv("HELIO_SMTP__ADDRESS_LIMITS__CONNECTIONS_MAX", "7")
    smtp = load().settings.smtp
    assert smtp.trusted_networks == ("192.0.2.0/24",)
    assert smtp.address_limits.connections_max == 7
    assert smtp.network_limits.connections_max == 200
    assert shown("smtp.address_limits.connections_max").source == "environment"
    monkeypatch.setenv("HELIO_SMTP__PROXY_NETWORKS", '["192.0.2.1/24"]')
    assert "smtp.proxy_networks" in refusal()


def test_every_setting_says_what_it_does() -> None:
    assert [one.name for one in load().shown() if not one.doc] == []


@pytest.mark.parametrize("name", ["SUBMISSION", "SUBMISSIONS", "IMAP", "IMAPS", "POP3", "POP3S"])
def test_ports_of_later_releases_are_taken(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"HELIO_{name}__PORT", "0")
    assert shown(f"{name.lower()}.port").value == 0


def test_a_section_of_the_file_keeps_the_other_defaults(tmp_path: Path) -> None:
    file = tmp_path / "other.toml"
    file.write_text("[imap]\nhost = '0.0.0.0'\n")
    assert load(file).settings.imap.port == 2143


def test_the_example_shows_the_defaults(tmp_path: Path) -> None:
    example = Path(__file__).parents[3] / "heliograph.toml.example"
    lines = [re.sub(r"^# (\w+ =)", r"\1", line) for line in example.read_text().splitlines()]
    file = tmp_path / "all.toml"
    file.write_text("\n".join(lines))
    assert load(file).settings == load().settings
    from_file = {one.name for one in load(file).shown() if one.source == "file"}
    served = {one.name for one in load().shown() if "later release" not in one.doc}
    assert served - from_file == {
        "cluster.invitation",
        "cluster.token_file",
        "hostname",
        "mailbox_actors_per_node",
        "ray.autoscaling_config",
        "tls.certificate",
        "tls.key",
    }


def test_wrong_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HELIO_HTTP__PORT", "70000")
    text = refusal()
    assert text.startswith("setting http.port (HELIO_HTTP__PORT): input should be less than")
    assert text.endswith("not '70000'")


def test_unknown_setting(tmp_path: Path) -> None:
    file = tmp_path / "other.toml"
    file.write_text("[smtp]\nprot = 25\n")
    assert refusal(file) == "setting smtp.prot (HELIO_SMTP__PROT): there is no such setting"


def test_two_listeners_on_one_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HELIO_HTTP__PORT", "8443")
    assert "http.port and https.port are both 8443" in refusal()


def test_certificate_without_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HELIO_TLS__CERTIFICATE", "cert.pem")
    assert "certificate and key are set together" in refusal()


@pytest.mark.parametrize("text", ["smtp = [", "\xff"])
def test_file_that_is_no_toml(tmp_path: Path, text: str) -> None:
    file = tmp_path / "other.toml"
    file.write_bytes(text.encode("latin-1"))
    assert "is not TOML" in refusal(file)


def test_file_that_is_missing(tmp_path: Path) -> None:
    assert "cannot be read" in refusal(tmp_path / "missing.toml")


@pytest.mark.parametrize(
    "bind", ["192.0.2.1", "127.0.0.2", "::1", "2001:db8::1", "0.0.0.0", "::", "224.0.0.1", "host"]
)
def test_no_node_speaks_clear_text_beyond_loopback(
    bind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HELIO_CLUSTER__TLS", "off")
    assert load().settings.cluster.bind == "127.0.0.1"
    monkeypatch.setenv("HELIO_CLUSTER__BIND", bind)
    assert "cluster" in refusal()


def test_tls_between_nodes_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not load().settings.cluster.encrypts
    monkeypatch.setenv("HELIO_CLUSTER__BIND", "192.0.2.1")
    assert load().settings.cluster.encrypts
    monkeypatch.setenv("HELIO_CLUSTER__BIND", "127.0.0.2")
    monkeypatch.setenv("HELIO_CLUSTER__TLS", "on")
    assert load().settings.cluster.encrypts
