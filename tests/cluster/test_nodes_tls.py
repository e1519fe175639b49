"""Two nodes that speak TLS, at two addresses of one machine: who is let in, and what is said."""

import json
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from cluster.processes import holders
from tests.cluster.post import send, subjects
from tests.contract.certified import certified
from tests.e2e.cluster_fixture import DEMO, Cluster, NotStarted, helio

ALICE = DEMO[0]
FIRST = {"HELIO_MAILBOX_ACTORS_PER_NODE": "2", "HELIO_CLUSTER__TLS": "on"}
SECOND = FIRST | {"HELIO_CLUSTER__BIND": "127.0.0.2"}
# RFC 9113 §3.4: what a gRPC client says first; who is let in is answered.
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000")
# Ray's own HTTP server for packages: in clear text, for its node alone, which shows it the token.
AGENT = "RuntimeEnv"


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    data = tmp_path_factory.mktemp("first") / "data"
    made = helio(data, "cluster", "init", "--json", settings=FIRST)
    assert made.returncode == 0, made.stderr
    cluster = Cluster(data, demo=True, settings=FIRST)
    try:
        yield cluster
    finally:
        cluster.close()


@pytest.fixture(scope="module")
def second(first: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    directory = tmp_path_factory.mktemp("second")
    file = directory / "invitation"
    done = helio(
        first.data, "cluster", "invite", "127.0.0.2", "--out", str(file), "--json", settings=FIRST
    )
    assert done.returncode == 0, done.stderr
    arguments = ("--join", json.loads(done.stdout)["join"], "--invitation", str(file))
    cluster = Cluster(directory / "data", settings=SECOND, arguments=arguments)
    file.unlink()
    try:
        yield cluster
    finally:
        cluster.close()


def test_mail_crosses_between_the_nodes(first: Cluster, second: Cluster) -> None:
    assert {one["state"] for one in second.status()["nodes"]} == {"alive"}
    send(second, ALICE, "by way of the second")
    shown = helio(second.data, "mailbox", "show", ALICE, "--json", settings=SECOND)
    account = json.loads(shown.stdout)["account"]
    found = subjects(second, ALICE, first.passwords[ALICE], account)
    assert found == ["by way of the second"]


def listening(cluster: Cluster) -> set[tuple[str, int, str]]:
    """Return what a node listens on: address, port, process."""
    run = json.loads((cluster.data / "run.json").read_text())
    found = set()
    for process in holders(Path(run["runtime_directory"])):
        name = " ".join(psutil.Process(process.pid).cmdline()[:1])
        for one in psutil.Process(process.pid).net_connections("tcp"):
            if one.status == psutil.CONN_LISTEN:
                found.add((one.laddr.ip.removeprefix("::ffff:"), one.laddr.port, name))
    return found


def knock(port: int, certificate: tuple[str, str] | None, *, tls: bool = True) -> bytes:
    """Return what is answered to the first words of a gRPC client, at the second node."""
    try:
        with socket.create_connection(("127.0.0.2", port), 5) as bare:
            if not tls:
                bare.sendall(PREFACE)
                return bare.recv(9)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            context.set_alpn_protocols(["h2"])
            if certificate is not None:
                context.load_cert_chain(*certificate)
            with context.wrap_socket(bare) as stream:
                stream.sendall(PREFACE)
                return stream.recv(9)
    except OSError:
        return b""


def test_strangers_get_no_answer_from_any_process(
    first: Cluster, second: Cluster, tmp_path: Path
) -> None:
    strange = certified(tmp_path, ("stranger",))["stranger"]
    ours = second.data / "cluster-tls"
    known = (str(ours / "node.pem"), str(ours / "node-key.pem"))
    ports = {
        port
        for address, port, name in listening(second)
        if address != "127.0.0.1" and AGENT not in name
    }
    assert len(ports) >= 5
    answered = 0
    for port in ports:
        assert knock(port, None, tls=False) == b""
        assert knock(port, None) == b""
        assert knock(port, (strange.certificate, strange.key)) == b""
        answered += bool(knock(port, known))
    assert answered >= 4, "Ray's processes answer one of their own"


def test_a_certificate_is_for_one_address(first: Cluster, tmp_path: Path) -> None:
    settings = FIRST | {"HELIO_CLUSTER__BIND": "127.0.0.3"}
    with pytest.raises(NotStarted, match=r"cluster invite 127\.0\.0\.3") as refused:
        Cluster(
            tmp_path / "data",
            settings=settings,
            arguments=(
                *("--join", json.loads((first.data / "head.json").read_text())["address"]),
                *("--token-file", str(first.data / "ray-token")),
            ),
        )
    assert refused.value.exit_code == 2
