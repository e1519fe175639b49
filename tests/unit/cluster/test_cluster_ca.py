"""ClusterCa: who gets a certificate, for which address, and when it is made anew."""

import datetime
import stat
from pathlib import Path

import pytest
from cryptography import x509

from actors.link_options import LinkOptions
from cluster.certificates import CLIENT, SERVER, Pair
from cluster.cluster_ca import (
    NODE_DAYS,
    RENEW_DAYS,
    ClusterCa,
    Invitation,
    certify_beside,
    link_options,
)
from cluster.node_settings import Nodes
from cluster.refusal import Refused

NOW = datetime.datetime(2026, 5, 1, tzinfo=datetime.UTC)
CLUSTER = "a-cluster"
TOKEN = "t" * 64


def later(days: int) -> datetime.datetime:
    return NOW + datetime.timedelta(days=days)


@pytest.fixture
def first(tmp_path: Path) -> ClusterCa:
    ca = ClusterCa(tmp_path / "first")
    ca.make("192.0.2.1", NOW)
    return ca


@pytest.fixture
def second(tmp_path: Path) -> ClusterCa:
    return ClusterCa(tmp_path / "second")


def files(ca: ClusterCa) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in ca.directory.iterdir()}


def node(ca: ClusterCa) -> Pair:
    pair = Pair.read(ca.node_file, ca.node_key_file)
    assert pair is not None
    return pair


def test_a_node_shows_itself_as_both_ends_at_its_address(first: ClusterCa) -> None:
    certificate = node(first).certificate
    certificate.verify_directly_issued_by(
        x509.load_pem_x509_certificate(first.ca_file.read_bytes())
    )
    extensions = certificate.extensions
    names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    addresses = [str(one) for one in names.get_values_for_type(x509.IPAddress)]
    assert addresses == ["192.0.2.1", "127.0.0.1"]
    usage = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(usage) == {SERVER, CLIENT}


def test_keys_are_the_owners(first: ClusterCa) -> None:
    for file in (first.ca_key_file, first.node_key_file):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(first.directory.stat().st_mode) == 0o700


def test_made_once(first: ClusterCa) -> None:
    before = files(first)
    first.make("192.0.2.1", later(NODE_DAYS - RENEW_DAYS))
    assert files(first) == before


@pytest.mark.parametrize(
    "address, days", [("192.0.2.1", NODE_DAYS - RENEW_DAYS + 1), ("192.0.2.9", 0)]
)
def test_where_the_ca_is_a_node_renews_itself(first: ClusterCa, address: str, days: int) -> None:
    before = files(first)
    first.check(address, later(days))
    changed = {name for name, octets in files(first).items() if octets != before[name]}
    assert changed == {"node.pem", "node-key.pem"}


def test_an_invitation_makes_a_node(first: ClusterCa, second: ClusterCa, tmp_path: Path) -> None:
    file = tmp_path / "invitation"
    first.invite(CLUSTER, "192.0.2.2", TOKEN, NOW).write(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    invitation = Invitation.read(file)
    assert (invitation.cluster, invitation.token) == (CLUSTER, TOKEN)
    second.accept(invitation, NOW)
    second.check("192.0.2.2", NOW)
    assert second.ca_file.read_bytes() == first.ca_file.read_bytes()
    assert stat.S_IMODE(second.node_key_file.stat().st_mode) == 0o600
    assert not second.issues
    with pytest.raises(Refused, match=r"192\.0\.2\.3"):
        second.check("192.0.2.3", NOW)
    with pytest.raises(Refused, match="ca-key"):
        second.invite(CLUSTER, "192.0.2.3", TOKEN, NOW)


def test_a_secret_is_not_written_over_anything(first: ClusterCa, tmp_path: Path) -> None:
    file = tmp_path / "invitation"
    file.write_text("mine")
    with pytest.raises(Refused):
        first.invite(CLUSTER, "192.0.2.2", TOKEN, NOW).write(file)
    assert file.read_text() == "mine"


def test_another_invitation_renews(first: ClusterCa, second: ClusterCa) -> None:
    old = first.invite(CLUSTER, "192.0.2.2", TOKEN, NOW)
    second.accept(old, NOW)
    over = later(NODE_DAYS + 1)
    with pytest.raises(Refused, match="invite"):
        second.check("192.0.2.2", over)
    with pytest.raises(Refused, match="too old"):
        second.accept(old, over)
    new = first.invite(CLUSTER, "192.0.2.2", TOKEN, over)
    second.accept(new, over)
    second.check("192.0.2.2", over)
    # One that was left lying around takes nothing back.
    before = files(second)
    second.accept(old, NOW)
    assert files(second) == before


def test_the_last_year_is_only_a_warning(first: ClusterCa, second: ClusterCa) -> None:
    second.accept(first.invite(CLUSTER, "192.0.2.2", TOKEN, NOW), NOW)
    second.check("192.0.2.2", later(NODE_DAYS - 1))


def test_the_ca_ends_too(first: ClusterCa) -> None:
    with pytest.raises(Refused, match="new CA"):
        first.invite(CLUSTER, "192.0.2.2", TOKEN, later(3651))


def test_strangers_are_not_taken_for_ours(
    first: ClusterCa, second: ClusterCa, tmp_path: Path
) -> None:
    other = ClusterCa(tmp_path / "other")
    other.make("192.0.2.2", NOW)
    second.accept(first.invite(CLUSTER, "192.0.2.2", TOKEN, NOW), NOW)
    node(other).write(second.node_file, second.node_key_file)
    with pytest.raises(Refused):
        second.check("192.0.2.2", NOW)


@pytest.mark.parametrize(
    "text", ["", "{}", "[1]", '{"format": 1}', '{"format": 1, "token": "x", "more": 1}', "\xff"]
)
def test_what_is_no_invitation(text: str, tmp_path: Path) -> None:
    file = tmp_path / "invitation"
    file.write_text(text, "latin-1")
    with pytest.raises(Refused):
        Invitation.read(file)


def test_a_damaged_invitation_changes_nothing(first: ClusterCa, second: ClusterCa) -> None:
    good = first.invite(CLUSTER, "192.0.2.2", TOKEN, NOW)
    other = first.invite(CLUSTER, "192.0.2.3", TOKEN, NOW)
    for damaged in (
        Invitation(CLUSTER, "192.0.2.2", good.ca, good.certificate, other.key, TOKEN),
        Invitation(CLUSTER, "192.0.2.2", good.certificate, good.certificate, good.key, TOKEN),
        Invitation(CLUSTER, "192.0.2.2", "", good.certificate, good.key, TOKEN),
    ):
        with pytest.raises(Refused, match="damaged"):
            second.accept(damaged, NOW)
    assert not second.directory.exists()


def test_nodes_of_one_machine_are_certified_by_the_first(first: ClusterCa, tmp_path: Path) -> None:
    directories = [first.directory, tmp_path / "node-2"]
    certify_beside(Nodes(tls="off"), directories, directories[1])
    assert not directories[1].exists()
    certify_beside(Nodes(tls="on"), directories, directories[1])
    second = ClusterCa(directories[1])
    second.check("127.0.0.1", datetime.datetime.now(datetime.UTC))
    before = files(second)
    certify_beside(Nodes(tls="on"), directories, directories[1])
    assert files(second) == before


def test_links_are_told_by_the_settings(tmp_path: Path) -> None:
    assert link_options(Nodes(), tmp_path) == LinkOptions("127.0.0.1")
    assert link_options(Nodes(tls="on"), tmp_path).encrypts
    beyond = link_options(Nodes(bind="192.0.2.1"), tmp_path)
    assert (beyond.host, beyond.encrypts) == ("192.0.2.1", True)
